"""pass@k: the probability that at least one of k samples is right, estimated without bias from n of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards.scoring.outcomes import reward_range
from ..rewards.scoring.runner import Combined
from ..storage.jsonl import stored
from ..tasks import Task
from .evaluate import Case, write_cases
from .scoring import sampled_cases, samples_file
from .stats import Estimate, difference, mean

_NUMBER = ", sample "
Samples = Mapping[str, Sequence[Sequence[Case]]]
"""Model -> its samples, each a case per row."""


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


def rights(
    samples: Sequence[Sequence[Case]], metric: str | None, least: float
) -> dict[str, tuple[int, int, str]]:
    """Case -> (samples that were judged, those that are right, its cluster). A sample without a score is not judged.

    `metric`: that a sample is judged by; None: the reward. `least`: from which value on it is right.
    """
    found: dict[str, tuple[int, int, str]] = {}
    for drawn in samples:
        for case in drawn:
            value = case.score if metric is None else case.metrics.get(metric)
            n, right, _ = found.get(case.id, (0, 0, ""))
            if value is not None:
                n, right = n + 1, right + (value >= least - 1e-6)
            found[case.id] = n, right, case.cluster or case.id
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


def settings(task: Task, count: int, temperature: float) -> dict[str, Any]:
    """What the figures depend on in addition to the samples, as a report has it."""
    _, least = standard(task)
    return {"count": count, "temperature": temperature, "metric": task.primary, "least": least}


def pass_figures(samples: Samples, given: Mapping[str, Any], pair: tuple[str, str] | None) -> dict[str, Any]:
    """What a report has: `models`, model -> `pass@k` -> mean, low, high and n; and of the pair (candidate, baseline),
    if there is one, the paired `difference`, candidate minus baseline. `given`: of `settings`.
    """
    count, by = given["count"], (given["metric"], given["least"])
    found = {model: rights(own, *by) for model, own in samples.items()}
    shown: dict[str, Any] = {
        "models": {model: _plain(figures(own, count), "mean") for model, own in found.items()}
    }
    if pair is not None:
        shown |= dict(zip(("candidate", "baseline"), pair, strict=True))
        shown["difference"] = _plain(differences(found[pair[0]], found[pair[1]], count), "difference")
    return shown


def _plain(estimates: Mapping[int, Estimate], name: str) -> dict[str, dict[str, Any]]:
    return {
        f"pass@{k}": {name: e.value, "low": e.low, "high": e.high, "n": e.n} for k, e in estimates.items()
    }


def in_words(given: Mapping[str, Any]) -> str:
    """What was sampled, and which samples are right."""
    by = given["metric"] or "reward"
    return (
        f"{given['count']} samples at temperature {given['temperature']:g}; right: {by} >= {given['least']:g}"
    )


def write_samples(cases: Path, samples: Samples) -> None:
    """Keep all samples next to a file of cases, in its form, under the names `MODEL, sample 3`; no file without any."""
    path = samples_file(cases)
    stored(path).unlink(missing_ok=True)
    if samples:
        bare = {
            f"{model}{_NUMBER}{i}": [replace(case, usage={}, sampled=()) for case in own]
            for model, drawn in samples.items()
            for i, own in enumerate(drawn, 1)
        }
        write_cases(path.with_name(f"{path.name}.gz"), bare)


def read_samples(cases: Path) -> dict[str, list[list[Case]]]:
    """Model -> its samples, each a case per row; empty where none were kept."""
    found = dict[str, list[list[Case]]]()
    for name, own in sampled_cases(cases).items():
        found.setdefault(name.rpartition(_NUMBER)[0], []).append(own)
    return found
