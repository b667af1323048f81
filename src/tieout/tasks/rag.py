"""Answer a question from retrieved passages and cite them, or say that they lack the answer.

One row (`task.rows("test")[2]`): what the user says, after the system message SYSTEM, and the completion.

    [1] Birch Shipping reported capital expenditure of $611 million in 2021. Its chief executive was Vera
    Okafor.
    [2] Granite Rail reported operating income of $482 million in 2021. Its headcount was 6,642.
    [3] Granite Rail reported research expense of $929 million in 2020. Its headcount was 2,707.

    What was the research expense of Granite Rail in 2020?

    Granite Rail reported research expense of $929 million in 2020 [3].

A quarter of the questions cannot be answered from the passages: the completion is "I do not know." Rows are drawn by
seed; splits share no company. Files of your own: `load("rows.jsonl")`, with prompt, question, context (a list of
passages), answer (empty: not in them) and, for gold, completion. The reward is `rewards.rag`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..rewards.library.rag import citation_accuracy, faithfulness, groundedness, rag, relevance
from ..types import Row
from . import Task
from .splits import Splits, from_file, generated
from .variants import asked_in, asking, instructed

SYSTEM = (
    "Answer in one sentence from the passages, and cite the passage that says it, like [2]. "
    "If no passage says it, answer: I do not know."
)
UNKNOWN = "I do not know."
SIZES: Mapping[str, int] = {"train": 2000, "calibration": 100, "test": 200, "ood": 100}
"""Split -> number of rows."""

FIRST_NAMES = {
    "train": [
        "Alder",
        "Cobalt",
        "Dunmore",
        "Elgin",
        "Harrow",
        "Ivory",
        "Kestrel",
        "Linden",
        "Marlow",
        "Orchard",
    ],
    "calibration": ["Quarry", "Raven", "Sable"],
    "test": ["Birch", "Fenwick", "Granite", "Juniper", "Norwood"],
    "ood": ["Thistle", "Umber", "Vesper", "Willow"],
}
SECOND_NAMES = ["Foods", "Rail", "Paper", "Energy", "Mining", "Textiles", "Software", "Shipping"]
_MEASURES = ["revenue", "operating income", "capital expenditure", "research expense", "net debt"]
PEOPLE = ["Ada Holm", "Otto Brandt", "Nina Castell", "Hugo Lind", "Vera Okafor", "Emil Sato", "Rosa Quint"]


def _row(split: str, index: int, seed: int) -> Row:
    rng = random.Random(f"rag/{seed}/{split}/{index}")
    companies = [
        f"{a} {b}"
        for a, b in zip(rng.sample(FIRST_NAMES[split], 2), rng.sample(SECOND_NAMES, 2), strict=True)
    ]
    passages, facts = [], []
    for company, year in [(companies[0], 2021), (companies[0], 2020), (companies[1], 2021)]:
        measure = rng.choice(_MEASURES)
        value, heads, boss = (
            f"${rng.randrange(20, 990)} million",
            f"{rng.randrange(1001, 9999):,}",
            rng.choice(PEOPLE),
        )
        stated = f"{company} reported {measure} of {value} in {year}."
        aside = rng.choice([f"Its headcount was {heads}.", f"Its chief executive was {boss}."])
        facts.append((company, measure, year, value, stated))
        passages.append(f"{stated} {aside}")
    order = rng.sample(range(3), 3)
    at = rng.randrange(3)
    company, measure, year, value, stated = facts[at]
    known = rng.random() < 0.75
    if not known:
        measure = rng.choice([m for m in _MEASURES if all(m != fact[1] for fact in facts)])
    question = f"What was the {measure} of {company} in {year}?"
    context = [passages[i] for i in order]
    return {
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": _said(context, question)},
        ],
        "question": question,
        "context": context,
        "answer": value if known else "",
        "completion": f"{stated[:-1]} [{order.index(at) + 1}]." if known else UNKNOWN,
    }


def corrupt(row: Row, rng: random.Random) -> str:
    """Gold with one flaw: another figure, another citation, none, or an answer where there is none."""
    gold: str = row["completion"]
    if not row["answer"]:
        return f"It was ${rng.randrange(20, 990)} million [{rng.randrange(1, 4)}]."
    number = next(n for n in (1, 2, 3) if f"[{n}]" in gold)
    wrong = rng.choice([n for n in (1, 2, 3) if n != number])
    off = f"${int(row['answer'][1:].split()[0]) + rng.randrange(1, 9)} million"
    return rng.choice(
        [
            gold.replace(row["answer"], off),
            gold.replace(f"[{number}]", f"[{wrong}]"),
            gold.replace(f" [{number}]", ""),
            UNKNOWN,
        ]
    )


WORDINGS = (
    "Use the passages only: reply in one sentence with the number of the passage that says it, like [2]. "
    "Where none of them says it, write: I do not know.",
    "One sentence, taken from the passages, and the passage it stands in, like [2]. "
    "If it stands in no passage: I do not know.",
)


def order(row: Row, rng: random.Random) -> Row | None:
    """The passages in another order, with other numbers; None where the prompt is not made of them."""
    context: list[str] = row["context"]
    if len(context) < 2 or asked_in(row) != _said(context, row["question"]):
        return None
    places = rng.sample(range(len(context)), len(context))
    if places == sorted(places):
        places = [*places[1:], places[0]]
    moved = [context[i] for i in places]
    columns: dict[str, Any] = {"context": moved}
    if "completion" in row:
        columns["completion"] = re.sub(
            r"\[(\d+)\]", lambda cited: f"[{places.index(int(cited[1]) - 1) + 1}]", row["completion"]
        )
    return asking(row, _said(moved, row["question"]), **columns)


def formatting(row: Row, rng: random.Random) -> Row | None:
    """A blank line between the passages; None where the prompt is not made of them."""
    if len(row["context"]) < 2 or asked_in(row) != _said(row["context"], row["question"]):
        return None
    return asking(row, _said(row["context"], row["question"], "\n\n"))


def paraphrase(row: Row, rng: random.Random) -> Row | None:
    """The instruction in other words; None where it is not the task's."""
    return instructed(row, rng, SYSTEM, WORDINGS)


def _said(context: Sequence[str], question: str, between: str = "\n") -> str:
    """What the user says."""
    listed = between.join(f"[{i}] {passage}" for i, passage in enumerate(context, 1))
    return f"{listed}\n\n{question}"


def make(seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Task:
    """The task; `sizes` says how many rows each split has."""
    return _task(generated("rag", SIZES, sizes, lambda split, i: _row(split, i, seed)))


def load(path: str | Path) -> Task:
    """The task over a file of rows, all in the split `test`. ValueError: a column is missing."""
    return _task(from_file(path, rag))


def _task(rows: Splits) -> Task:
    return Task(
        name="rag",
        rows=rows,
        reward=rag,
        metrics={f.__name__: f for f in (relevance, faithfulness, citation_accuracy, groundedness)},
        gold=lambda row: str(row["completion"]),
        corrupt=corrupt,
        variants={"order": order, "formatting": formatting, "paraphrase": paraphrase},
        max_new_tokens=64,
    )
