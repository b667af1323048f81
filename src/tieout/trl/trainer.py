"""TRL's trainer over the one loop: construct, train, evaluate, save_model. The method's needs say what it reads."""

from __future__ import annotations

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
from transformers.trainer_pt_utils import log_metrics, save_metrics
from transformers.trainer_utils import TrainOutput

from ..errors import InputError, StopTraining, TooManyErrors
from ..evidence.leakage import warn_of_copies
from ..learner import Learner
from ..learner.checkpoint import Checkpoints, save_adapter, set_aside
from ..learner.models.adopted import adopt, loaded_as
from ..learner.models.model import Model
from ..training.alarms import Adjustments
from ..training.loop import train
from ..training.watching import monitors_of
from ..vetting.before_training import warn_of_reward
from .arguments import arguments
from .configs import Config
from .events import Events
from .given import GivenData
from .older import todays
from .plan import plan
from .rollouts import SampledData

HOOKS = {
    "compute_loss", "training_step", "prediction_step", "get_batch_loss_metrics", "concatenated_forward", "dpo_loss",
    "create_optimizer", "create_scheduler", "create_optimizer_and_scheduler", "get_train_dataloader",
    "get_eval_dataloader", "_prepare_dataset", "_prepare_inputs", "_generate_and_score_completions",
}  # fmt: skip
"""What users override in subclasses of transformers' and TRL's trainers."""


class Trainer:
    """Construct, `train()`. The model that was given is the one that is trained; `.model` is it, with its adapter."""

    config_class: ClassVar[type[Config]]
    events: Events
    is_fsdp_enabled = is_deepspeed_enabled = False
    log_metrics, save_metrics = log_metrics, save_metrics

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hooks := sorted(HOOKS & set(vars(cls))):
            raise TypeError(
                f"{cls.__name__} overrides {', '.join(hooks)}, which nothing calls here: there is one loop for all "
                "methods. Write a method of your own instead (docs/writing.md: 25 lines)"
            )

    def __init__(
        self, model: Any = None, args: Any = None, train_dataset: Any = None, eval_dataset: Any = None,
        processing_class: Any = None, *, reward_funcs: Any = None, reward_processing_classes: Any = None,
        ref_model: Any = None, peft_config: Any = None, primary: Any = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        compute_metrics: Callable[[Any], dict[str, float]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        data_collator: Any = None, formatting_func: Callable[[Any], Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        more = todays("Trainer", more)
        processing_class = more.pop("processing_class", processing_class)
        self.args: Any = arguments(self.config_class, args, more)
        self.plan = planned = plan(self.args, int(self.args.world_size))
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        needs, name = planned.method.needs, type(self).__name__
        when = str(getattr(self.args.eval_strategy, "value", self.args.eval_strategy))
        if more:
            raise TypeError(f"{name} does not know: {', '.join(f'{k}={v!r}' for k, v in more.items())}")
        if model is None:
            raise InputError("model is None; give a name, a transformers model or a PEFT model")
        if compute_metrics is not None and needs.rows != "demonstration" and needs.head != "score":
            raise InputError(
                f"{name} has no predictions for compute_metrics; `evaluate` gives its loss and metrics, and "
                "`tieout eval` scores completions"
            )
        if preprocess_logits_for_metrics is not None and compute_metrics is None:
            raise InputError("preprocess_logits_for_metrics is for compute_metrics, which is not given")
        if formatting_func is not None and needs.rows != "demonstration":
            raise InputError(f"{name} knows no formatting_func; map the dataset before")
        if when != "no" and eval_dataset is None:
            raise InputError(
                f"eval_strategy is {when!r}, and there is no eval_dataset; give one, or leave it out"
            )
        stays = isinstance(model, str) or not torch.cuda.is_available()
        self._model: Model = adopt(
            model, processing_class, peft_config, reference=ref_model, needs_reference=needs.reference, head=needs.head,
            device="cpu" if planned.use_cpu else None if stays else "cuda",
            dtype=loaded_as(planned.model_init_kwargs, planned.bf16), seed=planned.seed,
            template=planned.chat_template_path,
            special={"eos_token": planned.eos_token, "pad_token": planned.pad_token},
        )  # fmt: skip
        self.tokenizer = self.processing_class = self._model.tokenizer
        self.chat = self._model.chat
        rate = planned.method.learning_rate
        self.learner = Learner(self._model, rate, planned.learner, planned.temperature)
        for group in self.learner.optimizer.param_groups:
            group["betas"], group["eps"] = (planned.adam_beta1, planned.adam_beta2), planned.adam_epsilon
        self.data: GivenData | SampledData
        if needs.samples:
            given = (train_dataset, reward_funcs, reward_processing_classes, primary)
            self.data = SampledData(planned, self.learner, *given, lambda: self.events.state)
        else:
            self.data = GivenData(planned, self.learner, train_dataset, formatting_func, data_collator)
            self.data.compute_metrics, self.data.preprocess = compute_metrics, preprocess_logits_for_metrics
        warn_of_copies(train_dataset, eval_dataset)
        self._read: dict[int, Any] = {}  # before any training, and once
        for part, prefix in _sets(eval_dataset, "eval"):
            self._read[id(part)] = self.data.held_out(part, _named(prefix)), part
        self.source, self.events = self.data.source, Events(self, callbacks or [])
        self.state, self.callback_handler = self.events.state, self.events.handler
        self.accelerator, self.hub_model_id = self.args.distributed_state, self.args.hub_model_id

    # ------------------------------------------------------------ what users read and call

    @property
    def model(self) -> Any:
        """The transformers model, or PEFT's wrapper around it."""
        return self._model.network

    @property
    def control(self) -> Any:
        """transformers' TrainerControl: what the callbacks have asked for."""
        return self.events.control

    def is_world_process_zero(self) -> bool:
        """Whether this is the process that writes."""
        return self.learner.processes.leads

    is_local_process_zero = is_world_process_zero

    def add_callback(self, callback: Any) -> None:
        """As transformers' Trainer."""
        self.callback_handler.add_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """As transformers' Trainer."""
        self.callback_handler.remove_callback(callback)

    def log(self, logs: Mapping[str, float], *_: Any) -> None:
        """Add an entry to the history, and tell the callbacks."""
        self.events.log(logs)

    def save_state(self) -> None:
        """Write trainer_state.json into output_dir."""
        if self.is_world_process_zero():
            self.plan.folder.mkdir(parents=True, exist_ok=True)
            self.state.save_to_json(str(self.plan.folder / "trainer_state.json"))

    def end(self) -> None:
        """TRL's scripts call it last; nothing is left open here."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write nothing but a warning: a model card needs evidence, and `tieout ship` writes one from it."""
        text = "create_model_card: no card is written; `tieout ship` writes one from evidence"
        warnings.warn(text, stacklevel=2)

    def push_to_hub(self, *_: Any, **__: Any) -> None:
        """RuntimeError: what is sent, and where to, is the user's to say."""
        raise RuntimeError(
            "push_to_hub is left to you: trainer.model.push_to_hub(NAME), tokenizer.push_to_hub(NAME)"
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write adapter (or whole model) and tokenizer, loadable by PEFT and transformers."""
        folder = Path(output_dir or self.plan.folder)
        folder.mkdir(parents=True, exist_ok=True)

        def write() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as parts:
                save_adapter(self.learner, Path(parts) / "policy")
                # Into the folder, not in its place: users keep other things in output_dir.
                shutil.copytree(Path(parts) / "policy", folder, dirs_exist_ok=True)
            self.tokenizer.save_pretrained(str(folder))

        self.learner.processes.first(write)

    # ------------------------------------------------------------ training and evaluation

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """Train all steps; returns (global_step, training_loss, metrics).

        Args:
            resume_from_checkpoint: True resumes from what output_dir holds, a folder from there. Otherwise training
                begins at step 0, and checkpoints of an earlier run in output_dir are set aside.
        """
        resume = resume_from_checkpoint or self.args.resume_from_checkpoint
        if not resume and self.learner.step:
            self._begin_again()
        checkpoints, events, args = self._checkpoints(resume), self.events, self.args
        saves = resume or args.save_strategy != "no" or args.load_best_model_at_end
        events.losses = []
        watched = self.plan.method, self.learner, self.source, self.state.max_steps
        turned: Any = {"adjustments": Adjustments()}
        started = time.perf_counter()
        if isinstance(self.data, SampledData):
            warn_of_reward(self.data.source.task.reward, self.data.source.rows)
        events.tell("on_train_begin")
        if self.args.eval_on_start and self.eval_dataset is not None:
            self.evaluate()
        try:
            train(
                self.plan.method,
                self.source,
                self.learner,
                steps=self.state.max_steps,
                schedule=self.plan.schedule,
                monitors=[*monitors_of(*watched, folder=self.plan.folder, **turned), events.monitor()],
                **turned,
                checkpoints=checkpoints if saves else None,
                save_steps=lambda step: step == events.saved,
                kept=events.kept,
                on_start=events.on_start,
            )
        except StopTraining:
            if not events.control.should_training_stop:
                raise
        events.return_to_best(checkpoints)
        loss = fmean(events.losses) if events.losses else float("nan")
        epoch = self.state.epoch or 0.0
        metrics = {**events.speed("train", started), "train_loss": loss, "epoch": epoch}
        self.log(metrics)
        events.tell("on_train_end")
        return TrainOutput(self.state.global_step, loss, metrics)

    def _begin_again(self) -> None:
        """Prepare all steps once more, from the weights as they are: a second call of `train`, as in transformers."""
        self.learner.step = self.source.position = self.learner.skipped_updates = 0
        self.learner.optimizer.state.clear()
        self.learner.memory.clear()
        self.events.reset()

    def _checkpoints(self, resume: bool | str | None) -> Checkpoints:
        """Where resuming finds what it needs; what an earlier run left there is set aside unless it is resumed."""
        folder = (Path(resume).parent if isinstance(resume, str) else self.plan.folder) / "checkpoints"
        kept = Checkpoints(folder, self.plan.save_total_limit or 10**6, apart=16)
        ranks = self.learner.processes
        if not resume:
            ranks.first(lambda: set_aside(folder, exported="checkpoint-[0-9]*"))
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
        metrics: dict[str, float] = {}
        if isinstance(dataset, Mapping):
            for part, prefix in _sets(dataset, metric_key_prefix):
                metrics |= self.evaluate(part, ignore_keys, prefix)
            return metrics
        started, name = time.perf_counter(), _named(metric_key_prefix)
        rows, _ = self._read.get(id(dataset)) or (self.data.held_out(dataset, name), None)
        try:
            found = self.data.evaluated(rows, self.events)
        except (InputError, TooManyErrors) as error:
            kind = InputError if isinstance(error, InputError) else TooManyErrors
            raise kind(f"{name}: {error}") from error
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        metrics |= self.events.speed(metric_key_prefix, started, dataset)
        self.log(metrics)
        metrics["epoch"] = self.state.epoch or 0.0
        self.events.tell("on_evaluate", metrics)
        return metrics


def _sets(dataset: Any, prefix: str) -> list[tuple[Any, str]]:
    """The sets to evaluate, each with what its metrics begin with."""
    if isinstance(dataset, Mapping):
        return [(part, f"{prefix}_{name}") for name, part in dataset.items()]
    return [] if dataset is None else [(dataset, prefix)]


def _named(prefix: str) -> str:
    """What messages call the set whose metrics begin so."""
    return "eval_dataset" if prefix == "eval" else f"eval_dataset {prefix.removeprefix('eval_')!r}"
