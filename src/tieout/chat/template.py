"""Turn messages into tokens, and tokens back into text."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import InputError
from ..rows import location, raise_problems
from ..rows.messages import SAMPLED, reply_of, texts_in, turns_of
from ..types import Message, Messages, Prompt, Row
from .continuation import continued, finished, opens_tag
from .encoder import ChatError, Encoder, Marks, mark
from .rendering import Renderer, listed, told_of
from .tokens import Tokens

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
            return cls(AutoTokenizer.from_pretrained(model, trust_remote_code=False), extra)
        except Exception as error:  # of files that others wrote transformers raises whatever they lead to
            raise ChatError(
                f"the tokenizer of model {model!r} could not be loaded ({why_not(error)})"
            ) from error

    @cached_property
    def stop_tokens(self) -> tuple[int, ...]:
        """The tokens that end the policy's turn."""
        end = [self.renderer.turn_end.token] if self.renderer.turn_end else []
        return tuple(dict.fromkeys([*self.renderer.known_stops, *end]))

    def prompt(self, prompt: Prompt) -> list[int]:
        """[P] what the policy continues: messages up to the opening of its turn; text as it stands, with BOS.

        Messages that end with the assistant's are continued in that turn. ChatError: the template leaves some out.
        """
        if isinstance(prompt, str):
            return self.encoder.whole(prompt, {}, special=True)
        messages = _messages(prompt)
        marks = self._marks(messages)
        opened = self.renderer.render(messages, marks, opened=True)
        self.renderer.refuse_left_out(messages, marks, told_of(messages), len(messages))
        return self.encoder.whole(opened, marks)

    def completion(self, prompt: Prompt, text: str) -> list[int]:
        """[C] what the policy writes after a prompt to say `text`; the last token is a stop token.

        ChatError: the template does not end the turn, or prompt and text have no clear boundary.
        """
        if isinstance(prompt, str):
            return self._plain_completion(prompt, text)
        return self.given(prompt, [text]).completions[0]

    def given(self, prompt: Prompt, completions: Sequence[Any]) -> Tokens:
        """A prompt and its completions as tokens to train on: what every way of training makes of a row.

        Text after text is as its author rendered it: special tokens in it are meant, and eos is added where it is
        missing. After messages, and as messages, completions are what the chat template makes of them: see
        `continuation`.
        """
        if isinstance(prompt, str) and all(isinstance(said, str) for said in completions):
            written = [self._plain_completion(prompt, said, {}) for said in completions]
            return Tokens.of(self.prompt(prompt), written)
        if not completions:
            return Tokens.of(self.prompt(prompt), [])
        return continued(self.renderer, _messages(prompt), [reply_of(said) for said in completions])

    def as_sampled(self, prompt: Prompt, text: str) -> Any:
        """A completion that a policy wrote, in the form in which `given` takes it so: its text, or a message that says
        so where the template opens a tag, as the text then begins inside of it.
        """
        if isinstance(prompt, str) or not opens_tag(self.renderer.render(_messages(prompt), {}, opened=True)):
            return text
        return [{"role": "assistant", "content": text, SAMPLED: True}]

    def whole(self, prompt: Prompt, said: Any, *, rendered: bool = False) -> list[int]:
        """[L] a finished conversation as a reward model reads it: all that the template writes, also after the stop
        token, as in transformers and TRL; text from BOS to eos. rendered: special tokens in the text are meant.
        """
        if not isinstance(prompt, str) or not isinstance(said, str):
            return finished(self.renderer, _messages(prompt), reply_of(said))
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ChatError(_NO_EOS)
        text = said.removesuffix(self.tokenizer.eos_token)
        marks = {} if rendered else self.encoder.own(self.encoder.marks([prompt, text]))
        return [*self.encoder.whole(prompt + mark(text, marks), marks, special=True), end]

    def _plain_completion(self, prompt: str, text: str, marks: Marks | None = None) -> list[int]:
        eos = self.tokenizer.eos_token_id
        if eos is None:
            raise ChatError(_NO_EOS)
        text = text.removesuffix(self.tokenizer.eos_token)  # it is added below
        marks = self.encoder.own(self.encoder.marks([prompt, text])) if marks is None else marks
        tail = mark(text, marks)
        whole = self.encoder.whole(prompt + tail, marks, special=True)
        return [*self.encoder.following(self.prompt(prompt), whole, tail, marks), eos]

    def suffix(self, messages: Sequence[Message], reply: Message, *, ended: bool = True) -> list[int]:
        """Tokens between the policy's last turn and its next: the reply to it, and the next turn's opening.

        messages: the conversation; the last one is the policy's turn, whose own tokens are kept as sampled.
        ended: whether those end with a stop token; if not (they were cut off), the suffix begins with one.
        ChatError: the template rewrites history, so the policy would not see again what it wrote.
        """
        told, marks = told_of(messages), self._marks(Messages([*messages, reply], told_of(messages)))
        before = self.renderer.render(messages, marks, told=told)
        after = self.renderer.render([*messages, reply], marks, opened=True, told=told)
        end = self.renderer.turn_end
        if end is None:
            raise self.renderer.no_end()
        seen = self.renderer.render(messages[:-1], marks, opened=True, told=told)
        said = mark(str(messages[-1]["content"]), self.encoder.own(marks)).strip()
        before = before.removesuffix(end.trailing)
        kept = before.startswith(seen) and said in before and before.endswith(end.closing)
        if not (kept and after.startswith(before)):
            raise ChatError(
                "this chat template rewrites history: once there is a reply, the assistant's earlier turn is "
                "rendered differently from what was sampled (often its <think> part is dropped). Multi-turn "
                "tasks need a template that only appends; set tokenizer.chat_template to one"
            )
        closing = "" if ended else end.closing
        return self.encoder.later(closing + after[len(before) :], marks)

    def encode(self, text: str) -> list[int]:
        """The tokens of a bare text, without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return list(ids)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special tokens other than the tags of reasoning."""
        kept, every = list(tokens), self.tokenizer.added_tokens_decoder
        if thoughts := self.encoder.thoughts:
            kept = [t for t in kept if t not in every or not every[t].special or every[t].content in thoughts]
        decoded: str = self.tokenizer.decode(
            kept, skip_special_tokens=not thoughts, clean_up_tokenization_spaces=False
        )
        return decoded

    # ------------------------------------------------------------ checks

    def check(self, rows: Sequence[Row] = ()) -> None:
        """ChatError, before any work, if training on the prompts of these rows could not be right.

        Without rows: if neither plain text nor messages would do.
        """
        prompts = [row["prompt"] for row in rows if "prompt" in row]
        talks = [prompt for prompt in prompts if not isinstance(prompt, str)]
        if talks and not self.tokenizer.chat_template:
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
            talks = [[{"role": "user", "content": "probe"}]]
        kinds = {tuple(str(message.get("role")) for message in talk): talk for talk in talks}
        for _, talk in sorted(kinds.items()):
            if "[reply]" not in self.text(self.completion(talk, "[reply]")):
                roles = listed(message["role"] for message in talk)
                raise ChatError(f"the chat template leaves out the assistant's reply to: {roles}")

    def _warn_of_raw_text(self, prompts: Sequence[str], total: int) -> None:
        """Warn if prompts that no template has rendered meet a model that knows turns."""
        if any(token in prompt for prompt in prompts for token in self.encoder.special):
            return
        count = "all" if len(prompts) == total else f"{len(prompts)} of {total}"
        warnings.warn(
            f"{count} prompts are plain text, and the model has a chat template: they are trained and asked as raw "
            'text, without turns. Give them as messages, [{"role": "user", "content": ...}], in a table in a column '
            "`instruction`; or keep them so on purpose",
            stacklevel=1,  # one place, so that it is said once
        )

    def check_lengths(
        self,
        rows: Sequence[Row],
        context: int,
        max_new_tokens: int = 0,
        source: str = "rows",
        *,
        trained: bool = True,
    ) -> None:
        """RowsError naming the rows that do not fit into the model's context, with room for new tokens.

        trained: the completions that rows have must fit, too; those of rows to evaluate on are not read.
        """
        problems, advice = [], ""
        for index, row in enumerate(rows):
            where = location(rows, index, source)
            try:
                size = len(self.prompt(row["prompt"]))
                room = {"max_new_tokens": max_new_tokens}
                for name in _COMPLETION_COLUMNS if trained else ():
                    said = row.get(name) or []
                    every = said if name == "completions" else [said]
                    made = [self.given(row["prompt"], [one]) for one in every if one]
                    room[name] = max((len(m.prompt) + len(m.completions[0]) - size for m in made), default=0)
            except InputError as error:
                problems.append(f"{where}: {error}")
                continue
            name, longest = max(room.items(), key=lambda item: item[1])
            if size + longest > context:
                advice = "shorten them, or give long_rows: drop or truncate"
                problems.append(
                    f"{where}: the prompt has {size} tokens and {name} {longest}, together {size + longest}; the "
                    f"model's context is {context}"
                )
        raise_problems(problems, getattr(rows, "source", source), advice)

    @cached_property
    def encoder(self) -> Encoder:
        """Text to tokens."""
        return Encoder(self.tokenizer)

    @cached_property
    def renderer(self) -> Renderer:
        """Messages to text."""
        eos = self.tokenizer.eos_token_id
        return Renderer(self.encoder, (*([] if eos is None else [eos]), *self.extra_stop_tokens))

    def _marks(self, messages: Sequence[Message]) -> Marks:
        return self.encoder.marks(texts_in([[dict(m) for m in messages], dict(told_of(messages))]))


def why_not(error: Exception) -> str:
    """Why transformers does not load files of a model."""
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which is never run here: take a model that transformers knows"
    return str(error)


def _messages(prompt: Any) -> Messages:
    return prompt if isinstance(prompt, Messages) else Messages(turns_of(prompt))
