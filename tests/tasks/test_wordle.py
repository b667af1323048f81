"""The word game: its feedback, its score, and playing it in an evaluation."""

from __future__ import annotations

import doctest
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.errors import InputError
from tieout.evidence.evaluate import evaluate
from tieout.learner.models.loading import load_chat
from tieout.rewards.processes.importable import refer, resolve
from tieout.rewards.scoring.call import Call
from tieout.rewards.scoring.combine import Combined
from tieout.rewards.scoring.runner import score_groups
from tieout.samplers.mock import MockSampler
from tieout.source import Source
from tieout.tasks import Task, load_task, wordle, wordle_words
from tieout.tasks.wordle import NUM_GUESSES, play, task
from tieout.tasks.wordle_rewards import Game, game_of, reward
from tieout.tasks.wordle_words import guessable, left_by, mark, solutions, words_of
from tieout.types import Completion, Row

LETTERS = st.text("abc", min_size=5, max_size=5)


def played(word: str, said: list[str]) -> tuple[Game, list[str]]:
    """The game of these turns, and what the environment said."""
    game, seen, messages = play({"word": word}), list[str](), list[dict[str, str]]()
    seen.append(next(game))
    for turn in said:
        messages.append({"role": "assistant", "content": turn})
        try:
            seen.append(game.send(turn))
        except StopIteration:
            return game_of(messages, word), seen
    raise AssertionError("the game did not end")


def scores(word: str, said: list[str]) -> dict[str, float]:
    """The points of each part, with the whole reward as `score`."""
    turns = [{"role": "assistant", "content": turn} for turn in said]
    call = Call([Completion([], [], text="", turns=turns)], [""], {"word": word})
    (outcome,) = score_groups(reward, [call])[0]
    assert outcome.score is not None
    return {**reward.points(outcome.parts), "score": outcome.score}


def test_the_examples_run() -> None:
    assert doctest.testmod(wordle_words).failed == doctest.testmod(wordle).failed == 0


def test_words_are_five_letters_and_no_split_shares_one() -> None:
    words = [row["word"] for row in chain(*(task.rows(s) for s in ("train", "calibration", "test")))]
    assert len(words) == len(set(words)) > 2000
    assert set(words) <= guessable()
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


@settings(max_examples=15)
@given(st.sampled_from(sorted(guessable())), st.sampled_from(solutions()))
def test_marks_of_all_words_at_once_are_those_of_each(guess: str, word: str) -> None:
    left = left_by((guess,), word)
    same = [mark(guess, other) == mark(guess, word) for other in solutions()]
    assert left.tolist() == same


@pytest.mark.parametrize("turn", range(1, NUM_GUESSES + 1))
def test_a_turn_that_comes_later_is_worth_less(turn: int) -> None:
    game, seen = played("asset", ["yield"] * (turn - 1) + [" Asset.\n"])
    assert (game.solved, game.turns, len(seen)) == (True, turn, turn)
    assert all(s.startswith("Marks: -y -i +e -l -d\n") for s in seen[1:])
    points = scores("asset", ["yield"] * (turn - 1) + ["asset"])
    assert (points["solved"], points["early"]) == (0.5, pytest.approx(0.04 * (6 - turn)))
    assert points["score"] == pytest.approx(1.0) or turn > 1


def test_a_word_that_is_not_found_is_worth_little() -> None:
    game, _ = played("asset", ["yield"] * NUM_GUESSES)
    assert (game.solved, game.turns, game.consistent) == (False, 7, 0.0)
    assert 0.1 < scores("asset", ["yield"] * NUM_GUESSES)["score"] < 0.2
    tricks = ["asset yield", "", "assets", "ａsset", "a" * 10_000, "yield\n\nasset"]
    game, seen = played("asset", tricks)
    assert not game.solved
    assert all("Not one word" in s for s in seen[1:])
    assert scores("asset", tricks)["score"] == 0.0
    _, seen = played("asset", ["aaaaa"] * NUM_GUESSES)
    assert all(s.startswith("aaaaa: not in the list of words\n") for s in seen[1:])


def test_guesses_that_disagree_with_the_marks_cost_points() -> None:
    agrees, disagrees = scores("crane", ["brand", "crane"]), scores("crane", ["brand", "print", "crane"])
    assert (agrees["consistent"], disagrees["consistent"]) == (0.1, 0.05)
    assert disagrees["narrowed"] == 0.1  # one word is left


def test_demonstrations_are_won_games_of_training_words_whose_replies_are_not_trained() -> None:
    known = set(words_of("train"))
    for row in task.rows("train")[:100]:
        said = [turn["content"] for turn in row["completion"] if turn["role"] == "assistant"]
        game, seen = played(row["word"], said)
        assert set(said) <= known
        assert game.consistent in (1.0, None)
        assert seen[1:] == [turn["content"] for turn in row["completion"] if turn["role"] == "user"]
        assert scores(row["word"], said)["score"] >= 0.8
    held = [turn["content"] for row in task.rows("test")[:50] for turn in row["completion"][:-1:2]]
    assert set(held) <= known
    chat = load_chat("tieout-base")
    group = Source(task, chat).given(task.rows("train")[0], [task.rows("train")[0]["completion"]], None)
    (own,) = group.completions
    trained = [token for token, kept in zip(own.tokens, own.mask, strict=True) if kept]
    turns = task.rows("train")[0]["completion"]
    assert chat.text(trained) == "".join(turn["content"] for turn in turns[::2])
    whole = [*task.rows("train")[0]["prompt"], *turns]
    assert group.prompt + own.tokens == chat.whole(whole[:1], turns)


def test_evaluation_plays_to_the_end() -> None:
    rows = list(task.rows("test"))[:6]
    turns = iter(range(100))

    def second_try(prompt: Any) -> str:
        if len(prompt) == 1:
            return "yield"
        assert "Marks: -y" in prompt[-1]["content"]
        return rows[next(turns)]["word"]

    sampler = MockSampler(second_try)
    cases = evaluate(task, rows, sampler)
    assert [case.metrics["guesses"] for case in cases] == [2.0] * 6
    assert [case.score for case in cases] == [pytest.approx(0.96)] * 6
    assert all(sum(case.parts.values()) == pytest.approx(case.score) for case in cases)
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


def test_a_list_of_ones_own_is_the_game_all_through(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    own = [f"{a}{b}{c}ze" for a in "bgm" for b in "aeou" for c in "rlnty"]  # none of them is in the package
    path.write_text("# mine\n\n" + "".join(f"{word.upper()}\n" for word in own))
    game = load_task("wordle", {"path": str(path)})
    splits = {s: [row["word"] for row in game.rows(s)] for s in ("train", "calibration", "test")}
    assert sorted(chain(*splits.values())) == sorted(own)
    assert {s: len(words) for s, words in splits.items()} == {"train": 48, "calibration": 2, "test": 10}
    row = game.rows("train")[0]
    said = [turn["content"] for turn in row["completion"][::2]]
    assert set(said) <= set(splits["train"])
    assert said[-1] == row["word"]
    replies = {"crane": "crane: not in the list of words", splits["test"][0]: "Marks: "}
    for guess, reply in replies.items():
        assert game.environment is not None
        played = game.environment(row)
        next(played)
        assert played.send(guess).startswith(reply)
    assert isinstance(game.reward, Combined)
    for part in game.reward.parts.values():
        assert resolve(refer(part)).__class__ is part.__class__  # a worker process plays with the same words
    sampler = MockSampler(lambda prompt: row["word"] if len(prompt) > 1 else "crane")
    (case,) = evaluate(game, [row], sampler)
    assert case.metrics == {"solved": 1.0, "guesses": 2.0, "consistent": 1.0, "words": 0.5}
    assert case.score == pytest.approx(0.5 + 0.2 * 0.8 + 0.1 + 0.1 + 0.05)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["crane", "banana"], r"words.txt:2: 'banana'; expected one word of five letters a-z on each line"),
        (["crane", "crâne"], r"words.txt:2: 'crâne'; expected one word"),
        (["crane brand"], r"words.txt:1: 'crane brand'; expected one word"),
        (["crane", "brand", "Crane"], r"words.txt:3: 'crane' stands in line 1 too"),
        (["crane"], r"words.txt has 1 words; expected at least 60"),
    ],
)
def test_a_list_that_is_none_is_refused_with_its_line(lines: list[str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load_task("wordle", {"path": str(path)})
    with pytest.raises(InputError, match=r"none.txt is no file; expected a text with one word"):
        load_task("wordle", {"path": str(tmp_path / "none.txt")})


def test_the_task_is_found_by_name() -> None:
    found = load_task("wordle")
    assert (found.name, found.environment) == (task.name, task.environment)
    row = found.rows("test")[0]
    assert {**row, "prompt": None} == {**task.rows("test")[0], "prompt": None}
