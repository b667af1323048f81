"""What a run found out about its reward stands in the report's metadata, with what it was compared with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tieout.evidence.reward_checks import KEY, changed, collect, pairs_of, rows_of

CALIBRATION: dict[str, Any] = {
    "reward": "r",
    "verdict": "pass",
    "reasons": ["the better completion scores higher in 100.0% [95.0%, 100.0%] of 60 pairs"],
    "truth": "the task's own truth, not people: gold, flawed completions",
    "agreement": {"value": 1.0, "low": 0.95, "high": 1.0, "n": 60},
    "separation": 0.98,
    "rank_agreement": {"truth": 1.0, "figures_right": 0.87, "constant": None},
    "pairs": {"gold over wrong_digit": {"value": 1.0, "low": 0.8, "high": 1.0, "n": 21}},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose reward was proven, attacked, calibrated, and watched."""
    files: dict[str, Any] = {
        "check/proof/proof.json": {
            "holds": True, "num_rows": 4, "checks": [{"name": "gold", "passed": 4, "failures": []}],
        },
        "check/attack/attack.json": {"verdict": "1 exploit in 90 probes", "findings": [{"class": "stuffing"}]},
        "check/calibration/calibration.json": CALIBRATION,
        "calibrate/calibration.json": {**CALIBRATION, "verdict": "fail", "override": "known, and small"},
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    grpo = tmp_path / "grpo"
    (grpo / "audit").mkdir(parents=True)
    (grpo / "audit" / "step-000001.jsonl").write_text("")
    metrics = [
        {"step": 1, "calibration/score": 0.4, "calibration/primary": 0.3, "calibration/agreement": 0.9}
    ]
    metrics += [{"step": 2, "loss": 1.0}]
    metrics += [
        {"step": 25, "calibration/score": 0.6, "calibration/primary": 0.2, "calibration/agreement": 0.5}
    ]
    (grpo / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    (grpo / "alarms.jsonl").write_text(
        '{"step": 25, "reason": "on the 16 calibration prompts the reward went up"}\n'
    )
    return tmp_path


def test_every_check_is_collected_with_its_verdict_and_what_it_was_compared_with(run: Path) -> None:
    rows = rows_of({"metadata": {KEY: collect(run)}})
    assert [(row["stage"], row["verdict"]) for row in rows] == [
        ("check", "pass"), ("check", "fail"), ("check", "pass"), ("calibrate", "fail"), ("grpo", "fail"),
    ]  # fmt: skip
    proof, attack, given, sampled, drift = rows
    assert proof["said"] == "4 rows with gold, 4 tries"
    assert attack["said"].endswith("accepted by name in the recipe: stuffing")
    assert given["what"] == "calibration, against the task's own truth, not people: gold, flawed completions"
    assert given["said"].endswith("of 60 pairs; AUC 0.980; rank agreement with figures_right 0.87")
    assert sampled["said"].endswith("accepted with the reason: known, and small")
    assert "reward 0.400 → 0.600, primary metric 0.300 → 0.200, agreement 0.900 → 0.500" in drift["said"]
    assert "alarm at step 25" in drift["said"]
    assert "1 audit sheets" in drift["said"]


@pytest.mark.parametrize(
    ("low", "high", "verdict", "said"),
    [
        (
            -0.01,
            0.03,
            "pass",
            "the reward gained at most 0.05 more than the primary metric: +0.010 [-0.010, +0.030]",
        ),
        (-0.1, 0.12, "info", "neither shown nor ruled out: +0.010 [-0.100, +0.120]"),
        (0.01, 0.12, "info", "the reward gained more than the primary metric: +0.010 [+0.010, +0.120]"),
    ],
)
def test_drift_is_judged_by_its_interval(run: Path, low: float, high: float, verdict: str, said: str) -> None:
    (run / "grpo" / "alarms.jsonl").unlink()
    path = run / "grpo" / "metrics.jsonl"
    first, _, last = (json.loads(line) for line in path.read_text().splitlines())
    for end, value in {"": 0.01, "_low": low, "_high": high}.items():
        last |= {f"calibration/{figure}_change{end}": value for figure in ("score", "primary", "gap")}
        last |= {f"calibration/agreement{end}": value} if end else {}
    path.write_text(f"{json.dumps(first)}\n{json.dumps({**last, 'calibration/prompts': 16.0})}\n")
    drift = collect(run)[-1]
    assert drift["verdict"] == verdict
    assert said in drift["said"]
    moved = f"reward 0.400 → 0.600 (+0.010 [{low:+.3f}, {high:+.3f}])"
    assert drift["said"].startswith(
        f"same 16 prompts, step 1 → 25: {moved}, primary metric 0.300 → 0.200 (+0.010"
    )
    assert f"agreement 0.900 → 0.500 [{low:.3f}, {high:.3f}]" in drift["said"]


def test_kinds_of_pairs_are_listed_and_a_file_that_was_changed_is_named(run: Path) -> None:
    report = {"metadata": {KEY: collect(run)}}
    assert pairs_of(report)[0] | {"n": 21} == {
        "stage": "check", "kind": "gold over wrong digit", "value": 1.0, "low": 0.8, "high": 1.0, "n": 21,
    }  # fmt: skip
    assert changed(report, run) == []
    first, *_, drift = report["metadata"][KEY]
    (problem,) = changed({"metadata": {KEY: [first | {"verdict": "fail"}]}}, run)
    assert "verdict: the report says 'fail', the cases give 'pass'" in problem
    assert changed({"metadata": {KEY: [drift | {"said": "nothing moved"}]}}, run)
    (run / "check/attack/attack.json").write_text("{}")
    (problem,) = changed(report, run)
    assert "attack.json: changed since the report" in problem


def test_findings_are_in_the_order_of_the_stages_whatever_the_clock_said(run: Path) -> None:
    stages = [
        {"check": {"name": "check"}},
        {"train": "grpo", "name": "grpo"},
        {"calibrate": {"name": "calibrate"}},
    ]
    (run / "run.json").write_text(json.dumps({"identity": {"stages": stages}}))
    for number, path in enumerate(sorted(run.rglob("*.json"), reverse=True)):
        os.utime(path, (number, number))
    found = [(one["stage"], one["what"]) for one in collect(run)]
    assert found[:3] == [("check", "proof"), ("check", "attack"), ("check", "calibration")]
    assert [stage for stage, _ in found[3:]] == ["calibrate", "grpo"], "what drifted comes last"


def test_the_check_of_train_is_a_finding_too(tmp_path: Path) -> None:
    (tmp_path / "check").mkdir()
    done = {"reward": "close", "done": "proven on 8 rows; no exploit in 90 probes", "problems": []}
    (tmp_path / "check" / "check.json").write_text(json.dumps(done))
    assert rows_of({"metadata": {KEY: collect(tmp_path)}}) == [
        {"stage": "check", "what": "attack and proof", "verdict": "pass", "said": done["done"]}
    ]


def test_a_run_that_checked_nothing_says_nothing(tmp_path: Path) -> None:
    assert collect(tmp_path) == []
    assert rows_of({"metadata": {}}) == []
