"""Tell callbacks what happens in a run, and do what they ask: log, evaluate, save, stop. transformers' flow decides."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainerState
from transformers.trainer_callback import (
    CallbackHandler,
    DefaultFlowCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerControl,
)

from ..errors import InputError, StopTraining
from ..learner import Learner
from ..learner.checkpoint import Checkpoints
from ..methods import Rollouts
from ..rewards.scoring.outcomes import reward_name
from ..storage.jsonl import append_jsonl
from ..training.alarms.memory import Monitor, remembers
from ..training.monitors import sampled_rows
from ..types import Group
from .metric_names import by_trl_names, fed_tokens
from .plan import Plan

BEGUN: dict[str, Any] = {
    "best_metric": None, "best_model_checkpoint": None, "best_global_step": None, "num_input_tokens_seen": 0,
}  # fmt: skip
"""What the state remembers besides steps, before the first one."""


class Events:
    """The state, callbacks and checkpoints of a trainer's run."""

    def __init__(self, trainer: Any, callbacks: Sequence[Any]) -> None:
        """
        Args:
            trainer: is asked to `log`, `evaluate` and `save_model`, which users may override.
            callbacks: of the user.
        """
        self.args: Any = trainer.args
        self.plan: Plan = (plan := trainer.plan)
        self.learner: Learner = (learner := trainer.learner)
        if self.args.save_strategy == "best" and self.args.metric_for_best_model is None:
            raise InputError("save_strategy='best' needs metric_for_best_model, such as 'loss'")
        self.trainer, self.source = trainer, trainer.data.source
        leads, self.passes = learner.processes.leads, plan.passes(len(self.source.rows))
        self.source.pass_size, max_steps = self.passes.size, plan.steps(self.passes.rows)
        plan.schedule.rate(0, max_steps)  # one that cannot be had is refused before any work
        self.state = TrainerState(
            max_steps=max_steps, num_train_epochs=math.ceil(max_steps / self.passes.steps),
            is_local_process_zero=leads, is_world_process_zero=leads,
        )  # fmt: skip
        self.state.compute_steps(self.args, self.state.max_steps)
        self.state.eval_steps = self.state.eval_steps or self.state.logging_steps
        self.control = TrainerControl()
        shown = PrinterCallback if plan.disable_tqdm else ProgressCallback
        self.handler = CallbackHandler(
            [DefaultFlowCallback, *_reporters(plan.report_to if leads else ()), *callbacks, shown],
            learner.model.network, trainer.tokenizer, learner.optimizer, None,
        )  # fmt: skip
        self.losses: list[float] = []
        self.reset()
        self.tell("on_init_end")

    def reset(self) -> None:
        """Return to before the first step."""
        vars(self.state).update(BEGUN, global_step=0, epoch=0.0)
        self.control.should_training_stop = False
        self.window: list[dict[str, float]] = []
        self.first, self.saved = (0, 0), 0
        self.memory = dict(BEGUN)

    def tell(self, event: str, *more: Any) -> None:
        """Tell the callbacks of an event; they may change what is to be done."""
        self.control = getattr(self.handler, event)(self.args, self.state, self.control, *more)

    def log(self, logs: Mapping[str, float]) -> None:
        """Add an entry to the history, and tell the callbacks."""
        entry = {**logs, "epoch": self.state.epoch or 0.0}
        self.state.log_history.append({**entry, "step": self.state.global_step})
        self.tell("on_log", entry)

    # ------------------------------------------------------------ steps

    def on_start(self, step: int) -> None:
        """Take up the state as it was at this step; what `remembers` kept of it has been put back already."""
        self.first = (step, self.source.position)
        vars(self.state).update(self.memory, global_step=step, epoch=self.passes.epoch(step))
        kept = self.checkpoint(step) / "trainer_state.json"
        if step and kept.exists():
            self.state.log_history = TrainerState.load_from_json(str(kept)).log_history
        self.tell("on_epoch_begin")
        self.tell("on_step_begin")

    def monitor(self) -> Monitor:
        """The last monitor of the loop: its state is saved with the weights."""

        @remembers(self.memory)
        def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
            try:
                self._after_step(step, groups, metrics)
            finally:
                self.memory.update({name: getattr(self.state, name) for name in BEGUN})

        return monitor

    def _after_step(self, step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> None:
        """Every rank comes here: an evaluation is shared among them, and may end the run."""
        last = step >= self.state.max_steps
        self.state.global_step, self.state.epoch = step, self.passes.epoch(step)
        self.state.num_input_tokens_seen += fed_tokens(groups)
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        self.window.append(self.trainer.data.told(step) | self.named(numbers, groups))
        self.losses += [metrics["loss"]] if "loss" in metrics else []  # none where nothing was trained
        self.record(step, groups)
        self.tell("on_step_end")
        self._obey(last)
        ends = last or self.control.should_training_stop
        if ends or self.passes.ends(step):
            self.tell("on_epoch_end")
            self._obey(last)
            if not ends:
                self.tell("on_epoch_begin")
        if self.control.should_training_stop and not last:
            raise StopTraining("a callback asked to stop")
        if not last:
            self.tell("on_step_begin")

    def _obey(self, last: bool) -> None:
        """Log, evaluate and save, where a callback said so, on whichever rank."""
        flags = ("should_log", "should_evaluate", "should_save", "should_training_stop")
        said = self.learner.processes.gather([getattr(self.control, flag) for flag in flags])
        for flag, values in zip(flags, zip(*said, strict=True), strict=True):
            setattr(self.control, flag, any(values))
        if (self.control.should_log or last) and self.window:
            names = dict.fromkeys(name for metrics in self.window for name in metrics)
            means = {n: fmean(m[n] for m in self.window if n in m) for n in names}
            means["num_tokens"] = self.window[-1]["num_tokens"]
            self.window = []
            self.trainer.log(means)
        if self.control.should_evaluate:
            is_best = self.judge(self.trainer.evaluate())
            if self.args.save_strategy == "best":
                self.control.should_save = is_best
        if self.control.should_save:
            self._save(self.state.global_step)

    def named(self, metrics: Mapping[str, float], groups: Sequence[Group]) -> dict[str, float]:
        """What was measured on these groups, of training or of an evaluation, by TRL's names."""
        reward = self.source.task.reward
        name = None if reward is None or hasattr(reward, "parts") else reward_name(reward)
        seen = {"num_tokens": float(self.state.num_input_tokens_seen)}
        return by_trl_names(metrics, groups, self.plan.method, name) | seen

    def speed(self, prefix: str, started: float, dataset: Any = None) -> dict[str, float]:
        """The speed of an evaluation of a dataset; where none is given, of the steps of this call of `train`."""
        seconds = time.perf_counter() - started
        if dataset is None:
            method, (step, row) = self.plan.method, self.first
            size = method.group_size if isinstance(method, Rollouts) else 1
            counts = {"samples": (self.source.position - row) * size, "steps": self.state.global_step - step}
        elif hasattr(dataset, "__len__"):
            batches = math.ceil(len(dataset) / (self.args.eval_batch_size * self.args.world_size))
            counts = {"samples": len(dataset), "steps": batches}
        else:
            counts = {}
        rates = {f"{prefix}_{n}_per_second": x / max(seconds, 1e-9) for n, x in counts.items()}
        return {f"{prefix}_runtime": seconds, **rates}

    def record(self, step: int, groups: Sequence[Group]) -> None:
        """Append rollouts to output_dir/groups.jsonl, completions and scores."""
        rows = sampled_rows(step, groups)
        if rows and self.learner.processes.leads:
            append_jsonl(self.plan.folder / "groups.jsonl", rows)

    # ------------------------------------------------------------ the best, and checkpoints

    def judge(self, metrics: Mapping[str, float]) -> bool:
        """Whether this evaluation is the best so far; then its step is remembered."""
        wanted = self.args.metric_for_best_model
        if wanted is None:
            return False
        name = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
        if name not in metrics:
            raise InputError(f"metric_for_best_model is {wanted!r}; an evaluation gave: {', '.join(metrics)}")
        best, value, sign = self.state.best_metric, metrics[name], 1 if self.args.greater_is_better else -1
        if math.isnan(value) or (best is not None and sign * value <= sign * best):
            return False
        self.state.best_metric, self.state.best_global_step = value, self.state.global_step
        return True

    def kept(self) -> int:
        """The step whose weights the model gets at the end; 0: none, the last ones stay."""
        return (self.args.load_best_model_at_end and self.state.best_global_step) or 0

    def return_to_best(self, checkpoints: Checkpoints) -> None:
        """Put the weights of the best evaluation back, in whichever process it was."""
        if self.kept() not in (0, self.learner.step):
            checkpoints.load_weights(self.learner, self.kept())

    def checkpoint(self, step: int) -> Path:
        """Where the policy of a step is exported."""
        return self.plan.folder / f"checkpoint-{step}"

    def _save(self, step: int) -> None:
        """Export the policy as checkpoint-STEP; what resuming needs is saved once all monitors were asked."""
        folder, self.saved = self.checkpoint(step), step
        self.trainer.save_model(str(folder))
        best = self.checkpoint(self.state.best_global_step or 0)
        if self.learner.processes.first(best.is_dir):
            self.state.best_model_checkpoint = str(best)

        def tidy() -> None:
            self.state.save_to_json(str(folder / "trainer_state.json"))
            saved = sorted(folder.parent.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
            keep = self.plan.save_total_limit
            for old in saved[:-keep] if keep else []:
                if str(old) != self.state.best_model_checkpoint:
                    shutil.rmtree(old)

        self.learner.processes.first(tidy)
        self.tell("on_save")


def _reporters(given: Any) -> list[Any]:
    from transformers.integrations import get_reporting_integration_callbacks

    names = [given] if isinstance(given, str) else given or ()
    return list(get_reporting_integration_callbacks([n for n in names if n not in (None, "none", "all")]))
