"""Render conversations with a tokenizer's chat template, and find how it ends an assistant's turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from typing import Any

import jinja2

from ..rows.messages import REASONING
from ..sandbox.bounds import bounded
from ..types import Message, Messages
from .encoder import ChatError, Encoder, Marks, any_of, mark

LONGEST = 100_000_000
"""Characters of a conversation that is rendered: rows of so many are refused, too."""
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
    _looked_for: dict[Any, str] = field(default_factory=dict)
    """Kind of conversation -> what the template leaves out of it."""

    def render(
        self,
        messages: Sequence[Message],
        marks: Marks,
        opened: bool = False,
        told: Mapping[str, Any] | None = None,
    ) -> str:
        """The template's text, marked.

        opened: up to where the policy's next turn begins; of messages that end with the assistant's, up to where it
        continues that turn. told: what the row tells the template, where the messages do not carry it.
        """
        return str(self._render(messages, marks, opened, told_of(messages) if told is None else told))

    def _render(
        self, messages: Sequence[Message], marks: Marks, opened: bool, told: Mapping[str, Any]
    ) -> Any:
        tokenizer = self.encoder.tokenizer
        if not tokenizer.chat_template:
            raise ChatError("the prompt is a list of messages, but the tokenizer has no chat template")
        marked = self.marked(messages, marks)
        continued = opened and bool(messages) and messages[-1].get("role") == "assistant"
        ends = {"add_generation_prompt": opened and not continued, "continue_final_message": continued}
        try:
            with bounded("it"):
                said = tokenizer.apply_chat_template(
                    marked, tokenize=False, **ends, **mark(dict(told), marks)
                )
        except (jinja2.TemplateError, KeyError, RecursionError, TypeError, ValueError) as error:
            roles = listed(message["role"] for message in messages)
            raise ChatError(f"the chat template refuses the turns {roles}: {error}") from error
        if len(said) > LONGEST:
            raise ChatError(
                f"the chat template writes {len(said)} characters of text; at most {LONGEST} are read"
            )
        return said

    def assistant_spans(
        self, messages: Sequence[Message], marks: Marks, told: Mapping[str, Any]
    ) -> tuple[str, list[tuple[int, int]]]:
        """The template's text, marked, and where in it the assistant's parts are that the template says so of."""
        from transformers.utils.chat_template_utils import render_jinja_template

        tokenizer, options = self.encoder.tokenizer, dict(mark(dict(told), marks))
        template = tokenizer.get_chat_template(options.pop("chat_template", None), options.get("tools"))
        told = {**tokenizer.special_tokens_map, **options}
        given = {"chat_template": template, "return_assistant_tokens_mask": True, **told}
        with bounded("the chat template"):
            (text,), (spans,) = render_jinja_template(conversations=[self.marked(messages, marks)], **given)
        return text, list(spans)

    def marked(self, messages: Sequence[Message], marks: Marks) -> list[dict[str, Any]]:
        """The messages as the template takes them."""
        own = self.encoder.own(marks)
        made = [mark(dict(m), own if m.get("role") == "assistant" else marks) for m in messages]
        for message in made if self._takes_parts else ():
            if isinstance(message.get("content"), str):
                message["content"] = [{"type": "text", "text": message["content"]}]
        return made

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template, of a model that sees, reads lists of parts only."""

        def seen(messages: Any) -> bool:
            try:
                with bounded("the chat template"):
                    return "[reply]" in self.encoder.tokenizer.apply_chat_template(messages, tokenize=False)
            except (jinja2.TemplateError, RecursionError, TypeError, ValueError):
                return False

        parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in _PROBE[:2]]
        return not seen(_PROBE[:2]) and seen(parts)

    # ------------------------------------------------------------ what must not be lost

    def refuse_left_out(
        self, messages: Sequence[Message], marks: Marks, told: Mapping[str, Any], trained: int
    ) -> None:
        """ChatError: the template leaves out what such messages say, or the tools that their row tells it.

        Looked for once per kind of conversation, by changing things: what changes nothing is left out.
        Reasoning is looked for in the messages from `trained` on, as templates drop that of earlier turns on purpose.
        """
        key = (tuple(_kind(message, i >= trained) for i, message in enumerate(messages)), _options(told))
        if key not in self._looked_for:
            self._looked_for[key] = self._left_out(messages, marks, told, trained)
        if self._looked_for[key]:
            raise ChatError(f"the chat template leaves out {self._looked_for[key]}")

    def _left_out(
        self, messages: Sequence[Message], marks: Marks, told: Mapping[str, Any], trained: int
    ) -> str:
        whole = self.render(messages, marks, told=told)

        def rendered(changed: Sequence[Message], told: Mapping[str, Any] = told) -> str | None:
            try:
                return self.render(changed, marks, told=told)
            except ChatError:  # whatever was changed, the template has read it
                return None

        if "tools" in told and whole == rendered(messages, {k: v for k, v in told.items() if k != "tools"}):
            return "the tools: leave them out, or set a template that shows them"
        changes = [list(_changes(message, i >= trained, i)) for i, message in enumerate(messages)]
        # Everything at once, as conversations may be long; then what is not seen of it, one thing at a time.
        every = [
            reduce(lambda m, change: change.of(m), own, m) for own, m in zip(changes, messages, strict=True)
        ]
        seen = rendered(every) or ""
        roles = listed(message["role"] for message in messages)
        for i, change in ((i, change) for i, own in enumerate(changes) for change in own):
            one = [*messages[:i], change.of(messages[i]), *messages[i + 1 :]]
            if change.probe not in seen and whole == rendered(one):
                all_of_it = change.key == "content" and not messages[i].get("tool_calls")
                what = "" if all_of_it else f"{change.key!r} of "
                return f"{what}the {messages[i]['role']} message of: {roles}"
        return ""

    # ------------------------------------------------------------ the end of a turn

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

    def no_end(self) -> ChatError:
        """The error that the template does not end the assistant's turn."""
        return ChatError(
            "the chat template does not end the assistant's turn with a stop token, so the policy would never "
            f"learn to stop; after the reply it writes {self.after_reply!r}. "
            "Put the eos token after the assistant's content in tokenizer.chat_template"
        )


def _kind(message: Message, trained: bool) -> tuple[Any, ...]:
    """What a template can tell two messages apart by, besides their texts: role, keys, and the shapes of its calls."""
    calls = tuple(tuple(sorted(_function(call))) for call in message.get("tool_calls") or ())
    return message.get("role"), trained, calls, *sorted(key for key, value in message.items() if value)


def _options(told: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    """What a row tells the template: its switches by value, and of the rest, such as tools, that it is there."""
    plain = bool, int, float, str, type(None)
    return frozenset((key, value if isinstance(value, plain) else ...) for key, value in told.items())


def _function(call: Any) -> Mapping[str, Any]:
    """Name and arguments of a call, which may be nested in `function`."""
    inner = call.get("function", call) if isinstance(call, Mapping) else {}
    return inner if isinstance(inner, Mapping) else {}


@dataclass(frozen=True)
class _Change:
    """Another value of a part of a message that must be seen."""

    key: str
    """Of the message."""
    probe: str
    """A text in the other value."""
    of: Callable[[Message], Message]
    """The message with it."""


def _changes(message: Message, trained: bool, at: int) -> Iterable[_Change]:
    """What must be seen of the message at a place: content, every call of a tool, and reasoning if it is trained."""
    for key in ("content", *(REASONING if trained else ())):
        if message.get(key):
            text = f"[another] {key} {at}."
            yield _Change(key, text, partial(_with, key=key, value=text))
    for i, call in enumerate(message.get("tool_calls") or ()):
        tool, argument = f"another_tool_{at}_{i}_", f"another_argument_{at}_{i}_"
        yield _Change("tool_calls", tool, partial(_other_call, at=i, name="name", value=tool))
        if (arguments := _function(call).get("arguments")) and arguments != "{}":
            other = json.dumps({argument: 1}) if isinstance(arguments, str) else {argument: 1}
            yield _Change("tool_calls", argument, partial(_other_call, at=i, name="arguments", value=other))


def _with(message: Message, key: str, value: Any) -> Message:
    return {**message, key: value}


def _other_call(message: Message, at: int, name: str, value: Any) -> Message:
    """The message with another name or other arguments in one of its calls."""
    calls = list(message["tool_calls"])
    function = _function(calls[at])
    changed = {**function, name: value}
    calls[at] = changed if function is calls[at] or not function else {**calls[at], "function": changed}
    return {**message, "tool_calls": calls}


def told_of(messages: Any) -> Mapping[str, Any]:
    """What the row of these messages tells the template."""
    return messages.told if isinstance(messages, Messages) else {}


def listed(roles: Iterable[str]) -> str:
    """Roles in a message."""
    return ", ".join(roles)
