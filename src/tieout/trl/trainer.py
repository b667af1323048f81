"""What TRL's trainers have in common, over the one loop: train, evaluate, save_model, state, callbacks."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import torch
from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import CallbackHandler, TrainerControl
from transformers.trainer_utils import TrainOutput

from ..chat import Chat
from ..learner import Learner
from ..learner.checkpoint import Checkpoints, save_adapter
from ..learner.models import Model
from ..learner.scalar import ScalarKind
from ..monitors import DEFAULT, StopTraining, stop_on_divergence
from ..source import Source
from ..train import train
from ..types import Group, Row
from .arguments import arguments
from .configs import Config
from .data import Limits, Prepared, Reader
from .networks import adopt
from .plan import Plan, plan

NAMES = {
    "score": "reward", "length": "completions/mean_length", "cut_off": "completions/clipped_ratio",
    "reward_chosen": "rewards/chosen", "reward_rejected": "rewards/rejected", "accuracy": "rewards/accuracies",
    "clipped": "clip_ratio/region_mean", "no_signal": "frac_reward_zero_std",
}  # fmt: skip
"""Our metrics -> TRL's names in the log history; others keep theirs."""


class Trainer:
    """Construct, `train()`. The model that was given is the one that is trained; `.model` is it, with its adapter."""

    config_class: ClassVar[type[Config]]
    head: ClassVar[ScalarKind | None] = None
    needs_reference: ClassVar[bool] = False

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        ref_model: Any = None,
        peft_config: Any = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        compute_metrics: Callable[[Any], dict[str, float]] | None = None,
        formatting_func: Callable[[Any], Any] | None = None,
        tokenizer: Any = None,
        **more: Any,
    ) -> None:
        self.args = arguments(self.config_class, args, more)
        if more:
            raise TypeError(
                f"{type(self).__name__} does not know: {', '.join(f'{k}={v!r}' for k, v in more.items())}"
            )
        if tokenizer is not None:
            warnings.warn("tokenizer is the older name of processing_class", FutureWarning, stacklevel=3)
        if model is None:
            raise ValueError("model is None; give a name, a transformers model or a PEFT model")
        self.plan: Plan = plan(self.args, int(self.args.world_size))
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.compute_metrics = compute_metrics
        given = model if isinstance(model, str) else None
        self._model: Model = adopt(
            model, processing_class if processing_class is not None else tokenizer, peft_config,
            reference=ref_model, needs_reference=self._wants_reference(), head=self.head,
            device=self._device(given is not None), dtype=self._dtype(), seed=self.plan.seed,
        )  # fmt: skip
        self.processing_class = self.tokenizer = _told(self._model.tokenizer, self.plan)
        self.chat: Chat = self._model.chat
        self.limits = Limits(
            self.plan.max_length,
            self.plan.max_prompt_length,
            self.plan.max_completion_length,
            self.plan.truncation,
        )
        _, _, _, text_field, completion_only, assistant_only, *_ = self.plan.text
        self.reader = Reader(
            self.chat, self.limits, text_field, completion_only, assistant_only, formatting_func
        )
        self.learner = Learner(
            self._model, self.plan.method.learning_rate, self.plan.learner, self.plan.temperature
        )
        for group in self.learner.optimizer.param_groups:
            group["betas"], group["eps"] = self.plan.betas, self.plan.epsilon
        self.source = self._source()
        self.state = TrainerState(max_steps=self.plan.steps(len(self.source.rows)))
        self.control = TrainerControl()
        self.callback_handler = CallbackHandler(
            [*_reporters(self.plan.reporting), *(callbacks or [])],
            self.model,
            self.tokenizer,
            self.learner.optimizer,
            None,
        )
        self._window: list[dict[str, float]] = []
        self._event("on_init_end")

    # ------------------------------------------------------------ what each trainer says

    def _rows(self, dataset: Any, count: int | None) -> list[Row]:
        """The rows of a dataset, prepared."""
        raise NotImplementedError

    def _source(self) -> Source:
        count = self.plan.max_steps * self.plan.groups_per_step if self.plan.max_steps > 0 else None
        rows = self._rows(self.train_dataset, count)
        source = Prepared(_task(rows), self.chat, seed=self.plan.data_seed)
        source.shuffle = self.plan.shuffle
        return source

    def _wants_reference(self) -> bool:
        return self.needs_reference

    # ------------------------------------------------------------ what users call

    @property
    def model(self) -> Any:
        """The transformers model, or PEFT's wrapper around it."""
        return self._model.network

    def add_callback(self, callback: Any) -> None:
        """As transformers' Trainer."""
        self.callback_handler.add_callback(callback)

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """Train all steps; returns (global_step, training_loss, metrics).

        Args:
            resume_from_checkpoint: True goes on from what output_dir holds; a folder, from there; else from the start,
                and checkpoints of an earlier run in output_dir are kept aside under another name.
        """
        resume = resume_from_checkpoint or self.args.resume_from_checkpoint
        folder = Path(self.args.output_dir or "trainer_output") / "checkpoints"
        if isinstance(resume, str):
            folder = (
                Path(resume) if Path(resume).name == "checkpoints" else Path(resume).parent / "checkpoints"
            )
        if resume and not folder.exists():
            raise ValueError(f"resume_from_checkpoint: there are no checkpoints in {folder}")
        if not resume and folder.exists():
            _aside(folder)
        strategy, every, keep, *_ = self.plan.saving
        every = int(every * self.state.max_steps) if 0 < every < 1 else int(every)
        saves = strategy != "no"
        started = time.perf_counter()
        self._event("on_train_begin")
        if self.args.eval_on_start and self.eval_dataset is not None:
            self.evaluate()
        try:
            train(
                self.plan.method,
                self.source,
                self.learner,
                steps=self.state.max_steps,
                schedule=self.plan.schedule,  # type: ignore[arg-type]
                monitors=[*DEFAULT, stop_on_divergence(), self._after_step],
                checkpoints=Checkpoints(folder, keep or 10**6) if saves else None,
                save_steps=every if strategy == "steps" else 0,
                on_step=self._on_step,
                on_start=self._on_start,
            )
        except StopTraining as stopped:
            if not self.control.should_training_stop:
                raise
            self._reason = str(stopped)
        if self._window:
            self._log()
        seconds = time.perf_counter() - started
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        loss = fmean(losses) if losses else float("nan")
        metrics = {"train_runtime": seconds, "train_loss": loss, "epoch": self.state.epoch or 0.0}
        self.state.log_history.append({**metrics, "step": self.state.global_step})
        self._event("on_train_end")
        return TrainOutput(self.state.global_step, loss, metrics)

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """The loss and the metrics of the method over a dataset, without training on it."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        if dataset is None:
            raise ValueError("evaluate needs an eval_dataset, here or at construction")
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._evaluated(dataset).items()}
        self.state.log_history.append(
            {**metrics, "step": self.state.global_step, "epoch": self.state.epoch or 0.0}
        )
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Adapter (or whole model) and tokenizer, loadable by PEFT and transformers."""
        folder = Path(output_dir or self.args.output_dir or "trainer_output")
        with tempfile.TemporaryDirectory(dir=_made(folder)) as parts:
            save_adapter(self.learner, Path(parts) / "policy")
            # Into the folder, not in its place: users keep other things in output_dir.
            shutil.copytree(Path(parts) / "policy", folder, dirs_exist_ok=True)
        self.tokenizer.save_pretrained(str(folder))

    def log(self, logs: dict[str, float], *_: Any) -> None:
        """Add an entry to the history, and tell the callbacks."""
        entry = {**logs, "epoch": self.state.epoch or 0.0, "step": self.state.global_step}
        self.state.log_history.append(entry)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def save_state(self) -> None:
        """Write trainer_state.json into output_dir."""
        self.state.save_to_json(str(Path(self.args.output_dir or ".") / "trainer_state.json"))

    # ------------------------------------------------------------ the events of a run

    def _on_start(self, step: int) -> None:
        self.state.global_step = step
        self._event("on_epoch_begin")
        self._event("on_step_begin")

    def _after_step(self, step: int, groups: Sequence[Group], metrics: Any) -> None:
        """A monitor: what must be decided inside the loop, which is whether a callback stops the run."""
        self.state.global_step = step
        self.state.epoch = self.source.position / len(self.source.rows)
        self._event("on_step_end")
        self._record(step, groups)
        if self.control.should_training_stop:
            raise StopTraining("a callback asked to stop")

    def _on_step(self, step: int, metrics: dict[str, float]) -> None:
        self._window.append({k: v for k, v in metrics.items() if isinstance(v, int | float)})
        strategy, every, first = self.plan.logging
        every = int(every * self.state.max_steps) if 0 < every < 1 else int(every)
        wanted = (strategy == "steps" and step % max(1, every) == 0) or (first and step == 1)
        epoch_ended = self._epoch_ends(step)
        if wanted or self.control.should_log or (strategy == "epoch" and epoch_ended):
            self._log()
        self._save(step, epoch_ended)
        how, often, _, delay, _ = self.plan.evaluating
        often = often or self.plan.logging[1]
        due = (how == "steps" and step % max(1, int(often)) == 0) or (how == "epoch" and epoch_ended)
        if (due and step >= delay) or self.control.should_evaluate:
            self.control.should_evaluate = False
            self.evaluate()
        if epoch_ended:
            self._event("on_epoch_end")
            self._event("on_epoch_begin")
        if step < self.state.max_steps:
            self._event("on_step_begin")

    def _epoch_ends(self, step: int) -> bool:
        size, rows = self.plan.groups_per_step, len(self.source.rows)
        return step * size // rows > (step - 1) * size // rows

    def _log(self) -> None:
        """The means over the steps since the last entry."""
        names = dict.fromkeys(name for metrics in self._window for name in metrics)
        means = {n: fmean(m[n] for m in self._window if n in m) for n in names}
        self._window = []
        self.control.should_log = False
        logs = {self._named(name): value for name, value in means.items()}
        if "rewards/chosen" in logs:
            logs["rewards/margins"] = logs["rewards/chosen"] - logs["rewards/rejected"]
        self.log(logs)

    def _named(self, name: str) -> str:
        if self.head == "score":
            return name
        return NAMES.get(name, name)

    def _save(self, step: int, epoch_ended: bool) -> None:
        """Export the policy as checkpoint-STEP beside what resuming needs."""
        strategy, every, keep, output, *_ = self.plan.saving
        every = int(every * self.state.max_steps) if 0 < every < 1 else int(every)
        due = (strategy == "steps" and every and step % every == 0) or (strategy == "epoch" and epoch_ended)
        last = strategy != "no" and step == self.state.max_steps
        if not (due or last or self.control.should_save):
            return
        self.control.should_save = False
        root = Path(output or "trainer_output")
        self.save_model(str(root / f"checkpoint-{step}"))
        self.state.save_to_json(str(root / f"checkpoint-{step}" / "trainer_state.json"))
        saved = sorted(root.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
        for old in saved[: -keep or None] if keep else []:
            shutil.rmtree(old)
        self._event("on_save")

    def _record(self, step: int, groups: Sequence[Group]) -> None:
        """Rollouts go to output_dir/groups.jsonl, completions and scores."""
        sampled = [g for g in groups if g.completions[0].logprobs is not None]
        if not sampled:
            return
        path = Path(self.args.output_dir or "trainer_output") / "groups.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            for group in sampled:
                texts = [c.text for c in group.completions]
                row = {
                    "step": step,
                    "prompt": group.row.get("prompt"),
                    "completions": texts,
                    "scores": group.scores,
                }
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

    def _event(self, name: str) -> None:
        self.control = getattr(self.callback_handler, name)(self.args, self.state, self.control)

    # ------------------------------------------------------------ evaluation

    @torch.no_grad()
    def _evaluated(self, dataset: Any) -> dict[str, float]:
        rows = self._rows(dataset, None)
        source = Prepared(_task(rows), self.chat, seed=self.plan.data_seed)
        source.shuffle = False
        method = dataclasses.replace(self.plan.method, batch_size=len(rows))  # type: ignore[type-var]
        groups = method.annotate(next(method.collect(source)), self.learner)
        metrics = self.learner.assess(groups, method.loss)
        return {self._named(name): value for name, value in metrics.items()}

    # ------------------------------------------------------------ construction

    def _device(self, by_name: bool) -> str | None:
        if self.plan.use_cpu:
            return "cpu"
        return None if by_name or not torch.cuda.is_available() else "cuda"

    def _dtype(self) -> torch.dtype | None:
        wanted = (self.args.model_init_kwargs or {}).get("dtype") or (self.args.model_init_kwargs or {}).get(
            "torch_dtype"
        )
        if isinstance(wanted, torch.dtype):
            return wanted
        if wanted not in (None, "auto"):
            return getattr(torch, str(wanted))
        return torch.float32 if not self.plan.bf16 else None


def _task(rows: Sequence[Row]) -> Any:
    from ..tasks import Task

    return Task("trl", lambda split: rows)


def _told(tokenizer: Any, plan: Plan) -> Any:
    """The tokenizer, with the template and tokens that the configuration names."""
    template, end, pad, *_ = plan.text
    if template is not None:
        path = Path(template)
        if path.suffix in (".jinja", ".j2"):
            tokenizer.chat_template = path.read_text(encoding="utf-8")
        else:
            from transformers import AutoTokenizer

            tokenizer.chat_template = AutoTokenizer.from_pretrained(template).chat_template
    for name, token in (("eos_token", end), ("pad_token", pad)):
        if token is not None:
            if token not in tokenizer.get_vocab():
                raise ValueError(f"{name}={token!r} is not a token of this tokenizer")
            setattr(tokenizer, name, token)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token  # rows are never padded here, but transformers may ask
    return tokenizer


def _reporters(names: Sequence[str]) -> list[Any]:
    from transformers.integrations import get_reporting_integration_callbacks

    wanted = [name for name in names if name not in ("none", "all")]
    return list(get_reporting_integration_callbacks(wanted))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _aside(folder: Path) -> None:
    """Keep checkpoints of an earlier run under a free name."""
    number = 1
    while (other := folder.with_name(f"{folder.name}-before-{number}")).exists():
        number += 1
    folder.rename(other)
    warnings.warn(f"{folder} held checkpoints of an earlier run; they are in {other}", stacklevel=3)
