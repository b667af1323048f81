"""What a game of Wordle is worth: five parts of a reward, and the figures of reports.

| part | points | for |
|---|---|---|
| `solved` | 0.5 | the word was found |
| `early` | 0.2 | all at the first guess, a fifth less for each further one; nothing if it was not found |
| `consistent` | 0.1 | share of the later guesses that agree with all marks; all if there is none and it was found |
| `narrowed` | 0.1 | how far the marks narrow the solutions down, in bits: all if one is left |
| `form` | 0.1 | share of the turns that are one word of the list |

A game that was lost has at most 0.3. They read the turns of the episode, so a turn with several words is one wasted
guess here as in the game. Numbers of marks and bits are about guesses that the game took.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import log
from typing import Any

from ..rewards.scoring.combine import Combined
from ..rewards.scoring.runner import combine, ranged
from ..rewards.text.thinking import answer_text
from ..types import Message, Reward
from .wordle_words import guessable, left_by, mark, solutions

NUM_GUESSES = 6
_GUESS = re.compile(r"[a-z]{5}")
Turns = Sequence[Sequence[Message]]


def guess_of(said: str) -> str:
    """The guess in a turn, lower case; empty: it is not exactly one word of five letters a-z."""
    guess = answer_text(said).strip().lower().rstrip(".")
    return guess if _GUESS.fullmatch(guess) else ""


@dataclass(frozen=True)
class Game:
    """A game by the policy's turns."""

    word: str
    said: tuple[str, ...]
    """The guess of each turn, as `guess_of` gives it."""
    path: str = ""
    """Of the list of words, as everywhere in `wordle_words`."""

    @property
    def guesses(self) -> tuple[str, ...]:
        """Those that the game took."""
        return tuple(guess for guess in self.said if guess in guessable(self.path))

    @property
    def solved(self) -> bool:
        """Whether the word was found."""
        return self.word in self.said

    @property
    def turns(self) -> int:
        """Turns up to the right one; one more than there are, if the word was not found."""
        return self.said.index(self.word) + 1 if self.solved else NUM_GUESSES + 1

    @property
    def consistent(self) -> float | None:
        """Share of the turns after the first whose guess agrees with all marks so far; None: there was one turn."""
        later = [
            bool(guess)
            and all(
                mark(old, guess) == mark(old, self.word)
                for old in self.said[:i]
                if old in guessable(self.path)
            )
            for i, guess in enumerate(self.said)
            if i
        ]
        return sum(later) / len(later) if later else None

    @property
    def narrowed(self) -> float:
        """1 - log(solutions left by the marks) / log(all solutions)."""
        left = left_by(self.guesses, self.word, self.path).sum()
        return 1 - log(left) / log(len(solutions(self.path)))


def game_of(turns: Sequence[Message], word: str, path: str = "") -> Game:
    """The game of an episode's messages, of at most six turns."""
    said = [guess_of(str(turn["content"])) for turn in turns if turn["role"] == "assistant"]
    return _game(word, tuple(said[:NUM_GUESSES]), path)


@lru_cache(maxsize=4096)
def _game(word: str, said: tuple[str, ...], path: str) -> Game:
    return Game(word, said, path)


def _games(completion_turns: Turns, word: Sequence[str], path: str = "") -> list[Game]:
    return [game_of(turns, own, path) for turns, own in zip(completion_turns, word, strict=True)]


@ranged(0, 1)
def solved(completions: list[str], completion_turns: Turns, word: list[str], **_: Any) -> list[float]:
    """1 if the word was found."""
    return [float(game.solved) for game in _games(completion_turns, word)]


@ranged(0, 1)
def early(completions: list[str], completion_turns: Turns, word: list[str], **_: Any) -> list[float]:
    """1 at the first guess, 0.2 less for each further one, 0 at the sixth and if the word was not found."""
    return [max(0.0, (NUM_GUESSES - g.turns) / (NUM_GUESSES - 1)) for g in _games(completion_turns, word)]


@ranged(0, 1)
def consistent(
    completions: list[str], completion_turns: Turns, word: list[str], path: str = "", **_: Any
) -> list[float]:
    """Share of the later guesses that agree with all marks so far; of a game of one turn, whether it was won."""
    games = _games(completion_turns, word, path)
    return [float(g.solved) if (share := g.consistent) is None else share for g in games]


@ranged(0, 1)
def narrowed(
    completions: list[str], completion_turns: Turns, word: list[str], path: str = "", **_: Any
) -> list[float]:
    """Bits that the marks gave, as a share of what finding the word takes."""
    return [game.narrowed for game in _games(completion_turns, word, path)]


@ranged(0, 1)
def form(
    completions: list[str], completion_turns: Turns, word: list[str], path: str = "", **_: Any
) -> list[float]:
    """Share of the turns that are one word of the list."""
    games = _games(completion_turns, word, path)
    return [len(g.guesses) / len(g.said) if g.said else 0.0 for g in games]


def guesses(completions: list[str], completion_turns: Turns, word: list[str], **_: Any) -> list[float]:
    """Turns up to the right one; 7 if the word was not found."""
    return [float(game.turns) for game in _games(completion_turns, word)]


def uses_marks(
    completions: list[str], completion_turns: Turns, word: list[str], path: str = "", **_: Any
) -> list[float | None]:
    """Share of the later guesses that agree with all marks so far; None for a game of one turn."""
    return [game.consistent for game in _games(completion_turns, word, path)]


reward = combine({solved: 0.5, early: 0.2, consistent: 0.1, narrowed: 0.1, form: 0.1})


def reward_over(path: str) -> Combined:
    """The same over a list of your own."""
    listed: dict[Reward | str, float] = {
        partial(part, path=path): 0.1 for part in (consistent, narrowed, form)
    }
    return combine({solved: 0.5, early: 0.2, **listed})
