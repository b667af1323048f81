"""Calibration against a task's own truth: planted rewards that order wrongly fail, and say where."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tieout.evidence import stats
from tieout.tasks import Task, load_task
from tieout.types import Row
from tieout.vetting.calibration_plot import plot_truth
from tieout.vetting.records import keep, recompute
from tieout.vetting.truth import GOLD, SAMPLED, Known, TruthCalibration, calibrate_on_truth, known_completions

ROWS = [
    {"prompt": f"{i} + {i}?", "completion": f"The sum is {2 * i}.", "answer": str(2 * i)}
    for i in range(1, 61)
]


def right(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [float(f" {a}." in c) for c, a in zip(completions, answer, strict=True)]


def longer(completions: list[str], **_: Any) -> list[float]:
    return [len(c) / 100 for c in completions]


def blind_to_sign(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return right([c.replace("-", "") for c in completions], answer)


def off_by_one(row: Row, rng: random.Random) -> str:
    return f"The sum is {int(row['answer']) + rng.choice((-1, 1))}."


def negative(row: Row, rng: random.Random) -> str:
    return f"The sum is -{row['answer']}."


FLAWS = {"off_by_one": off_by_one, "negative": negative}


def task(**changes: Any) -> Task:
    given: dict[str, Any] = {
        "reward": right, "metrics": {"right": right}, "primary": "right", "flaws": FLAWS, **changes,
    }  # fmt: skip
    return Task("sums", lambda split: ROWS, **given)


def on_given(reward: Any, **changes: Any) -> TruthCalibration:
    own = task(**changes)
    return calibrate_on_truth(own, reward, ROWS, known_completions(own, ROWS))


def on_samples(reward: Any, samples: list[list[str]], **changes: Any) -> TruthCalibration:
    known = [[Known(text, SAMPLED) for text in texts] for texts in samples]
    return calibrate_on_truth(task(**changes), reward, ROWS, known)


def test_a_reward_that_orders_as_the_task_does_passes_and_says_what_it_was_compared_with() -> None:
    found = on_given(right)
    assert (found.verdict, found.agreement.value, found.separation) == ("pass", 1.0, 1.0)
    assert found.truth == "the task's own truth, not people: gold, flawed completions of 2 kinds"
    assert found.kinds["negative"] == {"n": 60, "mean_score": 0.0, "mean_truth": 0.0}
    assert found.rank_agreement["truth"] == pytest.approx(1.0)
    assert set(found.pairs) == {"gold over off_by_one", "gold over negative"}


def test_a_kind_of_flaw_that_the_reward_does_not_see_fails_by_name() -> None:
    found = on_given(blind_to_sign)
    assert found.verdict == "fail"
    assert any(
        "gold over negative: the better one scores higher in 50% of 60 pairs only" in r for r in found.reasons
    )
    assert found.pairs["gold over off_by_one"].value == 1.0
    assert not any("off_by_one" in reason for reason in found.reasons)


def test_a_metric_that_calls_gold_wrong_fails() -> None:
    found = on_given(right, metrics={"right": lambda completions, **_: [0.0] * len(completions)})
    assert found.verdict == "fail"
    assert "metric 'right' calls 60 of 60 golds wrong" in found.reasons


def test_without_flaws_gold_is_compared_with_other_golds_and_changed_answers() -> None:
    found = on_given(right, flaws={})
    assert found.verdict == "pass"
    assert set(found.kinds) == {GOLD, "another row's gold", "another digit", "another sign", "another scale"}
    assert on_given(longer, flaws={}).verdict == "fail"
    assert on_given(blind_to_sign, flaws={}).verdict == "fail"


def test_what_stands_before_an_answer_may_differ_and_only_the_answer_is_changed() -> None:
    rows = [
        {"prompt": "?", "completion": f"First 17, then 18, so {i}.", "answer": str(i)} for i in range(30, 50)
    ]
    known = known_completions(Task("worked", lambda split: rows, right), rows)
    changed = [
        one.completion
        for own in known
        for one in own
        if one.kind.startswith("another ") and "row" not in one.kind
    ]
    assert len(changed) == 40
    assert all(text.startswith("First 17, then 18, so ") for text in changed)
    words = [{"prompt": "?", "completion": "perhaps"}, {"prompt": "?", "completion": "surely"}]
    kinds = {one.kind for own in known_completions(task(flaws={}), words) for one in own}
    assert kinds == {GOLD, "another row's gold", "changed gold"}


def test_without_a_primary_metric_samples_must_not_be_above_gold() -> None:
    own = task(flaws={}, metrics={}, primary=None)
    given = known_completions(own, ROWS)

    def judged(reward: Any, text: str) -> TruthCalibration:
        return calibrate_on_truth(own, reward, ROWS, [[*known, Known(text, SAMPLED)] for known in given])

    def flattered(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [
            2.0 if "sure" in c else s for c, s in zip(completions, right(completions, answer), strict=True)
        ]

    assert judged(right, "I am sure.").verdict == "pass"
    found = judged(flattered, "I am sure.")
    assert (found.verdict, found.reasons) == ("fail", ["60 of 60 samples score above the gold of their row"])
    assert "only that gold is not below the policy's samples" in found.truth


def test_every_figure_is_computed_again_from_the_rows_and_a_changed_one_is_found(tmp_path: Path) -> None:
    kept = keep(tmp_path, on_given(right))
    assert kept["verdict"] == "pass"
    assert recompute(tmp_path / "calibration.json") == []
    for change in (
        {"verdict": "fail"},
        {"separation": 0.5},
        {"agreement": {**kept["agreement"], "low": 0.9}},
    ):
        (tmp_path / "calibration.json").write_text(json.dumps({**kept, **change}))
        (line,) = recompute(tmp_path / "calibration.json")
        assert next(iter(change)) in line
    (tmp_path / "calibration.json").write_text(json.dumps(kept))
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows.replace('"score": 1.0', '"score": 0.0', 1))
    assert any("agreement" in line for line in recompute(tmp_path / "calibration.json"))
    (tmp_path / "rows.jsonl").unlink()
    assert recompute(tmp_path / "calibration.json") == []  # nothing to compute it from


def test_a_calibration_of_the_time_of_format_5_is_computed_again_by_its_own_rule(tmp_path: Path) -> None:
    def mostly(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        found = zip(right(completions, answer), answer, strict=True)
        return [score if int(own) <= 100 else 0.0 for score, own in found]

    now = keep(tmp_path / "now", on_given(mostly))
    with stats.former():
        then = keep(tmp_path / "then", on_given(mostly))
    assert then["agreement"]["low"] > now["agreement"]["low"]
    assert recompute(tmp_path / "now" / "calibration.json") == []
    assert recompute(tmp_path / "then" / "calibration.json") == []
    then["agreement"]["low"] += 0.001
    (tmp_path / "then" / "calibration.json").write_text(json.dumps(then))
    assert len(recompute(tmp_path / "then" / "calibration.json")) == 1


def test_flaws_take_turns_so_that_each_kind_is_seen() -> None:
    flaws = dict.fromkeys("abcde", off_by_one)
    known = known_completions(task(flaws=flaws), ROWS[:10], num_flaws=2)
    kinds = [one.kind for row in known for one in row if one.kind != GOLD]
    assert sorted(kinds) == sorted("abcde" * 4)


def test_samples_are_compared_with_the_primary_metric_and_a_reward_of_length_fails() -> None:
    samples = [[f"The sum is {row['answer']}.", "The sum is surely 3, as far as I can see."] for row in ROWS]
    assert on_samples(right, samples).verdict == "pass"
    found = on_samples(longer, samples)
    assert found.verdict == "fail"
    assert found.agreement.value == 0.0
    assert any("below the floor" in reason for reason in found.reasons)
    assert any("not monotone" in reason for reason in found.reasons)
    assert found.truth == "the task's own truth, not people: metric right of the policy's samples"


def test_samples_that_are_all_wrong_show_nothing_and_hold() -> None:
    found = on_samples(right, [["no", "none"]] * 60)
    assert (found.verdict, found.agreement.n) == ("hold", 0)
    assert "known to be better" in found.reasons[0]


def test_samples_of_a_task_without_a_primary_metric_are_refused() -> None:
    with pytest.raises(ValueError, match="names no primary metric"):
        on_samples(right, [["a", "b"]] * 60, metrics={}, primary=None)


def test_failures_have_no_score_and_hold() -> None:
    def fails(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [
            float("nan") if int(a) % 3 == 0 else v
            for a, v in zip(answer, right(completions, answer), strict=True)
        ]

    found = on_given(fails)
    assert found.verdict == "hold"
    assert "have no score of their own" in found.reasons[-1]


@pytest.mark.parametrize("name", ["finance_statements", "rag", "style", "summaries"])
def test_the_library_s_tasks_pass_their_own_calibration(name: str, tmp_path: Path) -> None:
    own = load_task(name)
    rows = list(own.rows("calibration"))[:32]
    assert own.reward is not None
    found = calibrate_on_truth(own, own.reward, rows, known_completions(own, rows))
    assert found.verdict == "pass", found.reasons
    plot_truth(found, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_on_real_questions_of_annual_reports_the_reward_passes_and_length_does_not(shared_data: Path) -> None:
    own = load_task("numeric_qa", {"path": str(shared_data / "tatqa" / "tatqa_dataset_dev.json")})
    rows = list(own.rows("calibration"))[:64]
    assert own.reward is not None
    known = known_completions(own, rows)
    assert calibrate_on_truth(own, own.reward, rows, known).verdict == "pass"
    assert calibrate_on_truth(own, longer, rows, known).verdict == "fail"
