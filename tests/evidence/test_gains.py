"""A gain is taken apart into what it consists of; cases that became worse are listed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from made_cases import make_cases
from tieout.evidence.evaluate import Case
from tieout.evidence.gate import GatePolicy
from tieout.evidence.report import build_report


def rewarded(parts: Mapping[str, Sequence[float]], right: Sequence[float] = ()) -> list[Case]:
    """Cases whose score is the sum of their parts."""
    points = [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
    return [
        replace(case, parts=own, metrics={"right": right[i]} if right else {})
        for i, (case, own) in enumerate(
            zip(make_cases([sum(own.values()) for own in points]), points, strict=True)
        )
    ]


def compare(old: list[Case], new: list[Case], **options: Any) -> Mapping[str, Any]:
    report = build_report({"old": old, "new": new}, candidate="new", baseline="old", **options)
    found: Mapping[str, Any] = report["comparisons"][0]
    return found


def test_the_differences_of_the_parts_add_up_to_the_rewards_on_every_slice() -> None:
    rng = random.Random(0)

    def model() -> list[Case]:
        cases = rewarded({name: [rng.random() / 3 for _ in range(50)] for name in ("a", "b", "c")})
        return [replace(case, slice="test" if i < 30 else "ood") for i, case in enumerate(cases)]

    whole = compare(model(), model())["tracks"]["programmatic"]
    for figure in (whole, *whole["slices"].values()):
        assert sum(part["difference"] for part in figure["parts"].values()) == pytest.approx(
            figure["difference"]
        )
        assert figure["rest"] == pytest.approx(0.0, abs=1e-9)


def test_what_a_part_leaves_unexplained_is_said() -> None:
    old = rewarded({"form": [0.2] * 40, "figures": [0.1] * 40})
    new = rewarded({"form": [0.2] * 40, "figures": [0.5] * 40})
    new[:10] = [replace(case, parts={"form": 0.2}, errors={"part figures": "timed out"}) for case in new[:10]]
    compared = compare(old, new)
    figure = compared["tracks"]["programmatic"]["slices"]["test"]
    assert figure["difference"] == pytest.approx(0.4)
    assert (figure["parts"]["figures"]["n"], figure["parts"]["figures"]["unpaired"]) == (30, 10)
    points = sum(part["difference"] * part["n"] / 40 for part in figure["parts"].values())
    assert points + figure["rest"] == pytest.approx(0.4)
    assert "unexplained +0.100" in compared["gain"]


def test_what_improved_is_said_in_words() -> None:
    old = {"form": [0.1] * 40, "figures": [0.1, 0.2] * 20, "citations": [0.2] * 40}
    form = compare(rewarded(old), rewarded({**old, "form": [0.3] * 40, "figures": [0.15, 0.2] * 20}))
    assert "figures +0.025" in form["gain"]
    assert form["gain"].startswith("the reward rose (+0.225 [")
    assert form["gain"].endswith("form +0.200, figures +0.025, citations +0.000; most of the gain is form")
    lost = compare(rewarded({**old, "figures": [0.4] * 40}), rewarded(old))
    assert lost["gain"].endswith("most of the loss is figures")
    both = {**old, "form": [0.2] * 40, "figures": [0.2, 0.3] * 20, "citations": [0.28] * 40}
    assert compare(rewarded(old), rewarded(both))["gain"].endswith("parts of the gain are form and figures")
    same = compare(rewarded(old), rewarded(old))["gain"]
    assert "the reward is not shown to have changed (+0.000 [" in same
    assert "most" not in same


def test_the_primary_metric_comes_first() -> None:
    old = rewarded({"form": [0.1] * 40, "figures": [0.1] * 40}, [0.0] * 40)
    new = rewarded({"form": [0.4] * 40, "figures": [0.1] * 40}, [0.0] * 40)
    said = compare(old, new, primary="right")["gain"]
    assert said.startswith("right, the primary metric, is not shown to have changed (+0.000 [")
    assert said.endswith("most of the gain is form")


def test_without_parts_the_metrics_are_compared_instead() -> None:
    old = [replace(case, metrics={"schema": 0.0, "right": 0.0}) for case in make_cases([0.2] * 40)]
    new = [replace(case, metrics={"schema": 1.0, "right": 0.0}) for case in make_cases([0.6] * 40)]
    said = compare(old, new, primary="right")["gain"]
    assert "schema rose (+1.000 [" in said
    assert said.startswith("right, the primary metric, is not shown")
    assert said.count("right") == 1


def test_points_have_the_scale_of_their_part() -> None:
    # A part worth 0.1 at most: one imaginary case at 1 would count for ten real ones.
    old = rewarded({"form": [0.0] * 40, "rest of it": [0.0] * 40})
    new = rewarded({"form": [0.1] * 40, "rest of it": [0.0] * 40})
    form = compare(old, new)["tracks"]["programmatic"]["parts"]["form"]
    assert 0.08 < form["low"] <= form["high"] <= 0.1


# ---- regressions


def test_cases_that_became_much_worse_are_listed_the_largest_loss_first() -> None:
    old, new = make_cases([1.0, 1.0, 0.9, 0.5, 0.2]), make_cases([0.5, 0.4, 0.1, 0.9, None])
    found = compare(old, new)["regressions"]
    assert [entry["case"] for entry in found] == ["t/programmatic/test/2", "t/programmatic/test/1"]
    assert found[0] == {
        "case": "t/programmatic/test/2",
        "track": "programmatic",
        "slice": "test",
        "reward": {"candidate": 0.1, "baseline": 0.9},
    }
    strict = compare(old, new, policy=GatePolicy(regression_drop=0.4))["regressions"]
    assert len(strict) == 3


def test_what_was_right_and_is_wrong_is_a_regression_whatever_the_reward() -> None:
    old = [replace(case, metrics={"right": 1.0}) for case in make_cases([0.9] * 3)]
    new = [replace(case, metrics={"right": float(i)}) for i, case in enumerate(make_cases([0.9] * 2))]
    (found,) = compare(old, new, primary="right")["regressions"]
    assert found["primary"] == {"candidate": 0.0, "baseline": 1.0}
