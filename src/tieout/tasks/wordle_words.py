"""The words of Wordle, their splits, and the marks of a guess, for one word and for all of them at once."""

from __future__ import annotations

from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from random import Random

import numpy as np

FILE = Path(__file__).with_suffix(".txt")
"""Its head says where the words are from, and their licence."""
HELD_OUT = {"test": 300, "calibration": 60}
"""Split -> number of words; the others are for training."""


@cache
def _blocks() -> tuple[tuple[str, ...], tuple[str, ...]]:
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    first, second = "\n".join(lines).strip().split("\n\n")
    return tuple(first.split()), tuple(second.split())


def solutions() -> tuple[str, ...]:
    """Words that may have to be guessed, in alphabetical order."""
    return _blocks()[0]


@cache
def guessable() -> frozenset[str]:
    """Words that the game takes: the solutions and some inflected forms."""
    return frozenset(word for block in _blocks() for word in block)


@cache
def words_of(split: str) -> tuple[str, ...]:
    """The solutions of a split, shuffled; no word is in two."""
    words = list(solutions())
    Random("wordle").shuffle(words)
    splits, at = dict[str, tuple[str, ...]](), 0
    for name, size in HELD_OUT.items():
        splits[name], at = tuple(words[at : at + size]), at + size
    return {**splits, "train": tuple(words[at:])}.get(split, ())


def mark(guess: str, word: str) -> str:
    """Feedback: capital for the right place, small for another place, dot for not in the word.

    >>> mark("eerie", "beige"), mark("asset", "asset")
    ('.E.iE', 'ASSET')
    """
    exact = [g == w for g, w in zip(guess, word, strict=True)]
    left = Counter(w for w, right in zip(word, exact, strict=True) if not right)
    marks = []
    for letter, right in zip(guess, exact, strict=True):
        if right:
            marks.append(letter.upper())
        elif left[letter]:
            left[letter] -= 1
            marks.append(letter)
        else:
            marks.append(".")
    return "".join(marks)


@cache
def _letters() -> np.ndarray:
    return np.array([[ord(letter) for letter in word] for word in solutions()], np.uint8)


@lru_cache(maxsize=8192)
def marks_of(guess: str) -> np.ndarray:
    """[number of solutions] the marks that a guess gets, by which solution it is: equal numbers are equal marks."""
    words, codes = _letters(), np.zeros(len(solutions()), np.uint8)
    letters = np.array([ord(letter) for letter in guess], np.uint8)
    exact = words == letters
    for place, letter in enumerate(letters):
        left = ((words == letter) & ~exact).sum(1)
        before = ((letters[:place] == letter) & ~exact[:, :place]).sum(1)
        codes += (3**place * np.where(exact[:, place], 2, before < left)).astype(np.uint8)
    return codes


@cache
def _index() -> dict[str, int]:
    return {word: i for i, word in enumerate(solutions())}


def left_by(guesses: tuple[str, ...], word: str) -> np.ndarray:
    """[number of solutions] bool: those that get the same marks from each guess as a solution does, itself included."""
    left = np.ones(len(solutions()), bool)
    for guess in guesses:
        codes = marks_of(guess)
        left &= codes == codes[_index()[word]]
    return left
