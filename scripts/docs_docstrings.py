"""Griffe extension: make docstrings Markdown. Doctests become code blocks, `[K][C]` a shape and not a link."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A doctest with its output; code within backticks; a bracket that would begin the second half of a link.
PART = re.compile(r"(^>>> .*(?:\n(?!\s*$).*)*)|(`[^`]*`)|\]\[", re.MULTILINE)


def markdown(docstring: str) -> str:
    """The docstring with its doctests fenced and its shapes escaped."""

    def part(found: re.Match[str]) -> str:
        if found[1]:
            return f"```pycon\n{found[1]}\n```"
        return found[2] or "]\\["

    return PART.sub(part, docstring)


class Docstrings(griffe.Extension):  # type: ignore[misc]
    """Rewrites each docstring when its object is loaded."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
