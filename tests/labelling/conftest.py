"""Tabs of a browser for the tests of the page; they skip where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def tab(chromium: Any) -> Iterator[Callable[..., Any]]:
    """`tab(address, annotator)` opens the page in a browser of its own, or in the `context` of another tab."""
    contexts, errors = [], []

    def open_tab(
        address: str, annotator: str = "anna", context: Any = None, more: str = "", **options: Any
    ) -> Any:
        if context is None:
            context = chromium.new_context(**options)
            context.set_default_timeout(60_000)
            contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}&annotator={annotator}{more}")
        page.wait_for_selector("#title:not(:text-is('tieout label'))")
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert not errors
