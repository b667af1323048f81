"""Ship only what was shown; reject what is clearly worse; hold everything else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from statistics import NormalDist
from typing import Any

import pytest

from made_cases import make_cases
from tieout.evidence import stats
from tieout.evidence.evaluate import CONTROLS, HUMAN, PROGRAMMATIC
from tieout.evidence.figures import model_figures, pair_figures
from tieout.evidence.gate import Check, GatePolicy, Verdict, gate
from tieout.evidence.human import Grade
from tieout.evidence.report import build_report


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 2000)


LOW, HIGH = [0.2] * 30 + [0.5] * 30, [0.5] * 30 + [1.0] * 30
SAME = [1.0] * 100


def grades(wins: int, ties: int, losses: int) -> list[Grade]:
    marks = ["a"] * wins + ["tie"] * ties + ["b"] * losses
    return [Grade(f"case {i}", "new", "old", mark) for i, mark in enumerate(marks)]


WON = grades(30, 10, 10)


def judge(
    new: Sequence[float | None] = HIGH,
    old: Sequence[float | None] = LOW,
    new_controls: Sequence[float | None] = SAME,
    old_controls: Sequence[float | None] = SAME,
    graded: Sequence[Grade] = WON,
    policy: GatePolicy | None = None,
    **ood: Sequence[float],
) -> Verdict:
    cases = {
        "new": make_cases(new, new_controls, ood.get("new_ood", [])),
        "old": make_cases(old, old_controls, ood.get("old_ood", [])),
    }
    report = build_report(cases, graded, candidate="new", baseline="old", policy=policy)
    verdict = gate(report, "new", "old", policy)
    assert report["verdict"]["verdict"] == verdict.verdict
    assert verdict.reasons == [check.reason for check in verdict.checks]
    return verdict


def status(verdict: Verdict, track: str) -> str:
    (check,) = (c for c in verdict.checks if c.track == track and c.status != "info")
    return check.status


def test_all_three_tracks_passing_ships() -> None:
    verdict = judge()
    assert verdict.verdict == "ship"
    assert [check.status for check in verdict.checks] == ["pass", "pass", "pass"]


# What each track shows, and the arguments that make it so.
PROGRAMMATIC_SHOWS: dict[str, dict[str, Any]] = {
    "pass": {"new": HIGH, "old": LOW},
    "hold": {"new": LOW, "old": LOW},
    "fail": {"new": LOW, "old": HIGH},
    "empty": {"new": [], "old": []},
}
HUMAN_SHOWS: dict[str, dict[str, Any]] = {
    "pass": {"graded": WON},
    "hold": {"graded": grades(20, 10, 19)},
    "fail": {"graded": grades(5, 10, 35)},
    "empty": {"graded": []},
}
CONTROLS_SHOW: dict[str, dict[str, Any]] = {
    "pass": {"new_controls": SAME, "old_controls": SAME},
    "hold": {"new_controls": [0.0] * 3 + [1.0] * 97, "old_controls": SAME},
    "fail": {"new_controls": [0.0] * 30 + [1.0] * 70, "old_controls": SAME},
    "empty": {"new_controls": [], "old_controls": []},
}


@pytest.mark.parametrize(
    ("programmatic", "human", "controls"), list(product(PROGRAMMATIC_SHOWS, HUMAN_SHOWS, CONTROLS_SHOW))
)
def test_every_combination_of_tracks(programmatic: str, human: str, controls: str) -> None:
    verdict = judge(**PROGRAMMATIC_SHOWS[programmatic], **HUMAN_SHOWS[human], **CONTROLS_SHOW[controls])
    shown = {PROGRAMMATIC: programmatic, HUMAN: human, CONTROLS: controls}
    for track, expected in shown.items():
        assert status(verdict, track) == ("hold" if expected == "empty" else expected)
    if "fail" in shown.values():
        assert verdict.verdict == "reject"
    elif set(shown.values()) == {"pass"}:
        assert verdict.verdict == "ship"
    else:
        assert verdict.verdict == "hold"


def test_an_empty_track_says_that_it_is_empty() -> None:
    assert "no graded pairs of new and old; an empty track is not a pass" in judge(graded=[]).reasons[1]
    assert "no scored cases" in judge(new_controls=[], old_controls=[]).reasons[2]


def test_a_better_mean_is_not_enough() -> None:
    verdict = judge(new=[0.5] * 33 + [0.4] * 27, old=[0.5] * 30 + [0.4] * 30)
    assert status(verdict, PROGRAMMATIC) == "hold"
    assert "not shown to be better than old" in verdict.reasons[0]


def test_few_cases_hold_however_good_they_look() -> None:
    assert status(judge(new=[1.0] * 19, old=[0.0] * 19), PROGRAMMATIC) == "hold"
    assert status(judge(new=[1.0] * 20, old=[0.0] * 20), PROGRAMMATIC) == "pass"
    assert status(judge(graded=grades(19, 0, 0)), HUMAN) == "hold"


def test_one_case_graded_by_many_is_one_case() -> None:
    crowd = [Grade("the same case", "new", "old", "a") for _ in range(50)]
    assert status(judge(graded=crowd), HUMAN) == "hold"


def test_grades_of_copies_of_a_case_are_those_of_one_case() -> None:
    cases = {name: make_cases([0.5] * 50, SAME) for name in ("new", "old")}
    crowd = [Grade(case.id, "new", "old", "a") for case in cases["new"][:50]]
    assert pair_figures(cases, crowd, "new", "old", HUMAN, 0)["low"] > 0.5
    copies = {name: [replace(case, cluster="one prompt") for case in own] for name, own in cases.items()}
    assert pair_figures(copies, crowd, "new", "old", HUMAN, 0)["low"] < 0
    assert model_figures(copies, crowd, "new", HUMAN, 0)["low"] < 0.5
    with stats.former():  # a report of format 5 ties out by the rule that made it
        assert pair_figures(copies, crowd, "new", "old", HUMAN, 0)["low"] > 0.5
        assert model_figures(copies, crowd, "new", HUMAN, 0)["low"] > 0.5


def test_breaking_the_scorer_is_no_way_to_skip_hard_cases() -> None:
    hard_skipped: list[float | None] = [None] * 30 + [0.8] * 30
    verdict = judge(new=hard_skipped, old=[0.0] * 30 + [0.5] * 30)
    assert status(verdict, PROGRAMMATIC) == "hold"
    assert "30 cases lack a score of new or old (50.0%" in verdict.reasons[0]
    lenient = GatePolicy(max_unpaired_share=0.6)
    assert (
        status(judge(new=hard_skipped, old=[0.0] * 30 + [0.5] * 30, policy=lenient), PROGRAMMATIC) == "pass"
    )


def test_cases_that_were_not_asked_are_missed() -> None:
    assert status(judge(new=HIGH[:40], old=LOW), PROGRAMMATIC) == "hold"


def test_perfect_controls_need_enough_cases_to_show_the_margin() -> None:
    assert status(judge(new_controls=[1.0] * 25, old_controls=[1.0] * 25), CONTROLS) == "hold"
    assert status(judge(new_controls=[1.0] * 80, old_controls=[1.0] * 80), CONTROLS) == "pass"


def test_controls_that_got_a_little_worse_for_certain_are_within_the_margin() -> None:
    old, new = [0.9] * 400, [0.88] * 400
    assert status(judge(new_controls=new, old_controls=old), CONTROLS) == "pass"
    strict = GatePolicy(control_margin=0.01)
    assert status(judge(new_controls=new, old_controls=old, policy=strict), CONTROLS) == "fail"


def test_controls_that_are_worse_but_perhaps_within_the_margin_hold() -> None:
    verdict = judge(new_controls=[0.0] * 16 + [1.0] * 384, old_controls=[1.0] * 400)
    assert status(verdict, CONTROLS) == "hold"
    check = verdict.checks[2]
    assert check.low is not None
    assert check.high is not None
    assert check.low < -0.05 < -0.04 < check.high < 0


def test_controls_that_the_base_cannot_do_say_nothing() -> None:
    verdict = judge(new_controls=[0.0] * 200, old_controls=[0.0] * 200)
    assert status(verdict, CONTROLS) == "hold"
    assert "give controls that it can do" in verdict.checks[2].reason
    few = [1.0] * 10 + [0.0] * 190  # all of them lost would be within the margin
    assert status(judge(new_controls=few, old_controls=few), CONTROLS) == "hold"
    some = [1.0] * 30 + [0.0] * 170
    assert status(judge(new_controls=some, old_controls=some), CONTROLS) == "pass"


def test_controls_are_held_against_the_base() -> None:
    # sft lost the controls; dpo lost nothing more. Against sft that looks harmless, against base it is not.
    lost = [0.0] * 50 + [1.0] * 50
    cases = {
        "base": make_cases(LOW, SAME),
        "sft": make_cases(LOW, lost),
        "dpo": make_cases(HIGH, lost),
    }
    report = build_report(cases, candidate="dpo", baseline="sft", base="base")
    assert status(gate(report, "dpo", "sft"), CONTROLS) == "pass"
    assert status(gate(report, "dpo", "sft", base="base"), CONTROLS) == "fail"
    assert report["verdict"]["verdict"] == "reject"


@pytest.mark.parametrize(("lost", "status"), [(0, "pass"), (2, "pass"), (7, "hold"), (40, "fail")])
def test_the_p_of_the_controls_is_that_of_their_margin(lost: int, status: str) -> None:
    old, new = [1.0] * 200, [0.0] * lost + [1.0] * (200 - lost)
    controls = judge(new_controls=new, old_controls=old).checks[2]
    assert (controls.status, controls.least) == (status, -0.05)
    assert controls.p is not None
    assert (controls.p < 0.05) == (controls.status == "pass")
    # The score test of one share, since nothing was gained: 5% of the cases lost, or more.
    share, sd = lost / 200, (0.05 * 0.95 / 200) ** 0.5
    assert controls.p == pytest.approx(min(1.0, 2 * NormalDist().cdf((share - 0.05) / sd)), abs=1e-12)


def test_a_p_value_answers_what_is_judged_and_holm_counts_all_that_is() -> None:
    # The controls became worse for certain, within the margin: a p-value of 0 would say that of a pass.
    verdict = judge(new_controls=[0.88] * 400, old_controls=[0.9] * 400)
    tested = sorted(verdict.checks[:3], key=lambda check: check.p or 0.0)
    assert verdict.checks[2].status == "pass"
    p = [check.p or 0.0 for check in tested]
    adjusted = [min(1.0, 3 * p[0]), min(1.0, max(3 * p[0], 2 * p[1])), max(3 * p[0], 2 * p[1], p[2])]
    assert [check.p_holm for check in tested] == adjusted
    more = judge(policy=GatePolicy(min_improvement=0.5)).checks[0]
    assert (more.status, more.least, more.p) == ("hold", 0.5, 1.0)
    enough = judge(policy=GatePolicy(min_improvement=0.2)).checks[0]
    assert enough.status == "pass"
    assert judge().checks[0].p <= enough.p < 0.05  # type: ignore[operator]
    few = judge(graded=grades(19, 0, 0)).checks[1]
    assert (few.status, few.p, few.p_holm) == ("hold", None, None)


def test_pairs_of_the_same_output_are_counted_apart_from_those_that_people_graded() -> None:
    alike = [Grade(f"alike {i}", "new", "old", "tie", settled=True) for i in range(40)]
    human = judge(graded=[*WON, *alike]).checks[1]
    assert (human.n, human.settled) == (90, 40)
    assert "on 90 pairs (50 graded, 40 with the same output)" in human.reason
    few = judge(graded=[*grades(3, 0, 0), *alike[:9]]).checks[1]
    assert "12 pairs (3 graded, 9 with the same output) are too few to judge by" in few.reason


# ---- what the primary metric may not be bought with


def bought(answered: int, policy: GatePolicy) -> Verdict:
    """200 rows, of which half can be answered: old answers 30 of them and refuses half of the others, new answers
    `answered` and refuses all others."""
    halves = {"old": (30, 50), "new": (answered, 100)}
    cases = {}
    for model, counts in halves.items():
        marks = [[float(i < count) for i in range(100)] for count in counts]
        metrics = [{"right": v, "answered": v} for v in marks[0]] + [
            {"right": v, "refused": v} for v in marks[1]
        ]
        scored = make_cases([m["right"] for m in metrics], SAME)
        cases[model] = [
            *(replace(c, metrics=m) for c, m in zip(scored, metrics, strict=False)),
            *scored[200:],
        ]
    report = build_report(cases, WON, candidate="new", baseline="old", primary="right", policy=policy)
    stored = GatePolicy(**json.loads(json.dumps(report["settings"]["policy"])))
    assert stored == policy
    return gate(report, "new", "old", policy)


def test_a_primary_metric_may_be_bought_unless_the_rule_keeps_the_other() -> None:
    assert bought(0, GatePolicy()).verdict == "ship"  # right rose: it refuses everything
    kept = GatePolicy(kept={"answered": 0.05, "refused": 0.05})
    verdict = bought(0, kept)
    assert verdict.verdict == "reject"
    lost, held = (c for c in verdict.checks if c.metric in kept.kept)
    assert (lost.metric, lost.status, lost.n, lost.difference, lost.least) == (
        "answered",
        "fail",
        100,
        -0.3,
        -0.05,
    )
    assert lost.reason.startswith("programmatic (test), answered: new lost what old had, -0.300 [")
    assert (held.metric, held.status) == ("refused", "pass")
    assert bought(30, kept).verdict == "ship"
    few = bought(27, kept)  # 3 of 100 fewer: perhaps more than 5
    assert few.verdict == "hold"
    assert held.p is not None
    assert held.p_holm is not None
    assert (
        held.p < held.p_holm < 0.05
    )  # of losing the margin or more; that of `answered` says nothing against it
    assert lost.p == 1.0


def test_a_metric_that_is_kept_has_to_be_there_and_its_margin_in_range() -> None:
    with pytest.raises(
        ValueError, match="'answer' is no metric of these cases; they have: right, answered, refused"
    ):
        bought(30, GatePolicy(kept={"answer": 0.05}))
    with pytest.raises(ValueError, match=r"answered may fall by -0\.05; expected 0 or more"):
        GatePolicy(kept={"answered": -0.05})
    with pytest.raises(
        ValueError, match="kept of the gate names right, the primary metric, which has to be better"
    ):
        bought(30, GatePolicy(kept={"right": 0.05}))
    with pytest.raises(ValueError, match="tracks leaves out programmatic, which they are judged on"):
        GatePolicy(kept={"answered": 0.05}, tracks=(CONTROLS,))


def test_a_rule_without_kept_is_stored_as_before_there_was_one() -> None:
    assert "kept" not in GatePolicy().stored()
    assert GatePolicy(kept={"answered": 0.1}).stored()["kept"] == {"answered": 0.1}


# ---- the primary metric decides


UP, FLAT = ([0.3] * 60, [0.5] * 60), ([0.5] * 60, [0.5] * 60)
RIGHT: dict[str, tuple[Sequence[float | None], Sequence[float | None]]] = {
    "rises": ([0.0] * 60, [1.0] * 30 + [0.0] * 30),
    "stays": ([1.0] * 3 + [0.0] * 57, [0.0] * 57 + [1.0] * 3),
    "falls": ([1.0] * 30 + [0.0] * 30, [0.0] * 60),
    "is missing": ([None] * 60, [None] * 60),
}


def judge_right(reward: tuple[list[float], list[float]], right: str) -> Check:
    """The check of the programmatic track, judged by `right`, of (old, new) rewards and metrics."""
    cases = {
        model: [
            replace(case, metrics={"right": value} if value is not None else {})
            for case, value in zip(make_cases(scores), values, strict=True)
        ]
        for model, scores, values in zip(("old", "new"), reward, RIGHT[right], strict=True)
    }
    if right == "is missing":  # but for one case, or there would be no such metric
        cases["old"][0] = replace(cases["old"][0], metrics={"right": 0.0})
    report = build_report(cases, candidate="new", baseline="old", primary="right")
    found = gate(report, "new", "old").checks[0]
    assert found.metric == "right"
    return found


@pytest.mark.parametrize(
    ("right", "expected"), [("rises", "pass"), ("stays", "hold"), ("falls", "fail"), ("is missing", "hold")]
)
@pytest.mark.parametrize("reward", [UP, FLAT])
def test_the_primary_metric_is_judged_and_not_the_reward(
    reward: tuple[list[float], list[float]], right: str, expected: str
) -> None:
    assert judge_right(reward, right).status == expected


def test_a_reward_that_rises_alone_is_a_hold_that_says_so() -> None:
    reason = judge_right(UP, "stays").reason
    assert reason.startswith("programmatic (test): the reward rose, +0.200 [")
    assert (
        "but right, the primary metric, is not shown to have risen: new is not shown to be better" in reason
    )
    assert "the reward rose" not in judge_right(FLAT, "stays").reason
    assert "the reward rose" not in judge_right(UP, "rises").reason
    assert (
        "but right, the primary metric, fell: new is worse than old in right"
        in judge_right(UP, "falls").reason
    )


def test_the_reward_is_reported_where_it_is_not_judged() -> None:
    cases = {"old": make_cases(UP[0]), "new": make_cases(UP[1])}
    cases = {m: [replace(c, metrics={"right": 0.0}) for c in own] for m, own in cases.items()}
    verdict = gate(build_report(cases, candidate="new", baseline="old", primary="right"), "new", "old")
    (info,) = (check for check in verdict.checks if check.status == "info")
    assert (info.metric, info.slice) == ("reward", "test")
    assert "reward better, +0.200" in info.reason


def test_a_primary_metric_that_no_case_has_is_named() -> None:
    cases = {name: [replace(c, metrics={"right": 1.0}) for c in make_cases(LOW)] for name in ("a", "b")}
    with pytest.raises(ValueError, match="'exact' is not in the cases; their metrics are: right"):
        build_report(cases, candidate="a", baseline="b", primary="exact")


def test_other_slices_are_reported_and_do_not_decide() -> None:
    verdict = judge(new_ood=[0.0] * 40, old_ood=[1.0] * 40)
    assert verdict.verdict == "ship"
    (ood,) = (check for check in verdict.checks if check.status == "info")
    assert ood.slice == "ood"
    assert ": reward worse, -1.000" in ood.reason
    whole = judge(new_ood=[0.0] * 400, old_ood=[1.0] * 400, policy=GatePolicy(programmatic_slice=None))
    assert whole.verdict == "reject"


def test_a_slice_that_does_not_exist_is_empty() -> None:
    assert status(judge(policy=GatePolicy(programmatic_slice="dev")), PROGRAMMATIC) == "hold"
    verdict = judge(policy=GatePolicy(programmatic_slice="dev", kept={"answered": 0.05}))
    assert [check.status for check in verdict.checks if check.metric == "answered"] == ["hold"]
    assert "no cases with answered" in verdict.reasons[1]


def test_a_minimal_improvement_can_be_asked_for() -> None:
    assert judge(policy=GatePolicy(min_improvement=0.2)).verdict == "ship"
    assert judge(policy=GatePolicy(min_improvement=0.6)).verdict == "hold"


def test_models_that_were_not_compared_are_named() -> None:
    cases = {name: make_cases(LOW) for name in ("a", "b", "c")}
    report = build_report(cases, candidate="a", baseline="b")
    with pytest.raises(ValueError, match="does not compare 'a' with 'c'; it compares: a and b"):
        gate(report, "a", "c")
