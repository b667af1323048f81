"""The report's numbers come from the cases, can be recomputed, and any change is found."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_cases import make_cases, two_models
from tieout.evidence.evaluate import Case
from tieout.evidence.gate import GatePolicy
from tieout.evidence.human import Grade
from tieout.evidence.report import build_report, regate, write_report
from tieout.evidence.verify import verify
from tieout.storage.atomic import sha256
from tieout.storage.jsonl import read_json, read_jsonl, write_jsonl


def shape(cases: dict[str, list[Case]], **options: Any) -> dict[str, Any]:
    return build_report(cases, candidate="sft", baseline="base", **options)


def prefer_sft(folder: Path) -> None:
    path = folder / "human" / "sheet.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    for row in rows:
        row["preferred"] = "a" if row["output_a"].startswith("sft") else "b"
    write_jsonl(path, rows)


# ---- the numbers


def test_every_track_of_every_model_has_its_figures() -> None:
    report = shape(two_models())
    for model in ("base", "sft"):
        tracks = report["models"][model]
        assert list(tracks) == ["programmatic", "human", "negative_controls"]
        assert set(tracks["programmatic"]["slices"]) == {"test", "ood"}
        assert tracks["programmatic"]["slices"]["test"]["n"] == 60
        assert tracks["human"] == {
            **dict.fromkeys(("mean", "low", "high")),
            "n": 0,
            "settled": 0,
            "errors": 0,
            "abstained": 0,
            "metrics": {},
            "parts": {},
            "slices": {},
        }
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_means_and_differences_are_those_of_the_scores() -> None:
    cases = {
        "base": make_cases([0.0, 0.5, 1.0, 0.5], [1.0, 1.0]),
        "sft": make_cases([0.5, 0.5, 1.0, 1.0], [1.0, 0.0]),
    }
    report = shape(cases)
    assert report["models"]["base"]["programmatic"]["mean"] == 0.5
    assert report["models"]["sft"]["programmatic"]["mean"] == 0.75
    (comparison,) = report["comparisons"]
    assert comparison["tracks"]["programmatic"]["difference"] == 0.25
    assert comparison["tracks"]["negative_controls"]["difference"] == -0.5


def test_errors_and_abstentions_are_counted_and_never_scored() -> None:
    cases = {"base": make_cases([1.0, 1.0, 1.0]), "sft": make_cases([1.0, None, 1.0])}
    cases["base"][2] = replace(cases["base"][2], score=None)  # abstained
    cases["sft"][2] = replace(cases["sft"][2], score=None)
    report = shape(cases)
    own = report["models"]["sft"]["programmatic"]
    assert (own["mean"], own["n"], own["errors"], own["abstained"]) == (1.0, 1, 1, 1)
    pair = report["comparisons"][0]["tracks"]["programmatic"]
    # The errored case is missed; the one to which the reward does not apply is not.
    assert (pair["n"], pair["unpaired"]) == (1, 1)


def test_pairs_are_found_by_case_whatever_their_order() -> None:
    cases = two_models()
    shuffled = {"base": cases["base"], "sft": cases["sft"][::-1]}
    assert shape(shuffled)["comparisons"] == shape(cases)["comparisons"]


def test_mcnemar_is_made_on_what_is_right_or_wrong() -> None:
    def exact(scores: list[float], right: list[float]) -> list[Case]:
        return [
            replace(case, metrics={"exact": value})
            for case, value in zip(make_cases(scores), right, strict=True)
        ]

    graded = {"base": exact([0.2, 0.3, 1.0], [0.0, 0.0, 1.0]), "sft": exact([1.0, 1.0, 1.0], [1.0] * 3)}
    pair = shape(graded)["comparisons"][0]["tracks"]["programmatic"]
    assert (pair["test"], pair["metrics"]["exact"]["test"]) == ("bootstrap", "mid-p McNemar")
    assert pair["p"] != pair["metrics"]["exact"]["p"]  # two questions: the score, and what is right
    assert pair["metrics"]["exact"]["p"] == 0.25  # two wins, no loss: 2 * 1/4 / 2
    binary = shape({"base": make_cases([0.0, 0.0, 1.0]), "sft": make_cases([1.0, 1.0, 1.0])})
    assert binary["comparisons"][0]["tracks"]["programmatic"]["p"] == 0.25


def test_wins_ties_and_losses_are_counted_for_all_pairs_of_models() -> None:
    cases = {
        "base": make_cases([0.0, 0.5, 0.5, 0.5]),
        "sft": make_cases([0.5, 0.5, 0.2, 0.5]),
        "dpo": make_cases([0.9, 0.9, 0.9, 0.5]),
    }
    report = build_report(cases, candidate="dpo", baseline="sft", base="base")
    counts = {
        (c["candidate"], c["baseline"]): tuple(
            c["tracks"]["programmatic"][k] for k in ("wins", "ties", "losses")
        )
        for c in report["comparisons"]
    }
    assert counts == {("dpo", "sft"): (3, 1, 0), ("dpo", "base"): (3, 1, 0), ("sft", "base"): (1, 2, 1)}


def test_no_mcnemar_where_cases_share_a_document() -> None:
    cases = {
        "base": [replace(case, cluster="10-K") for case in make_cases([0.0] * 6)],
        "sft": [replace(case, cluster="10-K") for case in make_cases([1.0] * 6)],
    }
    pair = shape(cases)["comparisons"][0]["tracks"]["programmatic"]
    assert pair["test"] == "bootstrap"
    assert pair["p"] > 0.05  # one document is one observation
    assert pair["low"] < -0.5


def test_the_human_track_is_the_share_won() -> None:
    marks = ["a"] * 6 + ["tie"] * 2 + ["b"] * 2
    grades = [Grade(str(i), "sft", "base", mark) for i, mark in enumerate(marks)]
    grades += [Grade("other", "sft", "third", "b")]  # against another model: no part of this pair
    report = shape(two_models(), grades=grades)
    pair = report["comparisons"][0]["tracks"]["human"]
    assert (pair["difference"], pair["n"]) == (pytest.approx(0.4), 10)
    assert report["models"]["base"]["human"]["mean"] == pytest.approx(0.3)
    assert report["models"]["sft"]["human"]["mean"] == pytest.approx(7 / 11)


@pytest.mark.parametrize("wins", range(8, 26))
def test_shares_won_and_their_difference_never_contradict_each_other(wins: int) -> None:
    marks = ["a"] * wins + ["tie"] * 5 + ["b"] * 9
    grades = [Grade(str(i), "sft", "base", mark) for i, mark in enumerate(marks)]
    report = shape(two_models(), grades=grades)
    pair = report["comparisons"][0]["tracks"]["human"]
    ours, theirs = (report["models"][model]["human"] for model in ("sft", "base"))
    for end, other in (("low", "high"), ("high", "low")):
        assert 2 * ours[end] - 1 == pytest.approx(pair[end], abs=1e-9)
        assert ours[end] + theirs[other] == pytest.approx(1.0, abs=1e-9)


def test_scores_beyond_one_widen_the_scale() -> None:
    report = shape({"base": make_cases([-2.0, 3.0, 0.5]), "sft": make_cases([0.5, 5.0, 0.5])})
    figure = report["models"]["base"]["programmatic"]
    assert -2 <= figure["low"] < figure["mean"] == 0.5 < figure["high"] <= 5


def test_metrics_have_intervals_and_errors_of_their_own() -> None:
    cases = two_models()
    cases["sft"] = [replace(case, metrics={"length": 40.0 + i % 3}) for i, case in enumerate(cases["sft"])]
    cases["sft"][0] = replace(cases["sft"][0], metrics={}, errors={"length": "boom"})
    figure = shape(cases)["models"]["sft"]["programmatic"]["metrics"]["length"]
    assert (figure["n"], figure["errors"]) == (89, 1)
    assert 0 <= figure["low"] < figure["mean"] < figure["high"] <= 42


def test_further_tracks_are_reported() -> None:
    cases = {m: [*own, Case("x/1", "style", "all", "p", "c", 0.5)] for m, own in two_models().items()}
    report = shape(cases)
    assert report["models"]["sft"]["style"]["mean"] == 0.5
    assert report["comparisons"][0]["tracks"]["style"]["difference"] == 0.0


def test_models_without_cases_are_named() -> None:
    with pytest.raises(ValueError, match="no cases of model 'dpo'; there are cases of: base, sft"):
        build_report(two_models(), candidate="dpo", baseline="base")
    with pytest.raises(ValueError, match="'sft' cannot be its own baseline"):
        build_report(two_models(), candidate="sft", baseline="sft")


# ---- on disk


def test_a_report_ties_out(tmp_path: Path) -> None:
    report = write_report(tmp_path, two_models(), candidate="sft", baseline="base", metadata={"seed": 0})
    assert report == read_json(tmp_path / "report.json")
    assert report["files"]["cases.jsonl"] == sha256(tmp_path / "cases.jsonl")
    assert set(report["files"]) == {
        "cases.jsonl",
        "human/sheet.jsonl",
        "human/rubric.md",
        "human/key.json",
        "rule.jsonl",
    }
    assert verify(tmp_path / "report.json") == []


def test_the_verdict_holds_until_people_have_graded(tmp_path: Path) -> None:
    assert (
        write_report(tmp_path, two_models(), candidate="sft", baseline="base")["verdict"]["verdict"] == "hold"
    )
    prefer_sft(tmp_path)
    assert any("human/sheet.jsonl: changed" in line for line in verify(tmp_path / "report.json"))
    assert regate(tmp_path)["verdict"]["verdict"] == "ship"
    assert verify(tmp_path / "report.json") == []
    stricter = regate(tmp_path, policy=GatePolicy(min_cases=1000))
    assert stricter["verdict"]["verdict"] == "hold"
    assert verify(tmp_path / "report.json") == []


@pytest.mark.parametrize(("task", "primary"), [("finance_statements", "exact"), ("mine.py:task", None)])
def test_a_report_of_format_1_is_judged_by_the_primary_metric_of_its_task(
    tmp_path: Path, task: str, primary: str | None
) -> None:
    cases = {m: [replace(c, metrics={"exact": 0.0}) for c in own] for m, own in two_models().items()}
    metadata = {"recipe": {"task": task}}
    report = write_report(tmp_path, cases, candidate="sft", baseline="base", metadata=metadata)
    del report["settings"]["primary"], report["settings"]["policy"]["regression_drop"]
    (tmp_path / "report.json").write_text(json.dumps({**report, "format": 1}))
    again = regate(tmp_path)
    assert (again["format"], again["settings"]["primary"]) == (6, primary)
    assert again["verdict"]["checks"][0]["status"] == ("hold" if primary else "pass")
    assert verify(tmp_path / "report.json") == []


def test_graded_pairs_may_be_handed_in(tmp_path: Path) -> None:
    grades = tmp_path / "mine.jsonl"
    row = {"model_a": "base", "model_b": "sft", "preferred": "b"}
    write_jsonl(grades, [{"case": str(i), **row} for i in range(30)])
    folder = tmp_path / "evidence"
    report = write_report(folder, two_models(), candidate="sft", baseline="base", grades=grades)
    assert report["verdict"]["verdict"] == "ship"
    assert "human/grades.jsonl" in report["files"]
    grades.unlink()  # the evidence is complete without it
    assert verify(folder / "report.json") == []
    # Other outputs: nobody has graded those.
    cases = two_models()
    cases["sft"][0] = replace(cases["sft"][0], completion="something else")
    again = write_report(folder, cases, candidate="sft", baseline="base")
    assert again["verdict"]["verdict"] == "hold"
    assert (folder / "human" / "grades-1.jsonl").exists()


def test_bad_grades_are_refused_and_not_kept(tmp_path: Path) -> None:
    bad = tmp_path / "mine.jsonl"
    bad.write_text('{"case": "1", "model_a": "gpt", "model_b": "sft", "preferred": "b"}')
    write_report(tmp_path, two_models(), candidate="sft", baseline="base")
    with pytest.raises(ValueError, match=r"mine.jsonl:1: unknown model 'gpt'"):
        regate(tmp_path, grades=bad)
    with pytest.raises(ValueError, match="does not exist"):
        regate(tmp_path, grades=tmp_path / "nothing.jsonl")
    assert not (tmp_path / "human" / "grades.jsonl").exists()
    assert verify(tmp_path / "report.json") == []


def test_evidence_needs_no_torch() -> None:
    modules = (
        "evidence.stats rewards.scoring.runner rewards.library.exact samplers.mock "
        "evidence.report evidence.human review.document"
    )
    code = "import sys; " + "; ".join(f"import tieout.{module}" for module in modules.split())
    code += "; assert not {'torch', 'transformers', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
