"""Prompts, completions and conversations as they come, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..types import Row
from .locations import kind_of
from .messages import REASONING, asked, reply_of, texts_in, turn_start, turns, turns_of

FLAGS = {"weight": True, "train": True, "training": True, "trainable": True, "train_on_turn": True, "loss": True,
         "masked": False}  # fmt: skip
"""Key of a message that other trainers read as "train this turn", and the value that says so."""
Said = str | list[dict[str, Any]]
"""A completion: text, or the messages of one that says more than text."""


class Problem(InputError):
    """What is wrong with one row; the caller adds where it is."""


def given(row: Row, *names: str) -> Row:
    """The row with its prompt and these completions in one form: `Messages` and text, or messages that say more.

    A prompt of text before completions of messages is the user's turn.
    """
    said: dict[str, Any] = {name: completion_of(row[name], name) for name in names}
    prompt = row["prompt"]
    if (
        isinstance(prompt, str)
        and prompt.strip()
        and any(isinstance(row[name], list | tuple) for name in names)
    ):
        prompt = turns_of(prompt)
    if names and isinstance(prompt, list | tuple):
        prompt = unflagged(prompt, [False] * len(prompt), "prompt")
    return {**row, "prompt": asked(prompt_of(prompt), row), **said}


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


def prompt_of(value: Any) -> Said:
    if isinstance(value, list | tuple):
        messages = messages_of(value, "prompt")
        if messages[-1]["role"] in ("system", "developer"):
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


def completion_of(value: Any, name: str) -> Said:
    if not isinstance(value, str | list | tuple):
        raise Problem(f"{name!r} is {kind_of(value)}; expected text or messages of the assistant")
    said = reply_of(value if isinstance(value, str) else unflagged(value, [True] * len(value), name), name)
    last = said if isinstance(said, str) else said[-1]
    if not _says(last):
        raise Problem(f"{name!r} is empty")
    return _text(said, repr(name)) if isinstance(said, str) else said


def split_last(
    messages: list[dict[str, Any]], name: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation as the prompt and the assistant's last turn, of one message or several."""
    last = messages[-1]
    if last["role"] != "assistant":
        raise Problem(f"the last message of {name!r} is from {last['role']!r}; expected 'assistant'")
    if not _says(last):
        raise Problem(f"the last message of {name!r} is empty")
    start = turn_start(messages)
    if not start:
        raise Problem(f"{name!r} has no message before the assistant's; there is nothing to answer")
    return messages[:start], messages[start:]


def messages_of(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list | tuple) or not value:
        raise Problem(f"{name!r} is {'an empty list' if value == [] else kind_of(value)}; expected messages")
    messages = turns(value, name)
    for i, message in enumerate(messages):
        if message["role"] == "user" and not _says(message):
            raise Problem(f"{name}[{i}] is an empty user message")
    return messages


def _says(message: Any) -> bool:
    """Whether a text or message has anything in it."""
    if isinstance(message, str):
        return bool(message.strip())
    parts = [message.get(key) for key in ("content", "tool_calls", *REASONING)]
    return any(text.strip() for part in parts for text in texts_in(part))


def _text(value: str, name: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Problem(f"{name} holds half a character (a lone surrogate); no tokenizer takes it") from None
    return value
