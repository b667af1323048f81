"""Bring messages as TRL's users have them to one form, and find the prompt that chosen and rejected share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant"}


def turns(messages: Any) -> list[dict[str, Any]]:
    """Every message with `role` and `content`, from ShareGPT's `from` and `value` too; typed parts of text are joined.

    Keys that are None, which Arrow adds where only some rows have them, are left out.

    >>> turns([{"from": "human", "value": "hi", "name": None}])
    [{'role': 'user', 'content': 'hi'}]
    """
    return [_turn(message) for message in messages]


def turns_of(prompt: Any) -> list[dict[str, Any]]:
    """The messages of a prompt; text is the user's."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else turns(prompt)


def _turn(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError(f"a message is a {type(message).__name__}; expected an object with role and content")
    found = {key: value for key, value in message.items() if value is not None}
    if "role" not in found and "from" in found:
        role = found.pop("from")
        found = {"role": _ROLES.get(str(role), role), "content": found.pop("value", None), **found}
    if "role" not in found or (found.get("content") is None and not found.get("tool_calls")):
        raise InputError(
            f"a message has {', '.join(map(str, found)) or 'nothing'}; expected role and content"
        )
    if isinstance(content := found.get("content"), list):
        found["content"] = "".join(map(_text, content))
    return found


def _text(part: Any) -> str:
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InputError(f"a part of a message is {part!r:.80}; only text is trained here")


def only_reply(completion: Any) -> str | None:
    """The text of a completion of one assistant message; None if there is more to it, or a call of a tool."""
    if isinstance(completion, str):
        return completion
    last = completion[0] if len(completion) == 1 else {}
    return last["content"] if last.get("role") == "assistant" and set(last) <= {"role", "content"} else None


def split(sides: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The prompt that chosen and rejected share, and what is left of each: never nothing.

    It is their common messages, or the text up to the last common space.
    """
    chosen, rejected = sides
    common = shared(chosen, rejected)
    least = min(len(chosen), len(rejected))
    if isinstance(chosen, str) and 0 < common < least and chosen[common - 1] == " ":
        common -= 1
    common = max(0, min(common, least - 1))
    return chosen[:common], [chosen[common:], rejected[common:]]


def shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def is_talk(value: Any) -> bool:
    """Whether it is a list of messages, and there are any."""
    listed = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return listed and all(isinstance(message, Mapping) for message in value)
