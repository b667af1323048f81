"""Scripts of writing: Latin, Cyrillic, Han and others."""

from __future__ import annotations

import unicodedata
from functools import lru_cache


def scripts(text: str) -> dict[str, int]:
    """Script -> letters of it, by the first word of their Unicode names: LATIN, CYRILLIC, CJK, ARABIC ...

    >>> scripts("a Я 1")
    {'LATIN': 1, 'CYRILLIC': 1}
    """
    found: dict[str, int] = {}
    for letter in filter(str.isalpha, text):
        script = "LATIN" if letter.isascii() else _script(letter)
        found[script] = found.get(script, 0) + 1
    return found


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split(" ")[0]
