"""pass@k: the probability that at least one of k samples is right, estimated without bias from n of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

from ..errors import InputError
from ..rewards.scoring.outcomes import reward_range
from ..rewards.scoring.runner import Combined
from ..tasks import Task
from .evaluate import Case
from .stats import Estimate, difference, mean


def pass_at_k(n: int, right: int, k: int) -> float:
    """1 - C(n - right, k) / C(n, k): the share of the k-subsets of n samples that hold a right one.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 3, 2)
    (0.25, 0.5, 1.0)
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise InputError(
            f"pass@{k} of {n} samples with {right} right; expected 1 <= k <= n and 0 <= right <= n"
        )
    return 1.0 - comb(n - right, k) / comb(n, k)


def sizes(n: int) -> list[int]:
    """The k that are reported of n samples: powers of two, and n itself.

    >>> sizes(6)
    [1, 2, 4, 6]
    """
    return sorted({n, *(2**i for i in range(n.bit_length()) if 2**i <= n)})


def standard(task: Task) -> tuple[str, float]:
    """(what a completion is judged by, from which value on it is right): the primary metric at 1, else the reward at
    the top of its range, or 1 where it declares none."""
    if task.primary is not None:
        return task.primary, 1.0
    usual = task.reward.usual_range[1] if isinstance(task.reward, Combined) else 1.0
    found = reward_range(task.reward) if task.reward is not None else None
    return "reward", (found[1] if found else usual)


def rights(samples: Sequence[Sequence[Case]], task: Task) -> dict[str, tuple[int, int, str]]:
    """Case -> (samples that were judged, those that are right, its cluster). A sample without a score is not judged."""
    _, top = standard(task)
    found: dict[str, tuple[int, int, str]] = {}
    for drawn in samples:
        for case in drawn:
            value = case.score if task.primary is None else case.metrics.get(task.primary)
            n, right, _ = found.get(case.id, (0, 0, ""))
            judged = value is not None
            found[case.id] = n + judged, right + bool(judged and value >= top - 1e-6), case.cluster or case.id  # type: ignore[operator]
    return found


def figures(found: Mapping[str, tuple[int, int, str]], count: int) -> dict[int, Estimate]:
    """k -> pass@k over the cases of which all `count` samples were judged, with its interval over cases."""
    whole = [(n, right, cluster) for n, right, cluster in found.values() if n == count]
    clusters = [cluster for *_, cluster in whole]
    return {k: mean([pass_at_k(n, right, k) for n, right, _ in whole], clusters) for k in sizes(count)}


def differences(
    later: Mapping[str, tuple[int, int, str]], earlier: Mapping[str, tuple[int, int, str]], count: int
) -> dict[int, Estimate]:
    """k -> the paired difference of pass@k, over the cases of which both have all samples judged."""
    both = [name for name in later if later[name][0] == count == earlier.get(name, (0, 0, ""))[0]]
    clusters = [later[name][2] for name in both]
    return {
        k: difference(
            [pass_at_k(count, later[name][1], k) for name in both],
            [pass_at_k(count, earlier[name][1], k) for name in both],
            clusters,
        )
        for k in sizes(count)
    }


def plain(
    found: Mapping[str, tuple[int, int, str]], count: int, temperature: float, task: Task
) -> dict[str, Any]:
    """What is kept: the figures, and of every case how many samples were judged and right, to compute them again."""
    by, top = standard(task)
    shown = {
        f"pass@{k}": {"mean": e.value, "low": e.low, "high": e.high, "n": e.n}
        for k, e in figures(found, count).items()
    }
    cases = {name: {"judged": n, "right": right} for name, (n, right, _) in found.items()}
    return {
        "samples": count,
        "temperature": temperature,
        "right": f"{by} >= {top:g}",
        **shown,
        "cases": cases,
    }
