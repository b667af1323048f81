"""Figures of two runs: each with its interval, and paired where both ran on the same cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config.plain import fingerprint
from ..errors import InputError
from ..storage.jsonl import read_jsonl, stored
from .evaluate import CONSISTENCY, HUMAN, Case, asked_with, read_cases
from .figures import pair_figures
from .lines import lines, place
from .readings import NONE

FIRST, SECOND = "the first", "the second"


@dataclass(frozen=True)
class Across:
    """One number of a model of the first run and of its counterpart in the second."""

    model: str
    """`dpo`, or `dpo -> grpo` where the candidates have other names."""
    place: str
    label: str
    was: Mapping[str, Any]
    now: Mapping[str, Any]
    paired: Mapping[str, Any]
    """The second minus the first over the cases that both have; n 0: they have none in common."""

    @property
    def moved(self) -> bool:
        """Whether the paired interval excludes 0."""
        return bool(self.paired["n"]) and (self.paired["low"] > 0 or self.paired["high"] < 0)

    @property
    def equal(self) -> bool:
        """Whether both are the same to the last digit."""
        keys = ("mean", "low", "high", "n", "errors", "abstained")
        return all(self.was[key] == self.now[key] for key in keys)


@dataclass(frozen=True)
class Numbers:
    """The figures of two runs side by side."""

    figures: list[Across]
    cases: dict[str, int]
    """`same`, `first`, `second`: cases that both have, and those that only one has, over all tracks."""
    outputs: dict[str, int]
    """Model -> cases that both have and answered differently."""


def numbers_of(a: Path, b: Path, first: Mapping[str, Any], second: Mapping[str, Any]) -> Numbers:
    """Compare candidate with candidate, and models of one name, from the cases and reports of two runs."""
    cases = [read_cases(stored(folder / "evidence" / "cases.jsonl")) for folder in (a, b)]
    rows = [_golds(folder / "evidence") for folder in (a, b)]
    figures, outputs, counts = list[Across](), dict[str, int](), dict[str, int]()
    for name, old, new in counterparts(first, second):
        one, other = cases[0].get(old, []), cases[1].get(new, [])
        shared = common(one, other, *rows)
        counts = counts or {
            "same": len(shared[0]),
            "first": len(one) - len(shared[0]),
            "second": len(other) - len(shared[0]),
        }
        pairs = zip(*shared, strict=True)
        outputs[name] = sum(x.completion != y.completion for x, y in pairs)
        figures += _figures(name, (first, old), (second, new), shared)
    return Numbers(figures, counts or {"same": 0, "first": 0, "second": 0}, outputs)


def counterparts(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, model of the first, model of the second): the candidates, then every other name that both have."""
    old, new = first["settings"]["candidate"], second["settings"]["candidate"]
    found = [(old if old == new else f"{old} -> {new}", old, new)]
    return found + [
        (name, name, name) for name in first["models"] if name in second["models"] and name != old
    ]


def _figures(
    name: str,
    was: tuple[Mapping[str, Any], str],
    now: tuple[Mapping[str, Any], str],
    shared: tuple[list[Case], list[Case]],
) -> list[Across]:
    tracks = [report["models"][model] for report, model in (was, now)]
    paired = {
        track: pair_figures({FIRST: shared[0], SECOND: shared[1]}, (), SECOND, FIRST, track, 0)
        for track in dict.fromkeys(case.track for case in shared[0] if case.track != CONSISTENCY)
    }
    found = []
    for line in dict.fromkeys([*lines(was[0]), *lines(now[0])]):
        figures = [line.of(own) for own in tracks]
        if any(figure["n"] for figure in figures):
            difference = NONE if line.track == HUMAN else line.of(paired)
            found.append(Across(name, place(line), line.label, figures[0], figures[1], difference))
    flips = [report.get("consistency", {}).get(model, {}) for report, model in (was, now)]
    for kind in dict.fromkeys([*flips[0], *flips[1]]):
        before, after = (own.get(kind, NONE) for own in flips)
        found.append(Across(name, "share that flips", kind.replace("_", " "), before, after, NONE))
    return found


def common(
    one: Sequence[Case], other: Sequence[Case], golds: Mapping[str, str], others: Mapping[str, str]
) -> tuple[list[Case], list[Case]]:
    """The cases that both have, in one order and under one id: same track, slice, prompt and, if kept, row."""
    known = golds and others

    def keyed(cases: Sequence[Case], rows: Mapping[str, str]) -> dict[str, Case]:
        seen, found = Counter[str](), dict[str, Case]()
        for case in cases:
            row = rows.get(f"{case.track} {case.id}", "") if known else ""
            key = fingerprint([case.track, case.slice, case.prompt, row])
            found[f"{key} {seen[key]}"] = case
            seen[key] += 1
        return found

    ours, theirs = keyed(one, golds), keyed(other, others)
    both = [key for key in ours if key in theirs]
    return (
        [ours[key] for key in both],
        [replace(theirs[key], id=ours[key].id, cluster=ours[key].cluster) for key in both],
    )


def _golds(evidence: Path) -> dict[str, str]:
    """`track id` of a case -> fingerprint of its row without the prompt; empty where rows were not kept."""
    path = stored(evidence / "rows.jsonl")
    if not path.exists():
        return {}
    rows: dict[tuple[str, str], list[str]] = {}
    for _, line in read_jsonl(path):
        rows.setdefault(asked_with(line["track"], line["slice"]), []).append(fingerprint(line["row"]))
    found = dict[str, str]()
    cases = read_cases(stored(evidence / "cases.jsonl"))
    own: dict[tuple[str, str], list[Case]] = {}
    for case in next(iter(cases.values()), []):
        own.setdefault(asked_with(case.track, case.slice), []).append(case)
    for where, asked in own.items():
        kept = rows.get(where)
        if kept is None or len(kept) != len(asked):
            raise InputError(f"{path} does not have the rows of the cases next to it; see `tieout verify`")
        found |= {f"{case.track} {case.id}": row for case, row in zip(asked, kept, strict=True)}
    return found
