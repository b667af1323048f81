"""A browser for the tests of the page; they skip where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Chromium without a window. It is the system's: nothing is downloaded."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; it comes with the extra `dev`"
    )
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


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
