"""The words of Wordle, their splits, and the marks of a guess, for one word and for all of them at once.

Everywhere `path` is a list of your own, one word on each line; empty: the words of the package.
"""

from __future__ import annotations

from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from random import Random

import numpy as np

from ..errors import InputError
from ..rows.decoding import decode

FILE = Path(__file__).with_suffix(".txt")
"""Its head says where the words are from, and their licence."""
HELD_OUT = {"test": (300, 6), "calibration": (60, 30)}
"""Split -> number of words, but at most one in so many; the others are for training."""
FEWEST = 60
"""Words in a list of your own, so that each split has some."""


@cache
def _blocks(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if path:
        return _own(Path(path)), ()
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    first, second = "\n".join(lines).strip().split("\n\n")
    return tuple(first.split()), tuple(second.split())


def _own(path: Path) -> tuple[str, ...]:
    """The words of a file, in alphabetical order. InputError: a line that is no word, or a word too many or too few."""
    wanted = "one word of five letters a-z on each line"
    if not path.is_file():
        raise InputError(f"{path} is no file; expected a text with {wanted}")
    found = dict[str, int]()
    for number, line in enumerate(decode(path.read_bytes(), path, 1).splitlines(), 1):
        word = line.strip().lower()
        if not word or word.startswith("#"):
            continue
        if not (len(word) == 5 and word.isascii() and word.isalpha()):
            raise InputError(f"{path}:{number}: {line.strip()[:40]!r}; expected {wanted}")
        if word in found:
            raise InputError(f"{path}:{number}: {word!r} stands in line {found[word]} too; take one out")
        found[word] = number
    if len(found) < FEWEST:
        raise InputError(f"{path} has {len(found)} words; expected at least {FEWEST}, {wanted}")
    return tuple(sorted(found))


def solutions(path: str = "") -> tuple[str, ...]:
    """Words that may have to be guessed, in alphabetical order."""
    return _blocks(path)[0]


@cache
def guessable(path: str = "") -> frozenset[str]:
    """Words that the game takes: the solutions, and of the package's list some inflected forms."""
    return frozenset(word for block in _blocks(path) for word in block)


@cache
def words_of(split: str, path: str = "") -> tuple[str, ...]:
    """The solutions of a split, shuffled; no word is in two."""
    words = list(solutions(path))
    Random("wordle").shuffle(words)
    splits, at = dict[str, tuple[str, ...]](), 0
    for name, (most, share) in HELD_OUT.items():
        size = min(most, len(words) // share)
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
def _letters(path: str) -> np.ndarray:
    return np.array([[ord(letter) for letter in word] for word in solutions(path)], np.uint8)


@lru_cache(maxsize=8192)
def marks_of(guess: str, path: str = "") -> np.ndarray:
    """[number of solutions] the marks that a guess gets, by which solution it is: equal numbers are equal marks."""
    words, codes = _letters(path), np.zeros(len(solutions(path)), np.uint8)
    letters = np.array([ord(letter) for letter in guess], np.uint8)
    exact = words == letters
    for place, letter in enumerate(letters):
        left = ((words == letter) & ~exact).sum(1)
        before = ((letters[:place] == letter) & ~exact[:, :place]).sum(1)
        codes += (3**place * np.where(exact[:, place], 2, before < left)).astype(np.uint8)
    return codes


@cache
def _index(path: str) -> dict[str, int]:
    return {word: i for i, word in enumerate(solutions(path))}


def left_by(guesses: tuple[str, ...], word: str, path: str = "") -> np.ndarray:
    """[number of solutions] bool: those that get the same marks from each guess as a solution does, itself included."""
    left = np.ones(len(solutions(path)), bool)
    for guess in guesses:
        codes = marks_of(guess, path)
        left &= codes == codes[_index(path)[word]]
    return left
