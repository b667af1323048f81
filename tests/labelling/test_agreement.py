"""Agreement, from published figures and by enumeration; biases of people who have a known one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from projects import answer, judge_all, open_store

from tieout.labelling.agreement import agreement, gwet_ac1, krippendorff_alpha, people
from tieout.labelling.assignment import Design
from tieout.labelling.disputes import disputes

# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example C; Gwet's irrCAC prints AC1 of it.
RATINGS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
COUNTS = np.array([[sum(rater[unit] == k for rater in RATINGS) for k in range(1, 6)] for unit in range(12)])


def test_the_published_figures_come_out() -> None:
    assert krippendorff_alpha(COUNTS) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(COUNTS, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert gwet_ac1(COUNTS) == pytest.approx(0.77544, abs=5e-6)


def test_nothing_shared_or_nothing_that_varies_has_no_figure() -> None:
    assert krippendorff_alpha(np.array([[1, 0], [0, 1]])) is None
    assert krippendorff_alpha(np.array([[2, 0], [2, 0]])) is None
    assert gwet_ac1(np.array([[1, 0], [0, 1]])) is None
    assert gwet_ac1(np.array([[2, 0], [2, 0]])) == 1.0


EVERY = Design(overlap=1.0, repeats=0)


def test_two_who_agree_have_one_and_a_coin_has_none(tmp_path: Path) -> None:
    same = open_store(tmp_path, number=80, design=EVERY, name="same")
    for name in ("anna", "ben"):
        judge_all(same, name, lambda item, _: "ab"[int(item, 16) % 2])
    found = agreement(same, same.scheme)
    assert found.alpha.value == found.ac1.value == 1.0
    assert found.alpha.n == 80
    assert disputes(same, same.scheme) == []
    coin = open_store(tmp_path, number=80, design=EVERY, name="coin")
    judge_all(coin, "anna", lambda item, _: "ab"[int(item, 16) % 2])
    judge_all(coin, "ben", lambda item, _: "ab"[int(item, 16) // 2 % 2])
    found = agreement(coin, coin.scheme)
    assert found.alpha.low is not None
    assert found.alpha.high is not None
    assert found.alpha.low < 0 < found.alpha.high < 0.5
    assert len(disputes(coin, coin.scheme)) == sum(int(item, 16) % 4 in (1, 2) for item in coin.items)


def test_alone_there_is_no_agreement(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    judge_all(store, "anna", "a")
    assert agreement(store, store.scheme).alpha.value is None


def test_a_bias_for_the_first_or_the_longer_one_is_seen_and_an_honest_person_has_none(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=120, design=Design(overlap=1.0, raters=3, repeats=0))
    judge_all(store, "first", lambda item, _: "ab"[store.order("first", item)[0]])
    texts = {item: store.items[item].texts for item in store.items}
    judge_all(store, "longer", lambda item, _: "a" if len(texts[item][0]) > len(texts[item][1]) else "b")
    judge_all(store, "honest", lambda item, _: "ab"[int(item, 16) % 2])
    found = people(store, store.scheme)
    assert found["first"].first.value == 1.0
    assert found["longer"].longer.value == 1.0
    for who, trait in (("longer", "first"), ("honest", "first"), ("honest", "longer")):
        figure = getattr(found[who], trait)
        # The order is of a fresh secret: an interval of 95% would miss one time in twenty.
        assert abs(figure.value - 0.5) < 4.5 * figure.standard_error, (who, trait)


def test_self_agreement_is_the_share_of_repeats_that_say_the_same(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=60, design=Design(overlap=0, repeats=1.0, gap=1))
    judge_all(store, "anna", lambda item, round: "ab"[round and int(item, 16) % 4 == 0])
    repeated = [item for _, item, round in store.slots if round == 1]
    same = people(store, store.scheme)["anna"].itself
    assert same.n == len(repeated) == 59  # the last one has nothing after it
    assert same.value == pytest.approx(sum(int(item, 16) % 4 != 0 for item in repeated) / 59)


def test_rankings_grades_and_spans_have_agreement_too(tmp_path: Path) -> None:
    values = {
        "rankings": ([[0], [1], [2], [3]], [[0], [1], [3], [2]]),
        "grades": ({"good": "1"}, {"good": "0"}),
        "spans": ([{"start": 0, "end": 7, "label": "wrong"}], []),
    }
    for kind, (one, other) in values.items():
        store = open_store(tmp_path, kind, 8, EVERY, name=kind)  # type: ignore[arg-type]
        judge_all(store, "anna", one)
        judge_all(store, "ben", lambda item, _, one=one, other=other: one if int(item, 16) % 2 else other)
        found = agreement(store, store.scheme)
        assert found.ac1.value is not None
        assert found.ac1.value < 1
        assert len(disputes(store, store.scheme)) == sum(int(item, 16) % 2 == 0 for item in store.items)


def test_a_settled_dispute_is_none(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=1, design=EVERY)
    for name, value in (("anna", "a"), ("ben", "b")):
        judge_all(store, name, value)
    (item,) = disputes(store, store.scheme)
    store.settle(answer(store, "chief", item, "b", base=0))
    assert disputes(store, store.scheme) == []
    assert store.verdicts[item]["value"] == "b"
