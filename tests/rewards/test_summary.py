"""Summaries by quiz: the reference passes, and no text passes by being long, copied or full of figures."""

from __future__ import annotations

import doctest
import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieout.rewards.library.summary
from tieout.rewards.library.summary import GAP, quiz, quiz_score, summary
from tieout.rewards.scoring.runner import score

REFERENCE = (
    "Revenue of Cobalt Rail rose to $412 million in 2021. Costs fell by 5%. "
    "The board said that Ada Holm becomes chief executive."
)
DOCUMENT = (
    "Cobalt Rail held its annual meeting in the hall beside its first plant on a mild day in spring. "
    f"{REFERENCE} Shareholders asked about parking, and coffee was served in the garden behind the old hall. "
    "Nobody voted against the accounts, which had been sent to everyone by post three weeks before the day."
)
ROW = {"prompt": "?", "document": DOCUMENT, "reference": REFERENCE}


def worth(completion: str, reward: Any = summary, row: dict[str, Any] = ROW) -> float:
    (outcome,) = score(reward, [completion], ["?"], row)
    assert outcome.score is not None, outcome.reason
    return outcome.score


def test_the_examples_run() -> None:
    assert doctest.testmod(tieout.rewards.library.summary).failed == 0


def test_the_reference_and_the_same_in_other_words_pass() -> None:
    assert worth(REFERENCE) == 1.0
    assert worth(f"\n {REFERENCE} ") == 1.0
    own = "In 2021 Cobalt Rail grew revenue to 412,000,000. Costs fell 5%. Ada Holm becomes chief executive."
    assert worth(own) == 1.0
    assert worth(" ".join(f"{fact.rstrip('.')}." for fact in reversed(REFERENCE.split(". ")))) == 1.0


ATTACKS = {
    "shell": ["", " ", "{}", "Summary:", "The report is about many things."],
    "whole source": [DOCUMENT, DOCUMENT * 3],
    "padding": [REFERENCE + " It was a good year for all." * 20],
    "figures only": ["412 million 2021 5% Ada Holm", "Revenue 412 million 398 million 75 million 5% 6% 7%."],
    "keywords": ["Revenue Cobalt Rail board said Ada Holm becomes chief executive costs"],
    "opposite": [
        "Revenue of Cobalt Rail fell to $412 million in 2021. Costs rose by 5%. "
        "The board did not say that Ada Holm becomes chief executive."
    ],
    "wrong": [REFERENCE.replace("412", "413").replace("5%", "6%").replace("Ada Holm", "Otto Brandt")],
    "joined": [REFERENCE.replace(" ", "")],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_earn_less_than_half(name: str) -> None:
    for completion in ATTACKS[name]:
        assert worth(completion) < 0.5, completion


@pytest.mark.parametrize("tail", [", something else", " or something else", " and a merger"])
def test_words_tacked_onto_a_supported_sentence_cost(tail: str) -> None:
    """The sentence is supported still, as most of its words are; what is new costs all the same."""
    last = f"{REFERENCE.rstrip('.')}{tail}."
    assert worth(last, quiz_score) == 1.0
    assert worth(last) < 0.9


def test_a_guess_beside_the_answer_is_no_answer() -> None:
    hedged = REFERENCE.replace("$412 million", "$412 million or $398 million")
    both = f"{REFERENCE} Revenue of Cobalt Rail rose to $398 million in 2021."
    assert worth(hedged, quiz_score) < worth(REFERENCE, quiz_score)
    assert worth(both, quiz_score) < worth(REFERENCE, quiz_score)


def test_each_fact_counts() -> None:
    facts = REFERENCE.split(". ")
    scores = [worth(". ".join(facts[:n]), quiz_score) for n in range(4)]
    assert scores == sorted(scores)
    assert len(set(scores)) == 4


def test_questions_of_your_own_and_a_judge_that_answers() -> None:
    own = {**ROW, "quiz": [{"question": f"Costs fell by {GAP}.", "answer": "5%"}]}
    assert worth("Costs fell by 5%.", quiz_score, own) == 1.0
    assert worth("Costs fell by 4%.", quiz_score, own) == 0.0
    asked = []

    def judge(question: str, text: str) -> str:
        asked.append(question)
        return "5 %" if "five per cent" in text else ""

    judged = functools.partial(quiz_score, answer=judge)
    assert worth("Costs fell by five per cent.", judged, own) == 1.0
    assert worth("", judged, own) == 0.0
    assert asked == [f"Costs fell by {GAP}."] * 2


def test_a_reference_without_facts_gives_no_score() -> None:
    (outcome,) = score(summary, ["anything"], ["?"], {**ROW, "reference": "it went well"})
    assert outcome.status == "abstained"


@given(st.text() | st.text("Revenue of 412%. \n", max_size=80))
def test_no_text_raises_as_summary_or_as_reference(text: str) -> None:
    assert 0 <= worth(text) <= 1
    (value,) = summary([REFERENCE], [DOCUMENT], [text])
    assert value is None or 0 <= value <= 1
    for item in quiz(text):
        assert item["question"].replace(GAP, item["answer"], 1) == item["sentence"]


@pytest.mark.parametrize("extra", ["\nsomething else", "Ignore the rest.", "Profits doubled in 2021."])
def test_what_the_document_does_not_say_costs(extra: str) -> None:
    assert worth(f"{REFERENCE} {extra}") < 0.9
    assert worth(f"anything but {REFERENCE}") < 0.9
    assert worth(f"It is false that {REFERENCE}") < 0.9
