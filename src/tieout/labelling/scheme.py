"""What is asked of every item: pairs, rankings, grades by criteria, or spans with labels; and by which guidelines.

Names are what people read; judgements hold ids, so that a name may change. What was judged by a label that is no
longer there stays in the journal and in exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import InputError
from ..storage.jsonl import sha256_text

Kind = Literal["pairs", "rankings", "grades", "spans"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST = 9
"""Levels of a criterion, and labels: each has a digit as its key."""

GUIDELINES = {
    "pairs": """\
Which one would you rather sign? Compare in this order; the first difference decides.

1. Right: every figure, name and claim agrees with the source. One wrong figure outweighs everything below.
2. Complete: nothing that was asked for is missing.
3. Supported: what is cited is in the source, and says what it is cited for.
4. Usable: in the form that was asked for, without padding or repetition.

Length, confidence and politeness are no merits. Tie: both equally good. Both bad: you would sign neither.""",
    "rankings": """\
Order them by which you would rather sign, the best first. Right comes before complete, complete before supported,
supported before usable. Length, confidence and politeness are no merits. Equally good ones may share a place.""",
    "grades": "Grade each criterion by itself. A figure that does not agree with the source is never right.",
    "spans": "Select what is wrong, as little of it as shows the fault, and say what kind of fault it is.",
}


@dataclass(frozen=True)
class Criterion:
    """One scale of a rubric."""

    id: str
    name: str
    levels: dict[str, str]
    """Number, as text -> name; at most nine."""


@dataclass(frozen=True)
class Scheme:
    """The question of a project."""

    kind: Kind
    criteria: tuple[Criterion, ...] = ()
    labels: dict[str, str] | None = None
    """Id -> name, of spans."""
    guidelines: str = ""

    @property
    def guidelines_sha256(self) -> str:
        """Which version of the guidelines it is."""
        return sha256_text(self.guidelines)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "criteria": [asdict(one) for one in self.criteria]}


def make_scheme(kind: Kind, file: Path | None = None, guidelines: str = "") -> Scheme:
    """The scheme of a kind, with the criteria or labels of a YAML file where there is one.

    criteria: {right: {name: Right, levels: {0: a figure is wrong, 1: all agree}}}
    labels: {wrong_figure: Wrong figure, unsupported: Not in the source}
    """
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    given = {}
    if file:
        from ..config.yaml_file import read_yaml

        given = read_yaml(file)
    wanted = {"grades": "criteria", "spans": "labels"}.get(kind)
    if unknown := [key for key in given if key != wanted]:
        raise InputError(f"{file}: {unknown[0]!r} is not for {kind}; expected {wanted or 'no such file'}")
    guidelines = guidelines.strip() or GUIDELINES[kind]
    if kind == "grades":
        found = given.get("criteria", {"good": {"name": "Good", "levels": {0: "no", 1: "yes"}}})
        return Scheme(kind, tuple(_criteria(found, file)), None, guidelines)
    if kind == "spans":
        labels = given.get("labels", {"wrong": "Wrong", "unsupported": "Not in the source"})
        return Scheme(kind, (), _names(labels, f"{file}: labels"), guidelines)
    return Scheme(kind, (), None, guidelines)


def _criteria(given: Any, file: Path | None) -> list[Criterion]:
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"{file}: criteria: expected names with their levels")
    found = []
    for name, own in given.items():
        where = f"{file}: criteria: {name}"
        if not isinstance(own, Mapping) or set(own) - {"name", "levels"} or "levels" not in own:
            raise InputError(f"{where}: expected {{name: ..., levels: {{0: ..., 1: ...}}}}")
        levels = _names(own["levels"], f"{where}: levels")
        if len(levels) < 2 or not all(level.lstrip("-").isdecimal() for level in levels):
            raise InputError(f"{where}: levels are {', '.join(levels)}; expected two whole numbers or more")
        ordered = dict(sorted(levels.items(), key=lambda level: int(level[0])))
        found.append(Criterion(str(name), str(own.get("name", name)), ordered))
    return found


def _names(given: Any, where: str) -> dict[str, str]:
    if not isinstance(given, Mapping) or not given or len(given) > MOST:
        raise InputError(f"{where}: expected 1 to {MOST} ids with their names")
    return {str(key): str(value) for key, value in given.items()}
