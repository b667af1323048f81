"""Train and evaluate on completions that are sampled from the policy and scored by reward functions."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..chat.reader import unpadded
from ..errors import InputError
from ..learner import Learner
from ..rows.messages import is_talk, told_by, turns
from ..samplers import PolicySampler, SamplingParams
from ..samplers.local.sampler import LocalSampler
from ..source import Source
from ..tasks import Task
from ..tasks.files import check_columns
from ..training.monitors import DEFAULT
from ..training.reward_models import check_models
from ..types import Messages, Row
from .events import Events
from .given import listed
from .plan import Plan
from .reward_funcs import RewardContext, rewards


class SampledData:
    """The prompts and rewards of a trainer that samples."""

    def __init__(
        self, plan: Plan, learner: Learner, dataset: Any, reward_funcs: Any, tokenizers: Any, primary: Any,
        state: Callable[[], Any],
    ) -> None:  # fmt: skip
        if reward_funcs is None:
            raise InputError("reward_funcs is missing; give a function of completions, or a list of them")
        self.plan, self.learner = plan, learner
        self.chat = learner.model.chat
        self.context = RewardContext(state, plan.folder, learner.processes)
        rows = self.rows_of(
            prompts(listed(dataset, plan.max_rows), self.chat.tokenizer, plan.chat_template_kwargs)
        )
        given = (plan.reward_weights, plan.reward_clip_range, self.context, tokenizers)
        truth = {} if primary is None else {"primary": rewards(primary, None, None, self.context, None)}
        reward = rewards(reward_funcs, *given)
        task = Task("trl", lambda split: rows, reward, metrics=truth, primary=next(iter(truth), None))
        self.source = Source(task, self.chat, self._sampler(), seed=plan.data_seed)
        self.source.shuffle, self.source.missing_eos_penalty = plan.shuffle, plan.missing_eos_penalty
        for said in check_models(self.source.task.reward, policy=learner.model.name):
            warnings.warn(said, stacklevel=4)

    def rows_of(self, rows: list[Row], name: str = "the dataset") -> list[Row]:
        """The rows. InputError: there are none, or one has no prompt."""
        missing = next((i for i, row in enumerate(rows) if not row.get("prompt")), None)
        if missing is not None:
            raise InputError(f"row {missing} has no prompt in {name}; it has: {', '.join(rows[missing])}")
        if not rows:
            raise InputError(f"{name} has no rows")
        return rows

    def held_out(self, dataset: Any, name: str) -> list[Row]:
        """The rows of an evaluation, which have the columns that the rewards ask for."""
        given, told = listed(dataset, held_out=name), self.plan.chat_template_kwargs
        rows = self.rows_of(prompts(given, self.chat.tokenizer, told), name)
        reward: Any = self.source.task.reward
        try:
            check_columns(reward, rows)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        return rows

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

    def evaluated(self, rows: Sequence[Row], events: Events) -> dict[str, float]:
        """The rewards of one greedy completion per prompt, or of num_generations_eval as sampled in training."""
        count = self.plan.num_generations_eval
        source = self.source.over(rows)
        source.sampler, source.missing_eos_penalty = LocalSampler(self.learner.model, self.chat), 0.0
        temperature = self.plan.temperature if count else 0.0
        params = SamplingParams(self.plan.method.needs.max_new_tokens, temperature, seed=self.plan.seed)
        groups = source.rollout(rows, count or 1, params)
        metrics = {"scored": source.counts["scored"] / source.counts["completions"]}
        for monitor in DEFAULT if groups else ():
            monitor(events.state.global_step, groups, metrics)
        return self.context.take(write=False) | events.named(metrics, groups)


def prompts(given: Iterable[Row], tokenizer: Any, told: Mapping[str, Any] | None = None) -> list[Row]:
    """Rows with `prompt`; what earlier versions wanted, text under `query` or tokens under `input_ids`, becomes it.

    `told`: what the template is told for rows that do not say otherwise.
    """
    rows: list[Row] = []
    for row in given:
        if "prompt" not in row and isinstance(row.get("query"), str):
            row = {**row, "prompt": row["query"]}
        elif "prompt" not in row and "input_ids" in row:
            text = tokenizer.decode(unpadded(row), skip_special_tokens=False)
            rest = {k: v for k, v in row.items() if k not in ("input_ids", "attention_mask")}
            row = {**rest, "prompt": text.removeprefix(tokenizer.bos_token or "")}  # it is put there again
        if is_talk(row.get("prompt")):
            row = {**row, "prompt": Messages(turns(row["prompt"]), {**(told or {}), **told_by(row)})}
        rows.append(row)
    return rows
