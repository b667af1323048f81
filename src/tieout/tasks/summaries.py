"""Summarise a short report: every figure and name of the reference, in fewer words than the report.

One row (`task.rows("test")[0]`): what the user says, after the system message SYSTEM, and the completion.

    Birch Software held its annual meeting on a Tuesday, in the hall beside its first plant. Operating income of
    Birch Software fell to $774 million in 2018. Some visitors came by train. Costs rose by 21%. A choir sang
    before the speeches. Before lunch the board said that Hugo Lind becomes chief executive. The minutes of the
    last meeting were read aloud. The next meeting will be announced in writing.

    Operating income of Birch Software fell to $774 million in 2018. Costs rose by 21%. The board said that Hugo
    Lind becomes chief executive.

Rows are drawn by seed; splits share no company. Files of your own: `load("rows.jsonl")`, with prompt, document,
reference and, if you have them, your own questions in `quiz`. The reward is `rewards.summary`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from ..rewards.library.summary import quiz_score, summary
from ..types import Row
from . import Task
from .rag_companies import FIRST_NAMES, PEOPLE, SECOND_NAMES
from .splits import Splits, from_file, generated
from .variants import instructed, surrounded

SYSTEM = (
    "Summarise the report in at most four short sentences. Keep every figure and every name that matters."
)
SIZES: Mapping[str, int] = {"train": 2000, "calibration": 100, "test": 200, "ood": 100}
"""Split -> number of rows."""

_MEASURES = ["Revenue", "Gross profit", "Operating income", "Cash flow"]
_FILLER = [
    "The weather was mild and the hall was full.",
    "Shareholders asked about parking.",
    "Nobody voted against the accounts.",
    "Coffee was served in the garden.",
    "The minutes of the last meeting were read aloud.",
    "A choir sang before the speeches.",
    "Some visitors came by train.",
    "The next meeting will be announced in writing.",
]


def _row(split: str, index: int, seed: int) -> Row:
    rng = random.Random(f"summaries/{seed}/{split}/{index}")
    company = f"{rng.choice(FIRST_NAMES[split])} {rng.choice(SECOND_NAMES)}"
    measure, verb = rng.choice(_MEASURES), rng.choice(["rose", "fell"])
    year = rng.randrange(2015, 2025)
    facts = [
        (f"{measure} of {company} {verb} to ${rng.randrange(20, 990)} million in {year}.", ""),
        (f"Costs {rng.choice(['rose', 'fell'])} by {rng.randrange(2, 30)}%.", ""),
        (f"The board said that {rng.choice(PEOPLE)} becomes chief executive.", "Before lunch t"),
    ]
    filler = rng.sample(_FILLER, 4)
    document = [f"{company} held its annual meeting on a Tuesday, in the hall beside its first plant."]
    for (fact, opening), aside in zip(facts, filler, strict=False):
        document += [opening + fact[1:] if opening else fact, aside]
    document.append(filler[-1])
    text, reference = " ".join(document), " ".join(fact for fact, _ in facts)
    return {
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
        "document": text,
        "reference": reference,
        "completion": reference,
    }


def corrupt(row: Row, rng: random.Random) -> str:
    """A flawed summary: the report itself, one fact dropped, or one figure changed."""
    facts: list[str] = row["reference"].split(". ")
    dropped = ". ".join(facts[1:])
    digit = next(i for i, character in enumerate(row["reference"]) if character in "123456789")
    changed = row["reference"][:digit] + rng.choice("123456789".replace(row["reference"][digit], ""))
    return rng.choice([row["document"], dropped, changed + row["reference"][digit + 1 :]])


WORDINGS = (
    "Give a summary of the report: no more than four short sentences, with every figure and every name that matters.",
    "Say in four short sentences or fewer what the report says. No figure and no name that matters may be missing.",
)


def paraphrase(row: Row, rng: random.Random) -> Row | None:
    """The instruction in other words; None where it is not the task's."""
    return instructed(row, rng, SYSTEM, WORDINGS)


def make(seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Task:
    """The task; `sizes` says how many rows each split has."""
    return _task(generated("summaries", SIZES, sizes, lambda split, i: _row(split, i, seed)))


def load(path: str | Path) -> Task:
    """The task over a file of rows, all in the split `test`. ValueError: a column is missing."""
    return _task(from_file(path, summary))


def _task(rows: Splits) -> Task:
    return Task(
        name="summaries",
        rows=rows,
        reward=summary,
        metrics={"quiz_score": quiz_score},
        gold=lambda row: str(row.get("completion", row["reference"])),
        corrupt=corrupt,
        variants={"formatting": surrounded, "paraphrase": paraphrase},  # sentences of a report have an order
        max_new_tokens=96,
    )
