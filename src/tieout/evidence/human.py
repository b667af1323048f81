"""The human-graded track: a blinded sheet of pairs for people to fill in, and the reading of their grades.

`sheet.jsonl` shows two outputs per case, named a and b; which model wrote which is decided by a seeded coin
per case and kept apart, in `key.json`. A person replaces `"preferred": null` by "a", "b" or "tie".
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.atomic import write_json
from ..storage.jsonl import read_json, read_jsonl, set_aside, sha256_text, write_jsonl
from .evaluate import Case, plain_prompt

PREFERRED = ("a", "b", "tie")
SHARE = {"a": 1.0, "tie": 0.5, "b": 0.0}
"""What model_a wins; model_b wins the rest."""


@dataclass(frozen=True, slots=True)
class Grade:
    """A person compared two models' outputs for one case."""

    case: str
    model_a: str
    model_b: str
    preferred: str
    """`a`, `b` or `tie`."""

    def shares(self) -> dict[str, float]:
        """Model -> the share it won: 1, 0.5 or 0."""
        won = SHARE[self.preferred]
        return {self.model_a: won, self.model_b: 1.0 - won}


def write_sheet(
    folder: Path,
    candidate: tuple[str, Sequence[Case]],
    baseline: tuple[str, Sequence[Case]],
    num_cases: int = 50,
    seed: int = 0,
) -> Path:
    """Write `sheet.jsonl` and `key.json` for two (name, cases) and return the sheet's path.

    The cases are a random sample of those that both models have, in random order. A sheet that already holds
    the same pairs is left alone, grades and all; one with other pairs and a grade in it is kept under a
    numbered name, together with its key.
    """
    (candidate_name, candidate_cases), (baseline_name, baseline_cases) = candidate, baseline
    if candidate_name == baseline_name:
        raise InputError(f"candidate and baseline are both {candidate_name!r}; a pair needs two models")
    theirs = {case.id: case for case in baseline_cases}
    pairs = [(case, theirs[case.id]) for case in candidate_cases if case.id in theirs]
    rng = random.Random(f"{seed}/order")
    pairs = rng.sample(pairs, min(num_cases, len(pairs)))
    rows, assignment = [], {}
    for own, other in pairs:
        swapped = random.Random(f"{seed}/{own.id}").random() < 0.5
        a, b = (other, own) if swapped else (own, other)
        row = {"case": own.id, "prompt": plain_prompt(own.prompt)}
        row.update(output_a=a.completion, output_b=b.completion)
        rows.append({**row, "preferred": None})
        names = (baseline_name, candidate_name) if swapped else (candidate_name, baseline_name)
        assignment[own.id] = {"a": names[0], "b": names[1], "sha256": _fingerprint(row)}
    key = {"models": [candidate_name, baseline_name], "seed": seed, "assignment": assignment}
    sheet_path, key_path = folder / "sheet.jsonl", folder / "key.json"
    if sheet_path.exists() and key_path.exists():
        if read_json(key_path) == key:
            return sheet_path
        # One that somebody has begun to grade is kept; one with no grade in it is worth nothing.
        if any(row.get("preferred") is not None for _, row in read_jsonl(sheet_path)):
            set_aside(sheet_path, key_path)
    write_json(key_path, key)
    write_jsonl(sheet_path, rows)
    return sheet_path


def read_grades(path: Path, key: Path | None = None, models: Collection[str] | None = None) -> list[Grade]:
    """The grades in a filled sheet (with its key) or, without a key, in a file that names the models.

    A line of the latter is {"case", "model_a", "model_b", "preferred": "a" | "b" | "tie"}; several people may
    grade one case there. Lines not filled in are left out. No file: no grades. Raises ValueError with the
    file and line for an unknown case or model, an output that is not the one written, or another value.
    """
    if not path.exists():
        return []
    assignment = None if key is None else read_json(key)["assignment"]
    grades: list[Grade] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        preferred = row.get("preferred")
        if preferred is None and "preferred" in row:
            continue
        if preferred not in PREFERRED:
            expected = '"a", "b", "tie" or null (not graded)'
            raise InputError(f"{where}: preferred is {preferred!r}; expected {expected}")
        if not isinstance(row.get("case"), str):
            raise InputError(f"{where}: no case; the line has: {', '.join(row)}")
        grade = _named(row, where) if assignment is None else _unblinded(row, assignment, where, seen, number)
        for model in (grade.model_a, grade.model_b):
            if models is not None and model not in models:
                raise InputError(f"{where}: unknown model {model!r}; evaluated were: {', '.join(models)}")
        grades.append(grade)
    return grades


def _named(row: dict[str, Any], where: str) -> Grade:
    missing = [name for name in ("model_a", "model_b") if not isinstance(row.get(name), str)]
    if missing:
        raise InputError(f"{where}: no {' and no '.join(missing)}; the line has: {', '.join(row)}")
    if row["model_a"] == row["model_b"]:
        raise InputError(f"{where}: model_a and model_b are both {row['model_a']!r}; expected two models")
    return Grade(row["case"], row["model_a"], row["model_b"], row["preferred"])


def _unblinded(
    row: dict[str, Any], assignment: dict[str, dict[str, str]], where: str, seen: dict[str, int], number: int
) -> Grade:
    case = row["case"]
    if case not in assignment:
        raise InputError(f"{where}: unknown case {case!r}; the key has {len(assignment)} other cases")
    if case in seen:
        raise InputError(f"{where}: case {case!r} is graded again, first on line {seen[case]}")
    if _fingerprint(row) != assignment[case]["sha256"]:
        raise InputError(
            f"{where}: the prompt or an output of case {case!r} is not the one that was written; "
            "change nothing but `preferred`"
        )
    seen[case] = number
    return Grade(case, assignment[case]["a"], assignment[case]["b"], row["preferred"])


def _fingerprint(row: dict[str, Any]) -> str:
    """What a grader saw."""
    shown = [row.get(name) for name in ("case", "prompt", "output_a", "output_b")]
    return sha256_text(json.dumps(shown, sort_keys=True))
