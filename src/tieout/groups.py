"""Reduce scored groups to pairs, labels or demonstrations: pure functions of a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from statistics import fmean

from .errors import InputError
from .types import Group


def _scored(group: Group, least: int) -> list[float]:
    if group.scores is None or len(group.scores) < least:
        given = "none" if group.scores is None else str(len(group.scores))
        raise InputError(f"this needs groups of at least {least} scored completions; one has {given}")
    return group.scores


def take(group: Group, places: Sequence[int]) -> Group:
    """The completions at these places, with their scores and columns."""
    scores = group.scores and [group.scores[i] for i in places]
    columns = {name: [values[i] for i in places] for name, values in group.columns.items()}
    return replace(group, completions=[group.completions[i] for i in places], scores=scores, columns=columns)


def best(group: Group) -> Group:
    """The best completion alone, with its score: of a tie the first."""
    return take(group, extremes(_scored(group, 1))[:1])


def best_and_worst(group: Group) -> Group:
    """A pair, the better one first, its scores as they were."""
    return take(group, extremes(_scored(group, 2)))


def equal_parts(groups: Sequence[Group], parts: int) -> list[list[Group]]:
    """The groups in so many parts of equal numbers of completions, give or take one; where a part ends inside a group,
    the group lies in both."""
    flat = [(i, k) for i, group in enumerate(groups) for k in range(len(group.completions))]
    ends = [len(flat) * part // parts for part in range(parts + 1)]
    return [
        [take(groups[i], [k for _, k in own]) for i, own in groupby(flat[start:end], itemgetter(0))]
        for start, end in pairwise(ends)
    ]


def extremes(scores: Sequence[float]) -> tuple[int, int]:
    """Places of the best and of the worst: of a tie the first; two different places where there are two completions.

    >>> extremes([1.0, 1.0]), extremes([0.0, 2.0, -1.0])
    ((0, 1), (1, 2))
    """
    best = scores.index(max(scores))
    rest = [place for place in range(len(scores)) if place != best] or [best]
    return best, min(rest, key=scores.__getitem__)


def ranked_pairs(scores: Sequence[float]) -> list[tuple[int, int]]:
    """Every (better, worse) pair of places; ties are no pairs.

    >>> ranked_pairs([0.5, 2.0, 0.5])
    [(1, 0), (1, 2)]
    """
    places = range(len(scores))
    return [(i, j) for i in places for j in places if scores[i] > scores[j]]


def spread(pairs: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most so many of these pairs, which are best first; every member is used once before any is used twice.

    >>> spread([(0, 1), (0, 2), (3, 1), (3, 2)], 2)
    [(0, 1), (3, 2)]
    """
    left, taken, used = list(pairs), list[tuple[int, int]](), Counter[int]()
    while left and len(taken) < most:
        best = min(left, key=lambda pair: used[pair[0]] + used[pair[1]])  # of equals the first
        left.remove(best)
        taken.append(best)
        used.update(best)
    return taken


def decided(group: Group) -> bool:
    """Whether any completion is better than another."""
    return group.scores is not None and len(set(group.scores)) > 1


def best_tokens(groups: Sequence[Group]) -> int:
    """Trained tokens of each group's best completion; groups without scores have none."""
    return sum(sum(g.completions[extremes(g.scores)[0]].mask) for g in groups if g.scores)


def general(groups: Sequence[Group]) -> dict[str, float]:
    """Counts of the groups in which nothing is better than anything: general rows, and the tokens of one completion of
    each; empty without any."""
    found = [group for group in groups if group.scores and not decided(group)]
    return {"general": len(found), "general_tokens": best_tokens(found)} if found else {}


def tail_weights(group: Group, weight: float) -> list[list[float]]:
    """[K][C] 1 for as many trained tokens as the shorter of best and worst has, `weight` for those after.

    LD-DPO, https://arxiv.org/abs/2409.06411: what the longer completion says beyond is length more than quality.
    """
    pair = best_and_worst(group)
    shared = min(sum(c.mask) for c in pair.completions)
    return [
        [1.0 if place <= shared else weight for place in accumulate(int(m) for m in c.mask)]
        for c in group.completions
    ]


def mismatched(groups: Sequence[Group]) -> list[Group]:
    """Each prompt with the completions of another prompt of these groups; none where all prompts are the same.

    The assignment depends on the tokens of the groups, not on their order.
    """

    def key(group: Group) -> bytes:
        return sha256(repr((group.prompt, sorted(c.tokens for c in group.completions))).encode()).digest()

    ordered = sorted(groups, key=key)
    result = []
    for place, group in enumerate(ordered):
        others = (*ordered[place + 1 :], *ordered[:place])
        other = next((o for o in others if o.prompt != group.prompt), None)
        if other is not None:
            result.append(replace(group, completions=other.completions, scores=None, columns={}))
    return result


def class_weights(labels: Sequence[bool]) -> tuple[float, float]:
    """Weights of the good and of the bad: the rarer class is raised until both weigh the same in sum.

    >>> class_weights([True, True, True, False])
    (1.0, 3.0)
    """
    good = sum(labels)
    bad = len(labels) - good
    if not good or not bad:
        raise InputError(
            f"all {len(labels)} labels are {bool(good)}; KTO needs good and bad completions, or use SFT"
        )
    return max(1.0, bad / good), max(1.0, good / bad)


def mean_logratio(
    groups: Sequence[Group], policy: Sequence[list[list[float]]], reference: Sequence[list[list[float]]]
) -> float:
    """Nats per completion, policy minus reference: [group][completion][token], trained only; 0 without groups."""
    ratios = [
        sum(p - q for p, q, trained in zip(own, other, c.mask, strict=True) if trained)
        for group, mine, theirs in zip(groups, policy, reference, strict=True)
        for c, own, other in zip(group.completions, mine, theirs, strict=True)
    ]
    return fmean(ratios) if ratios else 0.0
