"""The word game: its feedback, its score, and playing it in an evaluation."""

from __future__ import annotations

import doctest
from collections.abc import Generator
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.evidence.evaluate import evaluate
from tieout.samplers.mock import MockSampler
from tieout.tasks import Task, load_task, wordle
from tieout.tasks.wordle import NUM_GUESSES, mark, play, task
from tieout.types import Row

LETTERS = st.text("abc", min_size=5, max_size=5)


def played(word: str, guesses: list[str]) -> tuple[float, list[str]]:
    game, seen = play({"word": word}), list[str]()
    seen.append(next(game))
    for guess in guesses:
        try:
            seen.append(game.send(guess))
        except StopIteration as stop:
            return stop.value, seen
    raise AssertionError("the game did not end")


def test_the_examples_run() -> None:
    assert doctest.testmod(wordle).failed == 0


def test_words_are_five_letters_and_no_split_shares_one() -> None:
    words = [row["word"] for row in chain(*(task.rows(s) for s in ("train", "calibration", "test")))]
    assert len(words) == len(set(words)) > 100
    assert all(len(word) == 5 and word.isalpha() and word.islower() for word in words)
    assert task.rows("ood") == []


@given(LETTERS, LETTERS)
def test_feedback_marks_no_letter_more_often_than_the_word_has_it(guess: str, word: str) -> None:
    marks = mark(guess, word)
    for place, (letter, right, shown) in enumerate(zip(guess, word, marks, strict=True)):
        assert shown in (letter.upper(), letter, "."), place
        assert shown.isupper() == (letter == right)
    for letter in "abc":
        shown = sum(m.lower() == letter for m in marks)
        assert shown == min(guess.count(letter), word.count(letter))


@pytest.mark.parametrize("turn", range(1, NUM_GUESSES + 1))
def test_the_score_falls_with_each_guess(turn: int) -> None:
    score, seen = played("asset", ["yield"] * (turn - 1) + [" Asset.\n"])
    assert score == pytest.approx(1.1 - 0.1 * turn)
    assert len(seen) == turn
    assert all(s.startswith("yield: ..e..\n") for s in seen[1:])


def test_who_never_finds_the_word_gets_nothing() -> None:
    assert played("asset", ["yield"] * NUM_GUESSES)[0] == 0.0
    score, seen = played("asset", ["asset yield", "", "assets", "ａsset", "a" * 10_000, "asset asset"])
    assert score == 0.0
    assert all("Not one word" in s for s in seen[1:])


def test_evaluation_plays_to_the_end() -> None:
    rows = list(task.rows("test"))[:6]
    turns = iter(range(100))

    def second_try(prompt: Any) -> str:
        if len(prompt) == 1:
            return "yield"
        assert "yield: " in prompt[-1]["content"]
        return rows[next(turns)]["word"]

    sampler = MockSampler(second_try)
    cases = evaluate(task, rows, sampler)
    assert [case.score for case in cases] == [0.9] * 6
    assert cases[0].completion == f"yield\n\n{rows[0]['word']}"
    assert len(sampler.calls) == 2  # all games go in lockstep


def test_an_environment_that_fails_is_an_error_and_no_score() -> None:
    def broken(row: Row) -> Generator[str, str, float]:
        text = yield "Begin."
        if text == "raise":
            raise OSError("the exchange is closed")
        while text == "go on":
            text = yield "Go on."
        return float("nan")

    rows = [{"prompt": "raise"}, {"prompt": "nan"}, {"prompt": "go on"}]
    says = iter(["raise", "nan", *["go on"] * 200])
    cases = evaluate(
        Task("t", lambda split: rows, environment=broken), rows, MockSampler(lambda p: next(says))
    )
    assert [(case.status, case.score) for case in cases] == [("errored", None)] * 3
    reasons = ["the exchange is closed", "nan", "did not end within 100 turns"]
    assert all(reason in case.errors["score"] for reason, case in zip(reasons, cases, strict=True))
    with pytest.raises(ValueError, match="neither a reward nor an environment"):
        evaluate(Task("t", lambda split: rows), rows, MockSampler([]))


def test_the_task_is_found_by_name() -> None:
    found = load_task("wordle")
    assert (found.name, found.environment) == (task.name, task.environment)
    row = found.rows("test")[0]
    assert {**row, "prompt": None} == {**task.rows("test")[0], "prompt": None}
