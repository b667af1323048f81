"""Answers from passages: gold is paid, and what only looks like an answer is not."""

from __future__ import annotations

import doctest
import functools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieout.rewards.text.claims
import tieout.rewards.text.sentences
from tieout.rewards.library.rag import (
    citation_accuracy,
    faithfulness,
    groundedness,
    hallucination,
    rag,
    relevance,
)
from tieout.rewards.scoring.outcomes import RewardUnavailable
from tieout.rewards.scoring.runner import score
from tieout.rewards.text.amounts import amounts
from tieout.rewards.text.claims import made_up, supports
from tieout.rewards.text.sentences import copied

CONTEXT = [
    "Cobalt Rail reported revenue of $412 million in 2021. Its chief executive was Ada Holm.",
    "Cobalt Rail reported revenue of $398 million in 2020. Costs did not rise in 2020.",
    "Fenwick Paper reported net debt of $75 million in 2021. Its chief executive was Otto Brandt.",
]
ROW = {"prompt": "?", "question": "What was the revenue of Cobalt Rail in 2021?", "context": CONTEXT}
KNOWN = {**ROW, "answer": "$412 million"}
UNKNOWN = {**ROW, "question": "What was the net debt of Cobalt Rail?", "answer": None}
NAMED = {**ROW, "question": "Who was chief executive of Cobalt Rail?", "answer": "Ada Holm"}
GOLD = "Cobalt Rail reported revenue of $412 million in 2021 [1]."


def worth(reward: Any, completion: str, row: dict[str, Any] = KNOWN) -> float | None:
    (outcome,) = score(reward, [completion], ["?"], row)
    assert outcome.status != "errored", outcome.reason
    return outcome.score


def test_the_examples_run() -> None:
    for module in (tieout.rewards.text.claims, tieout.rewards.text.sentences):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    "completion",
    [
        GOLD,
        f"  {GOLD}\n",
        "In 2021, Cobalt Rail's revenue was $412 million [1].",
        "Revenue of Cobalt Rail in 2021 was 412,000,000 [1].",
        "The revenue of Cobalt Rail was $ 412 million in 2021. [1]",
    ],
)
def test_right_answers_in_other_words_are_paid_in_full(completion: str) -> None:
    assert worth(rag, completion) == 1.0


ATTACKS = {
    "shell": ["", " ", "[1]", "{}", "...", "[1][2][3]"],
    "unknown": ["I do not know.", "The passages do not say.", "I do not know, but it was $412 million [1]."],
    "constant": ["yes", "0", "Fenwick Paper reported net debt of $75 million in 2021 [3]."],
    "wrong figure": [
        GOLD.replace("412", "413"),
        GOLD.replace("million", "billion"),
        GOLD.replace("$412", "-$412"),
    ],
    "other year": ["Cobalt Rail reported revenue of $398 million in 2020 [2]."],
    "stuffing": [
        "Cobalt Rail reported revenue of $412 million or $398 million [1][2].",
        "Revenue: 412 million, 398 million, 75 million [1].",
        "$398 million in 2020 [2]. $412 million in 2021 [1].",
    ],
    "contradiction": [
        "Cobalt Rail did not report revenue of $412 million in 2021 [1].",
        "It was not $412 million [1].",
    ],
    "regurgitation": [
        " ".join(CONTEXT),
        " ".join(f"{c} [{i}]" for i, c in enumerate(CONTEXT, 1)),
        CONTEXT[0] * 9,
    ],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_earn_little(name: str) -> None:
    for completion in ATTACKS[name]:
        assert worth(rag, completion) == 0.0, completion


def test_each_part_of_a_good_answer_counts() -> None:
    uncited = worth(rag, GOLD.replace(" [1]", ""))
    miscited = worth(rag, GOLD.replace("[1]", "[2]"))
    everything = worth(rag, GOLD.replace("[1]", "[1][2][3]"))
    beyond = worth(rag, f"{GOLD} It hired 900 people [1].")
    padded = worth(
        rag, f"{GOLD} " + "As the reader may well know, this matters a great deal to everybody. " * 20
    )
    for less in (uncited, miscited, everything, beyond, padded):
        assert less is not None
        assert less < 0.9
    assert worth(citation_accuracy, GOLD) == 1.0
    assert worth(citation_accuracy, GOLD.replace("[1]", "[7]")) == 0.0
    assert worth(citation_accuracy, GOLD.replace("[1]", "[1, 2]")) == 0.5
    assert worth(faithfulness, GOLD) == 1.0
    assert worth(faithfulness, f"{GOLD} Its chief executive was Nina Castell [1].") == 0.5
    assert worth(faithfulness, "I do not know.") is None
    for part in (faithfulness, citation_accuracy):  # to claim something and not to know it is a contradiction
        assert worth(part, f"{GOLD}\nI do not know.") == 0.5


def test_it_says_that_it_does_not_know_exactly_when_the_passages_lack_it() -> None:
    assert worth(rag, "I do not know.", UNKNOWN) == 1.0
    assert worth(rag, "The passages do not say.", UNKNOWN) == 1.0
    assert worth(rag, "The passages do not say what the net debt of Cobalt Rail was.", UNKNOWN) == 1.0
    for completion in ("I do not know., $929 million", "not I do not know.", "anything but I do not know."):
        assert worth(rag, completion, UNKNOWN) == 0.0
    for completion in ("", GOLD, "It was $75 million [3].", "I do not know. It was $75 million [3]."):
        assert worth(rag, completion, UNKNOWN) == 0.0
        assert worth(groundedness, completion, UNKNOWN) == 0.0
    assert worth(groundedness, "I do not know.", KNOWN) == 0.0
    assert worth(relevance, "I do not know.", UNKNOWN) is None


def test_answers_that_are_words() -> None:
    assert worth(rag, "The chief executive of Cobalt Rail was Ada Holm [1].", NAMED) > 0.5  # type: ignore[operator]
    assert worth(relevance, "Its chief executive was Ada Holm [1].", NAMED) == 1.0
    for wrong in (
        "Ada Holm or Otto Brandt [1][3].",
        "It was not Ada Holm [1].",
        "Ada Holmes [1].",
        "Otto Brandt [3].",
    ):
        assert worth(rag, wrong, NAMED) == 0.0, wrong


def test_a_judge_may_decide_what_supports_a_claim() -> None:
    def judge(claim: str, passages: Sequence[str]) -> bool:
        return "hired" in claim or supports(claim, passages)

    reward = functools.partial(faithfulness, supports=judge)
    assert worth(reward, f"{GOLD} It hired more people [1].") == 1.0

    def down(claim: str, passages: Sequence[str]) -> bool:
        raise RewardUnavailable("no verdict")

    (outcome,) = score(functools.partial(rag, supports=down), [GOLD], ["?"], KNOWN)
    assert (outcome.status, outcome.cause, outcome.worth) == ("errored", "infrastructure", None)


@given(
    st.text()
    | st.lists(st.sampled_from([*CONTEXT, GOLD, "[1]", "not", "412", "$", "I do not know."])).map(" ".join)
)
def test_no_text_raises_and_every_score_is_in_range(text: str) -> None:
    for row in (KNOWN, UNKNOWN, NAMED):
        for reward in (rag, faithfulness, citation_accuracy, groundedness, relevance):
            value = worth(reward, text, row)
            assert value is None or 0 <= value <= 1


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_claim_is_supported_by_its_own_figure_only(said: int, there: int) -> None:
    assert supports(f"Revenue was {said:,}.", [f"Revenue was {there}."]) == (said == there)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Revenue fell 4.5% to $1.2 million in 2019.", ["4.5", "1200000", "2019"]),
        ("A loss of $(9.8) million, or (5%).", ["-9800000", "-5"]),
        ("25 bps; note (1); Q1 2019-2020.", ["25", "2019", "2020"]),
        ("1,234,567 shares at €3", ["1234567", "3"]),
        ("v1.2.3 and A4 and 12.03.2020", []),
    ],
)
def test_figures_in_running_text(text: str, values: list[str]) -> None:
    assert [str(value) for value, _ in amounts(text)] == values


def test_copying_is_counted_in_runs_of_words() -> None:
    source = "one two three four five six seven eight nine ten"
    assert copied(source, [source]) == 1.0
    assert copied("one two three four five six seven", [source]) == 0.0
    assert copied(f"{source} and ten words more of my own that differ here", [source]) == 0.5
    assert copied("", [source]) == 0.0


def test_numbers_of_rows_are_answers_and_0_is_one() -> None:
    context = [["There were 0 losses in 2019, at a rate of 0.00001."]] * 2
    asked = {
        "question": ["How many losses were there in 2019?", "At what rate?"],
        "context": context,
        "answer": [0, 1e-05],
    }
    said = ["There were 0 losses in 2019 [1].", "The rate was 0.00001 [1]."]
    assert relevance(said, asked["question"], asked["answer"]) == [1.0, 1.0]
    assert groundedness(said, asked["answer"], asked["question"]) == [1.0, 1.0]
    assert groundedness(["I do not know."] * 2, asked["answer"], asked["question"]) == [0.0, 0.0]
    assert all((score or 0) > 0.3 for score in rag(said, **asked))


def test_a_claim_with_something_that_no_passage_has_is_a_hallucination() -> None:
    assert worth(hallucination, GOLD) == 0.0
    for invented in (
        "Cobalt Rail reported revenue of $413 million in 2021 [1].",
        "Cobalt Rail reported revenue of $412 billion in 2021 [1].",
        "Cobalt Rail reported revenue of $412 million in March 2021 [1].",
        "Its chief executive was Nina Castell [1].",
        "All depots were closed and their staff dismissed [1].",
    ):
        assert worth(hallucination, invented) == -1.0, invented
        assert worth(hallucination, f"{GOLD} {invented}") == -0.5, invented
    for reward, paid in (
        (hallucination, 0.0),
        (faithfulness, 0.0),
    ):  # said otherwise: not made up, not faithful
        assert worth(reward, "Cobalt Rail reported revenue of $398 million in 2021 [1].") == paid
    assert worth(hallucination, "I do not know.") is None
    assert worth(hallucination, "") == -1.0
    assert worth(hallucination, "<think>Nina Castell had $7.</think>" + GOLD) == 0.0


def test_a_figure_of_a_table_is_there_in_the_scale_that_its_passage_names() -> None:
    table = ["(In millions) | 2022\nResearch and development | 7,709", "Staff | 164,000"]
    assert not made_up("Research and development was $7,709 million.", table)
    assert not made_up("Research and development was 7,709.", table)
    assert made_up("Research and development was $7,709 billion.", table)
    assert made_up("Research and development was 7,709%.", table)
    assert made_up("Staff was 164,000 million.", table)  # the other passage names the scale


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3))
def test_a_sentence_of_a_passage_is_never_made_up(claim: str, passages: list[str]) -> None:
    assert not made_up(claim, [*passages, claim])
