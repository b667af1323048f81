"""Tokens, seconds and cost per answer, of each model of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any

from ..errors import InputError
from . import stats
from .evaluate import PROGRAMMATIC, Case

PER = 1000
"""Answers that a cost is of: one alone is a fraction of a cent."""


@dataclass(frozen=True)
class Price:
    """What a model costs, in any currency."""

    prompt: float = 0.0
    """A million tokens of prompts."""
    answer: float = 0.0
    """A million tokens of answers."""
    hour: float = 0.0
    """An hour of the machine that it runs on."""

    @classmethod
    def of(cls, text: str) -> Price:
        """From `PROMPT,ANSWER` per million tokens, or `HOUR/h`.

        >>> Price.of("0.15,0.6"), Price.of("2.5/h")
        (Price(prompt=0.15, answer=0.6, hour=0.0), Price(prompt=0.0, answer=0.0, hour=2.5))
        """
        parts = re.fullmatch(r"\s*([^,/]+)(?:,([^,/]+)|/\s*h)\s*", str(text))
        try:
            first, second = (float(parts[i]) if parts[i] is not None else None for i in (1, 2))  # type: ignore[index]
        except (TypeError, ValueError):
            first = second = None
        if first is None or not all(isfinite(n) and n >= 0 for n in (first, second or 0.0)):
            raise InputError(
                f"price {text!r}: expected PROMPT,ANSWER per million tokens, such as 0.15,0.6, or HOUR/h, such as 2.5/h"
            )
        return cls(hour=first) if second is None else cls(first, second)

    def cost(self, used: Mapping[str, float]) -> float:
        """Of one answer."""
        tokens = used["prompt_tokens"] * self.prompt + used["tokens"] * self.answer
        return tokens / 1e6 + used["seconds"] * self.hour / 3600


def parse_prices(given: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """Model -> price, from `MODEL=PRICE`. InputError: no such model, or no price."""
    found = {}
    for setting in given:
        name, _, text = setting.rpartition("=")
        if name not in models:
            raise InputError(
                f"--price {setting!r}: expected MODEL=PRICE, where MODEL is one of: {', '.join(models)}"
            )
        Price.of(text)
        found[name] = text
    return found


def usage_figures(
    cases: Mapping[str, Sequence[Case]],
    baseline: str,
    slice: str | None = None,
    prices: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Model -> what an answer takes on the programmatic track, or on one slice of it.

    `n` answers whose sampler counted, of `cases`; `prompt_tokens` and `tokens`, the latter with its interval;
    `seconds`, which are the machine's and have none; `cost` of 1000 answers where there is a price; and `longer`, the
    paired difference of tokens to the baseline. Models whose sampler did not count are left out.
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
        cells = [
            f"{model}{few}",
            f"{figure['prompt_tokens']:.1f}",
            f"{tokens['mean']:.1f} [{tokens['low']:.1f}, {tokens['high']:.1f}]",
            f"{longer['difference']:+.1f} [{longer['low']:+.1f}, {longer['high']:+.1f}]" if longer else "–",
            f"{figure['seconds']:.3g}",
        ]
        rows.append((*cells, *([f"{figure['cost']:.4g}" if "cost" in figure else "–"] if priced else [])))
    return (*HEADER, *([COST] if priced else [])), rows
