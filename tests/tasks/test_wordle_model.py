"""The shipped model whose tokens are letters: it spells, and reads a game as it was trained on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from runpy import run_path

import pytest

from tieout.embedded import path
from tieout.evidence.evaluate import Case, evaluate
from tieout.learner import Model, load
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.tasks.wordle import NO_GUESS, NO_WORD, task

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def letters() -> Model:
    return load("tieout-letters")


def test_a_token_is_a_letter_or_a_sentence_of_the_game(letters: Model) -> None:
    tokenizer = letters.chat.tokenizer
    assert tokenizer.tokenize("crane: .RanE") == [*"crane", ": ", *".RanE"]
    assert len(letters.chat.prompt(task.rows("test")[0]["prompt"])) == 5
    reply = f"{NO_GUESS}\nGuess 2 of 6:"
    assert len(tokenizer.tokenize(reply)) == 2
    assert len(tokenizer.tokenize(f"{'a' * 5}: {NO_WORD}\nGuess 3 of 6:")) == 8
    odd = "Zürich: 100%\t~"
    assert len(tokenizer.tokenize(odd)) == len(odd) - 1  # ": " is one
    assert (path("tieout-letters") / "model.safetensors").stat().st_size < 2**20


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
        "wordle/test/0", "programmatic", "test", "", "", turns=["asset", "crane"], replies=["asset: a...e\nG"]
    )
    with pytest.raises(
        ValueError, match=r"wordle/test/0: the game replied .*, and the word of this row is 'beige'"
    ):
        turns_of(case, "beige")
    case.replies[0] = "asset: a..e.\nGuess 2 of 6:"
    assert turns_of(case, "crane") == [["asset", "10010"], ["crane", "22222"]]
