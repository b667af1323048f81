"""Render conversations with a tokenizer's chat template, and find how it ends an assistant's turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jinja2

from ..types import Message
from .encoder import ChatError, Encoder, Marks, any_of, mark

_PROBE = [
    {"role": "user", "content": "probe"},
    {"role": "assistant", "content": "[reply]"},
    {"role": "user", "content": "[next]"},
]


@dataclass(frozen=True)
class TurnEnd:
    """How the chat template ends an assistant turn."""

    token: int
    """The stop token."""
    closing: str
    """From the end of the reply up to and including the stop token: `<|im_end|>`."""
    trailing: str
    """What a conversation ends with after the stop token: a newline in ChatML. The policy does not write it."""


@dataclass(frozen=True, eq=False)
class Renderer:
    """The chat template of a tokenizer."""

    encoder: Encoder
    known_stops: tuple[int, ...]
    """Stop tokens that are known without the template."""

    def render(self, messages: Sequence[Message], marks: Marks, opened: bool = False) -> str:
        """The template's text, marked. opened: up to where the policy's next turn begins."""
        if not self.encoder.tokenizer.chat_template:
            raise ChatError("the prompt is a list of messages, but the tokenizer has no chat template")
        marked = [{key: mark(text, marks) for key, text in message.items()} for message in messages]
        try:
            rendered: str = self.encoder.tokenizer.apply_chat_template(
                marked, tokenize=False, add_generation_prompt=opened
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            roles = listed(message["role"] for message in messages)
            raise ChatError(f"the chat template refuses the turns {roles}: {error}") from error
        return rendered

    @cached_property
    def after_reply(self) -> str:
        """What the template writes after an assistant's reply, at the end of a conversation."""
        rendered = self.render(_PROBE[:2], {})
        if "[reply]" not in rendered:
            raise ChatError("the chat template leaves out the assistant's reply")
        return rendered.rpartition("[reply]")[2]

    @cached_property
    def turn_end(self) -> TurnEnd | None:
        """None: the template does not end the assistant's turn, or there is no template."""
        stops = {self.encoder.tokenizer.decode([token]): token for token in self.known_stops}
        special = {name: self.encoder.tokenizer.convert_tokens_to_ids(name) for name in self.encoder.special}
        try:
            after = self.after_reply
        except ChatError:  # `check` and `completion` say so
            return None
        try:
            between = self.render(_PROBE, {}).partition("[reply]")[2].partition("[next]")[0]
        except ChatError:  # a template for a single turn
            between = after
        # The first special token that also ends a turn which is not the last: Phi-3 puts its eos after the whole
        # conversation, and a careless template opens the next turn although it was not asked to.
        ends = any_of(name for name in {**special, **stops} if name in between)
        known = any_of(name for name in stops if name in between)
        found = known.search(after) or ends.search(after) or any_of(stops).search(after)
        if found is None:
            return None
        token = {**special, **stops}[found.group()]
        return TurnEnd(token, after[: found.end()], after[found.end() :])


def listed(roles: Iterable[str]) -> str:
    """Roles in a message."""
    return ", ".join(roles)
