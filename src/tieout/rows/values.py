"""Prompts, completions and messages as they come, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Row
from .locations import kind_of

ROLES = ("system", "user", "assistant")
FLAGS = {"weight": True, "train": True, "training": True, "trainable": True, "train_on_turn": True, "loss": True,
         "masked": False}  # fmt: skip
"""Key of a message that other trainers read as "train this turn", and the value that says so."""

_ROLE_SYNONYMS = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
}


class Problem(ValueError):
    """What is wrong with one row; the caller adds where it is."""


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Problem(f"{name} is {kind_of(value)}; expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Problem(f"{name} holds half a character (a lone surrogate); no tokenizer takes it") from None
    return value


def truth(label: Any) -> bool | None:
    """A label as true or false: a bool, 1 or 0, and NumPy's and torch's of one element; None for anything else."""
    if hasattr(label, "item"):
        try:
            label = label.item()
        except (RuntimeError, TypeError, ValueError):  # more than one element
            return None
    return bool(label) if isinstance(label, bool | int | float) and label in (0, 1) else None


def unflagged(messages: Any, trained: Sequence[bool], name: str) -> Any:
    """The messages without flags of other trainers (`FLAGS`). Problem: one is not what is `trained`."""
    if not isinstance(messages, list | tuple):
        return messages
    result: list[Any] = []
    for place, (message, is_trained) in enumerate(zip(messages, trained, strict=True)):
        own = dict(message) if isinstance(message, Mapping) else {}
        for flag in FLAGS.keys() & own.keys():
            if isinstance(value := own.pop(flag), str):  # text is for the template
                own[flag] = value
            elif value is not None and truth(value) is not (FLAGS[flag] == is_trained):
                raise Problem(
                    f"{name}[{place}] has {flag} {value!r}, but this turn {'is' if is_trained else 'is not'} trained: "
                    "flags of single turns are not read; give a row of prompt and completion for each turn to train, "
                    "or leave the flag out"
                )
        result.append(own or message)
    return result


def prompt_of(value: Any) -> str | list[dict[str, str]]:
    if isinstance(value, list | tuple):
        messages = messages_of(value, "prompt")
        if messages[-1]["role"] != "user":
            raise Problem(
                f"the last message of 'prompt' is from {messages[-1]['role']!r}; "
                "expected 'user', whom the completion answers"
            )
        return messages
    if not isinstance(value, str):
        raise Problem(f"'prompt' is {kind_of(value)}; expected text or a list of messages")
    if not value.strip():
        raise Problem("'prompt' is empty")
    return _text(value, "'prompt'")


def completion_of(row: Row, name: str) -> str:
    value = row[name]
    if isinstance(value, list | tuple):
        if isinstance(row["prompt"], str):
            raise Problem(f"'prompt' is text but {name!r} is a list of messages; give both in the same form")
        messages = messages_of(unflagged(value, [True] * len(value), name), name)
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            roles = ", ".join(message["role"] for message in messages)
            raise Problem(f"{name!r} has the turns {roles}; expected exactly one, from the assistant")
        value = messages[0]["content"]
    elif not isinstance(value, str):
        raise Problem(f"{name!r} is {kind_of(value)}; expected text or one assistant message")
    if not value.strip():
        raise Problem(f"{name!r} is empty")
    return _text(value, repr(name))


def split_last(messages: list[dict[str, str]], name: str) -> tuple[list[dict[str, str]], str]:
    """A conversation as the prompt and the assistant's last turn; earlier assistant turns are context."""
    last = messages[-1]
    if last["role"] != "assistant":
        raise Problem(f"the last message of {name!r} is from {last['role']!r}; expected 'assistant'")
    if not last["content"].strip():
        raise Problem(f"the last message of {name!r} is empty")
    if len(messages) == 1:
        raise Problem(f"{name!r} has no message before the assistant's; there is nothing to answer")
    return messages[:-1], last["content"]


def messages_of(value: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(value, list | tuple) or not value:
        raise Problem(f"{name!r} is {'an empty list' if value == [] else kind_of(value)}; expected messages")
    return [_message(message, f"{name}[{i}]") for i, message in enumerate(value)]


def _message(message: Any, name: str) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise Problem(f"{name} is {kind_of(message)}; expected an object with role and content")
    given = {key: value for key, value in message.items() if value is not None}
    if "role" not in given or "content" not in given:
        hint = "; rename 'from' to 'role' and 'value' to 'content'" if {"from", "value"} <= set(given) else ""
        raise Problem(
            f"{name} has {', '.join(map(str, given)) or 'nothing'}; expected role and content{hint}"
        )
    role = given["role"]
    if role not in ROLES:
        meant = _ROLE_SYNONYMS.get(str(role).lower())
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise Problem(f"{name} has role {role!r}; expected one of {', '.join(ROLES)}{hint}")
    texts = {str(key): _text(item, f"{key!r} of {name}") for key, item in given.items()}
    if role == "user" and not texts["content"].strip():
        raise Problem(f"{name} is an empty user message")
    return texts
