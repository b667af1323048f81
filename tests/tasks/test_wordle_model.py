"""The shipped model whose tokens are letters: it spells, and reads a game as it was trained on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from operator import eq
from pathlib import Path
from runpy import run_path
from string import ascii_lowercase
from typing import Any

import pytest

from tieout.embedded import path
from tieout.evidence.evaluate import Case, evaluate
from tieout.learner import Model, load
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.tasks.wordle import NO_GUESS, NO_WORD, shown, task
from tieout.tasks.wordle_words import solutions, words_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def letters() -> Model:
    return load("tieout-letters")


def test_a_token_is_a_letter_or_a_sentence_of_the_game(letters: Model) -> None:
    tokenizer = letters.chat.tokenizer
    marks = ["Marks:", " -c", " R", " +a", " -n", " E"]
    assert tokenizer.tokenize("Marks: -c R +a -n E") == marks
    assert len(letters.chat.prompt(task.rows("test")[0]["prompt"])) == 5
    reply = f"{NO_GUESS}\nGuess 2 of 6:"
    assert len(tokenizer.tokenize(reply)) == 2
    assert len(tokenizer.tokenize(f"{'a' * 5}: {NO_WORD}\nGuess 3 of 6:")) == 8
    odd = "Zürich: 100%\t~"
    assert len(tokenizer.tokenize(odd)) == len(odd) - 1  # ": " is one
    assert (path("tieout-letters") / "model.safetensors").stat().st_size < 2**21


def test_what_it_was_trained_on_is_how_the_words_that_agree_with_all_marks_go_on(letters: Model) -> None:
    tokenizer = letters.chat.tokenizer
    make: Callable[[object, int], Any] = run_path(str(ROOT / "scripts" / "build_letters.py"))["Games"]
    rows, columns, trained, shares = make(tokenizer, 0).batch(3)
    for own, which, share in zip(rows.tolist(), trained, shares, strict=True):
        text = tokenizer.decode(own)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == own
        assert [tokenizer.decode(own[c + 1]) for c in columns[5:-1:6]] == ["<|end|>"] * 5
        guesses = re.findall(r"<\|assistant\|>(.{5})<", f"{text}<")
        marks = re.findall(r"Marks: (.+)\n", text)
        for turn, guess in enumerate(guesses):
            left = [w for w in solutions() if all(map(eq, marks[:turn], (shown(g, w) for g in guesses)))]
            for place in range(5):
                agree = [w for w in left if w.startswith(guess[:place])]
                if which[6 * turn + place]:
                    found = Counter(w[place] for w in agree)
                    told = dict(zip(ascii_lowercase, share[6 * turn + place].tolist(), strict=False))
                    assert told == pytest.approx({a: found[a] / len(agree) for a in ascii_lowercase})
        games = [w for w in words_of("train") if all(map(eq, marks, (shown(g, w) for g in guesses)))]
        assert games or any(g in words_of("train") for g in guesses)


def test_it_spells_before_it_plays(letters: Model) -> None:
    cases = evaluate(task, task.rows("test")[:24], LocalSampler(letters), SamplingParams(8, temperature=0.5))
    assert sum(case.metrics["words"] for case in cases) / len(cases) > 0.8


def test_the_demo_is_the_recipe() -> None:
    told, own = (
        (ROOT / folder / "wordle.yaml").read_text("utf-8").split("\nmodel:")[1]
        for folder in ("recipes", "src/tieout/pipelines/recipes")
    )
    assert told == own


def test_the_page_shows_no_marks_of_another_word() -> None:
    turns_of: Callable[[Case, str], list[list[str]]] = run_path(str(ROOT / "scripts" / "wordle_page.py"))[
        "turns_of"
    ]
    case = Case(
        "wordle/test/0",
        "programmatic",
        "test",
        "",
        "",
        turns=["asset", "crane"],
        replies=["Marks: +a -s -s +e -t\nG"],
    )
    with pytest.raises(
        ValueError, match=r"wordle/test/0: the game replied .*, and the word of this row is 'beige'"
    ):
        turns_of(case, "beige")
    case.replies[0] = "Marks: +a -s -s +e -t\nGuess 2 of 6:"
    assert turns_of(case, "crane") == [["asset", "10010"], ["crane", "22222"]]
