"""Questions about statements: figures, lines, columns, parts of sums, and sums broken down under a schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from tieout.tasks.statement_forms import COMPANIES
from tieout.tasks.statements import SEEN_LAYOUTS, Line, Statement, make_statement

from .document import Document
from .schemas import draw_schema

Question = tuple[str, str]
"""What is asked and the answer."""


def draw_statement(rng: Random) -> Statement:
    """A statement of a company of the pretraining's own, in the layouts that may be trained on."""
    return make_statement(rng, layouts=SEEN_LAYOUTS, companies=COMPANIES["base"])


def questions(rng: Random) -> Document:
    """One statement and three to six questions, each answered in plain text or a small piece of JSON."""
    statement = draw_statement(rng)
    turns: list[tuple[str, str]] = []
    for index in range(rng.randrange(3, 7)):
        ask, answer = rng.choices(list(_KINDS), weights=list(_KINDS.values()))[0](rng, statement)
        turns += [("user", _shown(rng, statement, ask) if index == 0 else ask), ("assistant", answer)]
    return Document("statement questions", tuple(turns))


def breakdowns(rng: Random) -> Document:
    """A system turn with a schema, a statement, and one or two sums to be broken down under it."""
    statement, schema = draw_statement(rng), draw_schema(rng)
    turns: list[tuple[str, str]] = [("system", schema.instruction)]
    sums = rng.sample(statement.totals, min(len(statement.totals), rng.choice((1, 2))))
    for index, total in enumerate(sums):
        period = rng.randrange(len(statement.periods))
        ask = _ask_parts(rng, total, statement.periods[period])
        turns += [("user", _shown(rng, statement, ask) if index == 0 else ask)]
        turns += [("assistant", schema.answer(statement, total, period))]
    return Document("statement schema", tuple(turns))


def _shown(rng: Random, statement: Statement, ask: str) -> str:
    between = rng.choice(("\n", "\n\n"))
    return f"{statement.text}{between}{ask}" if rng.random() < 0.4 else f"{ask}{between}{statement.text}"


def _ask_parts(rng: Random, total: Line, period: str) -> str:
    return rng.choice(
        [
            "Break down {} for {}.",
            "What makes up {} in {}?",
            "{} in {}?",
            "Explain {} of {}.",
            "Show how {} adds up in {}.",
            "The parts of {}, {}.",
        ]
    ).format(total.label, period)


def _figure(rng: Random, statement: Statement) -> Question:
    line, period = rng.choice(statement.lines), rng.randrange(len(statement.periods))
    ask = rng.choice(["What was {} in {}?", "{}, {}?", "How much was {} for {}?", "Give {} of {}."])
    return ask.format(line.label, statement.periods[period]), line.cells[period]


def _number(rng: Random, statement: Statement) -> Question:
    line = rng.choice([line for line in statement.lines if line.role != "distractor"])
    period = rng.randrange(len(statement.periods))
    ask = rng.choice(["What was {} in {}, as a number?", "Give {} of {} as a number.", "Number of {} in {}?"])
    return ask.format(line.label, statement.periods[period]), str(line.values[period])


def _line(rng: Random, statement: Statement) -> Question:
    line = rng.choice(statement.lines)
    return rng.choice(["Copy the line {}.", "Quote the line of {}.", "Which line shows {}?"]).format(
        line.label
    ), line.text


def _span(rng: Random, statement: Statement) -> Question:
    line, period = rng.choice(statement.lines), rng.randrange(len(statement.periods))
    ask = rng.choice(["Quote {} from label to figure for {}.", "Cite {} of {}."])
    return ask.format(line.label, statement.periods[period]), " ".join(line.spans[period].split())


def _column(rng: Random, statement: Statement) -> Question:
    period = rng.randrange(len(statement.periods))
    lines = [line for line in statement.lines if line.role != "distractor"]
    if rng.random() < 0.5:
        answer = json.dumps({line.label: line.values[period] for line in lines})
        return f"Give the numbers of {statement.periods[period]} as JSON.", answer
    shown = "\n".join(f"{line.label}: {line.values[period]}" for line in lines)
    return f"List the numbers of {statement.periods[period]}.", shown


def _parts(rng: Random, statement: Statement) -> Question:
    total, period = rng.choice(statement.totals), rng.randrange(len(statement.periods))
    parts = statement.parts(total)
    return rng.choice(
        [
            (f"Which lines make up {total.label}?", "\n".join(part.label for part in parts)),
            (
                f"Which lines make up {total.label}? Answer with a JSON list.",
                json.dumps([p.label for p in parts]),
            ),
            (f"How many lines make up {total.label}?", str(len(parts))),
            (
                f"{total.label} in {statement.periods[period]} as a sum of numbers?",
                " + ".join(str(p.values[period]) for p in parts) + f" = {total.values[period]}",
            ),
            (
                f"Lines and numbers that make up {total.label} in {statement.periods[period]}?",
                "\n".join(f"{p.label}: {p.values[period]}" for p in parts),
            ),
            (
                f"Quote the lines that make up {total.label} in {statement.periods[period]}.",
                "\n".join(" ".join(p.spans[period].split()) for p in parts),
            ),
        ]
    )


def _about(rng: Random, statement: Statement) -> Question:
    return rng.choice(
        [
            ("Which company is it?", statement.company),
            ("Which periods are shown?", ", ".join(statement.periods)),
            ("What is the scale?", statement.scale),
            ("Which sums are shown?", "\n".join(line.label for line in statement.totals)),
            ("List the labels.", "\n".join(line.label for line in statement.lines)),
        ]
    )


_KINDS: dict[Callable[[Random, Statement], Question], float] = {
    _figure: 3,
    _number: 4,
    _line: 2,
    _span: 3,
    _column: 2,
    _parts: 4,
    _about: 1,
}
