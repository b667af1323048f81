"""What TRL's trainers have in common, over the one loop: construct, train, evaluate, save_model."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import TrainOutput

from ..chat.template import Chat
from ..errors import InputError, StopTraining
from ..learner import Learner
from ..learner.checkpoint import Checkpoints, save_adapter
from ..learner.models.model import Model
from ..learner.models.scalar_head import ScalarKind
from ..source import Source
from ..training.loop import train
from ..training.monitors import DEFAULT, stop_on_divergence
from ..types import Row
from .arguments import arguments
from .collators import marking
from .configs import Config
from .data import Limits, Prepared, Reader, rowwise
from .eval_predictions import measured
from .events import Events
from .networks import adopt, loaded_as
from .plan import Plan, plan

HOOKS = {
    "compute_loss", "training_step", "prediction_step", "get_batch_loss_metrics", "concatenated_forward", "dpo_loss",
    "create_optimizer", "create_scheduler", "create_optimizer_and_scheduler", "get_train_dataloader",
    "get_eval_dataloader", "_prepare_dataset", "_prepare_inputs", "_generate_and_score_completions",
}  # fmt: skip
"""What users override in subclasses of transformers' and TRL's trainers."""


class Trainer(Events):
    """Construct, `train()`. The model that was given is the one that is trained; `.model` is it, with its adapter."""

    config_class: ClassVar[type[Config]]
    head: ClassVar[ScalarKind | None] = None
    needs_reference: ClassVar[bool] = False
    has_predictions: ClassVar[bool] = False
    """Whether there is something that `compute_metrics` could be shown."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hooks := sorted(HOOKS & set(vars(cls))):
            raise TypeError(
                f"{cls.__name__} overrides {', '.join(hooks)}, which nothing calls here: there is one loop for all "
                "methods. Write a method of your own instead (docs/writing.md: 25 lines)"
            )

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
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        data_collator: Any = None,
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
            raise InputError("model is None; give a name, a transformers model or a PEFT model")
        self.plan: Plan = plan(self.args, int(self.args.world_size))
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        if compute_metrics is not None and not self.has_predictions:
            raise InputError(
                f"{type(self).__name__} has no predictions for compute_metrics; `evaluate` gives its loss and metrics, "
                "and `tieout eval` scores completions"
            )
        if preprocess_logits_for_metrics is not None and compute_metrics is None:
            raise InputError("preprocess_logits_for_metrics is for compute_metrics, which is not given")
        if formatting_func is not None and self.config_class.__name__ != "SFTConfig":
            raise InputError(f"{type(self).__name__} knows no formatting_func; map the dataset before")
        when = str(getattr(self.args.eval_strategy, "value", self.args.eval_strategy))
        if when != "no" and eval_dataset is None:
            raise InputError(
                f"eval_strategy is {when!r}, and there is no eval_dataset; give one, or leave it out"
            )
        self.compute_metrics = compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        given = model if isinstance(model, str) else None
        self._model: Model = adopt(
            model, processing_class if processing_class is not None else tokenizer, peft_config,
            reference=ref_model, needs_reference=self._wants_reference(), head=self.head,
            device=self._device(given is not None), dtype=loaded_as(self.args.model_init_kwargs, self.plan.bf16),
            seed=self.plan.seed,
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
            self.chat,
            self.limits,
            text_field,
            completion_only,
            assistant_only,
            rowwise(formatting_func),
            marking(data_collator),
        )
        self.learner = Learner(
            self._model, self.plan.method.learning_rate, self.plan.learner, self.plan.temperature
        )
        for group in self.learner.optimizer.param_groups:
            group["betas"], group["eps"] = self.plan.betas, self.plan.epsilon
        self.source = self._source()
        self._listen(callbacks or [], self.tokenizer)

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

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """Train all steps; returns (global_step, training_loss, metrics).

        Args:
            resume_from_checkpoint: True goes on from what output_dir holds; a folder, from there; else from the start,
                and checkpoints of an earlier run in output_dir are kept aside under another name.
        """
        resume = resume_from_checkpoint or self.args.resume_from_checkpoint
        if not resume and self.learner.step:
            self._begin_again()
        checkpoints = self._checkpoints(resume)
        self._losses = []
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
                monitors=[*DEFAULT, stop_on_divergence(), self._step_monitor()],
                checkpoints=checkpoints if resume or self.args.save_strategy != "no" else None,
                save_steps=lambda step: step == self._saved,
                on_start=self._on_start,
            )
        except StopTraining:
            if not self.control.should_training_stop:
                raise
        self._return_to_best()
        loss = fmean(self._losses) if self._losses else float("nan")
        metrics = {
            **self._speed("train", started),
            "train_loss": loss,
            "epoch": self.state.epoch or 0.0,
        }
        self.log(metrics)
        self._event("on_train_end")
        return TrainOutput(self.state.global_step, loss, metrics)

    def _begin_again(self) -> None:
        """All steps once more, from the weights as they are: a second call of `train`, as in transformers."""
        self.learner.step = self.source.position = self.learner.skipped_updates = 0
        self.learner.optimizer.state.clear()
        self.learner.memory.clear()
        self._reset()

    def _checkpoints(self, resume: bool | str | None) -> Checkpoints:
        """Where resuming finds what it needs; what an earlier run left there is set aside unless it goes on."""
        folder = Path(self.args.output_dir or "trainer_output")
        folder = (Path(resume).parent if isinstance(resume, str) else folder) / "checkpoints"
        kept = Checkpoints(folder, self.plan.keep_checkpoints or 10**6)
        ranks = self.learner.processes
        if not resume:
            ranks.first(lambda: _aside(folder))
            return kept
        number = Path(resume).name.removeprefix("checkpoint-") if isinstance(resume, str) else ""
        state = kept.peek(self.learner, before=int(number) + 1 if number.isdigit() else None)
        if state is None or (number.isdigit() and state["step"] != int(number)):
            found = ", ".join(sorted(p.name for p in folder.glob("step-*"))) or "none"
            raise InputError(
                f"resume_from_checkpoint={resume!r}: {folder} has no such checkpoint; found: {found}"
            )
        ranks.first(lambda: kept.discard(after=state["step"]))
        return kept

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The loss and the metrics of the method over a dataset, without training on it; of several, by their names."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        if dataset is None:
            raise InputError("evaluate needs an eval_dataset, here or at construction")
        if isinstance(dataset, Mapping):
            metrics: dict[str, float] = {}
            for name, part in dataset.items():
                metrics |= self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics
        started = time.perf_counter()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._evaluated(dataset).items()}
        metrics |= self._speed(metric_key_prefix, started, dataset)
        self.log(metrics)
        metrics["epoch"] = self.state.epoch or 0.0
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def end(self) -> None:
        """TRL's scripts call it last; nothing is left open here."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A warning: what a model card says is the user's; `tieout ship` writes one from evidence."""
        warnings.warn(
            "create_model_card: no card is written; `tieout ship` writes one from evidence", stacklevel=2
        )

    @property
    def hub_model_id(self) -> str | None:
        """As the configuration has it."""
        return self.args.hub_model_id

    is_fsdp_enabled = is_deepspeed_enabled = False

    def push_to_hub(self, *_: Any, **__: Any) -> None:
        """RuntimeError: what is sent, and where to, is the user's to say."""
        raise RuntimeError(
            "push_to_hub is left to you: trainer.model.push_to_hub(NAME), tokenizer.push_to_hub(NAME)"
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Adapter (or whole model) and tokenizer, loadable by PEFT and transformers."""
        folder = Path(output_dir or self.args.output_dir or "trainer_output")
        folder.mkdir(parents=True, exist_ok=True)

        def write() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as parts:
                save_adapter(self.learner, Path(parts) / "policy")
                # Into the folder, not in its place: users keep other things in output_dir.
                shutil.copytree(Path(parts) / "policy", folder, dirs_exist_ok=True)
            self.tokenizer.save_pretrained(str(folder))

        self.learner.processes.first(write)

    # ------------------------------------------------------------ evaluation

    @torch.no_grad()
    def _evaluated(self, dataset: Any) -> dict[str, float]:
        rows = self._rows(dataset, None)
        source = Prepared(_task(rows), self.chat, seed=self.plan.data_seed)
        source.shuffle = False
        method = dataclasses.replace(self.plan.method, batch_size=len(rows))
        groups = method.annotate(next(method.collect(source)), self.learner)
        metrics = self.learner.assess(groups, method.loss)
        named = self._reported(metrics, groups)
        if self.compute_metrics is not None:
            named |= self.compute_metrics(measured(self.learner, groups, self.preprocess_logits_for_metrics))
        return named

    # ------------------------------------------------------------ construction

    def _device(self, by_name: bool) -> str | None:
        if self.plan.use_cpu:
            return "cpu"
        return None if by_name or not torch.cuda.is_available() else "cuda"


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
                raise InputError(f"{name}={token!r} is not a token of this tokenizer")
            setattr(tokenizer, name, token)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token  # rows are never padded here, but transformers may ask
    return tokenizer


def _aside(folder: Path) -> None:
    """Keep the checkpoints of an earlier run, and what it exported, under a free name."""
    exported = sorted(folder.parent.glob("checkpoint-[0-9]*"))
    if not folder.exists() and not exported:
        return
    number = 1
    while (other := folder.with_name(f"{folder.name}-before-{number}")).exists():
        number += 1
    folder.rename(other) if folder.exists() else other.mkdir(parents=True)
    for old in exported:
        old.rename(other / old.name)
    warnings.warn(f"{folder.parent} held checkpoints of an earlier run; they are in {other}", stacklevel=3)
