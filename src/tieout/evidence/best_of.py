"""Best of N as a curve over N, from one pool of samples per prompt: score, gold, cost, and which N to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, log, log2
from statistics import fmean
from typing import Any

from ..errors import InputError
from ..rows.messages import prompt_text
from ..samplers.prices import Price
from ..types import Answer, Row
from . import stats
from .stats import Bounds, Estimate

PER = 1000
"""Answers that a cost is of."""


@dataclass(frozen=True)
class Pooled:
    """The samples of one prompt."""

    row: Row
    answers: Sequence[Answer]
    """[M] as the sampler gave them."""
    texts: Sequence[str]
    """[M] as rewards read them."""
    scores: Sequence[float | None]
    """[M] of the reward that chooses; None: it abstained or errored."""
    gold: Sequence[float | None] | None = None
    """[M] of another reward, which chooses nothing; None: there is none."""

    @property
    def scored(self) -> list[int]:
        """Places of the samples with every score. The others are never drawn: an error is no number."""
        gold = self.gold if self.gold is not None else self.scores
        return [k for k, both in enumerate(zip(self.scores, gold, strict=True)) if None not in both]


@dataclass(frozen=True)
class Point:
    """Best of one N."""

    num: int
    score: Estimate
    """Of the reward that chooses, of the chosen sample."""
    gold: Estimate | None
    """Of the other reward, of the same sample."""
    gain: Estimate | None
    """Gold (the score without one) minus that of the N before, paired; None for the first."""
    kl: float
    """log N - (N-1)/N nats: KL(best of N || model) is at most this, whatever the reward."""
    distinct: float
    """Different texts among N samples, on average."""
    tokens: float | None
    """Tokens written per prompt; None: the sampler does not count."""
    cost: float | None
    """Of 1000 prompts; None: there is no price."""


@dataclass(frozen=True)
class Curve:
    """Score against N over the same prompts."""

    points: Sequence[Point]
    prompts: int
    """That differ."""
    left_out: int
    """Rows with fewer scored samples than the largest N."""
    recommended: int
    reason: str
    overoptimised: int | None
    """The first N, above the one with the best gold, whose gold is lower beyond chance; None: there is none, or no
    gold. The reward rises all the same: it is being exploited."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "prompts": self.prompts,
            "left_out": self.left_out,
            "recommended": self.recommended,
            "reason": self.reason,
            "overoptimised": self.overoptimised,
            "points": [_plain(point) for point in self.points],
        }


def chances(scores: Sequence[float], num: int) -> list[float]:
    """[M] how often each of M samples is the best of `num` that are drawn from them without replacement.

    The mean of anything under these weights is the average over all subsets of `num` samples: the curve needs no
    further samples, and is unbiased. Equal scores share their chance evenly, as if their order were random.

    >>> chances([0.0, 1.0, 1.0], 2)
    [0.0, 0.5, 0.5]
    """
    total, below = comb(len(scores), num), 0
    share: dict[float, float] = {}
    for score, count in sorted(Counter(scores).items()):
        at_most = comb(below + count, num) - comb(below, num)
        share[score] = at_most / total / count
        below += count
    return [share[score] for score in scores]


def distinct(texts: Sequence[str], num: int) -> float:
    """Different texts among `num` of them, drawn without replacement, on average.

    >>> distinct(["a", "a", "b"], 2)
    1.6666666666666667
    """
    total = comb(len(texts), num)
    return sum(1 - comb(len(texts) - count, num) / total for count in Counter(texts).values())


def curve(
    pools: Sequence[Pooled],
    nums: Sequence[int],
    *,
    bounds: Bounds | None = None,
    gold_bounds: Bounds | None = None,
    price: str = "",
    prompt_once: bool = True,
    min_gain: float = 0.01,
    seed: int = 0,
) -> Curve:
    """Score, gold, diversity and cost for every N, and the N to take.

    Args:
        pools: of each prompt at least as many samples as the largest N.
        nums: rising.
        bounds: declared range of the reward; None: what was seen.
        gold_bounds: of the gold reward.
        price: `PROMPT,ANSWER` per million tokens, or `HOUR/h`.
        prompt_once: whether N samples read their prompt once (a model that is loaded here) or N times (an API).
        min_gain: what doubling N must gain to be worth it, on the scale of the reward.
        seed: of the intervals.

    Raises:
        InputError: `nums` are no rising numbers from 1 on, or under half of the prompts have enough scored samples.
    """
    if not nums or nums[0] < 1 or list(nums) != sorted(set(nums)):
        raise InputError(f"num is {list(nums)}; expected rising whole numbers from 1 on, such as 1,2,4,8,16")
    used = [pool for pool in pools if len(pool.scored) >= nums[-1]]
    if 2 * len(used) < len(pools) or not used:
        raise InputError(
            f"{len(used)} of {len(pools)} prompts have {nums[-1]} samples with a score: the rest abstained or errored, "
            "and a curve over what is left would be of other prompts; see why with `tieout reward check`, or sample "
            "more than the largest N"
        )
    has_gold = used[0].gold is not None
    proxy = {n: [_expected(pool, pool.scores, n) for pool in used] for n in nums}
    truth = {n: [_expected(pool, pool.gold or (), n) for pool in used] for n in nums} if has_gold else proxy
    scale = bounds or _seen(pool.scores for pool in used)
    asked = [prompt_text(pool.row["prompt"]) for pool in used]  # pools of one prompt are no further evidence
    gold_scale = (gold_bounds or _seen(pool.gold or () for pool in used)) if has_gold else scale

    def gain(candidate: int, baseline: int) -> Estimate:
        own, before = (_within(truth[n], gold_scale) for n in (candidate, baseline))
        return stats.difference(own, before, asked, gold_scale, seed)

    def measured(values: Sequence[float], ends: Bounds) -> Estimate:
        return stats.mean(_within(values, ends), asked, ends, seed)

    usage = [one.usage for pool in used for one in pool.answers]
    points = []
    for place, n in enumerate(nums):
        tokens, cost = _taken(usage, n, price, prompt_once)
        points.append(
            Point(
                n,
                measured(proxy[n], scale),
                measured(truth[n], gold_scale) if has_gold else None,
                gain(n, nums[place - 1]) if place else None,
                log(n) - (n - 1) / n,
                fmean(distinct([pool.texts[k] for k in pool.scored], n) for pool in used),
                tokens,
                cost,
            )
        )
    chosen, reason = _recommended(nums, gain, min_gain, has_gold)
    best = max(nums, key=lambda n: fmean(truth[n]))
    worse = [n for n in nums if has_gold and n > best and (gain(n, best).high or 0.0) < 0]
    left_out = len(pools) - len(used)
    return Curve(points, len(set(asked)), left_out, chosen, reason, worse[0] if worse else None)


def _expected(pool: Pooled, values: Sequence[float | None], num: int) -> float:
    """The mean of a value over the best of `num` samples."""
    kept = pool.scored
    weights = chances([float(pool.scores[k] or 0.0) for k in kept], num)
    return sum(w * float(values[k] or 0.0) for w, k in zip(weights, kept, strict=True))


def _recommended(
    nums: Sequence[int], gain: Callable[[int, int], Estimate], least: float, may_fall: bool
) -> tuple[int, str]:
    """The largest N up to which each step gains at least `least` per doubling.

    Gold may fall, so there the gain is beyond chance, too; the score of what is chosen by it never does.
    """
    chosen = nums[0]
    for n in nums[1:]:
        step = gain(n, chosen)
        per_doubling = (step.value or 0.0) / log2(n / chosen)
        said = f"{chosen} to {n} gains {step.value:+.3f} [{step.low:+.3f}, {step.high:+.3f}]"
        if may_fall and not (step.low or 0.0) > 0:
            return chosen, f"{said}, which is within chance"
        if per_doubling < least:
            return chosen, f"{said}, {per_doubling:+.4f} per doubling: below {least:g}"
        chosen = n
    return chosen, "every step gained enough: a larger N may gain more"


def _taken(
    usage: Sequence[Mapping[str, float]], num: int, price: str, once: bool
) -> tuple[float | None, float | None]:
    """Tokens written per prompt, and the cost of 1000 prompts."""
    if not all(usage):
        return None, None
    each = {name: fmean(one[name] for one in usage) for name in ("prompt_tokens", "tokens", "seconds")}
    whole = {name: value * (1 if once and name == "prompt_tokens" else num) for name, value in each.items()}
    return whole["tokens"], PER * Price.of(price).cost(whole) if price else None


def _seen(values: Iterable[Sequence[float | None]]) -> Bounds:
    known = [value for own in values for value in own if value is not None]
    return min(known), max(max(known), min(known) + 1e-9)


def _within(values: Sequence[float], bounds: Bounds) -> list[float]:
    """The values without what rounding put beyond an end of the scale."""
    near = 1e-9 * (1 + abs(bounds[0]) + abs(bounds[1]))
    return [next((end for end in bounds if abs(value - end) <= near), value) for value in values]


def _plain(point: Point) -> dict[str, Any]:
    def estimate(one: Estimate | None) -> Any:
        return None if one is None else {"value": one.value, "low": one.low, "high": one.high, "n": one.n}

    return {
        "num": point.num,
        "score": estimate(point.score),
        "gold": estimate(point.gold),
        "gain": estimate(point.gain),
        "kl_bound": point.kl,
        "distinct": point.distinct,
        "tokens": point.tokens,
        f"cost_of_{PER}": point.cost,
    }
