"""What a policy writes after a prompt, as the chat template has it: the prompt's tokens and those of each completion.

A prompt is rendered up to the opening of the policy's turn, and a conversation with the reply in it as a whole. Where
the whole begins with the opened prompt, the rest of it is the completion. Where it does not, because the prompt opens
a tag (`<think>`) that the whole closes at once or lacks, the completion begins where the two part, as in TRL; so
prompt and completion together are always what the template makes of the conversation.

An assistant's message at the end of a prompt is the beginning of the completion's first one, as where the policy
samples: the template renders the two as one turn.

One more thing is put right: a template that drops the reasoning of finished turns (DeepSeek-R1) would drop it from
what is trained. There the completion is the assistant's own text after the prompt that opened the tag.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..rows.messages import SAMPLED, only_reply, shared, texts_in
from ..types import Message
from .encoder import ChatError, Marks, mark
from .rendering import Renderer, listed, told_of
from .tokens import Tokens

_OPENS = re.compile(r"(?:<[^<>/|｜\s]+>|\[[A-Z_]+\])\s*\Z")
"""A tag that is left open at the end of a prompt."""

_PARTED = (
    "the chat template opens the assistant's turn with ...{!r}, and renders a row's reply otherwise: what is trained "
    "begins where the two part, so that the model is asked another way when it samples. Give such rows reasoning, or "
    "chat_template_kwargs by which the template opens the turn as it renders it"
)
_TWICE = (
    "the chat template opens {0} itself and does not read it out of what the assistant says: rows with {0} in their "
    "content are trained with both; give their reasoning as reasoning_content"
)


@dataclass(frozen=True)
class Continued:
    """A prompt and one completion of it, as marked text."""

    opened: str
    """The prompt, up to where the policy continues it."""
    whole: str
    """The conversation up to the stop token of its last turn."""
    trailing: str = ""
    """What the template writes after it."""


def opens_tag(opened: str) -> bool:
    """Whether a prompt ends inside a tag."""
    return _OPENS.search(opened) is not None


def continued(renderer: Renderer, prompt: Sequence[Message], completions: Sequence[Any]) -> Tokens:
    """The tokens of a prompt of messages and its completions; all those of the completions are trained.

    Args:
        renderer: of the chat template.
        prompt: messages, with what their row tells the template.
        completions: text, or messages that end with the assistant's.

    Raises:
        ChatError: the template leaves out what they say, or does not end the turn.
    """
    encoder = renderer.encoder
    marks = encoder.marks(texts_in([[dict(m) for m in prompt], dict(told_of(prompt)), list(completions)]))
    heads, whole = list[list[int]](), list[list[int]]()
    for said in completions:
        made = conversation_of(renderer, prompt, _side(said), marks)
        head, ids = encoder.whole(made.opened, marks), encoder.whole(made.whole, marks)
        if prompt and made.whole.startswith(made.opened):
            ids = head + encoder.following(head, ids, made.whole[len(made.opened) :], marks)
        elif prompt:
            # One place, so that it is said once.
            warnings.warn(_PARTED.format(made.opened[-12:]), stacklevel=1)
        heads.append(head[: shared(head, ids)] if prompt else ids[:1])
        whole.append(ids)
    common = max(1, min(map(len, heads)))
    for ids in whole[1:]:
        common = min(common, shared(whole[0], ids))
    return Tokens.of(whole[0][:common], [ids[common:] for ids in whole])


def finished(renderer: Renderer, prompt: Sequence[Message], said: Any) -> list[int]:
    """[L] tokens of all that the template writes of a conversation."""
    side = _side(said)
    marks = renderer.encoder.marks(texts_in([[dict(m) for m in [*prompt, *side]], dict(told_of(prompt))]))
    return renderer.encoder.whole(finished_text(renderer, prompt, side, marks), marks)


def finished_text(
    renderer: Renderer, prompt: Sequence[Message], side: Sequence[Message], marks: Marks, opens: bool = True
) -> str:
    """The same as marked text; of a template that ends no turn, too. opens: as of `conversation_of`."""
    if renderer.turn_end is None:
        messages, told = _joined(prompt, side) if opens else [*prompt, *side], told_of(prompt)
        renderer.refuse_left_out(messages, marks, told, len(messages) - len(side))
        return renderer.render(messages, marks, told=told)
    made = conversation_of(renderer, prompt, side, marks, opens)
    return made.whole + made.trailing


def conversation_of(
    renderer: Renderer, prompt: Sequence[Message], side: Sequence[Message], marks: Marks, opens: bool = True
) -> Continued:
    """A prompt and the messages of one completion as text: see `continued`.

    opens: whether an assistant's message at the end of the prompt is the beginning of the completion's first one.
    """
    told, end, own = told_of(prompt), renderer.turn_end, renderer.encoder.own(marks)
    if side[-1].get("role") != "assistant":
        raise ChatError(
            f"a completion ends with the {side[-1].get('role')} message; expected the assistant's"
        )
    if end is None:
        raise renderer.no_end()
    opened = renderer.render(prompt, marks, opened=True) if prompt else ""
    sampled = any(message.get(SAMPLED) for message in side)
    side = [{key: value for key, value in message.items() if key != SAMPLED} for message in side]
    text = only_reply(side)
    text = None if text is None else mark(text, own)

    def inside(text: str) -> Continued:
        return Continued(opened, opened + text + end.closing, end.trailing)

    if sampled and text is not None and opens_tag(opened):
        return inside(text)
    messages = _joined(prompt, side) if opens else [*prompt, *side]
    renderer.refuse_left_out(messages, marks, told, len(messages) - len(side))
    rendered = renderer.render(messages, marks, told=told)
    apart = shared(opened, rendered)
    contents = [mark(m.get("content"), own) for m in side if m["role"] == "assistant"]
    if not all(_shown(content, rendered[apart:]) for content in contents) and prompt:
        # The tag that the prompt opens may be the reply's own.
        rest = rendered[shared(renderer.render(prompt, marks, told=told), rendered) :]
    else:
        rest = rendered[apart:]
    if all(_shown(content, rest) for content in contents):
        placed = apart == len(opened) and _squeezed(rendered[apart:]).startswith(_squeezed(text or ""))
        if text is not None and not placed and _ends_only(text, opened):
            return inside(text)
        tag = _tag(opened)
        if tag and text is not None and text.lstrip().startswith(tag) and tag in rendered[len(opened) :]:
            warnings.warn(_TWICE.format(tag), stacklevel=1)  # one place, so that it is said once
        return Continued(opened, *_ended(renderer, rendered))
    if text is None or not opened[apart:].strip():
        raise ChatError(
            "the chat template leaves out the assistant's reply, or a part of it such as its reasoning, to: "
            f"{listed(message['role'] for message in prompt)}"
        )
    return inside(_without(text, opened[apart:]))


def _joined(prompt: Sequence[Message], side: Sequence[Message]) -> list[Message]:
    """The messages of a conversation, where the completion continues what the prompt began of the assistant's turn."""
    begun, first = prompt[-1] if prompt else {}, side[0]
    texts = [begun.get("content"), first.get("content") or ""]
    both = begun.get("role") == first.get("role") == "assistant" and not begun.get("tool_calls")
    if not both or not all(isinstance(text, str) for text in texts):
        return [*prompt, *side]
    return [*prompt[:-1], {**begun, **first, "content": "".join(map(str, texts))}, *side[1:]]


def _side(said: Any) -> list[Message]:
    """A completion's messages."""
    return [{"role": "assistant", "content": said}] if isinstance(said, str) else list(said)


def _shown(content: Any, rendered: str) -> bool:
    """Whether the template has written a message's text, up to white space."""
    return not isinstance(content, str) or _squeezed(content) in _squeezed(rendered)


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _without(text: str, tag: str) -> str:
    """A text that continues a prompt which opens a tag: without the tag, if it has it itself."""
    bare, space = tag.strip(), tag[len(tag.rstrip()) :]
    begun = text.lstrip()
    return begun.removeprefix(bare).removeprefix(space) if begun.startswith(bare) else text


def _tag(opened: str) -> str:
    """The tag that a prompt leaves open; empty: none."""
    found = _OPENS.search(opened)
    return found.group().strip() if found else ""


def _ends_only(text: str, opened: str) -> bool:
    """Whether a text closes the tag that the prompt opens, and does not open it: it continues the prompt."""
    tag = _tag(opened)
    return bool(tag) and tag not in text and f"{tag[0]}/{tag[1:]}" in text


def _ended(renderer: Renderer, rendered: str) -> tuple[str, str]:
    """(a rendered conversation up to its last stop token, what follows that). ChatError: it has none at its end."""
    end, decode = renderer.turn_end, renderer.encoder.tokenizer.decode
    assert end is not None
    if rendered.endswith(end.closing + end.trailing):
        stop = len(rendered) - len(end.trailing)
        return rendered[:stop], rendered[stop:]
    names = [decode([token]) for token in (*renderer.known_stops, end.token)]
    last = max((at + len(name) for name in names if (at := rendered.rfind(name)) >= 0), default=-1)
    if last < 0 or rendered[last:].strip():
        raise ChatError("the chat template does not end the last turn of a completion with a stop token")
    return rendered[:last], rendered[last:]
