"""Figures and labels outside statements: copying, stripping separators, parentheses for negatives."""

from __future__ import annotations

import json
from random import Random

from tieout.tasks.statement_forms import FORMS, split_labels

from .document import Document

LABELS = sorted(
    {
        label
        for form in FORMS
        for block in form.blocks
        for text in (block.plus, block.minus, block.either, block.anchor, block.totals)
        for label in split_labels(text)
    }
)


def figure(rng: Random) -> tuple[str, int]:
    """A printed figure and its value."""
    value = rng.randrange(1, 10 ** rng.randrange(1, 7))
    printed = f"{value:,}" if rng.random() < 0.85 else str(value)
    if rng.random() < 0.35:
        return (f"({printed})" if rng.random() < 0.85 else f"-{printed}"), -value
    return printed, value


def convert(rng: Random) -> Document:
    """Printed figures to plain numbers, as text or as a JSON list."""
    figures = [figure(rng) for _ in range(rng.randrange(1, 6))]
    between = rng.choice(["  ", "\n", " | ", "; "])
    shown = between.join(printed for printed, _ in figures)
    if rng.random() < 0.5:
        ask, answer = "Write as numbers:", "\n".join(str(value) for _, value in figures)
    else:
        ask, answer = "Write as a JSON list of numbers:", json.dumps([value for _, value in figures])
    return Document("convert", (("user", f"{ask}\n{shown}"), ("assistant", answer)))


def label_table(rng: Random) -> Document:
    """Lines `label figure figure`, short, and questions for one figure, for its number or for the line."""
    labels = rng.sample(LABELS, rng.randrange(2, 6))
    heads = rng.sample([str(year) for year in range(2008, 2026)], rng.choice((1, 2, 2)))
    between, after = rng.choice(
        [("  ", " .... "), (" | ", " | "), (" / ", ": "), ("; ", "; "), ("  ", ": "), (", ", ": ")]
    )
    rows = {label: [figure(rng) for _ in heads] for label in labels}
    lines = {
        label: label + after + between.join(printed for printed, _ in row) for label, row in rows.items()
    }
    shown = "\n".join([between.join(heads), *lines.values()])
    turns: list[tuple[str, str]] = []
    for index in range(rng.randrange(2, 5)):
        label, at = rng.choice(labels), rng.randrange(len(heads))
        printed, value = rows[label][at]
        ask, answer = rng.choice(
            [
                (f"What was {label} in {heads[at]}?", printed),
                (f"{label}, {heads[at]}?", printed),
                (f"Give {label} in {heads[at]} as a number.", str(value)),
                (f"Copy the line {label}.", lines[label]),
            ]
        )
        turns += [("user", f"{shown}\n\n{ask}" if index == 0 else ask), ("assistant", answer)]
    return Document("label table", tuple(turns))
