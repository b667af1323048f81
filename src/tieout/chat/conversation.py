"""Encode whole conversations as the chat template renders them, and mark the assistant's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..rows.messages import asked, texts_in, turns
from ..types import Messages, Row
from .continuation import finished_text
from .rendering import told_of
from .template import Chat


@dataclass(frozen=True)
class Conversation:
    """[L] tokens of a whole conversation."""

    ids: list[int]
    assistant: list[bool]
    """[L] which of them the template marks as the assistant's; empty if that was not asked."""


def conversation(chat: Chat, messages: Any, row: Row, assistant: bool = False) -> Conversation:
    """Encode messages, in any form that `turns` reads, and mark the assistant's tokens if asked.

    What the last turn says is all there, and messages cannot forge special tokens, as in `Chat.given`. InputError: the
    template leaves out what they say, or marks no token as the assistant's.
    """
    said: Any = asked(turns(messages), row)
    told, renderer, encoder = told_of(said), chat.renderer, chat.encoder
    marks = encoder.marks(texts_in([said, dict(told)]))
    ends = bool(said) and said[-1]["role"] == "assistant"
    if len(said) > 1 and ends:
        text = finished_text(renderer, Messages(said[:-1], told), said[-1:], marks, opens=False)
    else:
        renderer.refuse_left_out(said, marks, told, 0 if ends else len(said))
        text = renderer.render(said, marks, told=told)
    if not assistant:
        return Conversation(encoder.whole(text, marks), [])
    rendered, spans = renderer.assistant_spans(said, marks, told)
    if not spans:
        raise InputError(
            "assistant_only_loss, but the chat template marks no assistant turn: put {% generation %} around it"
        )
    if rendered != text:
        raise InputError(
            "assistant_only_loss, but the chat template leaves out the reasoning of the assistant's last turn"
        )
    ids, places = encoder.placed(text, marks)
    mask = [any(start < b and a < end for start, end in spans) for a, b in places]
    return Conversation(ids, mask)
