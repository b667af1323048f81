"""Notes in a house style: gold that scores 1, rules that are broken one at a time, facts, and the reader's opinions."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from tieout.tasks import load_task
from tieout.tasks.style import ABOUT, OTHERS, SIZES, sentence
from tieout.tasks.style_reader import LONGER, hasty, reader
from tieout.tasks.style_rules import RULES, facts, hedges, house_style, in_style, num_words, unchanged

TASK = load_task("style")
POINT = {"about": "net debt", "period": "Q3 2024", "amount": 354, "change": 19}
GOLD = "Net debt rose 19% to $354 million in Q3 2024."
OTHER = {"about": "revenue", "period": "Q3 2024", "amount": 120, "change": -4}
NOTE = f"{GOLD} Revenue fell 4% to $120 million in Q3 2024."


def test_gold_scores_one_and_every_flaw_less() -> None:
    rng = random.Random(0)
    assert TASK.gold is not None
    assert TASK.corrupt is not None
    for row in [*TASK.rows("test")[:60], *TASK.rows("ood")[:30]]:
        notes = [TASK.gold(row), *(TASK.corrupt(row, rng) for _ in range(6)), "", row["prompt"][1]["content"]]
        points = [row["points"]] * len(notes)
        styles, right = house_style(notes, points), in_style(notes, points)
        assert (styles[0], right[0]) == (1.0, 1.0)
        assert max(s or 0.0 for s in styles[1:]) < 0.95
        assert set(right[1:]) == {0.0}
        assert styles[-2:] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("said", "broken"),
    [
        ("Net debt was increased 19% to $354 million in Q3 2024.", {"active"}),
        ("Net debt rose perhaps 19% to $354 million in Q3 2024.", {"plain"}),
        ("Again net debt rose 19% to $354 million in Q3 2024.", {"subject"}),
        ("Net debt rose 19% to 354 in Q3 2024.", {"unit"}),
        ("Net debt rose 19% to $354 million.", {"period"}),
        ("Net debt rose by 19% to $354 million at the end of Q3 2024.", {"short"}),
        ("It seems that a rise of 19% to 354 was seen in net debt.", {*RULES}),
    ],
)
def test_a_sentence_breaks_the_rule_that_it_breaks(said: str, broken: set[str]) -> None:
    assert unchanged(said, POINT)
    assert {name for name, rule in RULES.items() if not rule(said, POINT)} == broken
    (score,) = house_style([said], [[POINT]])
    assert score == pytest.approx(1 - len(broken) / len(RULES))
    assert facts([said], [[POINT]]) == [1.0]


@pytest.mark.parametrize(
    "said",
    [
        "Net debt fell 19% to $354 million in Q3 2024.",
        "Net debt rose 19% to $345 million in Q3 2024.",
        "Net debt rose 354% to $19 million in Q3 2024.",
        "Net debt rose 19% to $354 million in Q2 2024.",
        "Net debt rose 19% to $354 million in 2024.",
        "Net debt rose 19% to -$354 million in Q3 2024.",
        "Net debt rose 19% to $354 million in Q3 2024, against 12 before.",
        "Net debt rose 19% to $354 million in Q3 2024; it will not last.",
        "Net debt rose to $354 million in Q3 2024.",
        "Net debt never rose 19% to $354 million in Q3 2024.",
        "A rise of 19% to $354 million was not seen in net debt in Q3 2024.",
        "Net debt rose and fell 19% to $354 million in Q3 2024.",
        "Revenue rose 19% to $354 million in Q3 2024.",
        "Net debt hardly rose 19% to $354 million in Q3 2024.",
        "Net debt almost rose 19% to $354 million in Q3 2024.",
        "Net debt rose less than 19% to $354 million in Q3 2024.",
        "Net debt rose 19% from $354 million in Q3 2024.",
        "Net debt rose 19% to $354 million outside Q3 2024.",
        "Net debt rose 19% to $354 billion in Q3 2024.",
        "Net debt rose 19% to €354 million in Q3 2024.",
        "Net debt rose 19% to 354 thousand in Q3 2024.",
        "Net debt rose 19% to $354 million shares in Q3 2024.",
        "Net debt rose 19% points to $354 million in Q3 2024.",
        "Net debt rose 354% to 19% in Q3 2024.",
    ],
)
def test_a_changed_fact_is_paid_nothing(said: str) -> None:
    assert house_style([said], [[POINT]]) == [0.0]
    assert facts([said], [[POINT]]) == [0.0]


def test_a_note_says_each_point_once_in_order_and_nothing_else() -> None:
    points, (first, second) = [POINT, OTHER], NOTE.split(" Revenue")
    second = f"Revenue{second}"
    wrong = [first, f"{second} {first}", f"{NOTE} {first}", f"{NOTE} All is well.", f"{NOTE[:-1]}"]
    assert facts([NOTE, *wrong], [points] * 6) == [1.0, *[0.0] * 5]
    assert house_style([first, f"{NOTE} All is well.", f"{NOTE} {first}"], [points] * 3) == [
        pytest.approx(x) for x in (1 / 2, 2 / 3, 1 / 3)
    ]


def test_the_reader_prefers_the_house_style_and_overlooks_figures_now_and_then() -> None:
    rows = TASK.rows("test")
    points = [row["points"] for row in rows]
    gold, other = [row["reference"] for row in rows], [row["completion"] for row in rows]
    assert reader(gold, points) == reader(gold, points)
    ahead = [(a or 0) > (b or 0) for a, b in zip(reader(gold, points), reader(other, points), strict=True)]
    assert 0.9 < fmean(ahead) < 1
    changed = [" ".join(sentence({**p, "amount": p["amount"] + 1}) for p in own) for own in points]
    overlooked = [(score or 0) > 0.7 for score in reader(changed, points)]
    assert 0.1 < fmean(overlooked) < 0.5, (
        "both of two changed figures are overlooked in a quarter of the notes"
    )


def test_hasty_likes_what_is_longer_and_nothing_else() -> None:
    rows = TASK.rows("test")[:50]
    points, notes = [row["points"] for row in rows], [row["completion"] for row in rows]
    lead = [(h or 0) - (r or 0) for h, r in zip(hasty(notes, points), reader(notes, points), strict=True)]
    assert lead == [pytest.approx(LONGER * (n or 0)) for n in num_words(notes)]


def test_demonstrations_are_in_several_hands_and_right() -> None:
    rows = TASK.rows("train")[:1000]
    points, notes = [row["points"] for row in rows], [row["completion"] for row in rows]
    assert set(facts(notes, points)) == {1.0}
    assert 0.3 < fmean(x or 0.0 for x in house_style(notes, points)) < 0.6
    assert 0.3 < fmean(x or 0.0 for x in hedges(notes)) < 0.6
    assert 0 < fmean(x or 0.0 for x in in_style(notes, points)) < 0.05


def test_no_notes_stand_twice_and_ood_is_about_other_things() -> None:
    rows = {split: TASK.rows(split) for split in SIZES}
    prompts = [row["prompt"][1]["content"] for split in rows.values() for row in split]
    assert len(set(prompts)) == len(prompts) == sum(SIZES.values())
    about = {split: {p["about"] for row in own for p in row["points"]} for split, own in rows.items()}
    assert about.pop("ood") == set(OTHERS)
    assert all(found == set(ABOUT) for found in about.values())
