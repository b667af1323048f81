"""Rows from one of TRL's formats into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .chat_template import apply_chat_template
from .turns import is_messages, split

_TALK = ("prompt", "chosen", "rejected", "completion", "messages")


def is_conversational(example: Mapping[str, Any]) -> bool:
    """Whether one of the row's columns is a list of messages.

    >>> is_conversational({"prompt": [{"role": "user", "content": "hi"}]})
    True
    """
    return any(is_messages(example.get(name)) for name in _TALK)


def is_conversational_from_value(example: Mapping[str, Any]) -> bool:
    """Whether the row has ShareGPT's `conversations`, of messages with `from` and `value`."""
    turns = example.get("conversations")
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, Mapping) and {"from", "value"} <= {*first}


def maybe_apply_chat_template(
    example: Mapping[str, Any], processing_class: Any = None, tools: Any = None, **template_kwargs: Any
) -> dict[str, Any]:
    """`apply_chat_template` where there are messages; any other row as it is."""
    if not is_conversational(example):
        return dict(example)
    return apply_chat_template(example, processing_class, tools, **template_kwargs)


def maybe_convert_to_chatml(example: Mapping[str, Any]) -> dict[str, Any]:
    """ShareGPT's messages with `role` and `content`, and `conversations` under `messages`; roles stay as they are.

    >>> maybe_convert_to_chatml({"conversations": [{"from": "user", "value": "hi"}]})
    {'messages': [{'role': 'user', 'content': 'hi'}]}
    """
    names = {"from": "role", "value": "content"}
    result: dict[str, Any] = {}
    for column, value in example.items():
        if column in (*_TALK, "conversations") and isinstance(value, list):
            value = [
                {names.get(k, k): v for k, v in turn.items()} if isinstance(turn, Mapping) else turn
                for turn in value
            ]
        result["messages" if column == "conversations" else column] = value
    return result


def extract_prompt(example: Mapping[str, Any]) -> dict[str, Any]:
    """`prompt`: the messages, or the text, with which chosen and rejected both begin; it is taken out of them.

    >>> extract_prompt({"chosen": "the sky is blue", "rejected": "the sky is green"})
    {'prompt': 'the sky is', 'chosen': ' blue', 'rejected': ' green'}
    """
    prompt, (chosen, rejected) = split([example["chosen"], example["rejected"]])
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def maybe_extract_prompt(example: Mapping[str, Any]) -> dict[str, Any]:
    """`extract_prompt` of a pair without a prompt, and of conversations with a prompt of text, which they repeat."""
    if "chosen" not in example or "rejected" not in example:
        return dict(example)
    if "prompt" in example and is_messages(example["chosen"]) == is_messages(example["prompt"]):
        return dict(example)
    return extract_prompt(example)


def unpair_preference_dataset(dataset: Any, **map_options: Any) -> Any:
    """Pairs as completions with a `label`, first all that were chosen; the options are those of the dataset's `map`."""
    options = {name: value for name, value in map_options.items() if value is not None}
    return dataset.map(_unpaired, batched=True, remove_columns=_columns(dataset), **options)


def maybe_unpair_preference_dataset(
    dataset: Any, num_proc: int | None = None, desc: str | None = None
) -> Any:
    """`unpair_preference_dataset` of pairs; any other dataset as it is."""
    if {"chosen", "rejected"} <= {*_columns(dataset)}:
        return unpair_preference_dataset(dataset, num_proc=num_proc, desc=desc)
    return dataset


def _unpaired(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    size = len(batch["chosen"])
    rest = {name: [*values, *values] for name, values in batch.items() if name not in ("chosen", "rejected")}
    labels = [True] * size + [False] * size
    return {**rest, "completion": [*batch["chosen"], *batch["rejected"]], "label": labels}


def _columns(dataset: Any) -> list[str]:
    """Of a dataset, or of the first of several splits."""
    if isinstance(dataset, Mapping):
        return _columns(next(iter(dataset.values())))
    return list(dataset.column_names or next(iter(dataset)))
