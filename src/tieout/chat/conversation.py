"""Encode whole conversations, and completions of several turns, as the chat template renders them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..types import Prompt
from .messages import only_reply, shared, turns, turns_of
from .template import Chat
from .tokens import Tokens


@dataclass(frozen=True)
class Conversation:
    """[L] tokens of a whole conversation."""

    ids: list[int]
    assistant: list[bool]
    """[L] which of them the template marks as the assistant's; empty if that was not asked."""


def conversation(chat: Chat, messages: Any, assistant: bool = False, **options: Any) -> Conversation:
    """Encode messages, in any form that `turns` reads, and mark the assistant's tokens if asked.

    InputError: they are asked for, and the template marks none. `options` are told to the template, such as tools.
    """
    template: Any = chat.tokenizer.apply_chat_template
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": assistant, **options}
    made = template(turns(messages), **options)
    mask = [bool(m) for m in made["assistant_masks"]] if assistant else []
    if assistant and not any(mask):
        raise InputError(
            "assistant_only_loss, but the chat template marks no assistant turn: put {% generation %} around it"
        )
    return Conversation(list(made["input_ids"]), mask)


def finished(chat: Chat, prompt: Prompt, completions: Sequence[Any]) -> Tokens:
    """The whole conversations that a reward model reads, with each of these completions."""
    if isinstance(prompt, str) and all(isinstance(c, str) for c in completions):
        return Tokens.wholes([chat.whole(prompt, c, rendered=True) for c in completions])
    before = turns_of(prompt)
    plain = all(isinstance(value, str) for message in before for value in message.values())
    wholes = []
    for side in completions:
        said = side if isinstance(side, str) else turns(side)
        reply = only_reply(said)
        if before and plain and reply is not None:
            wholes.append(chat.whole(before, str(reply)))
        else:
            more = [{"role": "assistant", "content": said}] if isinstance(said, str) else said
            wholes.append(conversation(chat, [*before, *more]).ids)
    return Tokens.wholes(wholes)


def completed(chat: Chat, prompt: Prompt, completions: Sequence[Any]) -> Tokens:
    """A prompt and its completions: text as the author rendered it, special tokens and all; messages by the template.

    A completion may be of several turns, a user's and a tool's among them: all of its tokens are trained.
    """
    if isinstance(prompt, str) and all(isinstance(c, str) for c in completions):
        return Tokens.of(chat.prompt(prompt), [chat.rendered(prompt, c) for c in completions])
    before = turns_of(prompt)
    said = [c if isinstance(c, str) else turns(c) for c in completions]
    replies = [only_reply(c) for c in said]
    plain = all(isinstance(value, str) for message in before for value in message.values())
    if before and plain and None not in replies:
        return Tokens.of(chat.prompt(before), [chat.completion(before, str(r)) for r in replies])
    wholes = []
    for side in said:
        more = [{"role": "assistant", "content": side}] if isinstance(side, str) else side
        whole = conversation(chat, [*before, *more]).ids
        stop = max((i for i, token in enumerate(whole) if token in chat.stop_tokens), default=-1)
        if stop < 0 or chat.tokenizer.decode(whole[stop + 1 :]).strip():
            raise InputError("the chat template does not end the last turn of a completion with a stop token")
        wholes.append(whole[: stop + 1])
    opened = bool(before) and before[-1]["role"] != "assistant"
    head = conversation(chat, before, add_generation_prompt=opened).ids if before else wholes[0][:1]
    head = head[: min(shared(head, whole) for whole in wholes)]
    return Tokens.of(head, [whole[len(head) :] for whole in wholes])
