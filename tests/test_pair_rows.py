"""Rankings become decided pairs, scores select among pairs, and weights let every prompt count the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tieout.pipelines.training_rows import _labels
from tieout.rows import RowsError, read_rows
from tieout.rows.pairs import PairSelection, preferences, rows_for

RANKED = {"prompt": "p", "completions": ["a", "b", "c", "d"], "scores": [3, 1, 1, 0], "topic": "sums"}
PAIR = {"prompt": "q", "chosen": "x", "rejected": "y", "chosen_score": 0.9, "rejected_score": 0.7}


def said(rows: Any, **selection: Any) -> list[str]:
    return [row["chosen"] + row["rejected"] for row in preferences(rows, "data", PairSelection(**selection))]


def test_a_ranking_gives_every_decided_pair_each_completion_once_before_any_twice() -> None:
    assert said([RANKED]) == ["ad", "ab", "cd", "ac", "bd"]  # b and c tie
    assert said([RANKED], pairs_per_prompt=2) == ["ad", "ab"]
    first = preferences([RANKED])[0]
    assert (first["chosen_score"], first["rejected_score"], first["topic"]) == (3.0, 0.0, "sums")
    assert "completions" not in first


def test_every_prompt_counts_the_same_however_many_pairs_it_gives() -> None:
    rows = preferences([RANKED, PAIR])
    by_prompt: dict[str, float] = {}
    for row in rows:
        by_prompt[row["prompt"]] = by_prompt.get(row["prompt"], 0.0) + row["pair_weight"]
    assert by_prompt == {"p": pytest.approx(3.0), "q": pytest.approx(3.0)}  # of 6 pairs: 1 in the mean
    assert "pair_weight" not in preferences([PAIR])[0]
    own = preferences([{**PAIR, "pair_weight": 7.0}])
    assert own[0]["pair_weight"] == 7.0
    mixed = preferences([RANKED, {**PAIR, "pair_weight": 7.0}])
    assert [row["pair_weight"] for row in mixed] == [row["pair_weight"] for row in rows]


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "0.5", [1]])
def test_a_weight_that_would_turn_a_pair_or_is_no_number_is_refused_by_row(weight: Any) -> None:
    assert preferences([{**PAIR, "pair_weight": 0}])[0]["pair_weight"] == 0
    with pytest.raises(RowsError, match=r"row 2: 'pair_weight' is .*expected a number from 0 on"):
        preferences([PAIR, {**PAIR, "pair_weight": weight}], "data")


@pytest.mark.parametrize("scores", [[1, float("nan"), 0, 0], [1, float("inf"), 0, 0], [1, "2", 0, 0]])
def test_a_score_that_is_no_finite_number_is_refused_by_row(scores: list[Any]) -> None:
    with pytest.raises(RowsError, match="row 1: 'scores' holds what is no finite number"):
        preferences([{**RANKED, "scores": scores}], "data")


def test_texts_that_a_ranking_has_twice_make_one_pair_with_the_larger_gap() -> None:
    rows = preferences([{"prompt": "p", "completions": ["x", "y", "x"], "scores": [0.5, 0, 1]}])
    assert [(row["chosen"], row["rejected"], row["chosen_score"]) for row in rows] == [("x", "y", 1.0)]
    assert rows.left_out == {"two scores for one text": 1, "the ranking has the same two texts again": 1}


def test_where_all_tie_no_bound_is_blamed() -> None:
    with pytest.raises(RowsError, match="no completion is preferred to another") as e:
        preferences([{**RANKED, "scores": [1, 1, 1, 1]}])
    assert "min_gap" not in str(e.value)


def test_scores_select_pairs_and_what_is_left_out_is_counted() -> None:
    assert said([RANKED], min_gap=2) == ["ad", "ab", "ac"]
    assert said([RANKED, PAIR], min_chosen=1) == ["ad", "ab", "cd", "ac", "bd"]
    rows = preferences([RANKED, PAIR], "data", PairSelection(min_chosen=1, min_gap=3))
    assert [row["chosen"] + row["rejected"] for row in rows] == ["ad"]
    assert rows.left_out == {
        "the scores differ by less than min_gap (3)": 4,
        "the chosen scores below min_chosen (1)": 1,
    }
    assert rows.said.startswith("1 pairs; left out: 4 x ")
    assert preferences([PAIR]).said == ""
    other = {**PAIR, "score_chosen": 5, "score_rejected": 4, "chosen_score": None}
    assert said([other], min_gap=1) == ["xy"]


def test_a_pair_whose_scores_say_the_opposite_falls_only_where_scores_are_asked_for() -> None:
    turned = {**PAIR, "rejected_score": 1.0}
    assert said([turned, PAIR]) == ["xy", "xy"]
    assert said([turned, PAIR], min_gap=0.1) == ["xy"]


def test_what_cannot_be_selected_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    plain = {k: v for k, v in PAIR.items() if "score" not in k}
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (PAIR, plain)))
    with pytest.raises(
        RowsError, match=r"pairs.jsonl:2: min_chosen and min_gap .* has none: expected numbers"
    ):
        preferences(read_rows(file), "", PairSelection(min_gap=0.1))
    assert len(preferences(read_rows(file))) == 2
    with pytest.raises(RowsError, match=r"no pair is left .*1 x the chosen scores below"):
        said([PAIR], min_chosen=0.95)
    tied = {**RANKED, "scores": [1, 1, 1, 1]}
    assert preferences([tied, PAIR]).left_out == {"all completions of a prompt score the same": 1}
    copies = {"prompt": "p", "completions": ["a", "a ", "b"], "scores": [2, 1, 0]}
    assert said([copies]) == ["ab"]  # with the larger gap
    for bad in ({"min_gap": -1}, {"pairs_per_prompt": 0}):
        with pytest.raises(ValueError, match="it must be at least"):
            PairSelection(**bad)  # type: ignore[arg-type]


def test_pairs_of_a_ranking_know_its_line(tmp_path: Path) -> None:
    file = tmp_path / "ranked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (RANKED, PAIR)))
    rows = rows_for("preference", read_rows(file), str(file))
    assert [rows.location(i).rpartition(":")[2] for i in range(6)] == ["1"] * 5 + ["2"]


def test_labels_of_several_pairs_name_a_completion_once_and_none_both_good_and_bad() -> None:
    labels = _labels(preferences([RANKED]))
    assert {row["completion"]: row["label"] for row in labels} == {"a": True, "d": False}
    assert len(labels) == 2
    assert "pair_weight" not in labels[0]
