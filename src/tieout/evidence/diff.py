"""Compare two runs: what changed, what that did to the numbers, and whether re-validation is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .across import Across, Numbers, numbers_of
from .changes import NOTED, Change, all_changes, facts_of

NO_NUMBERS = Numbers([], {"same": 0, "first": 0, "second": 0}, {})


@dataclass(frozen=True)
class Diff:
    """What differs between two runs."""

    changes: list[Change]
    numbers: Numbers
    notes: list[str]
    """What could not be compared, or is not the same thing although it has one name."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs: no change, no figure, no output."""
        return (
            not self.changes
            and all(f.equal for f in self.numbers.figures)
            and not any(self.numbers.outputs.values())
        )

    @property
    def reasons(self) -> list[str]:
        """Why the second has to be validated again, a sentence each; none: it does not."""
        found = [f"{_PARTS[c.part]} changed: {c.what}" for c in self.changes if c.revalidate]
        if changed := {name: count for name, count in self.numbers.outputs.items() if count}:
            listed = ", ".join(
                f"{name} {count} of {self.numbers.cases['same']}" for name, count in changed.items()
            )
            found.append(f"Cases answered differently: {listed}")
        return found + [_moved(figure) for figure in self.numbers.figures if figure.moved]

    @property
    def verdict(self) -> str:
        """Whether re-validation is due, in a sentence."""
        if self.reasons:
            return "Re-validation is due: what was validated is not what the second run has."
        if self.equal:
            return "Re-validation is not due: nothing differs."
        said = (
            "the environment and the code of tieout"
            if self._parts == set(NOTED)
            else " and ".join(self._parts)
        )
        if not self.numbers.figures:
            return f"Only {said} changed; there are no cases of both runs to show that it changed no output."
        only = f"only {said} changed, and " if said else ""
        alike = "answer and figure" if all(f.equal for f in self.numbers.figures) else "answer"
        return f"Re-validation is not due: {only}every {alike} is the same."

    @property
    def _parts(self) -> set[str]:
        return {change.part for change in self.changes}

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        figures = [{**asdict(f), "moved": f.moved, "equal": f.equal} for f in self.numbers.figures]
        return {
            "equal": self.equal,
            "revalidation": {"due": bool(self.reasons), "said": self.verdict, "reasons": self.reasons},
            "changes": [asdict(change) for change in self.changes],
            "figures": [_short(figure) for figure in figures],
            "cases": self.numbers.cases,
            "answered_differently": self.numbers.outputs,
            "notes": self.notes,
        }


_PARTS = {
    "data": "Data",
    "configuration": "Configuration",
    "code": "Reward",
    "models": "Model",
    "environment": "Environment",
    "rule": "The gate's rule",
    "verdict": "The verdict",
}


def diff(a: Path, b: Path) -> Diff:
    """Compare two run folders. InputError: one is none."""
    first, second = facts_of(a), facts_of(b)
    notes = [
        f"{name} of {folder} is not on record, and was not compared"
        for name in ("identity", "code", "sources", "environment", "rule")
        for folder, own, other in ((a, first, second), (b, second, first))
        if not getattr(own, name) and getattr(other, name)
    ]
    without = [str(f.folder) for f in (first, second) if not f.report]
    if without:
        return Diff(
            all_changes(first, second), NO_NUMBERS, [*notes, f"no report yet in {', '.join(without)}"]
        )
    if first.sources != second.sources:
        notes.append(
            "The reward's source differs: a difference of scores is of models and of rewards together."
        )
    formats = [one.report["format"] for one in (first, second)]
    if formats[0] != formats[1]:
        notes.append(
            f"The reports are in formats {formats[0]} and {formats[1]}, whose intervals differ in length; "
            "`tieout gate` makes the older one again."
        )
    settings = [one.report["settings"]["primary"] for one in (first, second)]
    if settings[0] != settings[1]:
        notes.append(f"The primary metric differs: {settings[0]} -> {settings[1]}.")
    numbers = numbers_of(a, b, first.report, second.report)
    if not numbers.cases["same"]:
        notes.append("The runs have no case in common: figures stand side by side, without a difference.")
    return Diff(all_changes(first, second), numbers, notes)


def _moved(figure: Across) -> str:
    paired = figure.paired
    return (
        f"{figure.model}, {figure.place}: {figure.label.removeprefix('– ')} {paired['difference']:+.3f} "
        f"[{paired['low']:+.3f}, {paired['high']:+.3f}] on the same {paired['n']} cases"
    )


def _short(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A figure without those of its metrics, parts and slices, which have lines of their own."""
    kept = ("mean", "difference", "low", "high", "n", "errors", "abstained", "p", "test")
    return {
        key: {name: value[name] for name in kept if name in value} if isinstance(value, Mapping) else value
        for key, value in figure.items()
    }
