"""Guess a word of five letters in six turns: a multi-turn environment with a reward in parts.

One play of the row `{"word": "asset"}` (`task.rows("train")[0]` has another), with the SYSTEM text as its opening:

    user        Guess a word of five letters. ... Guess 1 of 6:
    policy      yield
    user        Marks: -y -i +e -l -d Guess 2 of 6:
    policy      asset
                reward 0.96: solved 0.5, early 0.16, consistent 0.1, narrowed 0.1, form 0.1

A turn that is not exactly one word of the list is a wasted guess. The marks follow the usual rules: a letter is marked
only as often as the word has it. A row has a solver's game as its completion; its guesses are words of `train`, so that
no word of another split is in a training row. The words are in `wordle_words.txt`, or in a file of
yours; the parts are in `wordle_rewards.py`.

It does not catch luck (1 in 2,042 at the first guess). With four letters known, words such as `hatch`, `match` and
`watch` have to be tried one by one: no player wins every game.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from ..types import Reward, Row
from . import Task
from .wordle_rewards import NUM_GUESSES, form, guess_of, guesses, reward, reward_over, solved, uses_marks
from .wordle_solver import demonstration
from .wordle_words import guessable, mark, words_of

SYSTEM = (
    "Guess a word of five letters. After each guess you see its letters marked: a capital letter is in the right "
    "place, + is before a letter that is in the word at another place, - before one that is not. Reply with the word "
    "alone."
)
NO_GUESS = "Not one word of five letters a-z."
NO_WORD = "not in the list of words"


def opening() -> str:
    """The first observation: the same for every word."""
    return f"{SYSTEM}\nGuess 1 of {NUM_GUESSES}:"


def play(row: Row, path: str = "") -> Generator[str, str, None]:
    """One game, as an environment; the reward scores it. `path`: of the list of words, as in `wordle_words`."""
    word, observation = row["word"], opening()
    for turn in range(1, NUM_GUESSES + 1):
        guess = guess_of((yield observation))
        if guess == word:
            return
        seen = f"{guess}: {NO_WORD}" if guess else NO_GUESS
        if guess in guessable(path):
            seen = f"Marks: {shown(guess, word)}"
        observation = f"{seen}\nGuess {turn + 1} of {NUM_GUESSES}:"


def shown(guess: str, word: str) -> str:
    """The marks of a guess as a policy sees them, each at its letter.

    >>> shown("eerie", "beige")
    '-e E -r +i E'
    """
    marks = mark(guess, word)
    return " ".join(
        m if m.isupper() else f"-{g}" if m == "." else f"+{m}" for g, m in zip(guess, marks, strict=True)
    )


@cache
def rows(split: str, path: str = "") -> Sequence[Row]:
    """The words of a split; no word is in two."""
    return [
        {
            "word": word,
            "prompt": [{"role": "user", "content": opening()}],
            "completion": demonstration({"word": word}, play({"word": word}, path), path),
        }
        for word in words_of(split, path)
    ]


task = Task(
    name="wordle",
    rows=rows,
    reward=reward,
    environment=play,
    scored_by="reward",
    metrics={"solved": solved, "guesses": guesses, "consistent": uses_marks, "words": form},
    primary="solved",
    gold=lambda row: str(row["word"]),
    max_new_tokens=8,
    entity="word",
)


def make(path: str | Path | None = None) -> Task:
    """The game.

    Args:
        path: a text file with words of your own, one of five letters on each line, at least 60, in any order; lines
            that begin with # are left out. One in six (at most 300) is for `test`, one in thirty (60) for
            `calibration`. None: the words of the package.

    Raises:
        InputError: the file is not there, or a line of it, which is named, is no such word or stands twice.
    """
    if path is None:
        return task
    words = str(path)
    words_of("train", words)  # is refused now, not at the first row
    marked: dict[str, Reward] = {
        "consistent": partial(uses_marks, path=words),
        "words": partial(form, path=words),
    }
    return replace(
        task,
        rows=partial(rows, path=words),
        environment=partial(play, path=words),
        reward=reward_over(words),
        metrics={**task.metrics, **marked},
    )
