"""What a gain of reward consists of, in words; and the cases that a candidate made worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .evaluate import Case
from .readings import SCORE, Reading, judged


def change(figure: Mapping[str, Any]) -> str:
    """A paired difference as a verb: `rose`, `fell`, or `is not shown to have changed`."""
    if figure["n"] and figure["low"] > 0:
        return "rose"
    if figure["n"] and figure["high"] < 0:
        return "fell"
    return "is not shown to have changed"


def gain(figure: Mapping[str, Any], primary: str | None) -> str:
    """A paired difference of reward taken apart: the primary metric, the reward, and what its change consists of."""
    if not figure["n"]:
        return "no case was scored for both models"
    sentences = []
    if primary is not None:
        main = judged(figure, primary)
        numbers = f" ({_interval(main)})" if main["n"] else ""
        sentences.append(f"{primary}, the primary metric, {change(main)}{numbers}")
    reward = f"the reward {change(figure)} ({_interval(figure)})"
    if figure["parts"]:
        sentences.append(f"{reward}: {_points(figure)}{_most(figure)}")
    else:
        others = {
            name: metric for name, metric in figure["metrics"].items() if name != primary and metric["n"]
        }
        shown = [f"{name} {change(metric)} ({_interval(metric)})" for name, metric in others.items()]
        sentences.append("; ".join([reward, *shown]))
    return "; ".join(sentences)


def _points(figure: Mapping[str, Any]) -> str:
    """`schema +0.050, figures +0.010`, the largest first."""
    return ", ".join(f"{name} {value:+.3f}" for name, value in _sorted(figure))


def _most(figure: Mapping[str, Any]) -> str:
    """Which part most of the change is; empty where no change is shown."""
    sign = 1 if figure["low"] > 0 else -1 if figure["high"] < 0 else 0
    same = [(name, sign * value) for name, value in _sorted(figure) if sign * value > 0]
    if not same:
        return ""
    what, total = ("gain" if sign > 0 else "loss"), sum(value for _, value in same)
    largest = same[0]
    if largest[1] > 0.5 * total:
        return f"; most of the {what} is {largest[0]}"
    return f"; the largest parts of the {what} are {same[0][0]} and {same[1][0]}"


def _sorted(figure: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(part, its difference), by size; what the parts leave unexplained counts as one."""
    points = [(name, part["difference"] or 0.0) for name, part in figure["parts"].items()]
    if abs(figure["rest"]) > 1e-9:
        points.append(("unexplained", figure["rest"]))
    return sorted(points, key=lambda point: -abs(point[1]))


def _interval(figure: Mapping[str, Any]) -> str:
    return f"{figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]"


def regressions(
    candidate: Sequence[Case], baseline: Sequence[Case], primary: str | None, drop: float
) -> list[dict[str, Any]]:
    """Cases whose reward or primary metric is lower by more than `drop`, the largest loss first."""
    theirs = {case.id: case for case in baseline}
    wanted = {"reward": SCORE} | ({} if primary is None else {"primary": Reading("metrics", primary)})
    found: list[tuple[float, dict[str, Any]]] = []
    for case in candidate:
        other = theirs.get(case.id)
        if other is None:
            continue
        numbers = {name: (reading.of(case), reading.of(other)) for name, reading in wanted.items()}
        lost = [b - a for a, b in numbers.values() if a is not None and b is not None]
        if lost and max(lost) > drop + 1e-9:
            values = {name: {"candidate": a, "baseline": b} for name, (a, b) in numbers.items()}
            found.append((max(lost), {"case": case.id, "track": case.track, "slice": case.slice, **values}))
    return [entry for _, entry in sorted(found, key=lambda item: (-item[0], item[1]["case"]))]
