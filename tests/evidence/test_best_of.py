"""The curve of best of N against enumeration of all subsets, and what is read from it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from math import log
from statistics import fmean

import pytest

from tieout.errors import InputError
from tieout.evidence.best_of import Curve, Pooled, chances, curve, distinct
from tieout.evidence.best_of_rows import best_rows, ranking_rows
from tieout.evidence.pool import draw
from tieout.rows.pairs import preferences
from tieout.samplers import SamplingParams
from tieout.samplers.mock import MockSampler
from tieout.types import Answer


def enumerated(scores: Sequence[float], gold: Sequence[float], num: int) -> float:
    """The gold of the best of every subset; of several best ones, their mean."""
    found = []
    for subset in combinations(range(len(scores)), num):
        top = max(scores[k] for k in subset)
        found.append(fmean(gold[k] for k in subset if scores[k] == top))
    return fmean(found)


@pytest.mark.parametrize("num", [1, 2, 3, 5, 6])
def test_the_estimator_is_the_mean_over_all_subsets(num: int) -> None:
    rng = random.Random(num)
    for _ in range(20):
        scores = [rng.choice([0.0, 0.25, 0.5, 1.0]) for _ in range(6)]
        gold = [rng.random() for _ in range(6)]
        weights = chances(scores, num)
        assert sum(weights) == pytest.approx(1)
        said = sum(w * g for w, g in zip(weights, gold, strict=True))
        assert said == pytest.approx(enumerated(scores, gold, num))


def test_distinct_is_the_mean_over_all_subsets() -> None:
    texts = ["a", "a", "a", "b", "b", "c"]
    for num in range(1, 7):
        found = [len({texts[k] for k in subset}) for subset in combinations(range(6), num)]
        assert distinct(texts, num) == pytest.approx(fmean(found))


def pools(count: int, make: object, samples: int = 8, usage: bool = True) -> list[Pooled]:
    rng, found = random.Random(0), []
    for i in range(count):
        scores, gold = zip(*(make(rng) for _ in range(samples)), strict=True)  # type: ignore[operator]
        took = {"prompt_tokens": 100, "tokens": 10, "seconds": 1.0} if usage else {}
        answers = [Answer(f"{i} {k}", took) for k in range(samples)]
        found.append(Pooled({"prompt": str(i)}, answers, [str(a) for a in answers], scores, gold))
    return found


def exploited(rng: random.Random) -> tuple[float, float]:
    """The reward pays most for what is wrong: one sample in five is an exploit."""
    if rng.random() < 0.2:
        return 1.0, 0.0
    worth = rng.random() * 0.9
    return worth, worth


def test_an_exploited_reward_rises_while_gold_falls_and_the_recommendation_follows_gold() -> None:
    found = curve(pools(200, exploited), [1, 2, 4, 8], bounds=(0, 1), gold_bounds=(0, 1))
    scores = [point.score.value or 0.0 for point in found.points]
    gold = [point.gold.value or 0.0 for point in found.points if point.gold]
    assert scores == sorted(scores)
    assert max(gold) > gold[-1]
    assert found.overoptimised is not None
    assert found.recommended < found.overoptimised


def honest(rng: random.Random) -> tuple[float, float]:
    worth = rng.random()
    return worth, worth


def test_without_exploits_nothing_is_called_overoptimised_and_doubling_is_weighed() -> None:
    found = curve(pools(200, honest), [1, 2, 4, 8], bounds=(0, 1), gold_bounds=(0, 1), min_gain=0.1)
    assert found.overoptimised is None
    # Of uniform scores the best of N is N/(N+1): 1/2, 2/3, 4/5, 8/9, so that doublings gain 1/6, 2/15, 4/45.
    assert [point.score.value for point in found.points] == pytest.approx(
        [1 / 2, 2 / 3, 4 / 5, 8 / 9], abs=0.03
    )
    assert found.recommended == 4
    assert "below 0.1" in found.reason
    assert [point.kl for point in found.points] == [log(n) - (n - 1) / n for n in (1, 2, 4, 8)]


def test_without_gold_the_gain_alone_decides_as_the_score_cannot_fall() -> None:
    few = [Pooled(p.row, p.answers, p.texts, p.scores) for p in pools(4, honest)]
    assert curve(few, [1, 2, 4, 8], bounds=(0, 1)).recommended == 8
    assert curve(few, [1, 2, 4, 8], bounds=(0, 1), min_gain=0.5).recommended == 1
    assert curve(pools(4, honest), [1, 2], gold_bounds=(0, 1)).recommended == 1, (
        "four prompts show no gain of gold"
    )


def test_cost_counts_the_prompt_once_here_and_every_time_over_an_api() -> None:
    def last(**options: object) -> tuple[float | None, float | None]:
        point = curve(pools(5, honest), [1, 4], price="1,2", **options).points[-1]  # type: ignore[arg-type]
        return point.tokens, point.cost

    assert last() == (40, pytest.approx((100 + 4 * 10 * 2) / 1e6 * 1000))
    assert last(prompt_once=False) == (40, pytest.approx(4 * (100 + 10 * 2) / 1e6 * 1000))
    point = curve(pools(5, honest, usage=False), [1, 4], price="1,2").points[-1]
    assert (point.tokens, point.cost) == (None, None)


def test_samples_without_a_score_are_never_drawn() -> None:
    own = Pooled({"prompt": ""}, [Answer("")] * 4, list("abcd"), [0.5, None, 0.1, 0.3])
    found: Curve = curve([own, own], [1, 2, 3])
    assert found.points[0].score.value == pytest.approx(0.3)
    assert found.points[2].score.value == pytest.approx(0.5)
    few = Pooled({"prompt": ""}, [Answer("")] * 4, list("abcd"), [None, None, 0.1, 0.3])
    assert curve([own, own, few], [1, 3]).left_out == 1
    with pytest.raises(InputError, match="1 of 3 prompts have 3 samples with a score"):
        curve([own, few, few], [1, 3])
    for nums in ([], [0, 1], [2, 1], [1, 1]):
        with pytest.raises(InputError, match="rising whole numbers"):
            curve([own], nums)


def test_a_pool_keeps_what_each_reward_said() -> None:
    def length(completions: list[str], **_: object) -> list[float | None]:
        return [None if c == "?" else len(c) / 10 for c in completions]

    def vowels(completions: list[str], **_: object) -> list[float]:
        return [float("a" in c) for c in completions]

    sampler = MockSampler(["a", "bb", "?", "aaaa"])
    rows = [{"prompt": "p"}, {"prompt": "q"}]
    found = draw(sampler, rows, length, 2, SamplingParams(8), gold=vowels)
    assert [pool.scores for pool in found] == [[0.1, 0.2], [None, 0.4]]
    assert [pool.gold for pool in found] == [[1.0, 0.0], [0.0, 1.0]]
    assert [pool.texts for pool in found] == [["a", "bb"], ["?", "aaaa"]]
    with pytest.raises(InputError, match="answer"):
        draw(sampler, rows, lambda completions, answer: [], 1, SamplingParams(8))


def test_pools_of_one_prompt_are_one_prompt() -> None:
    """The same rows four times over say no more than once."""
    once = pools(6, lambda rng: (round(rng.random(), 2), 0.0))
    found, copied = (curve(own, [1, 4], bounds=(0.0, 1.0)) for own in (once, once * 4))
    assert found.prompts == copied.prompts == 6
    for one, other in zip(found.points, copied.points, strict=True):
        assert one.score.value == pytest.approx(other.score.value)
        widths = [(own.score.high or 0.0) - (own.score.low or 0.0) for own in (one, other)]
        assert widths[1] > 0.8 * widths[0], "as if they were independent, it would be half"


def test_empty_samples_are_in_no_rows_that_a_command_would_refuse() -> None:
    texts = ["", "good", "  ", "bad"]
    one = Pooled({"prompt": "x"}, [Answer(t, {}) for t in texts], texts, [0.0, 1.0, 2.0, 0.5], None)
    none = Pooled({"prompt": "y"}, [Answer("", {})] * 2, ["", ""], [0.0, 1.0], None)
    best, pairs = best_rows([one, none], 4)
    assert [(row["completion"], row["samples"]) for row in best] == [("good", 2)]
    assert [(row["chosen"], row["rejected"]) for row in preferences(pairs, "pairs")] == [("good", "bad")]
    rankings = ranking_rows([one, none])
    assert [row["completions"] for row in rankings] == [["good", "bad"]]
    assert len(preferences(rankings, "samples")) == 1
