"""Train and evaluate on completions that are sampled from the policy and scored by reward functions."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from ..chat.messages import is_talk, turns
from ..chat.reader import unpadded
from ..errors import InputError
from ..learner import Learner
from ..samplers import PolicySampler, SamplingParams
from ..samplers.local.sampler import LocalSampler
from ..source import Source
from ..tasks import Task
from ..training.monitors import DEFAULT
from ..training.reward_models import check_models
from ..types import Row
from .events import Events
from .given import listed
from .plan import Plan
from .reward_funcs import RewardContext, rewards


class SampledData:
    """The prompts and rewards of a trainer that samples."""

    def __init__(
        self, plan: Plan, learner: Learner, dataset: Any, reward_funcs: Any, tokenizers: Any, state: Callable[[], Any]
    ) -> None:  # fmt: skip
        if reward_funcs is None:
            raise InputError("reward_funcs is missing; give a function of completions, or a list of them")
        self.plan, self.learner = plan, learner
        self.chat = learner.model.chat
        self.context = RewardContext(state, plan.folder, learner.processes)
        self.reward_funcs, self.tokenizers = reward_funcs, tokenizers
        self.source = self._source(dataset, plan.max_rows, self._sampler())
        self.source.shuffle, self.source.missing_eos_penalty = plan.shuffle, plan.missing_eos_penalty
        for said in check_models(self.source.task.reward):
            warnings.warn(said, stacklevel=4)

    def _source(self, dataset: Any, count: int | None, sampler: PolicySampler) -> Source:
        rows = prompts(dataset, self.chat.tokenizer, count)
        missing = next((i for i, row in enumerate(rows) if not row.get("prompt")), None)
        if missing is not None:
            raise InputError(f"row {missing} has no prompt; it has: {', '.join(rows[missing])}")
        plan = self.plan
        reward = rewards(
            self.reward_funcs, plan.reward_weights, plan.reward_clip_range, self.context, self.tokenizers
        )
        return Source(Task("trl", lambda split: rows, reward), self.chat, sampler, seed=plan.data_seed)

    def _sampler(self) -> PolicySampler:
        if self.plan.vllm is None:
            return LocalSampler(self.learner.model, self.chat)
        from ..samplers.vllm.dispatch import NoServerLeft
        from ..samplers.vllm.sampler import VLLMSampler

        until = time.monotonic() + self.plan.vllm_server_timeout
        while True:
            try:
                return VLLMSampler([self.plan.vllm], self.chat)
            except NoServerLeft:
                if time.monotonic() > until:
                    raise
                time.sleep(min(2.0, self.plan.vllm_server_timeout))

    def told(self, step: int) -> dict[str, float]:
        """What the reward functions have logged since; their columns are written into output_dir."""
        return self.context.take(write=True)

    def evaluated(self, dataset: Any, events: Events) -> dict[str, float]:
        """The rewards of one greedy completion per prompt, or of num_generations_eval as sampled in training."""
        count = self.plan.num_generations_eval
        source = self._source(dataset, None, LocalSampler(self.learner.model, self.chat))
        temperature = self.plan.temperature if count else 0.0
        params = SamplingParams(self.plan.method.needs.max_new_tokens, temperature, seed=self.plan.seed)
        groups = source.rollout(source.rows, count or 1, params)
        metrics = {"scored": source.counts["scored"] / source.counts["completions"]}
        for monitor in DEFAULT if groups else ():
            monitor(events.state.global_step, groups, metrics)
        return self.context.take(write=False) | events.named(metrics, groups)


def prompts(dataset: Any, tokenizer: Any, count: int | None = None) -> list[Row]:
    """Rows with `prompt`; what earlier versions wanted, text under `query` or tokens under `input_ids`, becomes it."""
    rows: list[Row] = []
    for row in listed(dataset, count):
        if "prompt" not in row and isinstance(row.get("query"), str):
            row = {**row, "prompt": row["query"]}
        elif "prompt" not in row and "input_ids" in row:
            text = tokenizer.decode(unpadded(row), skip_special_tokens=False)
            rest = {k: v for k, v in row.items() if k not in ("input_ids", "attention_mask")}
            row = {**rest, "prompt": text.removeprefix(tokenizer.bos_token or "")}  # it is put there again
        if is_talk(row.get("prompt")):
            row = {**row, "prompt": turns(row["prompt"])}
        rows.append(row)
    return rows
