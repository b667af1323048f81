"""Guess a five-letter finance word in six turns: a multi-turn environment, scored when the game ends.

One play of the row `{"word": "asset"}` (`task.rows("train")[0]` has another), with the SYSTEM text as its opening:

    user        Guess a word of five letters. ... Guess 1 of 6:
    policy      yield
    user        yield: ..e.. Guess 2 of 6:
    policy      asset
                score 0.9

The score is 1.0 for the first guess and 0.1 less for each further one, down to 0.5 for the sixth; 0.0 if the word is
not found. A turn that is not exactly one word of five letters a-z is a wasted guess. The feedback follows the usual
rules: a letter is marked only as often as the word has it.

It does not catch luck (about 1 in 90 at the first guess), and whoever knows the list of words plays better.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from functools import lru_cache
from random import Random

from ..rewards.text.thinking import answer_text
from ..types import Row
from . import Task

NUM_GUESSES = 6
FIRST = 1.0
STEP = 0.1

WORDS = (
    "asset audit bonds books broke brand basis banks bills batch bears bulls buyer carry cents chart "
    "claim clerk costs court cover crash cycle debit debts dealt donor draft drain drops earns entry "
    "equal euros event exact extra facts filed final fixed flats fleet float floor flows forms franc "
    "funds gains gauge goods grant gross group hedge index input issue items joint judge labor lease "
    "legal lever lines liras loans local maker match merge metal money month notes offer order other "
    "owner panel paper parts payer peaks pence petty phase pound price prime proof quota quote rally "
    "range rates ratio rents repay risks round rules rupee sales scale scope sells share short sells "
    "slump spend split stake stock store sugar swaps taxes terms title token total trade trend trust "
    "units usage value wages"
)
"""Of five letters each."""

SYSTEM = (
    "Guess a word of five letters. After each guess you see it marked: a capital letter is in the right place, a small "
    "letter is in the word at another place, a dot is not in the word. Reply with the word alone."
)
_GUESS = re.compile(r"[a-z]{5}")


@lru_cache(maxsize=1)
def _splits() -> dict[str, list[Row]]:
    words = sorted(set(WORDS.split()))
    Random("wordle").shuffle(words)
    held = {"test": words[:20], "calibration": words[20:30], "train": words[30:]}
    return {name: [_row(word) for word in part] for name, part in held.items()}


def _row(word: str) -> Row:
    return {"word": word, "prompt": [{"role": "user", "content": opening()}], "completion": word}


def opening() -> str:
    """The first observation: the same for every word."""
    return f"{SYSTEM}\nGuess 1 of {NUM_GUESSES}:"


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


def play(row: Row) -> Generator[str, str, float]:
    """One game, as an environment."""
    word, observation = row["word"], opening()
    for turn in range(1, NUM_GUESSES + 1):
        said = answer_text((yield observation))
        guess = said.strip().lower().rstrip(".")
        if guess == word:
            return round(FIRST - STEP * (turn - 1), 10)
        seen = (
            f"{guess}: {mark(guess, word)}"
            if _GUESS.fullmatch(guess)
            else "Not one word of five letters a-z."
        )
        observation = f"{seen}\nGuess {turn + 1} of {NUM_GUESSES}:"
    return 0.0


def rows(split: str) -> Sequence[Row]:
    """The words of a split; no word is in two."""
    return _splits().get(split, [])


task = Task(
    name="wordle",
    rows=rows,
    environment=play,
    gold=lambda row: str(row["word"]),
    max_new_tokens=8,
)
