"""TRL's trainers over the one loop: what each one's rows are, and what it needs beside the policy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ..errors import InputError
from ..learner.models.scalar_head import ScalarKind
from ..samplers import PolicySampler, SamplingParams
from ..samplers.local.sampler import LocalSampler
from ..source import Source
from ..tasks import Task
from ..training.monitors import DEFAULT
from ..types import Group, Row
from .configs import Config, CPOConfig, DPOConfig, KTOConfig, ORPOConfig, RewardConfig, SFTConfig
from .data import prompts
from .functions import rewards
from .online_configs import GRPOConfig, RLOOConfig
from .reward_context import Remembering, Surroundings
from .trainer import Trainer


class SFTTrainer(Trainer):
    """Rows of prompt and completion, of messages, or of text; `formatting_func` makes text of anything else."""

    config_class: ClassVar[type[Config]] = SFTConfig
    has_predictions: ClassVar[bool] = True

    def _rows(self, dataset: Any, count: int | None) -> list[Row]:
        return self.reader.demonstrations(dataset, count)


class RewardTrainer(Trainer):
    """Rows of chosen and rejected (with prompt, or pre-tokenised as input_ids_chosen and input_ids_rejected)."""

    config_class: ClassVar[type[Config]] = RewardConfig
    head: ClassVar[ScalarKind | None] = "score"
    has_predictions: ClassVar[bool] = True

    def _rows(self, dataset: Any, count: int | None) -> list[Row]:
        return self.reader.pairs(dataset, count)


class _Referenced(Trainer):
    needs_reference: ClassVar[bool] = True

    def __init__(
        self, model: Any = None, ref_model: Any = None, args: Any = None, *given: Any, **more: Any
    ) -> None:
        super().__init__(model, args, *given, ref_model=ref_model, **more)


class DPOTrainer(_Referenced):
    """Rows of prompt, chosen and rejected. The reference is `ref_model`, or the policy as it was given."""

    config_class: ClassVar[type[Config]] = DPOConfig

    def _rows(self, dataset: Any, count: int | None) -> list[Row]:
        return self.reader.pairs(dataset, count)


class KTOTrainer(_Referenced):
    """Rows of prompt, completion and label. The reference is `ref_model`, or the policy as it was given."""

    config_class: ClassVar[type[Config]] = KTOConfig

    def _rows(self, dataset: Any, count: int | None) -> list[Row]:
        return self.reader.labelled(dataset, count)


class ORPOTrainer(Trainer):
    """Rows of prompt, chosen and rejected; no reference."""

    config_class: ClassVar[type[Config]] = ORPOConfig

    def _rows(self, dataset: Any, count: int | None) -> list[Row]:
        return self.reader.pairs(dataset, count)


class CPOTrainer(ORPOTrainer):
    """Rows of prompt, chosen and rejected; no reference. loss_type='simpo' is SimPO."""

    config_class: ClassVar[type[Config]] = CPOConfig


class GRPOTrainer(Trainer):
    """Rows of prompt and the columns that the reward functions ask for."""

    config_class: ClassVar[type[Config]] = GRPOConfig

    def __init__(
        self,
        model: Any = None,
        reward_funcs: Any = None,
        args: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        **more: Any,
    ) -> None:
        for name in ("tools", "rollout_func", "environment_factory"):
            if more.pop(name, None) is not None:
                raise InputError(
                    f"{name}: several turns are an environment of a task here (docs: writing a task)"
                )
        if reward_funcs is None:
            raise InputError("reward_funcs is missing; give a function of completions, or a list of them")
        self.reward_funcs, self._reward_tokenizers = reward_funcs, reward_processing_classes
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, **more)

    def _wants_reference(self) -> bool:
        return bool(getattr(self.plan.method, "beta", 0.0))

    def _source(self) -> Source:
        self._around = Surroundings(self.chat, lambda: self.state, self.learner.processes)
        task = self._task(self.train_dataset)
        sampler = Remembering(self._sampler(), self._around.sampled)
        source = Penalising(task, self.chat, sampler, seed=self.plan.data_seed)
        source.shuffle, source.missing_eos_penalty = self.plan.shuffle, self.plan.missing_eos_penalty
        return source

    def _task(self, dataset: Any) -> Task:
        count = self.plan.max_steps * self.plan.groups_per_step if self.plan.max_steps > 0 else None
        rows = prompts(dataset, self._model.tokenizer, count)
        missing = next((i for i, row in enumerate(rows) if not row.get("prompt")), None)
        if missing is not None:
            raise InputError(f"row {missing} has no prompt; it has: {', '.join(rows[missing])}")
        weights, clip, _ = self.plan.rewards
        reward = rewards(self.reward_funcs, weights, clip, self._around, self._reward_tokenizers)
        return Task("trl", lambda split: rows, reward)

    def _told(self, step: int) -> dict[str, float]:
        return self._around.take(Path(self.args.output_dir or "trainer_output"), step)

    def _sampler(self) -> PolicySampler:
        if self.plan.vllm is None:
            return LocalSampler(self._model, self.chat)
        from ..samplers.vllm.dispatch import NoServerLeft
        from ..samplers.vllm.sampler import VLLMSampler

        until = time.monotonic() + self.plan.vllm_seconds
        while True:
            try:
                return VLLMSampler([self.plan.vllm], self.chat)
            except NoServerLeft:
                if time.monotonic() > until:
                    raise
                time.sleep(min(2.0, self.plan.vllm_seconds))

    def _evaluated(self, dataset: Any) -> dict[str, float]:
        """The rewards of one greedy completion a prompt, or of num_generations_eval as sampled in training."""
        count, length = self.plan.num_generations_eval, int(getattr(self.plan.method, "max_new_tokens", 512))
        sampler = Remembering(LocalSampler(self._model, self.chat), self._around.sampled)
        source = Penalising(self._task(dataset), self.chat, sampler)
        params = SamplingParams(length, self.plan.temperature if count else 0.0, seed=self.plan.seed)
        groups = source.rollout(source.rows, count or 1, params)
        metrics = {"scored": source.counts["scored"] / source.counts["completions"]}
        for monitor in DEFAULT if groups else ():
            monitor(self.state.global_step, groups, metrics)
        return self._around.take(None, self.state.global_step) | self._reported(metrics, groups)


class RLOOTrainer(GRPOTrainer):
    """Like GRPO, with the mean of the other completions as baseline."""

    config_class: ClassVar[type[Config]] = RLOOConfig

    def __init__(self, model: Any = None, reward_funcs: Any = None, *given: Any, **more: Any) -> None:
        older = {
            "config": "args",
            "policy": "model",
            "ref_policy": "ref_model",
            "reward_model": "reward_funcs",
        }
        named = {**more, "model": model, "reward_funcs": reward_funcs}
        for old in [name for name in older if name in more]:
            named[older[old]] = named.pop(old)
            warnings.warn(f"{old} is the older name of {older[old]}", FutureWarning, stacklevel=2)
        super().__init__(named.pop("model"), named.pop("reward_funcs"), *given, **named)


class Penalising(Source):
    """A source that can take something off the scores of completions that were cut off."""

    missing_eos_penalty: float = 0.0

    def rollout(self, rows: Sequence[Row], group_size: int, params: SamplingParams) -> list[Group]:
        """As any source's, less the penalty."""
        groups, penalty = super().rollout(rows, group_size, params), self.missing_eos_penalty
        if not penalty:
            return groups
        lost = {"length": penalty}
        return [
            replace(
                g,
                scores=[
                    s - lost.get(c.finish_reason, 0.0)
                    for s, c in zip(g.scores or [], g.completions, strict=True)
                ],
            )
            for g in groups
        ]
