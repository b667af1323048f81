"""The choice of a model in words, and its table, as terminal and page show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def step_in_words(step: Mapping[str, Any], min_gain: float) -> str:
    """One comparison in words."""
    if step["better"]:
        return f"better than {step['against']}: {numbers(step)}, p {step['p']:.2g}"
    if step["high"] < 0:
        return f"worse than {step['against']}: {numbers(step)}"
    by = f" by more than {min_gain:g}" if min_gain else ""
    return (
        f"not shown to be better than {step['against']}{by}: {numbers(step)}, p {step['p']:.2g} where "
        f"{step['level']:.2g} is asked; this sample would have shown {step['smallest_detectable']:.3f}"
    )


def reasons(
    taken: str,
    steps: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    priced: bool,
    answers: int,
) -> list[str]:
    """Sentences on the choice, the decisive one first."""
    by = "cost" if priced else "time of this machine (no prices are given)"
    decisive = next((step for step in reversed(steps) if step["better"]), None)
    first = (
        f"take {taken}: {decisive['said']}"
        if decisive
        else f"take {taken}: it is the cheapest, and no dearer one is shown to be better"
    )
    found = [f"{first}. Ordered by {by} of training and {answers:,} answers"]
    found += [f"{step['model']}: {step['said']}" for step in steps if step is not decisive]
    return found + [f"{row['model']}: not to be taken: {row['out']}" for row in rows if row["out"]]


def numbers(figure: Mapping[str, Any]) -> str:
    return f"{figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}] on {figure['n']} pairs"


HEADER = ("model", "score", "cost of 1000", "s per answer", "tokens/s", "trained", "needs")


def table(choice: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row per model, as terminal and page show them; the taken one has a mark."""
    return [
        (
            f"{row['model']}{' ←' if row['model'] == choice['taken'] else ' (not to be taken)' if row['out'] else ''}",
            "–" if row["mean"] is None else f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            "–" if row["cost"] is None else f"{row['cost']:.4g}",
            "–" if row["seconds"] is None else f"{row['seconds']:.3g}",
            "–" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:.0f}",
            f"{row['trained_seconds']:.0f} s" if row["trained_seconds"] else "–",
            ", ".join(row["needs"]) or "–",
        )
        for row in choice["rows"]
    ]
