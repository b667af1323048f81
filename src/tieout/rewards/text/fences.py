"""Parse the fenced blocks of a Markdown text: backticks or tildes, also inside lists, with either kind of line end."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_OPENING = re.compile(
    r"(?P<indent>[ \t]*(?:(?:[-*+]|[0-9]{1,3}[.)])[ \t]+)*)(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)"
)
_CLOSING = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*")


@dataclass(frozen=True, slots=True)
class Fence:
    """One block that is closed."""

    start: int
    end: int
    """Where it stands in the text, its marks included."""
    info: str
    """What follows the opening mark, such as a language."""
    body: str
    """Its lines, without the indentation of the list that it stands in."""


def fences(text: str) -> list[Fence]:
    r"""The closed blocks of a text, in order.

    >>> [block.body for block in fences("1. First:\r\n   ```python\r\n   if x:\r\n       y()\r\n   ```")]
    ['if x:\r\n    y()\r\n']
    """
    found: list[Fence] = []
    opening: re.Match[str] | None = None
    start, lines = 0, list[str]()
    for line in _LINE.finditer(text):
        said = line[0].rstrip("\r\n")
        if opening is None:
            if opening := _OPENING.fullmatch(said):
                start, lines = line.start(), []
            continue
        closing = _CLOSING.fullmatch(said)
        if closing and closing[1][0] == opening["mark"][0] and len(closing[1]) >= len(opening["mark"]):
            body = _unindented(lines, len(opening["indent"]))
            found.append(Fence(start, line.start() + len(said), opening["info"].strip(), body))
            opening = None
        else:
            lines.append(line[0])
    return found


def _unindented(lines: list[str], width: int) -> str:
    first = next((line for line in lines if line.strip()), "")
    if width and not first[:width].strip():  # lines of a string that stand further left than the list stay
        lines = [line[width:] if not line[:width].strip() else line.lstrip(" \t") for line in lines]
    body = "".join(lines)
    return textwrap.dedent(body) if first[:1] in " \t" else body
