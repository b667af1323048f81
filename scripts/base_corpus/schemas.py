"""System turns that describe a JSON object, in many words and keys, and the objects that follow them.

Never the schema of the task `finance_statements`: `components` and `citations` are never keys of one object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tieout.tasks.statements import Line, Statement

_LISTS = [
    "rows",
    "parts",
    "items",
    "lines",
    "entries",
    "components",
    "breakdown",
    "details",
    "members",
    "pieces",
    "elements",
    "records",
    "addends",
    "inputs",
]
_NAMES = ["name", "label", "row", "title", "line", "account", "caption", "item", "text", "description"]
_VALUES = ["value", "amount", "figure", "number", "sum", "balance", "quantity", "usd", "cell", "worth"]
_TOTALS = [
    "total",
    "sum",
    "result",
    "overall",
    "amount",
    "final",
    "answer",
    "grand_total",
    "whole",
    "aggregate",
    "all",
]
_QUOTES = [
    "quotes",
    "sources",
    "evidence",
    "citations",
    "lines",
    "references",
    "proof",
    "excerpts",
    "support",
    "spans",
]
_PERIODS = ["period", "year", "column", "date", "when"]


_REMARKS = (
    "You read financial statements.",
    "Amounts in parentheses are negative.",
    "A dash is zero.",
    "Write negative numbers with a minus.",
    "No separators in numbers.",
    "Give nothing else.",
    "Use only what the statement says.",
    "Keep the order of the statement.",
)

Fill = Callable[[Statement, Line, int], Any]
"""(statement, line of the sum, index of the period) -> the value of a field."""

Field = tuple[str, Any, Fill]
"""(words that describe it, an empty example, how to fill it)."""


@dataclass(frozen=True, slots=True)
class Schema:
    """An instruction, and how an answer that follows it is made of a total, its parts and a period."""

    instruction: str
    answer: Callable[[Statement, Line, int], str]


def draw_schema(rng: Random) -> Schema:
    """A schema of one to four fields, with keys and wording of its own."""
    pool = (
        ["parts", "total", "quotes"]
        if rng.random() < 0.5
        else rng.sample(["parts", "total", "quotes", "period", "names", "map"], rng.randrange(1, 4))
    )
    if rng.random() < 0.3:
        rng.shuffle(pool)
    fields: dict[str, Field] = {}
    for kind in pool:
        key, *rest = _field(rng, kind)
        if key in fields or {key, *fields} >= {"components", "citations"}:
            return draw_schema(rng)
        fields[key] = rest[0], rest[1], rest[2]
    compact = rng.random() < 0.6

    def answer(statement: Statement, total: Line, period: int) -> str:
        """The object, as JSON."""
        filled = {key: fill(statement, total, period) for key, (_, _, fill) in fields.items()}
        return json.dumps(filled, ensure_ascii=False, separators=(",", ":") if compact else None)

    return Schema(_instruction(rng, fields, compact), answer)


def _instruction(rng: Random, fields: dict[str, Field], compact: bool) -> str:
    """The keys with words or with an empty example; a compact example asks for a compact answer."""
    opening = rng.choice(
        [
            "Answer with JSON",
            "Reply with JSON",
            "Answer with one JSON object",
            "Return JSON",
            "Give JSON only",
            "Use this JSON",
            "Write JSON",
        ]
    )
    listed = {
        key: (f'"{key}"' if rng.random() < 0.3 else key, words) for key, (words, _, _) in fields.items()
    }
    # An example of three fields at once would be all but the demo's own instruction; it is never shown.
    style = rng.choice("eeeecpnk" if len(fields) < 3 else "cpnk")
    if style == "e":
        empty = {key: example for key, (_, example, _) in fields.items()}
        text = f"{opening}: {json.dumps(empty, separators=(',', ':') if compact else None)}."
        if rng.random() < 0.7:
            said = [f"{key}: {words}." for key, words in listed.values()]
            text = f"{text} {' '.join(rng.sample(said, rng.randrange(1, len(said) + 1)))}"
        compact = False
    elif style == "c":
        text = f"{opening}: {'; '.join(f'{key}: {words}' for key, words in listed.values())}."
    elif style == "p":
        text = f"{opening} with the keys {', '.join(f'{key} ({words})' for key, words in listed.values())}."
    elif style == "n":
        text = f"{opening} with these keys.\n" + "\n".join(
            f"{key}: {words}" for key, words in listed.values()
        )
    else:
        text = f"{opening}. Keys: {', '.join(f'{key}, {words}' for key, words in listed.values())}."
    if compact:
        text += " No spaces."
    if rng.random() < 0.3:
        text = f"{rng.choice(_REMARKS)} {text}"
    elif rng.random() < 0.3:
        text = f"{text} {rng.choice(_REMARKS)}"
    return text


def _field(rng: Random, kind: str) -> tuple[str, str, Any, Fill]:
    """(key, words that describe it, an empty example, how to fill it)."""
    if kind == "parts":
        name, value = rng.choice(_NAMES), rng.choice(_VALUES)
        order = rng.random() < 0.85
        pair = f"{name} and {value}" if order else f"{value} and {name}"
        words = rng.choice(
            [
                "a list of objects with {}",
                "list of {} of the rows that add up",
                "the rows of the sum, each with {}",
                "each part with {}",
                "list of objects, {}",
            ]
        ).format(pair)

        def parts(statement: Statement, total: Line, period: int) -> list[dict[str, Any]]:
            cells = [{name: p.label, value: p.values[period]} for p in statement.parts(total)]
            return cells if order else [dict(reversed(cell.items())) for cell in cells]

        example: dict[str, Any] = {name: "", value: 0} if order else {value: 0, name: ""}
        return rng.choice(_LISTS), words, [example], parts
    if kind == "total":
        words = rng.choice(["a number", "the sum", "the figure asked for", "number", "the sum as a number"])
        return rng.choice(_TOTALS), words, 0, lambda statement, total, period: total.values[period]
    if kind == "quotes":
        return _quotes(rng)
    if kind == "period":
        return (
            rng.choice(_PERIODS),
            "the period",
            "",
            lambda statement, total, period: statement.periods[period],
        )
    if kind == "names":
        return (
            rng.choice(["names", "labels", "rows_used", "accounts"]),
            rng.choice(["the names of the rows that add up", "list of the parts' names"]),
            [""],
            lambda statement, total, period: [p.label for p in statement.parts(total)],
        )
    return (
        rng.choice(["map", "by_name", "table", "values"]),
        rng.choice(["an object from name to number", "number by name of the parts"]),
        {"": 0},
        lambda statement, total, period: {p.label: p.values[period] for p in statement.parts(total)},
    )


def _quotes(rng: Random) -> tuple[str, str, Any, Fill]:
    """Quotes of whole lines, or from the label to the figure; with or without the line of the sum."""
    span, with_total = rng.random() < 0.4, rng.random() < 0.5
    words = rng.choice(
        ["pieces of the lines, label to figure", "quotes from label to figure", "label to figure, quoted"]
        if span
        else ["the lines quoted", "list of lines, verbatim", "a list of quoted lines", "quotes of the rows"]
    )
    if with_total:
        words += rng.choice([", with the sum", " and the sum's", ", the sum too"])

    def quotes(statement: Statement, total: Line, period: int) -> list[str]:
        used: Sequence[Line] = [*statement.parts(total), *([total] if with_total else [])]
        return [" ".join(line.spans[period].split()) if span else line.text for line in used]

    return rng.choice(_QUOTES), words, [""], quotes
