"""Text to tokens, so that text cannot forge special tokens and a completion follows its prompt seamlessly.

A special token that a text contains, such as `<|im_end|>` in a message, is first replaced by a private-use
character, its *mark*. So a chat template renders, trims and splits the text as usual; then a mark is encoded as
the letters of the token it stands for, and only what the template itself wrote becomes special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import InputError

Marks = dict[str, str]
"""Special token -> the character that stands for it."""

_PRIVATE_USE = (0xF0000, 0x100000, 0xE000)
"""Where code points begin that have no meaning."""


class ChatError(InputError):
    """A tokenizer or chat template that cannot be trained with; the message says why, and what to do."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A transformers tokenizer's text side."""

    tokenizer: Any

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The tokens that text must not forge."""
        added = self.tokenizer.added_tokens_decoder.values()
        found = [*self.tokenizer.all_special_tokens, *(token.content for token in added if token.special)]
        return tuple(dict.fromkeys(found))

    def marks(self, texts: Iterable[str]) -> Marks:
        """A mark for each special token that the texts contain, which none of them contains."""
        texts = list(texts)
        names = sorted({name for text in texts for name in self._special_pattern.findall(text)}, key=len)
        if not names:
            return {}
        used = {character for text in texts for character in text}
        for start in _PRIVATE_USE:
            characters = [chr(start + i) for i in range(len(names))]
            if used.isdisjoint(characters):
                return dict(zip(reversed(names), characters, strict=True))
        raise ChatError(
            "a text contains special tokens and every kind of private-use character; remove either"
        )

    def whole(self, text: str, marks: Marks, *, special: bool = False) -> list[int]:
        """Tokens of a text from its start. special: with BOS, if the tokenizer adds one."""
        return self._pieces(text, marks, self._with_bos if special else self._ids)

    def later(self, text: str, marks: Marks) -> list[int]:
        """Tokens of a text that follows other text."""
        return self._pieces(text, marks, self._later)

    def following(self, prompt: list[int], whole: list[int], text: str, marks: Marks) -> list[int]:
        """Tokens of `text`, the end of a whole that begins with a prompt.

        Where a token of the whole spans the border, the text is encoded alone: the policy continues the tokens
        of its prompt, so no such token can occur. ChatError: that would not be the same text.
        """
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        tokens = self.later(text, marks)
        if self.tokenizer.decode([*prompt, *tokens]) != self.tokenizer.decode(whole):
            raise ChatError(
                f"the completion {text[:40]!r} has no clear boundary with its prompt: joined, this tokenizer reads "
                "their text differently; move white space from the end of the prompt to the completion"
            )
        return tokens

    # ------------------------------------------------------------ pieces

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        return any_of(self.special)

    def _pieces(self, text: str, marks: Marks, encode_first: Callable[[str], list[int]]) -> list[int]:
        if not marks:
            return encode_first(text)
        names = {mark: name for name, mark in marks.items()}
        first, *rest = re.split(f"([{''.join(names)}])", text)
        ids = encode_first(first)
        for piece in filter(None, rest):
            ids += self._later(names.get(piece, piece), as_letters=piece in names)
        return ids

    def _ids(self, text: str, as_letters: bool = False, special: bool = False) -> list[int]:
        encoded = self.tokenizer(
            text, add_special_tokens=special, split_special_tokens=as_letters, verbose=False
        )
        return list(encoded["input_ids"])

    def _with_bos(self, text: str) -> list[int]:
        bos, eos = self.tokenizer.bos_token, self.tokenizer.eos_token_id
        ids = self._ids(text, special=not (bos and text.startswith(bos)))
        # Some tokenizers also add eos after a text; but a prompt continues.
        return ids[:-1] if ids[-1:] == [eos] and self._ids(text)[-1:] != [eos] else ids

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer puts a space before every text, as SentencePiece models do."""
        twice: str = self.tokenizer.decode([*self._ids("a"), *self._ids("a")])
        return twice != "aa"

    def _later(self, text: str, as_letters: bool = False) -> list[int]:
        if self._adds_space:
            anchor, ids = self._ids("\n"), self._ids("\n" + text, as_letters)
            if ids[: len(anchor)] == anchor:
                return ids[len(anchor) :]
        return self._ids(text, as_letters)


def any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the names, the longest first."""
    listed = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, listed)) or "(?!)")  # (?!) never matches


def mark(text: str, marks: Marks) -> str:
    """The text with marks in place of special tokens."""
    for name, character in marks.items():
        text = text.replace(name, character)
    return text
