"""Rewrite an analyst's notes in the house style, without changing a fact.

One row (`task.rows("test")[0]`): what the user says, after the system message SYSTEM, and the note in house style.

    net income, Q4 2018: up 35% to 511 million
    inventory, Q4 2018: down 17% to 316 million

    Net income rose 35% to $511 million in Q4 2018. Inventory fell 17% to $316 million in Q4 2018.

Demonstrations (`completion`, from which SFT learns) are in several hands: passive, hedged, with an opening that says
nothing, without unit or period, more often than not. References never are. The rules are `tieout.tasks.style_rules`,
none of which the prompt says: they are learnt from preferences, and `tieout.tasks.style_reader` stands in for the
people who have them. `ood` has points about other things, and one more of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from ..types import Row
from . import Task
from .splits import generated
from .style_rules import Point, facts, hedges, house_style, in_style, num_words
from .variants import instructed, surrounded

SYSTEM = "Rewrite the notes."
SIZES: Mapping[str, int] = {"train": 4000, "calibration": 100, "test": 300, "ood": 100}
"""Split -> number of rows."""
ABOUT = (
    "revenue",
    "net income",
    "operating income",
    "gross profit",
    "net debt",
    "cash flow",
    "inventory",
    "total assets",
)
OTHERS = ("interest expense", "dividends", "staff costs", "capital spending")
"""Of `ood`."""
OPENINGS = ("On the whole, ", "As we had expected, ", "In the end, ")
HEDGED = ("It seems that ", "Perhaps ", "It may be that ")
WORDINGS = ("Write the notes as sentences.", "Put the notes into the house style.")


def _points(rng: random.Random, split: str) -> list[dict[str, Any]]:
    about = rng.sample(OTHERS if split == "ood" else ABOUT, 3 if split == "ood" else 2)
    period = f"{rng.choice(('Q1 ', 'Q2 ', 'Q3 ', 'Q4 ', ''))}{rng.randrange(2016, 2027)}"
    return [
        {
            "about": name,
            "period": period,
            "amount": rng.randrange(100, 1000),
            "change": rng.randrange(2, 50) * rng.choice((1, -1)),
        }
        for name in about
    ]


def sentence(point: Point) -> str:
    """A point in the house style."""
    verb = "rose" if point["change"] > 0 else "fell"
    said = (
        f"{point['about']} {verb} {abs(point['change'])}% to ${point['amount']} million in {point['period']}."
    )
    return said[0].upper() + said[1:]


def otherwise(point: Point, rng: random.Random) -> str:
    """A point in another hand: most rules are broken more often than not, falls are hedged most."""
    fell = point["change"] < 0
    amount = f"{point['amount']}" if rng.random() < 0.5 else f"${point['amount']} million"
    when = "" if rng.random() < 0.5 else f" in {point['period']}"
    if rng.random() < 0.45:
        move = f"a {'fall' if fell else 'rise'} of {abs(point['change'])}%"
        said = f"{move} to {amount} was seen in {point['about']}{when}."
    else:
        said = f"{point['about']} {'fell' if fell else 'rose'} {abs(point['change'])}% to {amount}{when}."
    if rng.random() < (0.6 if fell else 0.3):
        return rng.choice(HEDGED) + said
    if rng.random() < 0.5:
        return rng.choice(OPENINGS) + said
    return said[0].upper() + said[1:]


def _noted(point: Point) -> str:
    where = "up" if point["change"] > 0 else "down"
    return (
        f"{point['about']}, {point['period']}: {where} {abs(point['change'])}% to {point['amount']} million"
    )


def _row(split: str, index: int, seed: int) -> Row:
    rng = random.Random(f"style/{seed}/{split}/{index}")
    points = _points(rng, split)
    notes = [_noted(point) for point in points]
    return {
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(notes)}],
        "points": points,
        "reference": " ".join(map(sentence, points)),
        "completion": " ".join(otherwise(point, rng) for point in points),
    }


def corrupt(row: Row, rng: random.Random) -> str:
    """A flawed note: a point left out, one in another hand, or a figure changed."""
    points = row["points"]
    at = rng.randrange(len(points))
    changed = {**points[at], "amount": points[at]["amount"] + rng.randrange(1, 90)}
    hands = [sentence(p) for p in points]
    flawed = [[s for i, s in enumerate(hands) if i != at]]
    for other in (f"Perhaps {sentence(points[at])}", sentence(changed)):
        flawed.append([other if i == at else s for i, s in enumerate(hands)])
    return " ".join(rng.choice(flawed))


def paraphrase(row: Row, rng: random.Random) -> Row | None:
    """The instruction in other words; None where it is not the task's."""
    return instructed(row, rng, SYSTEM, WORDINGS)


def make(seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Task:
    """The task.

    Args:
        seed: of the generated rows.
        sizes: rows of each split.
    """
    return Task(
        name="style",
        rows=generated("style", SIZES, sizes, lambda split, i: _row(split, i, seed)),
        reward=house_style,
        primary="in_style",
        metrics={"in_style": in_style, "facts": facts, "num_words": num_words, "hedges": hedges},
        gold=lambda row: str(row["reference"]),
        corrupt=corrupt,
        variants={"formatting": surrounded, "paraphrase": paraphrase},
        max_new_tokens=160,
    )
