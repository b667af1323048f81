"""Tokens, seconds and cost per answer, of each model of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ..samplers.prices import Price
from . import stats
from .evaluate import PROGRAMMATIC, Case

PER = 1000
"""Answers that a cost is of: one alone is a fraction of a cent."""


def usage_figures(
    cases: Mapping[str, Sequence[Case]],
    baseline: str,
    slice: str | None = None,
    prices: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Model -> what an answer takes on the programmatic track, or on one slice of it.

    `n` answers whose sampler counted, of `cases`; `prompt_tokens` and `tokens`, the latter with its interval;
    `seconds`, which are the machine's and have none; how many were `cut_off`, if the sampler says; `cost` of 1000
    answers where there is a price; and `longer`, the paired difference of tokens to the baseline. Models whose sampler
    did not count are left out.
    """
    counted = {model: _counted(own, slice) for model, own in cases.items()}
    longest = max((used["tokens"] for own in counted.values() for used in own.values()), default=0.0)
    bounds = (0.0, max(1.0, longest))
    shared = {case.id: case.cluster or case.id for own in cases.values() for case in own}
    found = {}
    for model, own in counted.items():
        if not own:
            continue
        clusters = [shared[name] for name in own]
        tokens = stats.mean([used["tokens"] for used in own.values()], clusters, bounds, seed)
        figure: dict[str, Any] = {
            "n": len(own),
            "cases": sum(_there(case, slice) for case in cases[model]),
            "prompt_tokens": fmean(used["prompt_tokens"] for used in own.values()),
            "tokens": {"mean": tokens.value, "low": tokens.low, "high": tokens.high},
            "seconds": fmean(used["seconds"] for used in own.values()),
        }
        ends = [used["cut_off"] for used in own.values() if "cut_off" in used]
        if len(ends) == len(own):
            figure["cut_off"] = int(sum(ends))
        if price := (prices or {}).get(model):
            figure["cost"] = PER * fmean(Price.of(price).cost(used) for used in own.values())
        both = [name for name in own if name in counted.get(baseline, {})]
        if model != baseline and both:
            ours, theirs = ([counted[m][name]["tokens"] for name in both] for m in (model, baseline))
            longer = stats.difference(ours, theirs, [shared[name] for name in both], bounds, seed)
            figure["longer"] = {
                "difference": longer.value,
                "low": longer.low,
                "high": longer.high,
                "n": longer.n,
            }
        found[model] = figure
    return found


def _counted(cases: Sequence[Case], slice: str | None) -> dict[str, Mapping[str, float]]:
    return {case.id: case.usage for case in cases if case.usage and _there(case, slice)}


def _there(case: Case, slice: str | None) -> bool:
    return case.track == PROGRAMMATIC and slice in (None, case.slice)


HEADER = ("model", "prompt", "tokens", "longer", "seconds")
COST = f"cost of {PER}"


def table(figures: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows, as terminal, page and card show them; the cost only where one is known."""
    priced = any("cost" in figure for figure in figures.values())
    rows = []
    for model, figure in figures.items():
        tokens, longer = figure["tokens"], figure.get("longer")
        few = f" ({figure['n']} of {figure['cases']} counted)" if figure["n"] < figure["cases"] else ""
        cut = f" ({figure['cut_off']} cut off)" if figure.get("cut_off") else ""
        cells = [
            f"{model}{few}{cut}",
            f"{figure['prompt_tokens']:.1f}",
            f"{tokens['mean']:.1f} [{tokens['low']:.1f}, {tokens['high']:.1f}]",
            f"{longer['difference']:+.1f} [{longer['low']:+.1f}, {longer['high']:+.1f}]" if longer else "–",
            f"{figure['seconds']:.3g}",
        ]
        rows.append((*cells, *([f"{figure['cost']:.4g}" if "cost" in figure else "–"] if priced else [])))
    return (*HEADER, *([COST] if priced else [])), rows
