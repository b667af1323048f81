"""Alarms inside a run: weights that come back, a run that is stopped before the gold score is gone."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from tieout.errors import StopTraining
from tieout.learner.checkpoint import Checkpoints
from tieout.methods import GRPO, METHODS
from tieout.training import alarms
from tieout.training.loop import train
from tiny_task import make_run

ModelFolder = Callable[[str], Path]


def at(*steps: int) -> alarms.Detector:
    return lambda step, groups, metrics: "planted" if step in steps else None


def weights(learner: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.model.trained().items()}


@pytest.mark.parametrize("broken_at", [None, 1, 3])
def test_a_resumed_run_alarms_at_the_step_of_the_unbroken_one(
    tiny_model: ModelFolder, tmp_path: Path, broken_at: int | None
) -> None:
    def level(step: int, groups: Any, metrics: Any) -> None:
        metrics["level"] = {1: 1.0, 2: 1.0, 3: 5.0, 4: 5.0, 5: 5.0}.get(step, 0.0)

    def go(steps: int) -> None:
        watched = alarms.alarm(alarms.above("level", 2.0, patience=3), alarms.stop())
        grown = alarms.alarm(alarms.changed("level", rises=2.0, start=2, window=3), alarms.stop())
        run = make_run("sft", tiny_model("llama"))
        checkpoints = Checkpoints(tmp_path)
        monitors = [level, watched if broken_at != 1 else grown]
        train(run.method, run.source, run.learner, steps=steps, monitors=monitors, checkpoints=checkpoints)

    if broken_at:
        go(broken_at)
    with pytest.raises(StopTraining, match="step 5: level"):
        go(8)


def test_a_rollback_brings_back_the_weights_and_goes_on(tiny_model: ModelFolder, tmp_path: Path) -> None:
    run = make_run("grpo", tiny_model("llama"))
    seen: dict[int, dict[str, torch.Tensor]] = {}
    log: dict[int, dict[str, float]] = {}
    adjustments = alarms.Adjustments()

    def remember(step: int, groups: Any, metrics: Any) -> None:
        seen[step] = weights(run.learner)

    def on_step(step: int, metrics: dict[str, float]) -> None:
        log[step] = dict(metrics)
        if step == 6:  # told after the monitors: the weights of step 2 are back
            for name, before in seen[2].items():
                torch.testing.assert_close(run.learner.model.trained()[name], before, rtol=0, atol=0)
            assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000002", "step-000006"]

    back = alarms.alarm(at(6), alarms.roll_back(adjustments, factor=0.5, lag=3))
    with pytest.warns(UserWarning, match="step 6: planted; went back to the weights of step 2"):
        train(
            run.method, run.source, run.learner, steps=8, monitors=[remember, back], on_step=on_step,
            checkpoints=Checkpoints(tmp_path, keep=5), save_steps=2, adjustments=adjustments,
        )  # fmt: skip
    assert sorted(log) == list(range(1, 9))
    assert [step for step, metrics in log.items() if "rolled_back_to" in metrics] == [6]
    assert log[6]["rolled_back_to"] == 2
    assert log[7]["learning_rate"] / log[6]["learning_rate"] == pytest.approx(0.5 * 2 / 3, rel=0.2)
    # Interrupted after it, the run goes on with the adjustments as they were turned.
    again = make_run("grpo", tiny_model("llama"))
    fresh = alarms.Adjustments()
    train(
        again.method, again.source, again.learner, steps=9, checkpoints=Checkpoints(tmp_path, keep=5), adjustments=fresh
    )  # fmt: skip
    assert fresh.rate == 0.5


def test_without_a_checkpoint_to_return_to_a_rollback_stops(tiny_model: ModelFolder, tmp_path: Path) -> None:
    run = make_run("grpo", tiny_model("llama"))
    back = alarms.alarm(at(3), alarms.roll_back(lag=2))
    with pytest.raises(StopTraining, match="no checkpoint from before step 1"):
        train(
            run.method, run.source, run.learner, steps=5, monitors=[back], checkpoints=Checkpoints(tmp_path),
            save_steps=1,
        )  # fmt: skip
    assert run.learner.step == 3


def test_a_raised_coefficient_reaches_the_method(tiny_model: ModelFolder) -> None:
    run = make_run("grpo", tiny_model("llama"))
    adjustments = alarms.Adjustments()
    assert adjustments.turned(run.method) is run.method
    with pytest.warns(UserWarning, match="2 times its own"):
        alarms.raise_beta(adjustments)(1, "planted")
    assert adjustments.turned(run.method).beta == 2 * run.method.beta  # type: ignore[attr-defined]


TURNED: list[tuple[str, dict[str, Any], str | None]] = [
    *((name, {}, {"rloo": "beta", "ppo": "kl_coef"}.get(name)) for name in METHODS),
    *((name, {"beta": 0.1}, "beta") for name in ("grpo", "dr_grpo", "dapo", "gspo", "cispo")),
    ("rloo", {"beta": 0.0}, None),
    ("ppo", {"kl_coef": 0.0}, None),
]
"""Method, its fields, and which of them is turned by a raised KL coefficient."""


@pytest.mark.parametrize(("name", "fields", "expected"), TURNED)
def test_a_raised_kl_coefficient_turns_only_a_field_that_is_one(
    name: str, fields: dict[str, Any], expected: str | None
) -> None:
    method = METHODS[name](**fields)
    turned = vars(alarms.Adjustments(beta=2.0).turned(method))
    changed = {field: value for field, value in turned.items() if value != vars(method)[field]}
    assert changed == ({} if expected is None else {expected: 2 * vars(method)[expected]})
    slower = alarms.Adjustments(rate=0.5).turned(method)
    assert vars(slower) == {**vars(method), "learning_rate": method.learning_rate / 2}


def test_an_alarm_says_that_there_is_no_kl_coefficient_to_raise(tiny_model: ModelFolder) -> None:
    run = make_run("dpo", tiny_model("llama"))
    adjustments = alarms.Adjustments()
    raised = alarms.alarm(at(1), alarms.raise_beta(adjustments))
    with pytest.warns(
        UserWarning, match="step 1: planted; the method has no KL coefficient above 0 to raise"
    ):
        train(run.method, run.source, run.learner, steps=1, monitors=[raised], adjustments=adjustments)
    assert adjustments.beta == 1.0


def share_of(wanted: Collection[str]) -> Callable[..., list[float]]:
    def reward(completions: list[str], **_: Any) -> list[float]:
        return [sum(c in wanted for c in text) / max(1, len(text)) for text in completions]

    return reward


HOLE = string.digits
GOOD = set(string.printable) - set(HOLE)


def hacked(completions: list[str], **_: Any) -> list[float]:
    """Pays for printable characters as the gold does, and three times as much for digits: the planted hole."""
    return [a + 3 * b for a, b in zip(share_of(GOOD)(completions), share_of(HOLE)(completions), strict=True)]


def play(
    folder: Path, reward: Callable[..., list[float]], action: alarms.Action, steps: int = 40
) -> tuple[int, list[float]]:
    """(the step at which the run ended; the gold score of every step)."""
    run = make_run("grpo", folder, reward=reward)
    run.source.seed = 3
    method = GRPO(batch_size=6, group_size=6, max_new_tokens=10, learning_rate=0.02)
    golds: list[float] = []

    def acts(step: int, groups: Any, metrics: Any) -> None:
        try:
            watch(step, groups, metrics)
        finally:
            golds.append(metrics["gold"])

    watch = alarms.alarm(alarms.gold_against_proxy(share_of(GOOD)), action)
    with suppress(StopTraining):
        train(method, run.source, run.learner, steps=steps, monitors=[acts])
    return run.learner.step, golds


def lost(golds: list[float], window: int = 6) -> float:
    """How far the mean of the last steps is below the best mean before."""
    means = [fmean(golds[i : i + window]) for i in range(len(golds) - window + 1)]
    return max(means) - means[-1]


def test_a_reward_with_a_hole_is_stopped_before_the_gold_score_is_gone(tiny_model: ModelFolder) -> None:
    step, golds = play(tiny_model("llama"), hacked, alarms.stop())
    assert step < 40
    assert lost(golds) < 0.15, "stopped after the gold score had fallen by more than 0.15"
    unwatched, rest = play(tiny_model("llama"), hacked, lambda step, reason: None, steps=80)
    assert unwatched == 80
    assert lost(rest) > 0.2, "the hole is one that costs more if nobody watches"


def test_a_reward_that_agrees_with_the_gold_is_left_alone(tiny_model: ModelFolder) -> None:
    step, golds = play(tiny_model("llama"), share_of(GOOD), alarms.stop())
    assert step == 40
    assert fmean(golds[-6:]) > fmean(golds[:6]), "it learns, too"
