"""What can be claimed of evidence: intact, and recomputed; `shipping.fresh` adds what was re-performed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from ..rewards.processes.workers import Workers
from ..storage import manifest
from ..storage.identity import folder_digest
from .chosen import chosen, samples_of
from .evaluate import HUMAN
from .readings import NONE
from .report import FORMER
from .scoring import rescore
from .verify import figures_differ, files_differ, run_of

Level = Literal["intact", "recomputed", "re-performed"]


@dataclass(frozen=True)
class Claim:
    """One thing that was checked, or could not be."""

    level: Level
    what: str
    said: str
    """What was checked, or why it was not."""
    problems: list[str] = field(default_factory=list)
    checked: bool = True
    left: int = 0
    """Cases that it does not cover, where it covers others."""

    @property
    def status(self) -> str:
        """`holds`, `differs`, or `not checked`."""
        return "differs" if self.problems else "holds" if self.checked else "not checked"


def claim(level: Level, what: str, said: str, find: Callable[[], list[str]]) -> Claim:
    """A claim with the problems that `find` finds; that something cannot be read is one."""
    try:
        return Claim(level, what, said, find())
    except (InputError, OSError) as error:
        return Claim(level, what, said, [f"cannot be checked: {error}"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return Claim(level, what, said, [f"cannot be checked: {type(error).__name__}: {error}"])


def intact(report: Mapping[str, Any], path: Path, head: str = "") -> list[Claim]:
    """Whether the files are those that the run wrote and the report was made from."""
    run, files = run_of(path), len(report["files"])
    return [
        _manifest(run, head),
        claim(
            "intact",
            "files of the report",
            f"{files} files have the digests it names",
            lambda: files_differ(report, path),
        ),
        *_models(report, run),
    ]


def recomputed(report: Mapping[str, Any], path: Path, workers: Workers | None = None) -> list[Claim]:
    """Whether the figures follow from the cases, and the scores from the outputs."""
    found = [
        claim(
            "recomputed",
            "figures",
            f"every figure and the verdict, from the cases{_people(report)}{_shorter(report)}",
            lambda: figures_differ(report, path),
        )
    ]
    try:
        again = rescore(path.parent, workers)
        found.append(Claim("recomputed", "scores", again.said, again.problems, again.scored > 0, again.left))
    except (AttributeError, InputError, LookupError, TypeError, ValueError) as error:
        found.append(
            Claim("recomputed", "scores", "from the outputs", [f"nothing can be scored again: {error}"])
        )
    if counts := samples_of(report):
        said, problems = chosen(path.parent, counts, workers)
        found.append(Claim("recomputed", "best of N", said, problems))
    return found


def _shorter(report: Mapping[str, Any]) -> str:
    former = report["format"] == FORMER
    return f", with the shorter intervals of format {FORMER}" if former else ""


def _people(report: Mapping[str, Any]) -> str:
    """How many pairs people graded, and how many are ties since both outputs are the same."""
    figures = [pair["tracks"].get(HUMAN, NONE) for pair in report["comparisons"]]
    settled = sum(figure.get("settled", 0) for figure in figures)
    graded = sum(figure["n"] for figure in figures) - settled
    alike = f"; {settled} more have the same output and are ties" if settled else ""
    return f" and {graded} graded pairs{alike}" if graded or settled else ""


def _manifest(run: Path, head: str) -> Claim:
    if not (run / manifest.FILE).exists():
        problems = [f"{manifest.FILE}: not there, and a line of it was named"] if head else []
        return Claim(
            "intact",
            "manifest",
            "no manifest: made before there were any, or a step removed it",
            problems,
            False,
        )
    state, _ = manifest.replay(run)
    said = f"{len(state.files)} files of {len(state.steps)} steps; head {state.head}"
    said += ", the given one among its steps" if head else ""
    return claim("intact", "manifest", said, lambda: manifest.check(run, head))


def _models(report: Mapping[str, Any], run: Path) -> list[Claim]:
    """Adapters that were evaluated, where they still lie in the run folder."""
    known = report.get("metadata", {}).get("models", {})
    problems, count = list[str](), 0
    for name, identity in known.items():
        digest = identity.get("trained") if isinstance(identity, Mapping) else None
        places = [run / name / "adapter", run / name / "reward_model" / "adapter"]
        there = next((place for place in places if place.is_dir()), None)
        if not digest or there is None:
            continue
        count += 1
        try:
            found = folder_digest(there)
        except (InputError, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        if found != digest:
            was = f"(digest {found[:16]}, was {digest[:16]})"
            problems.append(f"{name}: its adapter was replaced since it was evaluated {was}")
    if not count:
        return []
    return [Claim("intact", "models", f"{count} adapters are those that were evaluated", problems)]


def as_lines(claims: Sequence[Claim]) -> list[str]:
    """A line per claim, and below it one per problem; names from the folder cannot pass for a line of their own."""
    lines = []
    for claim in claims:
        lines.append(f"{claim.level:<12} {claim.status:<11} {claim.what}: {claim.said}")
        lines += [f"    {problem}" for problem in claim.problems]
    return ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines]
