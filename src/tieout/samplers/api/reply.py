"""Read the reply of a chat or completions endpoint strictly: exactly one text, or an error that says what came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import TieoutError

MANY = 10**9
"""Tokens that no reply has."""
ENDED = {"stop": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "length": "length"}
"""Finish reasons of servers -> ours."""


class ReplyError(TieoutError, ValueError):
    """A reply that is no completion."""

    def __init__(self, reason: str, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again
        """Whether asking again may help."""


@dataclass(frozen=True)
class Reply:
    """One completion."""

    text: str
    finish_reason: str
    """`stop` or `length`."""
    prompt_tokens: int | None = None
    """None: the server does not count, or not in whole numbers."""
    tokens: int | None = None
    seconds: float = 0.0
    """From sending the request, retries not counted."""
    served: str = ""
    """What the server calls the model that replied."""

    @property
    def usage(self) -> dict[str, float]:
        """As `Answer` has it; empty if the server does not count."""
        if self.prompt_tokens is None or self.tokens is None:
            return {}
        return {"prompt_tokens": self.prompt_tokens, "tokens": self.tokens, "seconds": self.seconds}


def read_reply(data: bytes, chat: bool, seconds: float) -> Reply:
    """The completion in the body of a reply with status 200. ReplyError: there is none, or more than one."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ReplyError(f"the reply is not JSON: {_short(data.decode(errors='replace'))}") from error
    if not isinstance(value, Mapping):
        raise ReplyError(f"the reply is a {type(value).__name__}; expected an object with choices")
    if value.get("error"):
        raise ReplyError(f"the reply has status 200 and an error: {_short(value['error'])}")
    choices = value.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise ReplyError(f"choices are {_short(choices)}; expected exactly one")
    choice = choices[0]
    said = choice.get("finish_reason")
    reason = ENDED.get(said) if isinstance(said, str) else None
    message = choice.get("message") if chat else choice
    text = message.get("content" if chat else "text") if isinstance(message, Mapping) else None
    if reason == "length" and (text is None or (chat and text == "")):
        raise ReplyError(
            "the model used up max_new_tokens before its answer began, as models that reason do; raise max_new_tokens",
            again=False,
        )
    if said in ("content_filter", "tool_calls", "function_call"):
        raise ReplyError(f"the completion ended with {said!r}: it is no answer", again=False)
    if reason is None:
        raise ReplyError(f"finish_reason is {said!r}; expected stop or length")
    if not isinstance(text, str):
        raise ReplyError(f"the reply has no text: {_short(choice)}")
    prompt_tokens, tokens = _usage(value.get("usage"))
    served = value.get("model")
    return Reply(
        text, reason, prompt_tokens, tokens, round(seconds, 4), served if isinstance(served, str) else ""
    )


def _usage(usage: Any) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion; None, None unless both are counts."""
    if not isinstance(usage, Mapping):
        return None, None
    found = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < MANY for n in found):
        return None, None
    return found[0], found[1]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text[:120]) if len(text) <= 120 else f"{text[:120]!r}..."
