"""Evaluation while training: what it measures, that it disturbs nothing, the best step, early stopping, resumption."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from random_groups import make_learner
from tieout.errors import RollBack, StopTraining
from tieout.learner import Learner
from tieout.learner.checkpoint import Checkpoints
from tieout.methods import KTO, SFT, Method
from tieout.samplers import SamplingParams
from tieout.source import Source
from tieout.training.evaluation import Evaluation, held_out_rows
from tieout.training.loop import train
from tieout.training.spec import EvalPolicy
from tieout.types import Group
from tiny_task import ROWS, Run, make_run, make_task, spread

ModelFolder = Callable[[str], Path]
HELD_OUT = [
    {**row, "prompt": [{"role": "user", "content": f"And {i} and {i}?"}]} for i, row in enumerate(ROWS[:5])
]


def evaluation_of(run: Run, rows: Any = HELD_OUT, **policy: Any) -> Evaluation:
    return Evaluation(
        EvalPolicy(**{"eval_steps": 2, **policy}), run.source, rows, run.source.sampler is not None
    )


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.model.trained().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(x, b[name]) for name, x in a.items())


def run_it(run: Run, steps: int = 4, **options: Any) -> list[dict[str, float]]:
    told: list[dict[str, float]] = []
    torch.manual_seed(1)
    train(
        run.method, run.source, run.learner, steps=steps, on_step=lambda s, m: told.append(dict(m)), **options
    )
    return told


def training_part(metrics: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in m.items() if not k.startswith("eval") and "seconds" not in k} for m in metrics]


class Scripted(Evaluation):
    """An evaluation whose losses are given, step by step."""

    losses: dict[int, float]

    def measure(self, method: Method, learner: Learner, rows: Any = None) -> dict[str, float]:
        return {"eval/loss": self.losses.get(learner.step, math.nan)}


def scripted(run: Run, *losses: float, **policy: Any) -> Scripted:
    made = Scripted(EvalPolicy(**{"eval_steps": 1, **policy}), run.source, HELD_OUT, False)
    made.losses = dict(enumerate(losses, 1))
    return made


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_a_run_is_the_same_to_the_bit_with_and_without_evaluation(
    tiny_model: ModelFolder, method: str
) -> None:
    dropout = 0.1 if method != "grpo" else 0.0
    # One held-out row is a training row: what is kept of it for training must be the training's own.
    rows = [*HELD_OUT, ROWS[3]]
    plain, evaluated = (make_run(method, tiny_model("llama"), dropout=dropout) for _ in range(2))
    before = run_it(plain)
    after = run_it(evaluated, evaluation=evaluation_of(evaluated, rows, eval_steps=1, num_completions=2))
    assert all(any(name.startswith("eval/") for name in m) for m in after)
    assert training_part(before) == training_part(after)
    assert same(weights(plain.learner), weights(evaluated.learner))
    assert plain.source.position == evaluated.source.position


@dataclasses.dataclass(frozen=True)
class Noisy(SFT):
    """Draws from every generator and remembers something, in training and in evaluation alike."""

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        drawn = random.random() + float(np.random.random()) + float(torch.rand(()))
        learner.memory["drawn"] = learner.memory.get("drawn", 0.0) + drawn
        return groups


def test_what_a_method_draws_and_remembers_in_an_evaluation_is_undone(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    remembered = []
    for eval_steps in (0, 1):
        random.seed(3)
        np.random.seed(3)
        run = make_run("sft", tiny_model("llama"))
        run.method = Noisy(batch_size=4, learning_rate=1e-2)
        run_it(run, evaluation=evaluation_of(run, eval_steps=eval_steps) if eval_steps else None)
        remembered.append(run.learner.memory["drawn"])
    assert remembered[0] == remembered[1]


def test_reference_log_probabilities_of_held_out_rows_are_not_kept_with_those_of_training(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    """In another batch they may differ in the last bit, and a training row may be held out by mistake."""
    run = make_run("dpo", tiny_model("llama"))
    run.learner.reference_folder = tmp_path / "reference"
    kept = run.learner.logprob_cache
    evaluation_of(run, ROWS).measure(run.method, run.learner)
    assert run.learner.logprob_cache is kept
    assert not kept._known
    assert run.learner.reference_folder == tmp_path / "reference"
    assert not run.learner.reference_folder.exists()


def test_the_held_out_loss_is_of_all_rows_once_whatever_the_batch_size(tiny_model: ModelFolder) -> None:
    run = make_run("sft", tiny_model("llama"))
    groups = [run.source.given(row, [row["completion"]], None) for row in HELD_OUT]
    expected = run.learner.assess(groups, run.method.loss)["loss"]
    for size in (1, 2, 5, 16):
        method = dataclasses.replace(run.method, batch_size=size)  # type: ignore[type-var]
        found = evaluation_of(run).measure(method, run.learner)
        assert found["eval/loss"] == pytest.approx(expected, rel=1e-6)
    assert run.source.position == 0


def test_evaluations_come_every_so_many_steps_and_at_the_end(tiny_model: ModelFolder) -> None:
    run = make_run("sft", tiny_model("llama"))
    told = run_it(run, steps=5, evaluation=evaluation_of(run))
    assert ["eval/loss" in m for m in told] == [False, True, False, True, True]


def test_a_sampling_method_is_evaluated_by_the_scores_of_its_greedy_completions(
    tiny_model: ModelFolder,
) -> None:
    run = make_run("grpo", tiny_model("llama"))
    found = evaluation_of(run).measure(run.method, run.learner)
    assert run.source.sampler is not None
    prompts = [run.source.chat.prompt(row["prompt"]) for row in HELD_OUT]
    sampled = run.source.sampler.sample(prompts, 1, SamplingParams(6, 0.0))
    texts = [group[0].text for group in sampled]
    assert found["eval/score"] == pytest.approx(sum(spread(texts)) / len(texts))
    assert found["eval/length"] > 0
    several = evaluation_of(run, num_completions=4).measure(run.method, run.learner)
    assert several["eval/score"] != found["eval/score"]


@pytest.mark.parametrize("label", [True, False])
def test_kto_is_evaluated_on_one_row_with_the_weights_of_the_training_rows(
    tiny_model: ModelFolder, label: bool
) -> None:
    method = KTO(batch_size=4, beta=0.1)
    learner = make_learner(tiny_model("llama"), stir=True)
    source = Source(make_task(), learner.model.chat)
    run = Run(method, source, learner)
    found = evaluation_of(run, [{**HELD_OUT[0], "label": label}]).measure(method, learner)
    assert math.isfinite(found["eval/loss"])
    labels = [bool(row["label"]) for row in ROWS]
    weight = max(1.0, labels.count(not label) / labels.count(label))
    alone = dataclasses.replace(method, desirable_weight=1.0, undesirable_weight=1.0)
    bare = evaluation_of(run, [{**HELD_OUT[0], "label": label}]).measure(alone, learner)
    assert found["eval/loss"] == pytest.approx(weight * bare["eval/loss"], rel=1e-6)


def test_a_reward_that_fails_on_held_out_rows_ends_no_run(tiny_model: ModelFolder) -> None:
    def fails_on_held_out(completions: list[str], prompts: list[Any], **_: Any) -> list[float]:
        if prompts[0][-1]["content"].startswith("And"):
            raise ConnectionError("service is down")
        return spread(completions)

    run = make_run("grpo", tiny_model("llama"), reward=fails_on_held_out)
    evaluation = evaluation_of(run, HELD_OUT * 4, patience=1)
    with pytest.warns(UserWarning, match="could not be evaluated: the reward"):
        told = run_it(run, evaluation=evaluation)
    assert len(told) == 4
    assert evaluation.memory == {"best": None, "best_step": 0, "not_better": 0}


# ---------------------------------------------------------------- refusals, before any long work


def test_a_metric_that_is_not_measured_is_refused_before_the_first_step(tiny_model: ModelFolder) -> None:
    run = make_run("dpo", tiny_model("llama"))
    with pytest.raises(ValueError, match=r"metric is 'acuracy'; .* loss, reward_chosen, .*accuracy"):
        run_it(run, evaluation=evaluation_of(run, metric="acuracy"))
    assert run.learner.step == 0


def test_errors_in_held_out_rows_name_them() -> None:
    task = make_task(rows=lambda split: {"train": ROWS, "test": [{"prompt": "p"}]}.get(split, []))
    with pytest.raises(ValueError, match=r"held-out rows \(test of sums\).*completion"):
        held_out_rows(task, SFT(), EvalPolicy(eval_steps=1))
    with pytest.raises(ValueError, match="'sums' has no held-out rows: give a file"):
        held_out_rows(make_task(rows=lambda split: []), SFT(), EvalPolicy(eval_steps=1))


def test_validation_rows_come_before_test_rows_and_max_rows_are_spread_over_them() -> None:
    split, rows = held_out_rows(
        make_task(rows=lambda s: [{**r, "from": s, "half": 2 * i // len(ROWS)} for i, r in enumerate(ROWS)]),
        SFT(),
        EvalPolicy(eval_steps=1, max_rows=3),
    )
    assert split == "validation"
    assert [row["from"] for row in rows] == ["validation"] * 3
    assert {row["half"] for row in rows} == {0, 1}


@pytest.mark.parametrize("options", [{"keep_best": True}, {"patience": 2}, {"metric": "loss"}])
def test_what_follows_from_evaluations_needs_evaluations(options: Any) -> None:
    with pytest.raises(ValueError, match="nothing is evaluated; give eval_steps too"):
        EvalPolicy(**options)


def test_the_best_cannot_be_kept_without_checkpoints(tiny_model: ModelFolder) -> None:
    run = make_run("sft", tiny_model("llama"))
    with pytest.raises(ValueError, match="no checkpoints to keep"):
        run_it(run, evaluation=scripted(run, 1.0, keep_best=True))


# ---------------------------------------------------------------- the best, and stopping early


def test_the_best_step_is_never_rotated_away_and_its_weights_are_put_back(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    run, kept = make_run("sft", tiny_model("llama")), {}
    evaluation = scripted(run, 3.0, 1.0, 2.0, math.nan, 1.0, keep_best=True)

    def keep(step: int, groups: Any, metrics: Any) -> None:
        kept[step] = weights(run.learner)

    run_it(
        run,
        steps=6,
        evaluation=evaluation,
        monitors=[keep],
        checkpoints=Checkpoints(tmp_path, 1),
        save_steps=1,
    )
    assert evaluation.best_step == 2
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000002", "step-000006"]
    assert same(weights(run.learner), kept[2])
    assert not same(kept[2], kept[6])
    assert run.learner.step == 6


def test_resumed_between_evaluations_a_run_ends_with_the_best_of_the_unbroken_one(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    losses = (3.0, 1.0, 2.0, 1.5, 2.5)
    options = {"keep_best": True}
    whole = make_run("sft", tiny_model("llama"), dropout=0.1)
    unbroken = scripted(whole, *losses, **options)
    run_it(whole, steps=5, evaluation=unbroken, checkpoints=Checkpoints(tmp_path / "whole"))

    def stop(step: int, groups: Any, metrics: Any) -> None:
        if step == 4:
            raise StopTraining("enough")

    broken = make_run("sft", tiny_model("llama"), dropout=0.1)
    with pytest.raises(StopTraining):
        run_it(
            broken,
            steps=5,
            evaluation=scripted(broken, *losses, **options),
            monitors=[stop],
            checkpoints=Checkpoints(tmp_path / "broken"),
        )
    again = make_run("sft", tiny_model("llama"), dropout=0.1)
    resumed = scripted(again, *losses, **options)
    run_it(again, steps=5, evaluation=resumed, checkpoints=Checkpoints(tmp_path / "broken"))
    assert resumed.best_step == unbroken.best_step == 2
    assert same(weights(again.learner), weights(whole.learner))


def test_a_run_stops_when_its_patience_ends_and_stays_stopped(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    run = make_run("sft", tiny_model("llama"))
    losses = (3.0, 2.0, 2.5, 2.0, 1.0)
    told = run_it(
        run, steps=9, evaluation=scripted(run, *losses, patience=2), checkpoints=Checkpoints(tmp_path)
    )
    assert len(told) == 4  # equal is not better
    again = make_run("sft", tiny_model("llama"))
    assert (
        run_it(
            again, steps=9, evaluation=scripted(again, *losses, patience=2), checkpoints=Checkpoints(tmp_path)
        )
        == []
    )
    assert again.learner.step == 4


@pytest.mark.parametrize(
    ("metric", "greater", "second_is_better"),
    [("loss", None, False), ("accuracy", None, True), ("kl", None, False), ("loss", True, True)],
)
def test_whether_more_is_better_follows_from_the_metric_unless_it_is_said(
    tiny_model: ModelFolder, metric: str, greater: bool | None, second_is_better: bool
) -> None:
    evaluation = evaluation_of(make_run("sft", tiny_model("llama")), metric=metric, greater_is_better=greater)
    assert evaluation.judge(1, {f"eval/{metric}": 1.0})
    assert evaluation.judge(2, {f"eval/{metric}": 2.0}) is second_is_better


def test_weights_that_were_rolled_back_are_not_the_best(tiny_model: ModelFolder, tmp_path: Path) -> None:
    run = make_run("sft", tiny_model("llama"))

    def roll(step: int, groups: Any, metrics: Any) -> None:
        if step == 4:
            raise RollBack("gold fell", 3)

    evaluation = scripted(run, 3.0, 2.0, 1.0, 1.0, 2.5, 2.25, keep_best=True)
    with pytest.warns(UserWarning, match="gold fell"):
        run_it(
            run,
            steps=6,
            evaluation=evaluation,
            monitors=[roll],
            checkpoints=Checkpoints(tmp_path),
            save_steps=1,
        )
    assert evaluation.best_step == 2
    assert (tmp_path / "step-000002").exists()
