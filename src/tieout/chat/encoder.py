"""Text to tokens, so that text cannot forge special tokens and a completion follows its prompt seamlessly.

A special token that a text contains, such as `<|im_end|>` in a message, is first replaced by a private-use
character, its *mark*. So a chat template renders, trims and splits the text as usual; then a mark is encoded as
the letters of the token it stands for, and only what the template itself wrote becomes special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, TypeVar, cast

from ..errors import InputError

T = TypeVar("T")
Marks = dict[str, str]
"""Special token -> the character that stands for it."""

_THOUGHT = re.compile(r"[<\[|｜]+/?[\w ]*:?(?:think|thinking|thought|reasoning)[|｜]*[>\]]", re.IGNORECASE)
"""A tag around reasoning, such as `<think>`, `[/THINK]` or `</seed:think>`."""
_ANCHORS = ("\n", ".", "a", "0")
"""Texts before one that follows other text, where a tokenizer treats the beginning of a text otherwise."""
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

    @cached_property
    def thoughts(self) -> frozenset[str]:
        """Special tokens that are tags of reasoning: an assistant's text may hold them, as templates and rewards read
        its thoughts from there."""
        return frozenset(name for name in self.special if _THOUGHT.fullmatch(name))

    def own(self, marks: Marks) -> Marks:
        """The marks for what an assistant says."""
        return {name: character for name, character in marks.items() if name not in self.thoughts}

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

    def placed(self, text: str, marks: Marks) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of a text from its start, and the stretch of it that each stands for."""
        names = {mark: name for name, mark in marks.items()}
        ids, places, at = list[int](), list[tuple[int, int]](), 0
        for piece in re.split(f"([{''.join(names)}])", text) if names else [text]:
            own = self._ids(piece) if not ids else self._later(names.get(piece, piece), piece in names)
            if piece in names:
                places += [(at, at + 1)] * len(own)
            elif piece:
                found = self.tokenizer(
                    piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False
                )
                skipped = len(found["input_ids"]) - len(
                    own
                )  # a space that a tokenizer puts before every text
                places += [(at + a, at + b) for a, b in found["offset_mapping"][skipped:]]
            ids += own if piece else []
            at += len(piece)
        return ids, places

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
        for before in _ANCHORS if self._adds_space else ():
            anchor, ids = self._ids(before), self._ids(before + text, as_letters)
            if ids[: len(anchor)] == anchor:  # else the two melt into one token
                return ids[len(anchor) :]
        return self._ids(text, as_letters)


def any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the names, the longest first."""
    listed = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, listed)) or "(?!)")  # (?!) never matches


def mark(value: T, marks: Marks) -> T:
    """A text, or lists and objects of them, with marks in place of special tokens."""
    if not marks:
        return value
    made: Any = value
    if isinstance(value, str):
        made = reduce(lambda text, name: text.replace(name, marks[name]), marks, str(value))
    elif isinstance(value, Mapping):
        made = {mark(key, marks): mark(item, marks) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        made = [mark(item, marks) for item in value]
    return cast(T, made)
