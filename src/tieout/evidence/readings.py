"""The numbers a case has: its reward, the task's metrics, and the points that each part of the reward gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from . import stats
from .evaluate import PROGRAMMATIC, Case, part_key

REWARD = "reward"
NONE: Mapping[str, Any] = {
    **dict.fromkeys(("mean", "difference", "low", "high", "p", "test", "smallest_detectable")),
    **dict.fromkeys(("n", "errors", "abstained", "unpaired", "wins", "ties", "losses"), 0),
}
"""The figure of what was not measured."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One number to read from every case."""

    kind: Literal["reward", "metrics", "parts"]
    name: str = REWARD

    def of(self, case: Case) -> float | None:
        """None: it abstained or errored."""
        if self.kind == "reward":
            return case.score
        return (case.metrics if self.kind == "metrics" else case.parts).get(self.name)

    def status(self, case: Case) -> str:
        """`scored`, `abstained` or `errored`; with a value it is scored, whatever was raised."""
        if self.of(case) is not None:
            return "scored"
        key = {"reward": "score", "metrics": self.name, "parts": part_key(self.name)}[self.kind]
        return "errored" if key in case.errors else "abstained"

    def bounds(self, cases: Mapping[str, Sequence[Case]], track: str) -> stats.Bounds:
        """The scale: 0 to 1, and further where some model's value lies beyond.

        A part gives a share of the reward's points: its scale ends at the most that it gave to any model.
        """
        read = (
            self.of(case) for model_cases in cases.values() for case in model_cases if case.track == track
        )
        known = [value for value in read if value is not None]
        low, high = min([0.0, *known]), max([0.0, *known])
        return (low, high) if self.kind == "parts" and low < high else (low, max(1.0, high))


SCORE = Reading("reward")


def readings(cases: Sequence[Case]) -> list[Reading]:
    """Every metric and part that one of the cases has, or could have had but for an error."""
    metrics = dict.fromkeys(name for case in cases for name in (*case.metrics, *case.errors))
    parts = dict.fromkeys(name for case in cases for name in case.parts)
    others = [name for name in metrics if name != "score" and not name.startswith(part_key(""))]
    return [Reading("metrics", name) for name in others] + [Reading("parts", name) for name in parts]


def judged(figure: Mapping[str, Any], primary: str | None) -> Mapping[str, Any]:
    """The figure of the primary metric; without one, the reward's."""
    if primary is None:
        return figure
    found: Mapping[str, Any] = figure.get("metrics", {}).get(primary, NONE)
    return found


def slice_of(figure: Mapping[str, Any], slice: str | None) -> Mapping[str, Any]:
    """The figure of a slice of a track; None: of all of it."""
    found: Mapping[str, Any] = figure if slice is None else figure.get("slices", {}).get(slice, NONE)
    return found


Kind = Literal["primary", "reward", "part", "metric"]


def in_order(figure: Mapping[str, Any], primary: str | None) -> Iterator[tuple[Kind, str, Mapping[str, Any]]]:
    """(kind, name, figure) as people should read them: primary metric, reward, its parts, further metrics."""
    metrics = figure.get("metrics", {})
    if primary in metrics:
        yield "primary", str(primary), metrics[primary]
    yield "reward", REWARD, figure
    for name, part in figure.get("parts", {}).items():
        yield "part", name, part
    for name, metric in metrics.items():
        if name != primary:
            yield "metric", name, metric


def check_primary(cases: Mapping[str, Sequence[Case]], primary: str | None) -> None:
    """InputError: the programmatic cases have no metric of this name."""
    own = [case for model_cases in cases.values() for case in model_cases if case.track == PROGRAMMATIC]
    names = [reading.name for reading in readings(own) if reading.kind == "metrics"]
    if primary is not None and own and primary not in names:
        raise InputError(
            f"the primary metric {primary!r} is not in the cases; their metrics are: {', '.join(names) or 'none'}"
        )
