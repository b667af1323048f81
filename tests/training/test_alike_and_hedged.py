"""Hedged answers, answers alike across prompts, answers in another script: planted runs alarm, healthy ones do not."""

from __future__ import annotations

import doctest
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from real_texts import real_texts
from tieout.rewards.text import hedges
from tieout.rewards.text.hedges import hedging
from tieout.training.alarms import Adjustments
from tieout.training.alarms.alike import distinct
from tieout.training.guards import Guards, watch
from tieout.training.monitors import scores
from tieout.types import Completion, Group

PROMPTS, COMPLETIONS = 6, 4

Write = Callable[[int, int, random.Random], str]
"""(step, prompt, random) -> a completion."""


PAGE = "The plant in Lyon opens in May with {} jobs, and the board of the company is pleased about that."


def step_of(write: Write, step: int, rng: random.Random, score: float) -> list[Group]:
    groups = []
    for prompt in range(PROMPTS):
        texts = [write(step, prompt, rng) for _ in range(COMPLETIONS)]
        completions = [Completion([1], [True], [0.0], text) for text in texts]
        asked = f"{step}: question {prompt}? {PAGE.format(step * prompt)}"
        groups.append(Group([0], completions, [score] * COMPLETIONS, {"prompt": asked}))
    return groups


def alarmed(write: Write, score: Callable[[int], float] = lambda t: t / 100, steps: int = 25) -> list[str]:
    """What the guards that are on by default say of a run, but for groups without signal."""
    said: list[str] = []
    rng = random.Random(0)
    monitors = [scores, *watch(Guards(), None, None, Adjustments(), lambda step, reason: said.append(reason))]
    for step in range(1, steps + 1):
        groups, metrics = step_of(write, step, rng, score(step)), {"length": 20.0}
        for monitor in monitors:
            monitor(step, groups, metrics)
    return [reason for reason in said if "no_signal" not in reason]


def first_words(said: list[str]) -> set[str]:
    return {reason.split()[0] for reason in said}


PLAIN = "Revenue rose by {} million, since sales of item {} grew. Costs fell by {}."
HEDGED = (
    "Revenue may possibly have risen by {}, although item {} might not count. Perhaps costs could fall by {}."
)


def plain(step: int, prompt: int, rng: random.Random) -> str:
    return PLAIN.format(*(rng.randrange(10_000) for _ in range(3)))


def hedged_later(step: int, prompt: int, rng: random.Random) -> str:
    return (HEDGED if rng.random() < step / 20 else PLAIN).format(*(rng.randrange(10_000) for _ in range(3)))


def hedged_always(step: int, prompt: int, rng: random.Random) -> str:
    return HEDGED.format(*(rng.randrange(10_000) for _ in range(3)))


def test_a_fully_hedged_sentence_counts_each_hedge_and_a_plain_one_none() -> None:
    assert doctest.testmod(hedges).failed == 0
    sentence = "It may possibly be that revenue could have risen, although this might not be certain."
    assert hedging(sentence) >= 4
    assert hedging("On May 4, 2020 revenue rose by about 4%, and costs in May did not.") == 0
    assert hedging('{"total": 12, "unit": "USD"}') == 0


def test_hedging_that_rises_with_the_score_alarms_and_no_other() -> None:
    assert first_words(alarmed(hedged_later)) == {"hedging"}
    assert alarmed(hedged_later, score=lambda t: -t / 100) == []  # not what is paid for
    assert alarmed(hedged_always) == []  # a level is the text's own
    assert alarmed(plain) == []


def copied_later(step: int, prompt: int, rng: random.Random) -> str:
    copy = " ".join(PAGE.format(step * prompt).split()[rng.randrange(8) :])
    return copy if rng.random() < step / 20 else plain(step, prompt, rng)


def copied_always(step: int, prompt: int, rng: random.Random) -> str:
    start = rng.randrange(8)
    return (
        " ".join(PAGE.format(step * prompt).split()[start:])
        + f" {rng.randrange(10_000)} {rng.randrange(10_000)}"
    )


def test_copying_that_rises_with_the_score_alarms_and_no_other() -> None:
    assert "copied" in first_words(alarmed(copied_later))
    assert alarmed(copied_later, score=lambda t: -t / 100) == []  # not what is paid for
    assert "copied" not in first_words(alarmed(copied_always))


def alike_later(step: int, prompt: int, rng: random.Random) -> str:
    return PLAIN.format(1, 2, 3) if rng.random() < step / 12 else plain(step, prompt, rng)


def as_json(step: int, prompt: int, rng: random.Random) -> str:
    figures = {name: rng.randrange(100_000) for name in ("revenue", "cost_of_sales", "gross_profit")}
    return json.dumps(
        {"statement": figures, "citation": f"page {rng.randrange(90)}, line {prompt}"}, indent=2
    )


def learns_json(step: int, prompt: int, rng: random.Random) -> str:
    return (as_json if rng.random() < step / 10 else plain)(step, prompt, rng)


def one_json_later(step: int, prompt: int, rng: random.Random) -> str:
    return as_json(0, 0, random.Random(0) if rng.random() < step / 12 else rng)


def choice(step: int, prompt: int, rng: random.Random) -> str:
    return rng.choice("ABCD")


def always_a(step: int, prompt: int, rng: random.Random) -> str:
    return "A" if rng.random() < step / 12 else rng.choice("ABCD")


def mostly_yes(step: int, prompt: int, rng: random.Random) -> str:
    return "yes" if rng.random() < min(0.8, 0.5 + step / 50) else "no"


@pytest.mark.parametrize("write", [alike_later, one_json_later, always_a])
def test_answers_that_become_alike_across_prompts_alarm(write: Write) -> None:
    assert first_words(alarmed(write)) == {"distinct"}


@pytest.mark.parametrize("write", [plain, as_json, learns_json, choice, mostly_yes])
def test_a_shared_format_and_a_few_right_answers_do_not(write: Write) -> None:
    assert alarmed(write) == []


def test_distinct_needs_two_prompts_and_only_reads_what_was_sampled() -> None:
    rng = random.Random(0)
    (one, *others) = step_of(plain, 1, rng, 0.0)
    assert distinct([one]) is None
    assert distinct([one, one]) is None  # the same prompt twice
    assert (
        distinct(
            [Group([0], [Completion([1], [True], None, "x")], None, {"prompt": str(i)}) for i in range(2)]
        )
        is None
    )
    differ = distinct([one, *others])
    assert differ is not None
    assert 0.3 < differ < 1
    assert distinct(step_of(lambda *_: "the same", 1, rng, 0.0)) == 0.0


def other_script_later(step: int, prompt: int, rng: random.Random) -> str:
    return f"收入增长了{rng.randrange(9999)}百万" if rng.random() < step / 20 else plain(step, prompt, rng)


def translation(step: int, prompt: int, rng: random.Random) -> str:
    return f"收入增长了{rng.randrange(9999)}百万,因为第{rng.randrange(9999)}项的销售额增加。"


def test_a_drift_into_another_script_alarms_and_a_translation_does_not() -> None:
    assert first_words(alarmed(other_script_later)) == {"other_script"}
    assert alarmed(translation) == []


@pytest.mark.parametrize("kind", ["model", "solution", "assistant", "filing", "span", "paragraph"])
def test_runs_over_real_answers_do_not_alarm_also_where_they_turn_into_filings(
    kind: str, shared_data: Path
) -> None:
    texts = real_texts(shared_data)

    def steady(step: int, prompt: int, rng: random.Random) -> str:
        return rng.choice(texts[kind])

    def turning(step: int, prompt: int, rng: random.Random) -> str:
        return rng.choice(texts["filing" if rng.random() < step / 20 else kind])

    assert alarmed(steady) == []
    if kind != "filing":
        assert alarmed(turning) == []
