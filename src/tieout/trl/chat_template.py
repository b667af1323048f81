"""Conversational rows to text, as TRL's `apply_chat_template`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Message


def apply_chat_template(example: Mapping[str, Any], tokenizer: Any, **template_kwargs: Any) -> dict[str, Any]:
    """A row whose columns are messages -> the same row with text.

    `messages` becomes `text`. `prompt` is rendered up to the opening of the assistant's turn, and `completion`,
    `chosen` and `rejected` are what the template writes after it. Other columns, and rows of text, stay as they are.
    """

    def render(messages: Sequence[Message], opened: bool = False) -> str:
        text: str = tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=opened, **template_kwargs
        )
        return text

    result = dict(example)
    if _conversation(example.get("messages")):
        result["text"] = render(result.pop("messages"))
    prompt = example.get("prompt")
    if _conversation(prompt):
        assert prompt is not None
        goes_on = prompt[-1]["role"] != "assistant"
        result["prompt"] = head = render(prompt, opened=goes_on)
        for name in ("completion", "chosen", "rejected"):
            if _conversation(example.get(name)):
                whole = render([*prompt, *example[name]])
                if not whole.startswith(head):
                    raise ValueError(
                        f"the chat template does not write the prompt in the same way before {name!r}; "
                        "its text cannot be cut off"
                    )
                result[name] = whole[len(head) :]
    else:
        for name in ("completion", "chosen", "rejected"):
            if _conversation(example.get(name)):
                result[name] = render(example[name])
    return result


def _conversation(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and isinstance(value[0], Mapping)
    )
