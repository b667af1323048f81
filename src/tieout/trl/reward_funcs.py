"""Adapt reward functions as TRL's users write them: functions, reward models by name or as objects, lists of them."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from ..errors import InputError
from ..learner.models.peft import PeftModel
from ..learner.parallel.processes import Processes, join
from ..rewards import load_reward
from ..rewards.library.judge import Judge
from ..rewards.library.reward_model import ClassifierReward, ModelReward
from ..rewards.scoring.combine import combine
from ..rewards.scoring.outcomes import reward_name
from ..storage.jsonl import append_jsonl
from ..types import Prompt

OWN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""What TRL passes to a function in addition to the columns of the row."""


@dataclass
class RewardContext:
    """What a trainer gives its reward functions in addition to text and columns: its state, and a way to log."""

    state: Callable[[], Any]
    """The trainer's current state."""
    folder: Path = Path("trainer_output")
    processes: Processes = field(default_factory=join)
    metrics: list[Any] = field(default_factory=list)
    """(name, value), logged by the functions since it was last taken."""
    columns: list[str] = field(default_factory=list)
    """Lines of JSON: columns of the table of completions that they have logged since, one per call."""

    def log_metric(self, name: str, value: float) -> None:
        """TRL's: its mean over the step, or over the evaluation, is logged."""
        self.metrics.append([name, float(value)])

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """TRL's: a column of the table of completions; here a line of output_dir/extra.jsonl per call."""
        line = {"step": self.state().global_step + 1, "column": column, "values": list(values)}
        self.columns.append(json.dumps(line, ensure_ascii=False, default=str))

    def take(self, write: bool) -> dict[str, float]:
        """The means of what the functions of all ranks have logged since; the columns are written, or dropped.

        Every rank asks, and gets the same.
        """
        told = self.processes.gather([self.metrics, self.columns])
        self.metrics, self.columns = [], []
        lines = [json.loads(line) for _, columns in told for line in columns]
        if write and lines and self.processes.leads:
            append_jsonl(self.folder / "extra.jsonl", lines)
        means: dict[str, list[float]] = {}
        for name, value in (pair for metrics, _ in told for pair in metrics):
            means.setdefault(name, []).append(value)
        return {name: fmean(values) for name, values in means.items()}


def rewards(
    given: Any, weights: Sequence[float] | None, clip: Sequence[float] | None, context: RewardContext, tokenizers: Any
) -> Any:  # fmt: skip
    """One reward of TRL's `reward_funcs`.

    Where one of several returns None its part is left out of the sum, as in TRL; where all do, the completion has no
    score and leaves its group. What raises is an error, and never a number.
    """
    listed = list(given) if isinstance(given, list | tuple) else [given]
    if not listed or given is None:
        raise InputError("reward_funcs is empty; give a function of completions, or a list of them")
    classes = tokenizers if isinstance(tokenizers, list) else [tokenizers] * len(listed)
    weights = list(weights) if weights else [1.0] * len(listed)
    if len(weights) != len(listed):
        raise InputError(
            f"{len(weights)} reward_weights for {len(listed)} reward functions; give one for each"
        )
    parts: dict[Any, float] = {}
    names: dict[str, int] = {}
    for function, weight, tokenizer in zip(listed, weights, classes, strict=True):
        part = _one(function, context, tokenizer)
        names[part.__name__] = count = names.get(part.__name__, 0) + 1
        if count > 1:
            part.__name__ = f"{part.__name__}_{count}"
        if weight:
            parts[part] = weight
    if not parts:
        raise InputError("all reward_weights are 0")
    (first, weight) = next(iter(parts.items()))
    whole = first if len(parts) == 1 and weight == 1 else combine(parts, missing="leave_out")
    return _clipped(whole, *clip) if clip else whole


def _one(function: Any, context: RewardContext, tokenizer: Any) -> Any:
    if isinstance(function, str) and Path(function).exists():
        function = load_reward(f"reward_model:{function}")
    elif isinstance(function, str | PreTrainedModel | PeftModel):
        function = ClassifierReward.of(function, tokenizer)
    if isinstance(function, ModelReward | Judge):
        return _named(function, function.__name__ if isinstance(function, Judge) else function.name)
    if not callable(function):
        raise InputError(
            f"a reward function is a {type(function).__name__}; expected a function, a model or a name"
        )
    return _adapted(function, context)


def _adapted(function: Callable[..., Any], context: RewardContext) -> Any:
    """Give the function what TRL would: message lists for conversational prompts, and what else it asks for."""
    asked = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in asked)
    names = {p.name for p in asked}

    def call(completions: Sequence[str], prompts: Sequence[Prompt], **columns: Any) -> Any:
        said = [[{"role": "assistant", "content": text}] for text in completions]
        options = {
            **columns,
            "prompts": list(prompts),
            "completions": completions if isinstance(prompts[0], str) else said,
            "trainer_state": context.state(),
            "log_extra": context.log_extra,
            "log_metric": context.log_metric,
        }
        return function(**{name: value for name, value in options.items() if takes_all or name in names})

    async def later(completions: Sequence[str], prompts: Sequence[Prompt], **columns: Any) -> Any:
        return await call(completions, prompts, **columns)

    keyword = inspect.Parameter.KEYWORD_ONLY
    shown = [inspect.Parameter(name, keyword) for name in ("completions", "prompts")]
    if takes_all or "completion_ids" in names:
        shown.append(inspect.Parameter("completion_ids", keyword, default=None))
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    shown += [p.replace(kind=keyword) for p in asked if p.name not in OWN and p.kind not in kinds]
    shown += [inspect.Parameter("columns", inspect.Parameter.VAR_KEYWORD)] if takes_all else []
    adapted: Any = later if inspect.iscoroutinefunction(function) else call
    adapted.__signature__ = inspect.Signature(shown)
    adapted.__name__ = reward_name(function)
    return adapted


def _clipped(reward: Any, low: float, high: float) -> Any:
    @functools.wraps(reward)
    def clipped(*given: Any, **columns: Any) -> Any:
        return [None if score is None else min(high, max(low, score)) for score in reward(*given, **columns)]

    return clipped


def _named(function: Any, name: str) -> Any:
    """The function under another name, by which it is logged."""

    @functools.wraps(function)
    def named(*given: Any, **columns: Any) -> Any:
        return function(*given, **columns)

    named.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    named.__name__ = name
    return named
