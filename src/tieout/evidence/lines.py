"""The order in which people read a report: test slice before others, primary metric before reward before its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .evaluate import HUMAN, PROGRAMMATIC, TRACKS
from .readings import NONE, Kind, in_order, slice_of


@dataclass(frozen=True)
class Line:
    """A row of a table: one number, on a track or on a slice of it."""

    track: str
    slice: str | None
    kind: Kind
    name: str

    @property
    def label(self) -> str:
        """What the number is."""
        if self.kind == "reward" and self.track != PROGRAMMATIC:
            return "share won" if self.track == HUMAN else "score"
        return {"primary": f"{self.name} (primary)", "part": f"– {self.name}"}.get(self.kind, self.name)

    def of(self, tracks: Mapping[str, Any]) -> Mapping[str, Any]:
        """The figure of a model or of a comparison, from its tracks; `NONE` where it has none."""
        whole = slice_of(tracks.get(self.track, NONE), self.slice)
        if self.kind == "reward":
            return whole
        found: Mapping[str, Any] = whole.get("parts" if self.kind == "part" else "metrics", {}).get(
            self.name, NONE
        )
        return found


def lines(report: Mapping[str, Any]) -> list[Line]:
    """Every line of a report's tables, empty tracks included."""
    settings = report["settings"]
    return lines_of(report["models"], settings["primary"], settings["policy"]["programmatic_slice"])


def lines_of(models: Mapping[str, Any], primary: str | None, judged: str | None) -> list[Line]:
    """The same, of models' tracks, the primary metric and the slice that is judged."""
    found = []
    for track, slice in places(models, judged):
        kinds = dict.fromkeys(
            (kind, name)
            for tracks in models.values()
            for kind, name, _ in in_order(slice_of(tracks.get(track, NONE), slice), primary)
        )
        rank = {"primary": 0, "reward": 1, "part": 2, "metric": 3}
        ordered = sorted(kinds, key=lambda key: rank[key[0]])
        found += [Line(track, slice, kind, name) for kind, name in ordered]
    return found


def places(models: Mapping[str, Any], judged: str | None) -> list[tuple[str, str | None]]:
    """(track, slice): each track, and its slices where there is more than one; the judged slice first.

    Where one slice of the programmatic track decides, the mean over all its slices is not shown: a mixture of
    test and out-of-distribution cases is no population. It is in report.json.
    """
    found: list[tuple[str, str | None]] = []
    tracks: dict[str, list[str]] = {track: [] for track in TRACKS}
    for own in models.values():
        for track, figure in own.items():
            slices = tracks.setdefault(track, [])
            slices += [name for name in figure["slices"] if name not in slices]
    for track, slices in tracks.items():
        decides = track == PROGRAMMATIC and judged in slices
        if not decides:
            found.append((track, None))
        if len(slices) > 1 or decides:
            found += [
                (track, name) for name in sorted(slices, key=lambda name: not decides or name != judged)
            ]
    return found


def summary(report: Mapping[str, Any]) -> list[Line]:
    """The lines that fit a terminal: all of the judged slice, primary metric and reward of others, whole tracks."""
    found = lines(report)
    first = found[0].slice
    return [
        line
        for line in found
        if (line.track, line.slice) == (PROGRAMMATIC, first)
        or (line.track == PROGRAMMATIC and line.kind in ("primary", "reward"))
        or (line.track != PROGRAMMATIC and line.slice is None)
    ]


def place(line: Line) -> str:
    """Track and slice as words."""
    return line.track.replace("_", " ") + (f", {line.slice}" if line.slice else "")


def short_place(line: Line) -> str:
    """The same for narrow tables: `test`, `ood`, `human`, `controls`."""
    return line.slice if line.slice and line.track == PROGRAMMATIC else place(line).removeprefix("negative ")


def principal(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The comparisons of candidate, baseline and base; a report may have more."""
    settings = report["settings"]
    names = {settings["candidate"], settings["baseline"], settings["base"]}
    return [c for c in report["comparisons"] if {c["candidate"], c["baseline"]} <= names]
