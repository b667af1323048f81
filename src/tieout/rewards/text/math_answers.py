r"""The answer in a text with LaTeX, after its thinking: a number as a fraction, anything else as written, unspaced."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from .figures import MAX_CHARS, figure, written
from .thinking import after_thinking

Answer = Fraction | str

_MARKED = re.compile(r"<answer>((?s:.*?))</answer>|####(.*)|\b(?i:answer)\s*:(.*)|\$([^$]+)\$[\s.]*\Z")
_FRACTION = re.compile(r"(-?)\s*\\frac\s*\{(.+?)\}\s*\{(.+?)\}|(-?)\s*([\d.,]+)\s*/\s*([\d.,]+)")
_INVISIBLE = re.compile(r"\\left|\\right|\\[,;:!]|\\ |\^\{?\\circ\}?")
_PROSE = re.compile(r"[a-z]{2,}\s+[a-z]{2,}", re.IGNORECASE)


def answer_of(text: str) -> Answer | None:
    """The answer that a text gives: a number, or its LaTeX without spacing."""
    text = after_thinking(text) or ""
    boxed = _boxed(text)
    if boxed is None and (found := list(_MARKED.finditer(text))):
        boxed = next(part for part in found[-1].groups() if part is not None)
    return None if boxed is None else _read(boxed)


def gold_of(solution: Any) -> Answer | None:
    """The answer that a solution gives, or is; None for prose without one."""
    text = "" if solution is None else written(solution)
    found = answer_of(text)
    if found is not None or _PROSE.search(re.sub(r"\\text\{[^}]*\}", "", text)):
        return found
    return _read(text)


def _boxed(text: str) -> str | None:
    r"""What is inside the last `\boxed{...}` that is closed."""
    opened: list[int] = []
    inside: dict[int, str] = {}
    for brace in re.finditer(r"(\\boxed\s*)?\{|\}", text):
        if brace[0] != "}":
            opened.append(brace.end() if brace[1] else -1)
        elif opened and (start := opened.pop()) >= 0:
            inside[start] = text[start : brace.start()]
    return inside[max(inside)] if inside else None


def _read(text: str) -> Answer | None:
    plain = _INVISIBLE.sub("", re.sub(r"\\text\{([^}]*)\}", r"\1", text))
    plain = re.sub(r"\\[dt]frac", r"\\frac", re.sub(r"^[\s$]*[A-Za-z]\s*=", "", plain))
    number = _number(plain.replace(r"\%", "%").replace(r"\$", "$").strip().strip("$").removesuffix("."))
    if number is not None:
        return number
    return re.sub(r"[\s$]", "", plain).removesuffix(".") or None


def _number(text: str) -> Fraction | None:
    """A figure as `tieout.rewards.text.figures` reads it, or a fraction of two."""
    if len(text) > MAX_CHARS or not any(c.isdecimal() for c in text):
        return None
    if found := _FRACTION.fullmatch(text.strip()):
        sign, above, below = (part for part in found.groups() if part is not None)
        parts = [_number(above), _number(below)]
        if parts[0] is None or not parts[1]:
            return None
        return parts[0] / parts[1] * (-1 if sign else 1)
    read = figure(text, footnotes=False)
    return None if read is None else Fraction((read.to("ratio") or read).value)
