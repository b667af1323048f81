"""Runs that blow up are stopped, and keep what was good; runs at a sane rate are left alone. All of them train."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import make_learner
from tieout.cli.train import main
from tieout.errors import StopTraining
from tieout.learner import AdapterConfig
from tieout.learner.checkpoint import Checkpoints
from tieout.methods import METHODS
from tieout.source import Source
from tieout.tasks import Task, load_task
from tieout.training import alarms
from tieout.training.guards import Guards
from tieout.training.loop import train
from tieout.training.schedule import Schedule
from tieout.training.watching import monitors_of

ModelFolder = Callable[[str], Path]

PAIRS: list[dict[str, Any]] = [
    {"prompt": f"Add {i} and {i * i}.", "chosen": f"It is {i + i * i}.", "rejected": f"{i}{i}?" * (1 + i % 3)}
    for i in range(40)
]


def alike() -> list[dict[str, Any]]:
    """Pairs that no rule of form decides, gold against flawed: a policy that is broken does not tell them apart."""
    task, rng = load_task("finance_statements"), random.Random(0)
    assert task.gold is not None
    assert task.corrupt is not None
    rows = sorted(task.rows("train")[:400], key=lambda row: len(str(row["prompt"])) + len(task.gold(row)))[
        :56
    ]
    return [{"prompt": r["prompt"], "chosen": task.gold(r), "rejected": task.corrupt(r, rng)} for r in rows]


LABELS = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for row in PAIRS
    for name in ("chosen", "rejected")
]
DEMONSTRATIONS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
ROWS = {"preference": PAIRS, "label": LABELS, "demonstration": DEMONSTRATIONS}


class Played:
    """One run: its metrics by step, its alarms, and how it ended."""

    def __init__(
        self,
        model: Path,
        name: str,
        rate: float,
        steps: int,
        *,
        wild_from: int = 0,
        guards: Guards | None = None,
        folder: Path | None = None,
        watched: Sequence[alarms.Detector] | None = None,
        rows: Sequence[Any] = (),
        before_save: Callable[[Played, int], None] | None = None,
    ) -> None:
        """
        Args:
            model: the folder of it.
            name: of the method.
            rate: of learning.
            steps: of the run.
            wild_from: the step from which on the rate is a thousand times as high.
            guards: the limits.
            folder: where every step is saved.
            watched: detectors whose alarms are noted and do nothing, in place of what the guards do.
            rows: in place of the usual ones.
            before_save: called with this run and the step, after the monitors.
        """
        method = METHODS[name](learning_rate=rate, batch_size=8)
        rows = rows or ROWS[method.needs.rows]
        self.learner = make_learner(model, adapter=AdapterConfig(rank=4), stir=False, max_grad_norm=1.0)
        source = Source(Task("sums", lambda split: rows if split == "train" else []), self.learner.model.chat)
        self.log: dict[int, dict[str, float]] = {}
        self.said: list[str] = []
        self.stopped: StopTraining | None = None
        adjustments = alarms.Adjustments()

        def turn(step: int, groups: Any, metrics: Any) -> None:
            adjustments.rate = 1000.0 if 0 < wild_from <= step + 1 else 1.0

        def say(step: int, reason: str) -> None:
            self.said.append(f"{step}: {reason}")

        guards = guards or Guards(probe_steps=5, act="off" if watched else "warn")
        monitors = monitors_of(method, self.learner, source, steps, guards=guards, say=say)
        monitors += [alarms.alarm(detector, say) for detector in watched or ()]
        if before_save:
            monitors.append(lambda step, groups, metrics: before_save(self, step))
        try:
            train(
                method,
                source,
                self.learner,
                steps=steps,
                schedule=Schedule("constant", 0.0),
                monitors=[turn, *monitors],
                checkpoints=Checkpoints(folder, keep=99) if folder else None,
                save_steps=1,
                on_step=lambda step, metrics: self.log.__setitem__(step, dict(metrics)),
                adjustments=adjustments,
            )
        except StopTraining as stopped:
            self.stopped = stopped


def weights(run: Played) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in run.learner.model.trained().items()}


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo", "cpo", "simpo", "sft"])
def test_a_run_at_a_sane_rate_learns_and_is_left_alone(tiny_model: ModelFolder, name: str) -> None:
    run = Played(tiny_model("llama"), name, 1e-3, 10)
    assert run.stopped is None
    assert run.said == []
    if name == "sft":
        assert run.log[10]["loss"] < run.log[1]["loss"]
        assert not any(key.startswith("probe/") for key in run.log[1])
        return
    assert run.log[10]["margin"] > run.log[1]["margin"]
    assert [step for step in run.log if "probe/kl" in run.log[step]] == [1, 5, 10]
    assert abs(run.log[1]["probe/kl"]) < 1 < run.log[10]["probe/length"]
    assert {"probe/entropy", "probe/repetition", "probe/cut_off", "probe/empty"} <= run.log[10].keys()


BASE = Path("tieout-base")
"""The embedded base: a random model of two layers is too small to be broken by a rate."""


def test_each_alarm_goes_off_in_a_run_that_blows_up() -> None:
    watched = [alarms.loss_explosion(), alarms.preference_lost(), alarms.blown_up()]
    guards = Guards(probe_steps=2, act="off")
    run = Played(BASE, "dpo", 5e-2, 8, guards=guards, watched=watched, rows=alike())
    for what in ("the loss is", "prefers the chosen of", "what the policy writes"):
        assert [said for said in run.said if what in said], f"{what}: {run.said} {run.log}"


def test_a_margin_that_rises_and_collapses_is_alarmed(tiny_model: ModelFolder) -> None:
    watched = [alarms.margin_collapse()]
    run = Played(tiny_model("llama"), "dpo", 2e-3, 24, wild_from=12, watched=watched)
    collapsed = [said for said in run.said if "the margin of chosen over rejected rose to" in said]
    assert collapsed
    assert 12 < int(collapsed[0].partition(":")[0]) <= 20


def test_no_alarm_goes_off_in_a_run_that_does_not(tiny_model: ModelFolder) -> None:
    every = alarms.loss_explosion, alarms.preference_lost, alarms.blown_up, alarms.margin_collapse
    run = Played(tiny_model("llama"), "dpo", 1e-3, 24, watched=[make() for make in every])
    assert run.said == []
    assert run.log[24]["accuracy"] > 0.9
    assert Played(BASE, "dpo", 1e-3, 8, watched=[make() for make in every], rows=alike()).said == []


def test_a_run_that_blows_up_goes_back_to_its_last_good_checkpoint(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    unbroken = Played(tiny_model("llama"), "dpo", 2e-3, 5)
    run = Played(tiny_model("llama"), "dpo", 2e-3, 40, wild_from=12, folder=tmp_path)
    assert run.stopped is not None
    assert 12 < max(run.log) <= 25
    assert "The run has blown up: train again with a lower learning_rate" in str(run.stopped)
    good = run.stopped.good
    assert good is not None
    assert 5 <= good < 12, "from before the rate rose"
    assert f"The checkpoint of step {good} is from before that; it is kept, and no later one" in str(
        run.stopped
    )
    saved = sorted(int(p.name.removeprefix("step-")) for p in tmp_path.glob("step-*"))
    assert saved == list(range(1, good + 1))
    again = Played(tiny_model("llama"), "dpo", 2e-3, good)
    assert unbroken.log[5]["loss"] == again.log[5]["loss"]
    for name, value in weights(again).items():
        torch.testing.assert_close(weights(run)[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["kto", "orpo", "simpo", "cpo"])
def test_other_methods_that_blow_up_are_stopped_too(
    tiny_model: ModelFolder, tmp_path: Path, name: str
) -> None:
    run = Played(tiny_model("llama"), name, 2e-3, 30, wild_from=8, folder=tmp_path)
    assert run.stopped is not None, (run.said, run.log[max(run.log)])
    # How fast a wild run falls apart differs from processor to processor; that it ends, and well before it, does not.
    assert max(run.log) > 8
    assert run.stopped.good is not None
    assert run.stopped.good <= max(run.log) - 8
    assert all(value.isfinite().all() for value in weights(run).values())


def test_weights_whose_gradients_are_not_finite_are_not_kept(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """The optimizer skips such gradients; the weights that gave them are those of an applied step."""

    def poison(run: Played, step: int) -> None:
        if step == 12:
            for parameter in run.learner.model.trained().values():
                parameter.detach().fill_(1e30)

    run = Played(tiny_model("llama"), "sft", 1e-3, 20, folder=tmp_path, before_save=poison)
    assert run.stopped is not None
    assert "the gradient was not finite 3 times in a row" in str(run.stopped)
    assert run.stopped.good == 4
    assert sorted(path.name for path in tmp_path.glob("step-*"))[-1].endswith("4")
    assert all(bool(value.isfinite().all()) and value.abs().max() < 100 for value in weights(run).values())


def test_without_a_checkpoint_it_says_that_nothing_is_kept() -> None:
    run = Played(BASE, "dpo", 5e-2, 12)
    assert run.stopped is not None
    assert run.stopped.good is None
    assert "There is no checkpoint from before that: nothing is kept" in str(run.stopped)


def test_a_probed_run_is_the_same_to_the_bit(tiny_model: ModelFolder) -> None:
    probed = Played(tiny_model("llama"), "dpo", 2e-3, 4, guards=Guards(probe_steps=1))
    plain = Played(tiny_model("llama"), "dpo", 2e-3, 4, guards=Guards(probe_steps=0))
    assert "probe/kl" in probed.log[3]
    assert not any(name.startswith("probe/") for name in plain.log[3])
    assert [m["loss"] for m in probed.log.values()] == [m["loss"] for m in plain.log.values()]
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(probed)[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("poisoned_at", [4, 3])
def test_a_run_that_ends_on_gradients_that_are_not_finite_says_so(
    tiny_model: ModelFolder, poisoned_at: int
) -> None:
    def poison(run: Played, step: int) -> None:
        if step == poisoned_at:
            for parameter in run.learner.model.trained().values():
                parameter.detach().fill_(1e30)

    run = Played(tiny_model("llama"), "sft", 1e-3, 5, before_save=poison)
    assert run.stopped is None
    (said,) = (said for said in run.said if "not finite" in said)
    assert said.startswith(f"5: the gradient was not finite in the last {5 - poisoned_at} of the run's steps")


def test_the_command_stops_with_an_alarm_and_exports_nothing(tmp_path: Path) -> None:
    data, out = tmp_path / "pairs.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    given = {"--model": BASE, "--data": data, "--out": out, "--batch-size": 8, "--epochs": 2}
    given |= {"--learning-rate": 5e-2, "--guards.probe-steps": 4, "--save-steps": 1}
    with pytest.raises(StopTraining, match="The run has blown up"):
        main(["dpo", *(str(x) for pair in given.items() for x in pair)])
    (line,) = (out / "dpo" / "alarms.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] <= 8
    logged = [json.loads(line) for line in (out / "dpo" / "metrics.jsonl").read_text().splitlines()]
    assert "probe/kl" in logged[0]
    assert "margin" in logged[-1]
    assert not (out / "dpo" / "adapter").exists()
