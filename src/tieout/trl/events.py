"""What a run tells and keeps on its way: transformers' events, the log history, checkpoints, the best of them."""

from __future__ import annotations

import json
import math
import operator
import shutil
import time
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerState
from transformers.trainer_callback import (
    CallbackHandler,
    DefaultFlowCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerControl,
)
from transformers.trainer_pt_utils import log_metrics, save_metrics

from ..errors import InputError, StopTraining
from ..learner import Learner
from ..rewards.scoring.outcomes import reward_name
from ..source import Source
from ..training.monitors import Memory, Monitor, remembers, sampled_rows
from ..types import Group
from .metric_names import by_trl_names, fed_tokens
from .plan import Plan

BEGUN: dict[str, Any] = {
    "best_metric": None, "best_model_checkpoint": None, "best_global_step": None, "num_input_tokens_seen": 0,
}  # fmt: skip
"""What the state remembers besides steps, before the first one."""


class Events:
    """The half of a trainer that callbacks, logs and checkpoints are about; transformers' own flow decides when."""

    args: Any
    plan: Plan
    learner: Learner
    source: Source

    def _listen(self, callbacks: Sequence[Any], tokenizer: Any) -> None:
        """Start telling the callbacks. ValueError: the best is to be kept, and nothing says by which metric."""
        if self.args.save_strategy == "best" and self.args.metric_for_best_model is None:
            raise InputError("save_strategy='best' needs metric_for_best_model, such as 'loss'")
        leads = self.learner.processes.leads
        self.state = TrainerState(
            max_steps=self.plan.steps(len(self.source.rows)), num_train_epochs=math.ceil(self.plan.epochs),
            is_local_process_zero=leads, is_world_process_zero=leads,
        )  # fmt: skip
        self.state.compute_steps(self.args, self.state.max_steps)
        self.state.eval_steps = self.state.eval_steps or self.state.logging_steps
        self.control = TrainerControl()
        shown = ProgressCallback if self.plan.progress_bar else PrinterCallback
        self.callback_handler = CallbackHandler(
            [DefaultFlowCallback, *_reporters(self.plan.reporting if leads else ()), *callbacks, shown],
            self._model.network, tokenizer, self.learner.optimizer, None,
        )  # fmt: skip
        self._losses: list[float] = []
        self._reset()
        self._event("on_init_end")

    def _reset(self) -> None:
        """As before the first step."""
        for name, value in BEGUN.items():
            setattr(self.state, name, value)
        self.state.global_step, self.state.epoch = 0, 0.0
        self.control.should_training_stop = False
        self._window: list[dict[str, float]] = []
        self._first = self._saved = 0
        self._best: dict[str, torch.Tensor] | None = None
        self._memory: Memory = dict(BEGUN)

    _model: Any

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss and the metrics on held-out rows."""
        raise NotImplementedError

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Adapter (or whole model) and tokenizer."""
        raise NotImplementedError

    # ------------------------------------------------------------ what users call

    log_metrics, save_metrics = log_metrics, save_metrics

    def is_world_process_zero(self) -> bool:
        """Whether this is the process that writes."""
        return self.learner.processes.leads

    is_local_process_zero = is_world_process_zero

    @property
    def accelerator(self) -> Any:
        """What programs ask of it: device, num_processes, is_main_process, print, wait_for_everyone."""
        return self.args.distributed_state

    def add_callback(self, callback: Any) -> None:
        """As transformers' Trainer."""
        self.callback_handler.add_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """As transformers' Trainer."""
        self.callback_handler.remove_callback(callback)

    def log(self, logs: Mapping[str, float], *_: Any) -> None:
        """Add an entry to the history, and tell the callbacks."""
        entry = {**logs, "epoch": self.state.epoch or 0.0}
        self.state.log_history.append({**entry, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, entry)

    def save_state(self) -> None:
        """Write trainer_state.json into output_dir."""
        if self.is_world_process_zero():
            self.state.save_to_json(str(_made(Path(self.args.output_dir or ".")) / "trainer_state.json"))

    # ------------------------------------------------------------ the events of a run

    def _event(self, name: str) -> None:
        self.control = getattr(self.callback_handler, name)(self.args, self.state, self.control)

    def _on_start(self, step: int) -> None:
        """The state as it was at this step; what `remembers` kept of it has been put back already."""
        self.state.global_step = self._first = step
        for name in BEGUN:
            setattr(self.state, name, self._memory[name])
        kept = self._checkpoint(step) / "trainer_state.json"
        if step and kept.exists():
            self.state.log_history = TrainerState.load_from_json(str(kept)).log_history
        self._event("on_epoch_begin")
        self._event("on_step_begin")

    def _step_monitor(self) -> Monitor:
        """`_after_step`, whose state is saved with the weights."""

        @remembers(self._memory)
        def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
            try:
                self._after_step(step, groups, metrics)
            finally:
                self._memory.update({name: getattr(self.state, name) for name in BEGUN})

        return monitor

    def _told(self, step: int) -> dict[str, float]:
        """Metrics that the user's own functions have logged."""
        return {}

    def _after_step(self, step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> None:
        """The last monitor, which every rank asks: an evaluation is shared out among them, and may end the run."""
        last = step >= self.state.max_steps
        self.state.global_step, self.state.epoch = step, self.source.position / len(self.source.rows)
        self.state.num_input_tokens_seen += fed_tokens(groups)
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        self._window.append(self._told(step) | self._reported(numbers, groups))
        self._losses += [metrics["loss"]] if "loss" in metrics else []  # none where nothing was trained
        self._record(step, groups)
        self._event("on_step_end")
        self._obey(last)
        if self._epoch_ends(step):
            self._event("on_epoch_end")
            self._obey(last)
            if not last:
                self._event("on_epoch_begin")
        if self.control.should_training_stop and not last:
            raise StopTraining("a callback asked to stop")
        if not last:
            self._event("on_step_begin")

    def _obey(self, last: bool) -> None:
        """Log, evaluate and save, where a callback (transformers' own, to begin with) said so, on whichever rank."""
        flags = ("should_log", "should_evaluate", "should_save", "should_training_stop")
        said = self.learner.processes.gather([getattr(self.control, flag) for flag in flags])
        for flag, values in zip(flags, zip(*said, strict=True), strict=True):
            setattr(self.control, flag, any(values))
        if (self.control.should_log or last) and self._window:
            self._log()
        if self.control.should_evaluate:
            is_best = self._judge(self.evaluate())
            if self.args.save_strategy == "best":
                self.control.should_save = is_best
        if self.control.should_save:
            self._save(self.state.global_step)

    def _epoch_ends(self, step: int) -> bool:
        size, rows = self.plan.groups_per_step, len(self.source.rows)
        return step * size // rows > (step - 1) * size // rows

    def _log(self) -> None:
        """The means over the steps since the last entry, and how many tokens were seen in all."""
        names = dict.fromkeys(name for metrics in self._window for name in metrics)
        means = {n: fmean(m[n] for m in self._window if n in m) for n in names}
        means["num_tokens"] = self._window[-1]["num_tokens"]
        self._window = []
        self.log(means)

    def _reported(self, metrics: Mapping[str, float], groups: Sequence[Group]) -> dict[str, float]:
        """What was measured on these groups, of training or of an evaluation, by TRL's names."""
        reward = self.source.task.reward
        name = None if reward is None or hasattr(reward, "parts") else reward_name(reward)
        seen = {"num_tokens": float(self.state.num_input_tokens_seen)}
        return by_trl_names(metrics, groups, self.plan.method, name) | seen

    def _speed(self, prefix: str, started: float, dataset: Any = None) -> dict[str, float]:
        """The speed of an evaluation of a dataset; where none is given, of the steps of this call of `train`."""
        seconds = time.perf_counter() - started
        if dataset is None:
            steps, size = self.state.global_step - self._first, getattr(self.plan.method, "group_size", 1)
            return speed(prefix, seconds, steps * self.plan.groups_per_step * size, steps)
        if not hasattr(dataset, "__len__"):
            return speed(prefix, seconds)
        batches = math.ceil(len(dataset) / (self.args.eval_batch_size * self.args.world_size))
        return speed(prefix, seconds, len(dataset), batches)

    # ------------------------------------------------------------ what is kept

    def _judge(self, metrics: Mapping[str, float]) -> bool:
        """Whether this evaluation is the best so far; then its weights are remembered, if that is asked for."""
        wanted = self.args.metric_for_best_model
        if wanted is None:
            return False
        name = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
        if name not in metrics:
            raise InputError(f"metric_for_best_model is {wanted!r}; an evaluation gave: {', '.join(metrics)}")
        best, value = self.state.best_metric, metrics[name]
        better, worst = (operator.gt, -math.inf) if self.args.greater_is_better else (operator.lt, math.inf)
        if not better(value, worst if best is None else best):
            return False
        self.state.best_metric, self.state.best_global_step = value, self.state.global_step
        self.state.best_model_checkpoint = str(self._checkpoint(self.state.global_step))
        if self.args.load_best_model_at_end:
            trained = self._model.trained()
            self._best = {n: p.detach().to("cpu", copy=True) for n, p in trained.items()}
        return True

    @torch.no_grad()
    def _return_to_best(self) -> None:
        for name, weights in (self._best or {}).items():
            self._model.trained()[name].copy_(weights)

    def _checkpoint(self, step: int) -> Path:
        return Path(self.args.output_dir or "trainer_output") / f"checkpoint-{step}"

    def _save(self, step: int) -> None:
        """Export the policy as checkpoint-STEP; what resuming needs is saved once all monitors were asked."""
        folder, self._saved = self._checkpoint(step), step
        self.save_model(str(folder))

        def tidy() -> None:
            self.state.save_to_json(str(folder / "trainer_state.json"))
            saved = sorted(folder.parent.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
            keep = self.plan.keep_checkpoints
            for old in saved[:-keep] if keep else []:
                if str(old) != self.state.best_model_checkpoint:
                    shutil.rmtree(old)

        self.learner.processes.first(tidy)
        self._event("on_save")

    def _record(self, step: int, groups: Sequence[Group]) -> None:
        """Rollouts go to output_dir/groups.jsonl, completions and scores."""
        rows = sampled_rows(step, groups)
        if not rows or not self.is_world_process_zero():
            return
        folder = _made(Path(self.args.output_dir or "trainer_output"))
        with open(folder / "groups.jsonl", "a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def speed(
    prefix: str, seconds: float, samples: float | None = None, steps: float | None = None
) -> dict[str, float]:
    """Seconds, and samples and steps a second where they were counted: transformers' names.

    >>> speed("eval", 2.0, samples=8, steps=1)
    {'eval_runtime': 2.0, 'eval_samples_per_second': 4.0, 'eval_steps_per_second': 0.5}
    """
    counts = {"samples": samples, "steps": steps}
    rates = {f"{prefix}_{n}_per_second": x / max(seconds, 1e-9) for n, x in counts.items() if x is not None}
    return {f"{prefix}_runtime": seconds, **rates}


def _reporters(names: Sequence[str]) -> list[Any]:
    from transformers.integrations import get_reporting_integration_callbacks

    return list(
        get_reporting_integration_callbacks([name for name in names if name not in (None, "none", "all")])
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
