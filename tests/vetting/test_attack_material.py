"""The material of an attack: rows from all of the data, gold in words and lists made wrong, and what is no attack."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards.text.opposites import opposite
from tieout.rows.spread import spread
from tieout.tasks.wrong_statements import OPPOSITE, figures_changed, wrong_statements
from tieout.vetting.attack import AttackSettings, attack
from tieout.vetting.attack.calling import Caller
from tieout.vetting.attack.gold import read_gold
from tieout.vetting.attack.number_probes import number_probes
from tieout.vetting.attack.probe import in_other_words
from tieout.vetting.attack.targets import fixed_probes, pick_rows, setting_of


def equals(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float]:
    return [float(text.strip() == gold) for text, gold in zip(completions, answer, strict=True)]


@pytest.mark.parametrize("count", [7, 16, 100, 101, 1000])
def test_rows_are_spread_over_all_of_the_data(count: int) -> None:
    rows = [{"prompt": "?", "answer": f"item {i}", "completion": f"item {i}"} for i in range(count)]
    with Caller(equals, rows) as caller:
        picked, scores, _ = pick_rows(caller, rows, 4, 1.0)
    assert picked == sorted(scores)
    assert {4 * i // count for i in picked} == {0, 1, 2, 3}
    half = [{**row, "answer": "?"} if i < count // 2 else row for i, row in enumerate(rows)]
    with Caller(equals, half) as caller:  # where the first half of the data pays no gold
        later, _, _ = pick_rows(caller, half, 2, 1.0)
    assert all(i >= count // 2 for i in later)


@given(st.integers(0, 400), st.integers(0, 60))
def test_a_spread_takes_one_of_each_stretch_in_order(count: int, wanted: int) -> None:
    found = spread(range(count), wanted)
    assert found == sorted(set(found))
    assert len(found) == (min(count, wanted) if wanted else count)
    if 0 < wanted <= count:
        assert all(k * count // wanted <= place < (k + 1) * count // wanted for k, place in enumerate(found))


def test_two_kinds_of_rows_in_turn_are_both_picked() -> None:
    for period in (2, 3, 4):
        assert {place % period for place in spread(range(1200), 12)} == set(range(period))


def made_of(gold: str, **columns: Any) -> dict[str, set[str]]:
    """Class -> completions that are made of the second of three rows, for a reward that asks for all columns."""
    rows = [{"prompt": "?", "completion": f"Other {i} of Perth.", "answer": f"other {i}"} for i in range(3)]
    rows[1] = {"prompt": "?", "completion": gold, **columns}
    asked = list(columns)
    read = read_gold(rows[1], asked)
    found: dict[str, set[str]] = {}
    for probe in fixed_probes(read, setting_of(rows, 1, asked), [], rows[1]):
        found.setdefault(probe.kind, set()).add(probe.completion)
    return found


def test_text_gold_is_made_wrong_in_every_way() -> None:
    gold = "Sales at Acme rose by $5 million in 2019, as prices were higher."
    statements = made_of(gold)["statement"]
    assert {
        gold.replace("$5", "$1"),
        gold.replace("2019", "7019"),
        gold.replace("million", "billion"),
        gold.replace("Acme", "Zorblax"),
        gold.replace("Acme", "Perth"),  # a name in another row
        gold.replace("rose", "fell"),
        gold.replace("higher", "lower"),
        gold.replace("were", "were not"),
    } <= statements
    assert gold not in statements
    assert made_of("<think>It is so.</think><answer>Yes</answer>")["statement"] == {
        "<think>It is so.</think><answer>No</answer>"
    }


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            "Acme reported a loss.",
            {"Birch Rail reported a loss.", "Zorblax reported a loss."},
        ),  # known from the row
        (
            "Elgin Paper is in Perth.",
            {"Zorblax is in Perth.", "Elgin Paper is in Zorblax.", "Elgin Paper is in Acme."},
        ),
        ("Revenue fell. The Board met.", {"Revenue fell. The Zorblax met."}),
        ("It has seven plants.", {"It has eleven plants."}),
        ("Debt was £59.1m and USD320 million.", {"Debt was £19.1m and USD320 million."}),
        ("Debt was up strongly.", {"Debt was down strongly."}),
        ("We can't pay.", {"We can pay."}),
        ("Yes, it did.", {"No, it did."}),
    ],
)
def test_names_figures_and_words_are_found_where_they_stand(text: str, wrong: set[str]) -> None:
    made = {changed for _, changed in wrong_statements(text, ["Acme", "Birch Rail"])}
    assert wrong <= made
    assert text not in made
    if text.startswith("Revenue"):
        assert not any(changed.startswith(("Zorblax", "Acme", "Birch")) for changed in made)


@given(st.text(max_size=200), st.lists(st.text(max_size=12), max_size=3))
def test_no_text_raises_and_every_wrong_one_differs(text: str, others: list[str]) -> None:
    for kind, changed in wrong_statements(text, others):
        assert kind
        assert changed != text


def near(completions: Sequence[str], answer: Sequence[str], tolerance: Any = 0.0, **_: Any) -> list[float]:
    """Within a share of gold, which is the user's to say."""
    pairs = [
        (float(a), re.fullmatch(r"\s*(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*", c))
        for c, a in zip(completions, answer, strict=True)
    ]
    share = tolerance[0] if isinstance(tolerance, list) else tolerance
    return [float(m is not None and abs(float(m[1]) - a) <= share * abs(a)) for a, m in pairs]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_what_is_within_the_tolerance_that_the_user_gave_is_right(share: float) -> None:
    rows = [{"prompt": "?", "answer": f"{41.5 + 7 * i}", "completion": f"{41.5 + 7 * i}"} for i in range(6)]
    few = AttackSettings(max_rows=2, num_search=0, seconds=60.0, classes=("numeric",))
    assert attack(functools.partial(near, tolerance=share), rows, few).findings == []
    by_column = [{**row, "tolerance": share} for row in rows]
    assert attack(near, by_column, few).findings == []


def test_every_turned_word_is_an_opposite_to_the_readers_of_claims() -> None:
    assert [pair for pair in OPPOSITE.items() if not opposite(*pair)] == []


def test_footnotes_citations_and_items_of_a_list_are_no_figures() -> None:
    text = "(1) Sales were flat [2].\n3. Costs rose (see note). See: 4. Debt fell to (5) million."
    assert list(figures_changed(text)) == [text.replace("(5)", "(1)")]


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("5", "-5"), ("$5", "-$5"), ("US$ 5", "-US$ 5"), ("(5)", "5"), ("−5%", "5%"),
        ("losses of $6.4 million", "losses of -$6.4 million"),
    ],
)  # fmt: skip
def test_the_other_sign_stands_at_the_figure(answer: str, other: str) -> None:
    gold = read_gold({"completion": answer}, [])
    (probe,) = {p.completion for p in number_probes(gold) if p.name == "the other sign"}
    assert probe == other


def test_texts_in_json_are_made_wrong_and_quotes_are_left_to_their_own_class() -> None:
    source = (
        "Revenue of Acme rose to 5 in 2019, which was above the plan. Other lines follow here and there. " * 2
    )
    value = {"why": ["Sales at Acme rose."], "quote": "Revenue of Acme rose to 5 in 2019", "total": 5}
    statements = made_of(json.dumps(value), source=source)["statement"]
    assert {json.loads(text)["why"][0] for text in statements} >= {
        "Sales at Acme fell.",
        "Sales at Perth rose.",
    }
    assert {json.loads(text)["quote"] for text in statements} == {value["quote"]}


@pytest.mark.parametrize(
    "keywords",
    [
        ["cash", "net debt", "equity"],
        ("cash", "net debt", "equity"),
        np.array(["cash", "net debt", "equity"]),
        [{"word": "cash"}, {"word": "net debt"}, {"word": "equity"}],
        '["cash", "net debt", "equity"]',
        "cash, net debt, equity",
        "cash; net debt; equity",
    ],
)
def test_all_items_of_a_list_are_no_answer(keywords: Any) -> None:
    assert (
        "cash, net debt, equity"
        in made_of("Acme reports cash, then net debt, by quarter.", keywords=keywords)["stuffing"]
    )
    # Where they are the answer, all of them are right, and one less is not.
    made = made_of("cash, net debt, equity", keywords=keywords)
    assert not any("cash, net debt, equity" in texts for texts in made.values())
    assert {"cash, net debt", "net debt, equity"} <= made["omission"]


def test_what_is_right_in_other_words_is_no_probe() -> None:
    gold = read_gold({"completion": "273 million"}, [])
    assert in_other_words("273 m", gold)
    assert in_other_words("$273,000,000", gold)
    for wrong in ("273", "273 billion", "274 million", "not 273 m", "273 m, 274 m", "-273 m", "273 m or 1"):
        assert not in_other_words(wrong, gold)
    framed = read_gold({"completion": "So it is.\nAnswer: 273 million"}, [])
    assert in_other_words("Answer: 273 m", framed)
    assert in_other_words("So it is.\nAnswer: 273 m", framed)
    country = read_gold({"completion": "United States"}, [])
    assert in_other_words("the US", country, ["United States", "the US"])
    probes = made_of(
        "United States", answers=["United States", "USA"], choices=["United States", "Chile", "Peru"]
    )
    assert not any("USA" in texts for texts in probes.values())
    assert "Chile" in probes["constant"]
