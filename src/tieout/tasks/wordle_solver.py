"""A program that plays Wordle: any word that agrees with all marks so far. Its games are the demonstrations."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from functools import cache
from random import Random

import numpy as np

from ..types import Message, Row
from .wordle_rewards import NUM_GUESSES
from .wordle_words import left_by, solutions, words_of


def solve(word: str, random: Random, known: np.ndarray, path: str = "") -> list[str]:
    """The guesses of one game, ending with the word.

    Args:
        word: to be found.
        random: chooses among the words that are left.
        known: [number of solutions] bool, the words that the player guesses.
        path: of the list of words, as everywhere in `wordle_words`.
    """
    while True:
        guesses = list[str]()
        while word not in guesses and len(guesses) < NUM_GUESSES:
            left = left_by(tuple(guesses), word, path) & known
            guesses.append(solutions(path)[random.choice(np.flatnonzero(left))])
        if word in guesses:
            return guesses


@cache
def _trained(path: str) -> np.ndarray:
    known = set(words_of("train", path))
    return np.array([word in known for word in solutions(path)])


def known_words(word: str, path: str = "") -> np.ndarray:
    """[number of solutions] bool: the training words, and this one."""
    known = _trained(path).copy()
    known[solutions(path).index(word)] = True
    return known


def demonstration(row: Row, game: Generator[str, str, None], path: str = "") -> list[Message]:
    """The messages of one solver's game after the opening, the same for the same word."""
    word = str(row["word"])
    messages = list[Message]()
    next(game)
    with suppress(StopIteration):  # the game ends with the right guess
        for guess in solve(word, Random(word), known_words(word, path), path):
            messages.append({"role": "assistant", "content": guess})
            messages.append({"role": "user", "content": game.send(guess)})
    return messages
