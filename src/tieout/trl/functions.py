"""Reward functions as TRL's users write them -> rewards."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from ..errors import InputError
from ..rewards.scoring.combine import combine
from ..types import Message, Prompt, Reward
from .reward_context import Surroundings

OWN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""What TRL passes beside the columns of the row."""


def rewards(
    given: Any,
    weights: Sequence[float] | None,
    clip: tuple[float, float] | None,
    around: Surroundings,
    processing_classes: Any,
) -> Reward:
    """One reward of TRL's `reward_funcs`: a function, a reward model by name or as object, or a list of them.

    Where one of several returns None its part is left out of the sum, as in TRL; where all do, the completion has no
    score and leaves its group. What raises is an error, and never a number.
    """
    listed = list(given) if isinstance(given, list | tuple) else [given]
    if not listed or given is None:
        raise InputError("reward_funcs is empty; give a function of completions, or a list of them")
    classes = (
        processing_classes if isinstance(processing_classes, list) else [processing_classes] * len(listed)
    )
    weights = list(weights) if weights else [1.0] * len(listed)
    if len(weights) != len(listed):
        raise InputError(
            f"{len(weights)} reward_weights for {len(listed)} reward functions; give one for each"
        )
    parts: dict[Any, float] = {}
    names: dict[str, int] = {}
    for function, weight, own in zip(listed, weights, classes, strict=True):
        part = _one(function, around, own)
        names[part.__name__] = count = names.get(part.__name__, 0) + 1
        if count > 1:
            part.__name__ = f"{part.__name__}_{count}"
        if weight:
            parts[part] = weight
    if not parts:
        raise InputError("all reward_weights are 0")
    (first, weight) = next(iter(parts.items()))
    whole = first if len(parts) == 1 and weight == 1 else combine(parts, missing="leave_out")
    return _clipped(whole, clip) if clip else whole


def _one(function: Any, around: Surroundings, own_tokenizer: Any) -> Any:
    if isinstance(function, str):
        if Path(function).exists():
            from ..rewards.library.reward_model import reward_model

            return _named(reward_model(Path(function)), Path(function).name)
        options: dict[str, Any] = {"num_labels": 1, "use_safetensors": True}
        try:
            function = AutoModelForSequenceClassification.from_pretrained(function, **options)
        except OSError as error:
            raise OSError(
                f"reward model {function!r} is no folder, and the hub did not give it: {error}"
            ) from error
    if isinstance(function, PreTrainedModel):
        return _named(_scorer(function, own_tokenizer), str(function.config._name_or_path).split("/")[-1])
    if not callable(function):
        raise InputError(
            f"a reward function is a {type(function).__name__}; expected a function, a model or a name"
        )
    return _adapted(function, around)


def _adapted(function: Callable[..., Any], around: Surroundings) -> Any:
    """Give the function what TRL would: message lists for conversational prompts, and what else it asks for."""
    asked = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in asked)
    names = {p.name for p in asked}

    def call(completions: Sequence[str], prompts: Sequence[Prompt], **columns: Any) -> Any:
        talk = not isinstance(prompts[0], str)
        said: Any = (
            [[{"role": "assistant", "content": text}] for text in completions] if talk else completions
        )
        extra: dict[str, Any] = {
            "prompts": list(prompts),
            "completions": said,
            "completion_ids": around.ids(prompts[0], completions),
            "trainer_state": around.state(),
            "log_extra": around.log_extra,
            "log_metric": around.log_metric,
        }
        options = {**columns, **extra}
        if not takes_all:
            options = {name: value for name, value in options.items() if name in names}
        return function(**options)

    name = getattr(function, "__name__", type(function).__name__)
    columns = [p for p in asked if p.name not in OWN and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shown = [inspect.Parameter("completions", keyword), inspect.Parameter("prompts", keyword)]
    shown += [p.replace(kind=keyword) for p in columns]
    if takes_all:
        shown.append(inspect.Parameter("columns", inspect.Parameter.VAR_KEYWORD))
    if inspect.iscoroutinefunction(function):

        async def adapted(completions: Sequence[str], prompts: Sequence[Prompt], **columns: Any) -> Any:
            return await call(completions, prompts, **columns)

    else:
        adapted = call
    adapted.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return _named(adapted, name)


def _scorer(model: PreTrainedModel, tokenizer: Any) -> Reward:
    """A sequence classifier with one output, asked about prompt and completion."""
    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(model.config._name_or_path)
    if model.config.num_labels != 1:
        raise InputError(f"a reward model gives {model.config.num_labels} numbers; expected num_labels=1")
    model.eval().requires_grad_(False)

    @torch.no_grad()
    def score(completions: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        texts = [
            prompt + completion
            if isinstance(prompt, str)
            else tokenizer.apply_chat_template(
                [*map(dict, _messages(prompt)), {"role": "assistant", "content": completion}], tokenize=False
            )
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        scores = []
        for text in texts:  # one at a time: no padding, so no pad token is needed
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(model.device)
            scores.append(float(model(**ids).logits[0, 0]))
        return scores

    return score


def _messages(prompt: Prompt) -> Sequence[Message]:
    return [] if isinstance(prompt, str) else prompt


def _clipped(reward: Reward, bounds: tuple[float, float]) -> Reward:
    low, high = bounds

    @functools.wraps(reward)
    def clipped(*given: Any, **columns: Any) -> Any:
        return [None if score is None else min(high, max(low, score)) for score in reward(*given, **columns)]

    return clipped


def _named(function: Any, name: str) -> Any:
    @functools.wraps(function)
    def named(*given: Any, **columns: Any) -> Any:
        return function(*given, **columns)

    named.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    named.__name__ = name
    return named
