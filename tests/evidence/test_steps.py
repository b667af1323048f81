"""What is offered after a hold turns it; what is offered after a reject is to look and to train again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from made_cases import make_cases
from tieout.evidence import stats
from tieout.evidence.human import Grade
from tieout.evidence.report import build_report
from tieout.evidence.steps import next_steps

SAME = [1.0] * 100
WON = [Grade(f"case {i}", "new", "old", "a") for i in range(40)]
LOST = [Grade(f"case {i}", "new", "old", "b") for i in range(40)]
BETTER, EQUAL = ([0.2] * 60, [0.6] * 60), ([0.5] * 60, [0.5] * 60)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 2000)


def steps(
    scores: Any = BETTER, controls: Any = SAME, grades: Any = WON, right: float | None = None
) -> tuple[str, list[str]]:
    """(verdict, what to do)."""
    cases = {"old": make_cases(scores[0], SAME), "new": make_cases(scores[1], controls)}
    if right is not None:
        cases = {m: [replace(c, metrics={"right": right}) for c in own] for m, own in cases.items()}
    primary = None if right is None else "right"
    report = build_report(cases, grades, candidate="new", baseline="old", primary=primary)
    report["files"] = {"human/rubric.md": "its hash"}  # as it is written to disk
    return report["verdict"]["verdict"], next_steps(report)


def test_nothing_is_left_to_do_before_shipping() -> None:
    assert steps() == ("ship", [])


@pytest.mark.parametrize(
    ("options", "step"),
    [
        (
            {"grades": []},
            r"Grade pairs with `tieout label`, or fill in `preferred` \(a, b or tie\) on .*sheet.jsonl, by .*rubric.md",
        ),
        ({"grades": WON[:7]}, "7 graded pairs are too few, at least 20 are judged"),
        ({"grades": WON[:20] + LOST[20:]}, r"Grade more pairs, .*: these 40 do not show"),
        ({"scores": ([0.2] * 9, [0.6] * 9)}, "Evaluate more test rows: 9 pairs are too few"),
        ({"scores": EQUAL}, "Train new further"),
        ({"scores": ([0.2] * 40, [None] * 40)}, "Give the cases a reward"),
        ({"scores": BETTER, "right": 0.0}, "Make the reward pay for right and train again"),
        ({"scores": ([0.5] * 60, [0.5] * 58 + [0.9] * 2)}, r"about [\d,]+ show it; there are 60"),
        ({"controls": []}, "Give the run negative controls|See in evidence/report.html which controls"),
        ({"controls": [0.0] * 5 + [1.0] * 96}, "See in evidence/report.html which controls new lost"),
        ({"controls": [0.0] * 3 + [1.0] * 97}, r"Evaluate more control rows: about [\d,]+ show"),
    ],
)
def test_a_hold_says_what_would_turn_it(options: dict[str, Any], step: str) -> None:
    verdict, said = steps(**options)
    assert verdict == "hold"
    (only,) = said
    assert re.search(step, only), only


def test_as_many_rows_as_it_says_show_the_difference() -> None:
    def repeated(times: int) -> tuple[list[float], list[float]]:
        return [0.5] * 60 * times, ([0.4] * 20 + [0.5] * 20 + [0.65] * 20) * times

    verdict, (step,) = steps(repeated(1))
    assert verdict == "hold"
    found = re.search(r"about ([\d,]+) show it; there are 60", step)
    assert found, step
    times = -(-int(found[1].replace(",", "")) // 60)
    assert steps(repeated(times))[0] == "ship"


def test_a_reject_says_what_to_look_at() -> None:
    verdict, said = steps(([1.0] * 60, [0.3] * 60))
    assert verdict == "reject"
    assert said[0].startswith("What changed from old to new: the reward fell (-0.700")
    assert said[1] == "Read the 60 regressions in evidence/report.html."
    assert "run the recipe into a new folder" in said[-1]
    verdict, said = steps(controls=[0.0] * 40 + [1.0] * 60)
    assert verdict == "reject"
    assert said[0].startswith("Controls that new lost: copy -0.400; train with less drift")
    assert steps(grades=LOST)[1][0].startswith("Read the graded pairs")


@pytest.mark.parametrize(("dpo", "verdict"), [([0.3] * 60, "reject"), ([0.6] * 60, "hold")])
def test_the_better_policy_before_a_candidate_that_is_no_better_is_offered(dpo: Any, verdict: str) -> None:
    cases = {
        "base": make_cases([0.2] * 60, SAME),
        "sft": make_cases([0.6] * 60, SAME),
        "dpo": make_cases(dpo, SAME),
    }
    trained = {name: {"trained": name if name != "base" else None} for name in cases}
    settings: Any = {"candidate": "dpo", "baseline": "sft", "base": "base", "metadata": {"models": trained}}
    report = build_report(cases, **settings)
    report["files"] = {}
    assert report["verdict"]["verdict"] == verdict
    offered = [step for step in next_steps(report) if "tieout ship" in step]
    (offer,) = offered
    assert re.fullmatch(
        r"Or take sft, which is better than base in reward \(\+0.400 \[\+0.3.., \+0.4..\]\): `tieout ship RUN --model "
        r"sft` judges it in place of dpo\. It is then chosen by these test rows, which flatters it a little\.",
        offer,
    )
    no_better = {**cases, "sft": make_cases([0.2] * 60, SAME)}
    report = {**build_report(no_better, **settings), "files": {}}
    assert not any("tieout ship" in step for step in next_steps(report))
