"""Rows as tokens, with a mask of what is trained, and how they are cut to a length."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..rows.messages import shared


@dataclass(frozen=True)
class Tokens:
    """A row as the learner sees it: one prompt and K completions."""

    prompt: list[int]
    completions: list[list[int]]
    masks: list[list[bool]]
    """Like completions: True where the token is trained."""

    @classmethod
    def of(cls, prompt: list[int], completions: list[list[int]]) -> Tokens:
        """All tokens of the completions are trained, except the first where it stands for an empty prompt.

        An empty text has no tokens where the tokenizer has no BOS, and nothing predicts the first token of a sequence.
        InputError: then the completions do not begin with the same token.
        """
        if completions and not prompt:
            if len({tuple(c[:1]) for c in completions}) > 1:
                raise InputError(
                    "the prompt is empty, the tokenizer adds no BOS token, and the completions begin with different "
                    "tokens, which nothing predicts; give a prompt"
                )
            prompt, completions = completions[0][:1], [c[1:] for c in completions]
        return cls(prompt, completions, [[True] * len(c) for c in completions])

    @classmethod
    def wholes(cls, sequences: Sequence[list[int]]) -> Tokens:
        """Whole sequences; the prompt is what they begin with alike, of which each leaves at least one token."""
        common = min(shared(sequences[0], other) for other in sequences)
        common = min(common, min(map(len, sequences)) - 1)
        return cls.of(sequences[0][:common], [sequence[common:] for sequence in sequences])


def unpadded_end(
    tokens: Iterable[Any], mask: Iterable[Any] | None, pad: int | None, stops: Collection[int]
) -> tuple[list[int], list[bool]]:
    """A completion without what follows its last trained token, and its mask; without a mask, without the padding.

    Where padding is a stop token, the one that ended the completion stays.

    >>> unpadded_end([5, 6, 1, 0, 0], None, pad=0, stops=[1])
    ([5, 6, 1], [True, True, True])
    >>> unpadded_end([5, 6, 1, 1], None, pad=1, stops=[1]) == unpadded_end([5, 6, 1, 1], [1, 1, 1, 0], 1, [1])
    True
    """
    ids = [int(token) for token in tokens]
    trained = [token != pad for token in ids] if mask is None else [bool(flag) for flag in mask]
    end = max((place + 1 for place, flag in enumerate(trained) if flag), default=0)
    if mask is None:
        ended = pad in stops and end < len(ids) and (not end or ids[end - 1] not in stops)
        trained, end = [True] * len(ids), end + ended
    return ids[:end], trained[:end]


def unpadded_query(
    tokens: Iterable[Any], pad: int | None, also: Collection[int | None], begins: bool
) -> list[int]:
    """A prompt without the padding around it.

    Args:
        tokens: of the prompt.
        pad: the padding token.
        also: tokens that mean something else as well, BOS and EOS: if padding is one, a single one stays.
        begins: whether the tokenizer begins every text with the padding token, which is its BOS.

    >>> unpadded_query([0, 0, 5, 6, 0], 0, [1], False), unpadded_query([1, 5, 1, 1], 1, [1], False)
    ([5, 6], [1, 5])
    """
    ids = [int(token) for token in tokens]
    places = [place for place, token in enumerate(ids) if token != pad]
    if not places:
        return []
    before, after = places[0], len(ids) - 1 - places[-1]
    least = 2 if pad in also else 1
    start = before - begins if before >= least else 0
    return ids[start : len(ids) - (after if after >= least else 0)]


@dataclass(frozen=True)
class Limits:
    """How long rows may be, in tokens."""

    max_length: int | None = None
    max_prompt_length: int | None = None
    """Longer prompts lose their beginning."""
    max_completion_length: int | None = None
    """Longer completions lose their end."""
    truncation: str = "keep_start"
    """keep_start or keep_end: which part of a row longer than max_length stays."""

    def cut(self, tokens: Tokens) -> Tokens | None:
        """What is left; None if nothing that is trained is."""
        if self.truncation == "keep_end" and len(tokens.completions) == 1:
            tokens = self._end(tokens)
        prompt = tokens.prompt[-self.max_prompt_length :] if self.max_prompt_length else tokens.prompt
        room = self.max_completion_length
        if self.max_length is not None:
            longest = max(map(len, tokens.completions))
            if self.truncation == "keep_end" and len(prompt) + longest > self.max_length:
                prompt = prompt[-max(1, self.max_length - longest) :]
            left = self.max_length - len(prompt)
            room = left if room is None else min(room, left)
        if room is not None and room < 1:
            return None
        part = slice(-room, None) if self.truncation == "keep_end" and room is not None else slice(room)
        completions, masks = [c[part] for c in tokens.completions], [m[part] for m in tokens.masks]
        return Tokens(prompt, completions, masks) if all(map(any, masks)) else None

    def _end(self, tokens: Tokens) -> Tokens:
        """The last `max_length` tokens of prompt and completion together, the first of them as a prompt."""
        (completion,), (mask,) = tokens.completions, tokens.masks
        ids = [*tokens.prompt, *completion][-(self.max_length or 0) :]
        left = max(1, len(ids) - len(completion))
        return Tokens(ids[:left], [ids[left:]], [mask[len(mask) - (len(ids) - left) :]])
