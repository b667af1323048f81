"""Parse a gold completion into its parts, so that it can be broken in the ways that matter."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from ...rewards.text.figures import written
from ...rewards.text.thinking import after_thinking, around_answer

FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
TAG = re.compile(r"<([A-Za-z_]\w*)>((?:(?!<[A-Za-z_]\w*>).)*?)</\1>", re.DOTALL)
"""A pair of tags with no pair inside."""
MARKER = re.compile(r"(\\boxed\{|####|\b(?:final\s+)?answer(?:\s+is)?\s*[:=])[ \t]*", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.])[0-9][0-9,]*(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+")
UNIT = re.compile(
    r"\)?(?:[ \t]?(?:thousand|million|billion|trillion|mn|bn|%|per ?cent|bps|basis points|dollars|euros)\b|%)*\)?",
    re.IGNORECASE,
)
BEFORE = re.compile(r"[-−–(]?[$€£¥]?[-−–(]?$")
"""What belongs to a figure on its left and right, though a column may say it elsewhere."""
ANSWERS = ("answer", "solution", "label", "target", "gold", "expected", "ground_truth", "reference", "final")


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold completion: `before` + `answer` + `after`, and what the answer is."""

    text: str
    kind: Literal["json", "code", "text"]
    before: str
    answer: str
    after: str
    value: Any = None
    """If json: the value."""
    entries: tuple[str, ...] = ()
    """If code: the names that it defines."""

    @property
    def tags(self) -> list[str]:
        """Names of the tags around its parts, in order."""
        return [match[1] for match in TAG.finditer(self.text)]

    @property
    def thinks(self) -> bool:
        """Whether it has a part for thinking."""
        return after_thinking(self.text) != self.text

    @property
    def marked(self) -> bool:
        """Whether a marker such as `answer:` says what the answer is: the rest is reasoning then."""
        return bool(self._marker())

    @property
    def number(self) -> Decimal | None:
        """The one number that the answer is, without sign, scale and unit; None if it is not one number."""
        found = NUMBER.findall(self.answer)
        if self.kind != "text" or len(found) != 1 or len(self.answer) > 40:
            return None
        try:
            return Decimal(found[0].replace(",", ""))
        except InvalidOperation:
            return None

    @property
    def negative(self) -> bool:
        """Whether the number has a minus or stands in parentheses."""
        match = NUMBER.search(self.answer)
        return bool(match and re.search(r"[-−–(]\s?[$€£¥]?\s?$", self.answer[: match.start()]))

    def with_number(self, digits: str) -> str:
        """The answer with other digits in the place of its number."""
        match = NUMBER.search(self.answer)
        return digits if match is None else self.answer[: match.start()] + digits + self.answer[match.end() :]

    def replaced(self, answer: str) -> str:
        """Gold with another answer, its reasoning untouched."""
        return self.before + answer + self.after

    def frame(self, answer: str, filler: str = "So it is.") -> str:
        """The form of gold around another answer, and `filler` where gold reasons."""
        start, end = len(self.before), len(self.before) + len(self.answer)
        pieces, placed = [], False
        marked = f"{self._marker()}{answer}{self._closing()}"
        for match in TAG.finditer(self.text):
            inside = match.start(2) <= start and end <= match.end(2)
            pieces.append(f"<{match[1]}>{marked if inside else filler}</{match[1]}>")
            placed = placed or inside
        if not placed:
            fenced = FENCE.search(self.text)
            if fenced and fenced.start(1) <= start and end <= fenced.end(1):
                language = self.text[fenced.start() + 3 :].split("\n", 1)[0]
                marked = f"```{language}\n{answer}\n```"
            pieces.append(marked)
        return "\n".join(pieces)

    def _marker(self) -> str:
        found = list(MARKER.finditer(self.before))
        return found[-1][0] if found and not self.before[found[-1].end() :].strip() else ""

    def _closing(self) -> str:
        return "}" if self._marker().startswith("\\boxed") else ""


def read_gold(row: Mapping[str, Any], asked: Iterable[str]) -> Gold:
    """What the row's `completion` is made of; `asked`: the columns that the reward names."""
    text: str = row["completion"]
    thought, said, rest = around_answer(text)
    found = _as_json(said) or _as_code(said) or _as_text(said, row, list(asked))
    return replace(found, text=text, before=thought + found.before, after=found.after + rest)


def _as_json(text: str) -> Gold | None:
    for match in re.finditer(r"[{\[]", text):
        try:
            value, end = json.JSONDecoder().raw_decode(text, match.start())
        except ValueError:
            continue
        except RecursionError:
            return None
        long = end - match.start() >= 0.5 * len(text.strip()) or FENCE.search(text) or TAG.search(text)
        if value and isinstance(value, dict | list) and (long or isinstance(value, dict)):
            return Gold(text, "json", text[: match.start()], text[match.start() : end], text[end:], value)
    return None


def _as_code(text: str) -> Gold | None:
    places = [match.span(1) for match in FENCE.finditer(text)] + [m.span(2) for m in TAG.finditer(text)]
    for start, end in [*places, (0, len(text))]:
        try:
            tree = ast.parse(text[start:end].strip())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
        names = tuple(node.name for node in tree.body if isinstance(node, kinds))
        code = names or any(
            isinstance(n, ast.Import | ast.ImportFrom | ast.Assign | ast.For) for n in tree.body
        )
        if code:
            return Gold(text, "code", text[:start], text[start:end], text[end:], entries=names)
    return None


def _as_text(text: str, row: Mapping[str, Any], asked: list[str]) -> Gold:
    named = [name for name in row if name in asked] or [name for name in row if name.lower() in ANSWERS]
    for name in named:
        value = row[name]
        said = (
            written(value).strip()
            if isinstance(value, str | int | float) and not isinstance(value, bool)
            else ""
        )
        if said and len(said) <= 200 and said != text.strip():
            whole = list(re.finditer(rf"(?<![\w.]){re.escape(said)}(?![\w]|\.\d)", text))
            if whole:
                start, end = whole[-1].span()
                sign, unit = BEFORE.search(text[:start]), UNIT.match(text, end)
                return _split(text, sign.start() if sign else start, unit.end() if unit else end)
    inside = [m for m in TAG.finditer(text) if m[1].lower() != "think"]
    low, high = inside[-1].span(2) if inside else (0, len(text))
    if marked := list(MARKER.finditer(text, low, high)):
        start = marked[-1].end()
        stop = text.find("}" if marked[-1][0].startswith("\\boxed") else "\n", start, high)
        return _split(text, start, stop if stop > start else high)
    whole_is_asked = any(str(row[name]).strip() == text.strip() for name in named)
    if not inside and "\n" in text.strip() and len(text) > 300 and not whole_is_asked:
        low = text.rstrip().rfind("\n") + 1
    return _split(text, low, high)


def _split(text: str, start: int, end: int) -> Gold:
    answer = text[start:end]
    start += len(answer) - len(answer.lstrip())
    answer = answer.strip()
    return Gold(text, "text", text[:start], answer, text[start + len(answer) :])


def same_answer(one: str, other: str) -> bool:
    """Whether two answers say the same, leniently: white space, case, and how a number is written do not count."""

    def plain(text: str) -> str:
        return re.sub(r"[\s,$€£¥.]+", " ", text).strip().casefold()

    def number(text: str) -> Decimal | None:
        try:
            return Decimal(text.replace(",", "").strip(" $€£¥.%"))
        except InvalidOperation:
            return None

    first, second = number(one), number(other)
    return plain(one) == plain(other) or (first is not None and first == second)
