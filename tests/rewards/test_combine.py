"""Combined rewards keep their parts; whose fault an error is; services that fail are asked again."""

from __future__ import annotations

import asyncio
import time
import urllib.error
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards.library.exact import exact
from tieout.rewards.library.format import length
from tieout.rewards.scoring.outcomes import is_infrastructure
from tieout.rewards.scoring.runner import (
    Call,
    Limits,
    Outcome,
    RewardUnavailable,
    check_call,
    check_reward,
    combine,
    ranged,
    reward_range,
    score,
    score_groups,
)

ROW = {"prompt": "p", "answer": "a"}


def said(reward: Any, completions: Sequence[str], row: dict[str, Any] | None = None) -> list[Outcome]:
    return score(reward, completions, ["p"] * len(completions), row or ROW)


def concise(completions: Sequence[str], **_: Any) -> list[float | None]:
    return [None if c == "?" else 1 / (1 + len(c)) for c in completions]


def parser(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float]:
    """Written without care: crashes on what is no number."""
    return [1.0 if int(c) > 0 else -0.5 for c in completions]


# ---- combine


@given(st.lists(st.sampled_from(["a", "b", "", "aaaa"]), min_size=1, max_size=5))
def test_the_sum_is_that_of_the_parts_and_the_parts_are_kept(completions: list[str]) -> None:
    reward = combine({exact: 1.0, concise: 0.2})
    for text, outcome in zip(completions, said(reward, completions), strict=True):
        assert outcome.parts == {"exact": float(text == "a"), "concise": 1 / (1 + len(text))}
        assert outcome.score == pytest.approx(outcome.parts["exact"] + 0.2 / (1 + len(text)))
    assert reward(completions, answer=["a"] * len(completions)) == [
        o.score for o in said(reward, completions)
    ]


def test_a_part_that_abstains_is_not_zero() -> None:
    (outcome,) = said(combine({exact: 1.0, concise: 0.2}), ["?"])
    assert (outcome.status, outcome.score, outcome.parts) == (
        "abstained",
        None,
        {"exact": 0.0, "concise": None},
    )
    rescaled = combine({exact: 1.0, concise: 0.2}, missing="rescale")
    (right,) = said(rescaled, ["?"], {"prompt": "p", "answer": "?"})
    assert (right.score, right.parts) == (pytest.approx(1.2), {"exact": 1.0, "concise": None})
    (none,) = said(rescaled, ["?"], {"prompt": "p", "answer": None})
    assert none.status == "abstained"


def test_a_part_that_a_completion_crashes_is_a_wrong_answer_in_that_part() -> None:
    good, crashed = said(combine({parser: 1.0, concise: 0.2}), ["1", "no"])
    assert good.score == pytest.approx(1.1)
    assert (crashed.status, crashed.score, crashed.cause) == ("errored", None, "completion")
    assert crashed.worth == pytest.approx(-0.5 + 0.2 / 3)
    assert crashed.parts == {"parser": None, "concise": pytest.approx(1 / 3)}


def test_parts_are_checked_like_rewards() -> None:
    with pytest.raises(ValueError, match="reward 'exact' needs column 'answer'; rows have: solution"):
        check_reward(combine({exact: 1.0, concise: 0.2}), ["prompt", "solution"])
    check_reward(combine({"exact": 1.0, "length": 0.5}), ["prompt", "answer"])
    assert reward_range(combine({exact: 1.0, length: 0.5})) == (pytest.approx(-0.5), pytest.approx(1.0))
    assert reward_range(combine({exact: 1.0, concise: 0.5})) is None
    with pytest.raises(RuntimeError, match="'parser' raised ValueError"):
        combine({parser: 1.0})(["no"], answer=["a"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "nothing to combine"),
        ({exact: 0.0}, "weight 0"),
        ({exact: float("nan")}, "weight nan"),
        ({exact: 1.0, "exact": 1.0}, "two parts are called 'exact'"),
        ({"exakt": 1.0}, "did you mean 'exact'"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine(weights)


# ---- whose fault


def test_a_crash_caused_by_a_completion_is_worth_the_lowest_score_of_the_row() -> None:
    outcomes = said(parser, ["1", "one", "-3"])
    assert [o.score for o in outcomes] == [1.0, None, -0.5]
    assert [o.worth for o in outcomes] == [1.0, -0.5, -0.5]
    assert "invalid literal" in outcomes[1].reason


def test_a_declared_range_says_what_a_wrong_answer_gets() -> None:
    (outcome,) = said(
        ranged(-2, 1)(lambda completions, **_: [float(int(c) > 0) for c in completions]), ["one"]
    )
    assert outcome.worth == -2.0


def test_a_score_outside_the_declared_range_is_an_error() -> None:
    reward = ranged(0, 1)(lambda completions, **_: [float(len(c)) for c in completions])
    short, long = said(reward, ["x", "xx"])
    assert (short.score, long.status) == (1.0, "errored")
    assert "its range is 0 to 1" in long.reason
    for low, high in ((1, 0), (0, float("inf")), (0, float("nan"))):
        with pytest.raises(ValueError, match="expected two finite numbers"):
            ranged(low, high)


def test_a_row_that_the_reward_cannot_score_blames_no_completion() -> None:
    def reward(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float]:
        return [float(c == str(int(a))) for c, a in zip(completions, answer, strict=True)]

    outcomes = said(reward, ["1", "2"], {"prompt": "p", "answer": "n/a"})
    assert [(o.cause, o.worth) for o in outcomes] == [("reward", None)] * 2


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_service_that_fails_is_asked_again_and_never_scored(failures: int) -> None:
    left = failures

    def judge(completions: Sequence[str], **_: Any) -> list[float]:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RewardUnavailable("429")
        return [1.0] * len(completions)

    limits = Limits(retries=2, backoff_seconds=0.001)
    (outcomes,) = score_groups(judge, [Call.of_texts(["a", "b"], ["p", "p"], ROW)], limits=limits)
    if failures <= 2:
        assert [o.score for o in outcomes] == [1.0, 1.0]
    else:
        assert [(o.cause, o.worth) for o in outcomes] == [("infrastructure", None)] * 2


@pytest.mark.parametrize(
    ("error", "infrastructure"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (urllib.error.URLError("no route"), True),
        (OSError(28, "No space left on device"), True),
        (RewardUnavailable("judge"), True),
        (OSError(36, "File name too long"), False),
        (FileNotFoundError(2, "what the completion named"), False),
        (ValueError("bad"), False),
        (MemoryError(), False),
        (RecursionError(), False),
    ],
)
def test_errors_of_the_surroundings_are_told_from_those_of_a_completion(
    error: Exception, infrastructure: bool
) -> None:
    assert is_infrastructure(error) == infrastructure


# ---- async


def test_async_rewards_wait_together() -> None:
    async def judge(completions: Sequence[str], **_: Any) -> list[float]:
        await asyncio.sleep(0.1)
        return [float(len(c)) for c in completions]

    started = time.perf_counter()
    outcomes = score_groups(judge, [Call.of_texts(["x" * i], ["p"], ROW) for i in range(40)])
    assert time.perf_counter() - started < 2.0  # one after the other: 4 seconds
    assert [o.score for (o,) in outcomes] == [float(i) for i in range(40)]


def test_one_async_call_that_hangs_holds_no_other() -> None:
    async def judge(completions: Sequence[str], **_: Any) -> list[float]:
        if "hang" in completions:
            await asyncio.sleep(60)
        return [1.0] * len(completions)

    calls = [Call.of_texts([text, "fine"], ["p"] * 2, ROW) for text in ("fine", "hang")]
    fine, hung = score_groups(judge, calls, limits=Limits(deadline_seconds=0.4))
    assert [o.score for o in fine] == [1.0, 1.0]
    assert [(o.score, o.cause) for o in hung] == [(None, "completion"), (1.0, "")]


# ---- at start-up


def test_a_reward_that_cannot_work_is_refused_before_anything_is_sampled() -> None:
    check_call(exact, [ROW])
    check_call(parser, [ROW])  # it works for some completions

    def short(completions: Sequence[str], **_: Any) -> list[float]:
        return [1.0]

    with pytest.raises(
        ValueError, match=r"reward 'short' returned 1 values for 3 completions.* rows have: answer"
    ):
        check_call(short, [ROW])
