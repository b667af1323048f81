"""Presentation of a text that says nothing: which quotes, which dashes, which spaces."""

from __future__ import annotations

import re

MAX_CHARS = 100_000
"""Longer texts are read up to here, so that no completion can make a reward slow."""

_SPACES = "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_ALIKE = {
    "'": "\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4`",
    '"': "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63",
    " ": _SPACES,
}
_WRAPPED = re.compile(r"(?<=[\w,;-])[ ]*\n[ ]*(?=[a-z(])|(?<=[^\n]{60}[\w,;])[ ]*\n(?=[A-Z0-9$(])")
_PLAIN = str.maketrans({letter: instead for instead, letters in _ALIKE.items() for letter in letters})


def plain(text: str) -> str:
    """The text with straight quotes, hyphens and plain spaces, of the same length; lines stay as they are.

    >>> plain("the company\N{RIGHT SINGLE QUOTATION MARK}s 5\N{EN DASH}6%")
    "the company's 5-6%"
    """
    return text.translate(_PLAIN)


def unwrapped(text: str) -> str:
    r"""The text with a space where a line of prose is wrapped: before a small letter, or after a long line.

    >>> unwrapped("Revenue of the\ncompany\nCosts\n- one")
    'Revenue of the company\nCosts\n- one'
    """
    return _WRAPPED.sub(" ", text)
