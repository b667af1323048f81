"""Read JSON whose form is broken, as far as it can be read: inside prose or a fence, cut off, with stray text or keys.

For substance only: what a strict reader refuses may still say what is right. Nothing here raises on any string, and
nothing is decided: a key that occurs twice is there twice.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field

from .figures import meant
from .thinking import answer_text

MAX_CHARS = 20_000
"""What comes later is not read."""
MAX_DIGITS = 40

_NUMBER = r"\(?[-−]?\$?\(?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?\)?"
_TOKEN = re.compile(
    rf""""(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|[{{}}\[\]:,]|(?P<number>{_NUMBER})|(?P<word>[A-Za-z_]\w*)""",
    re.ASCII,
)
_FIGURE = re.compile(_NUMBER, re.ASCII)


@dataclass(slots=True)
class Node:
    """An object or an array, in order; the keys of an array's items are empty."""

    opened: str
    """`{` or `[`."""
    items: list[tuple[str, Value]] = field(default_factory=list)


Value = Node | str | int | float | None
"""None: null, a bool, NaN, or nothing that can be read."""


def read_loose(text: str) -> list[Node]:
    """The outermost objects of a text, in order, but for its thinking; the last may have been cut off.

    >>> [node.items for node in read_loose('So: {"a": 1, b: "x"} and {"c": (1,234')]
    [[('a', 1), ('b', 'x')], [('c', -1234)]]
    """
    text, found, place = answer_text(text)[:MAX_CHARS], [], 0
    while (start := text.find("{", place)) >= 0:
        node, place = _read(text, start)
        found.append(node)
    return found


def _read(text: str, start: int) -> tuple[Node, int]:
    """The object that opens at `start`, and where it ends."""
    whole = Node("{")
    open_nodes, key, colon = [whole], "", False
    unclosed = Counter("{")
    for token in _TOKEN.finditer(text, start + 1):
        said, node = token[0], open_nodes[-1]
        if said in "}]":
            opened = "{" if said == "}" else "["
            while unclosed[opened]:
                last = open_nodes.pop().opened
                unclosed[last] -= 1
                if last == opened:
                    break
            if not open_nodes:
                return whole, token.end()
            key, colon = "", False
        elif said == ",":
            key, colon = "", False
        elif said == ":":
            if node.opened == "[" and node.items and isinstance(node.items[-1][1], str):
                # A key in an array: the bracket that closes it is missing.
                key = str(node.items.pop()[1])
                while open_nodes[-1].opened == "[":
                    unclosed[open_nodes.pop().opened] -= 1
            colon = True
        elif said in "{[":
            child = Node(said)
            node.items.append((key, child))
            open_nodes.append(child)
            unclosed[said] += 1
            key, colon = "", False
        elif node.opened == "{" and not colon:
            key = _text(said)
        else:
            node.items.append((key, _value(token)))
            key, colon = "", False
    return whole, len(text)


def _value(token: re.Match[str]) -> Value:
    if token["number"]:
        return number(token[0])
    return None if token["word"] else _text(token[0])


def _text(said: str) -> str:
    if said[0] not in "\"'":
        return said
    inside = said[1:-1] if len(said) > 1 and said[-1] == said[0] else said[1:]
    try:
        return str(json.loads(f'"{inside}"'))
    except ValueError:
        return inside


def number(text: str) -> int | float | None:
    """The number that a text is, as JSON or as printed in a statement; None if it is none, or not finite.

    >>> number("(8,909)"), number(" $1,234.5 "), number("2 of 3")
    (-8909, 1234.5, None)
    """
    text = text.strip()
    if len(text) > MAX_DIGITS or not _FIGURE.fullmatch(text):
        return None
    negative = text[0] in "(-−" or "$(" in text
    digits = text.strip("()-−$").replace(",", "")
    value = int(digits) if digits.isdecimal() else meant(float(digits))
    return (-value if negative else value) if math.isfinite(value) else None
