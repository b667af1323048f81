"""Turn messages into tokens, and tokens back into text."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..rows import location, raise_problems
from ..types import Message, Prompt, Row
from .encoder import ChatError, Encoder, Marks, mark
from .rendering import Renderer, listed

__all__ = ["Chat", "ChatError"]

_COMPLETION_COLUMNS = ("completion", "chosen", "rejected", "completions")
_NO_EOS = (
    "the tokenizer has no eos token, so a plain-text completion would never end; set tokenizer.eos_token"
)


@dataclass(frozen=True, eq=False)
class Chat:
    """A tokenizer and its chat template.

    What messages and completions say cannot forge special tokens: `<|im_end|>` in a message is encoded as the
    letters it is made of. A prompt of plain text is the author's own, and encoded as it stands. Added tokens that
    are not special, such as Qwen's `<think>`, stay tokens everywhere.
    """

    tokenizer: Any
    """A transformers tokenizer."""
    extra_stop_tokens: tuple[int, ...] = ()
    """Stop tokens besides the tokenizer's eos and the template's end of turn, such as generation_config's."""

    @classmethod
    def load(cls, model: str) -> Chat:
        """The tokenizer and stop tokens of a model folder or hub id. ChatError: it has no tokenizer."""
        from transformers import AutoTokenizer, GenerationConfig

        try:
            stops = GenerationConfig.from_pretrained(model).eos_token_id
        except OSError:  # many models have no generation_config.json
            stops = None
        extra = tuple(stops) if isinstance(stops, list) else () if stops is None else (stops,)
        try:
            return cls(AutoTokenizer.from_pretrained(model), extra)
        except (OSError, ValueError) as error:
            raise ChatError(f"the tokenizer of model {model!r} could not be loaded ({error})") from error

    @cached_property
    def stop_tokens(self) -> tuple[int, ...]:
        """The tokens that end the policy's turn."""
        end = [self._renderer.turn_end.token] if self._renderer.turn_end else []
        return tuple(dict.fromkeys([*self._renderer.known_stops, *end]))

    def prompt(self, prompt: Prompt) -> list[int]:
        """[P] what the policy continues: messages up to the opening of its turn; text as it stands, with BOS."""
        if isinstance(prompt, str):
            return self._encoder.whole(prompt, {}, special=True)
        marks = self._marks(prompt)
        return self._encoder.whole(self._renderer.render(prompt, marks, opened=True), marks)

    def completion(self, prompt: Prompt, text: str) -> list[int]:
        """[C] what the policy writes after `prompt(prompt)` to say `text`; the last token is a stop token.

        ChatError: the template does not end the turn, or prompt and text have no clear boundary.
        """
        if isinstance(prompt, str):
            return self._plain_completion(prompt, text)
        messages = [*prompt, {"role": "assistant", "content": text}]
        marks = self._marks(messages)
        opened, finished = (
            self._renderer.render(prompt, marks, opened=True),
            self._renderer.render(messages, marks),
        )
        if finished.startswith(opened):
            head, whole = self._encoder.whole(opened, marks), self._encoder.whole(finished, marks)
            tokens = self._encoder.following(head, whole, finished[len(opened) :], marks)
        else:
            # The template opens a turn in another way than it renders a finished one: DeepSeek-R1's opens with
            # <think> and drops thoughts from finished turns. What the policy writes is then the text itself.
            closing = self._renderer.turn_end.closing if self._renderer.turn_end else ""
            tokens = self._encoder.later(mark(text, marks) + closing, marks)
        for i, token in enumerate(tokens):
            if token in self.stop_tokens:
                return tokens[: i + 1]
        raise self._no_end()

    def rendered(self, prompt: str, text: str) -> list[int]:
        """[C] a completion that a template has rendered already, after such a prompt: special tokens in it are meant.

        It ends with eos, which is added where it is missing.
        """
        return self._plain_completion(prompt, text, {})

    def whole(self, prompt: Prompt, text: str, *, rendered: bool = False) -> list[int]:
        """[L] a finished conversation as a reward model reads it: all that the template writes, also after the stop
        token, as in transformers and TRL; text from BOS to eos. rendered: special tokens in the text are meant.
        """
        if not isinstance(prompt, str):
            messages = [*prompt, {"role": "assistant", "content": text}]
            marks = self._marks(messages)
            return self._encoder.whole(self._renderer.render(messages, marks), marks)
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ChatError(_NO_EOS)
        text = text.removesuffix(self.tokenizer.eos_token)
        marks = {} if rendered else self._encoder.marks([prompt, text])
        return [*self._encoder.whole(prompt + mark(text, marks), marks, special=True), end]

    def _plain_completion(self, prompt: str, text: str, marks: Marks | None = None) -> list[int]:
        eos = self.tokenizer.eos_token_id
        if eos is None:
            raise ChatError(_NO_EOS)
        text = text.removesuffix(self.tokenizer.eos_token)  # it is added below
        marks = self._encoder.marks([prompt, text]) if marks is None else marks
        tail = mark(text, marks)
        whole = self._encoder.whole(prompt + tail, marks, special=True)
        return [*self._encoder.following(self.prompt(prompt), whole, tail, marks), eos]

    def suffix(self, messages: Sequence[Message], reply: Message, *, ended: bool = True) -> list[int]:
        """Tokens between the policy's last turn and its next: the reply to it, and the next turn's opening.

        messages: the conversation; the last one is the policy's turn, whose own tokens are kept as sampled.
        ended: whether those end with a stop token; if not (they were cut off), the suffix begins with one.
        ChatError: the template rewrites history, so the policy would not see again what it wrote.
        """
        marks = self._marks([*messages, reply])
        before = self._renderer.render(messages, marks)
        after = self._renderer.render([*messages, reply], marks, opened=True)
        end = self._renderer.turn_end
        if end is None:
            raise self._no_end()
        seen = self._renderer.render(messages[:-1], marks, opened=True)
        said = mark(messages[-1]["content"], marks).strip()
        before = before.removesuffix(end.trailing)
        kept = before.startswith(seen) and said in before and before.endswith(end.closing)
        if not (kept and after.startswith(before)):
            raise ChatError(
                "this chat template rewrites history: once there is a reply, the assistant's earlier turn is "
                "rendered differently from what was sampled (often its <think> part is dropped). Multi-turn "
                "tasks need a template that only appends; set tokenizer.chat_template to one"
            )
        closing = "" if ended else end.closing
        return self._encoder.later(closing + after[len(before) :], marks)

    def encode(self, text: str) -> list[int]:
        """The tokens of a bare text, without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return list(ids)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special tokens."""
        decoded: str = self.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return decoded

    # ------------------------------------------------------------ checks

    def check(self, rows: Sequence[Row] = ()) -> None:
        """ChatError, before any work, if training on the prompts of these rows could not be right.

        Without rows: if neither plain text nor messages would do.
        """
        prompts = [row["prompt"] for row in rows if "prompt" in row]
        conversations = {
            tuple(message["role"] for message in prompt) for prompt in prompts if not isinstance(prompt, str)
        }
        if conversations and not self.tokenizer.chat_template:
            raise ChatError(
                "the rows are messages, but the tokenizer has no chat template; "
                "set tokenizer.chat_template and save it with the model, or give prompts as plain text"
            )
        plain = [prompt for prompt in prompts if isinstance(prompt, str)]
        if plain and self.tokenizer.chat_template:
            self._warn_of_raw_text(plain, len(prompts))
        if self.tokenizer.eos_token_id is None and (plain or not self.tokenizer.chat_template):
            raise ChatError(_NO_EOS)
        if not prompts and self.tokenizer.chat_template:
            conversations = {("user",)}
        for roles in sorted(conversations):
            self._check_roles(roles)

    def _warn_of_raw_text(self, prompts: Sequence[str], total: int) -> None:
        """Warn if prompts that no template has rendered meet a model that knows turns."""
        if any(token in prompt for prompt in prompts for token in self._encoder.special):
            return
        warnings.warn(
            f"{len(prompts)} of {total} prompts are plain text, and the model has a chat template: they are trained "
            'and asked as raw text, without turns. Give them as messages, [{"role": "user", "content": ...}], or keep '
            "them so on purpose",
            stacklevel=1,  # one place, so that it is said once
        )

    def check_lengths(
        self, rows: Sequence[Row], context: int, max_new_tokens: int = 0, source: str = "rows"
    ) -> None:
        """RowsError naming the rows that do not fit into the model's context, with room for new tokens."""
        problems = []
        for index, row in enumerate(rows):
            size = len(self.prompt(row["prompt"]))
            room = {"max_new_tokens": max_new_tokens}
            for name in _COMPLETION_COLUMNS:
                given = row.get(name) or []
                texts = (
                    [given] if isinstance(given, str) else [text for text in given if isinstance(text, str)]
                )
                room[name] = max((len(self.completion(row["prompt"], text)) for text in texts), default=0)
            name, longest = max(room.items(), key=lambda item: item[1])
            if size + longest > context:
                problems.append(
                    f"{location(rows, index, source)}: the prompt has {size} tokens and {name} {longest}, together "
                    f"{size + longest}; the model's context is {context}"
                )
        raise_problems(problems, getattr(rows, "source", source))

    def _check_roles(self, roles: tuple[str, ...]) -> None:
        messages = [{"role": role, "content": f"[{i}] probe"} for i, role in enumerate(roles)]
        rendered = self._renderer.render(messages, {}, opened=True)
        for message in messages:
            if message["content"] not in rendered:
                raise ChatError(
                    f"the chat template leaves out the {message['role']} message of: {listed(roles)}"
                )
        completion = self.completion(messages, "[reply]")
        if "[reply]" not in self.text(completion):
            raise ChatError(f"the chat template leaves out the assistant's reply to: {listed(roles)}")

    def _no_end(self) -> ChatError:
        return ChatError(
            "the chat template does not end the assistant's turn with a stop token, so the policy would never "
            f"learn to stop; after the reply it writes {self._renderer.after_reply!r}. "
            "Put the eos token after the assistant's content in tokenizer.chat_template"
        )

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.tokenizer)

    @cached_property
    def _renderer(self) -> Renderer:
        eos = self.tokenizer.eos_token_id
        return Renderer(self._encoder, (*([] if eos is None else [eos]), *self.extra_stop_tokens))

    def _marks(self, messages: Sequence[Message]) -> Marks:
        return self._encoder.marks(text for message in messages for text in message.values())
