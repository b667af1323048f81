"""The human-graded track: a blinded sheet of pairs for people to fill in, and the reading of their grades.

`sheet.jsonl` shows two outputs per row, named a and b; which model wrote which is decided by a seeded coin
per row and kept apart, in `key.json`. A person replaces `"preferred": null` by "a", "b" or "tie", by the rubric
in `rubric.md`. The first comparison of the sheet is the one that the gate judges.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards.text.thinking import after_thinking
from ..storage.atomic import write_json
from ..storage.jsonl import read_json, read_jsonl, set_aside, sha256_text, write_jsonl, write_text
from .evaluate import Case, plain_prompt

PREFERRED = ("a", "b", "tie")
RUBRIC = """\
Which output would you rather sign? Compare in this order; the first difference decides.

1. Right: every figure, name and claim agrees with the prompt. One wrong figure outweighs everything below.
2. Complete: nothing that was asked for is missing.
3. Supported: what is cited is in the prompt, and says what it is cited for.
4. Usable: in the form that was asked for, without padding or repetition.

Length, confidence and politeness are no merits. Where both are equally right or equally wrong, write "tie"."""
"""What people grade by, unless a run has a rubric of its own. The first line is on every row."""
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
    settled: bool = False
    """Nobody was asked: both outputs are the same."""

    def shares(self) -> dict[str, float]:
        """Model -> the share it won: 1, 0.5 or 0."""
        won = SHARE[self.preferred]
        return {self.model_a: won, self.model_b: 1.0 - won}


def write_sheet(
    folder: Path,
    cases: Mapping[str, Sequence[Case]],
    pairs: Sequence[tuple[str, str]],
    num_cases: int = 100,
    seed: int = 0,
    rubric: str = "",
) -> Path:
    """Write `sheet.jsonl`, `rubric.md` and `key.json` and return the sheet's path.

    Each (candidate, baseline) of `pairs` has a random sample of `num_cases` cases that both models have, in random
    order, the same cases for every pair where all models have them. A sheet that already holds the same pairs is left
    alone, grades and all; one with other pairs and a grade in it is kept under a numbered name, together with its key.
    Two outputs that are the same are a tie already.
    """
    rows: list[dict[str, Any]] = []
    assignment: dict[str, dict[str, str]] = {}
    rubric = rubric.strip() or RUBRIC
    for names in pairs:
        if names[0] == names[1]:
            raise InputError(f"candidate and baseline are both {names[0]!r}; a pair needs two models")
        ours, theirs = ({case.id: case for case in cases[name]} for name in names)
        both = [name for name in ours if name in theirs]
        sample = random.Random(f"{seed}/sample").sample(both, min(num_cases, len(both)))
        random.Random(f"{seed}/order/{'/'.join(names)}").shuffle(sample)
        for case in sample:
            outputs = [(names[0], ours[case]), (names[1], theirs[case])]
            if random.Random(f"{seed}/{'/'.join(names)}/{case}").random() < 0.5:
                outputs.reverse()
            (a, one), (b, other) = outputs
            number = f"{len(rows) + 1}"
            row = {"pair": number, "case": case, "prompt": plain_prompt(one.prompt)}
            row.update(output_a=_shown(one), output_b=_shown(other))
            assignment[number] = {"case": case, "a": a, "b": b, "sha256": _fingerprint(row)}
            same = "tie" if row["output_a"] == row["output_b"] else None
            rows.append({**row, "question": rubric.splitlines()[0], "preferred": same})
    plain = [list(names) for names in pairs]
    key = {"pairs": plain, "seed": seed, "rubric": rubric, "assignment": assignment}
    paths = sheet_path, key_path, rubric_path = [
        folder / name for name in ("sheet.jsonl", "key.json", "rubric.md")
    ]
    if sheet_path.exists() and key_path.exists():
        if read_json(key_path) == key and rubric_path.exists():
            return sheet_path
        # One that somebody has begun to grade is kept; one with no grade in it is worth nothing.
        if any(row.get("preferred") is not None and not settled(row) for _, row in read_jsonl(sheet_path)):
            set_aside(*(path for path in paths if path.exists()))
    write_json(key_path, key)
    write_text(rubric_path, _instructions(rubric, len(rows), len(pairs)))
    write_jsonl(sheet_path, rows)
    return sheet_path


def settled(row: Mapping[str, Any]) -> bool:
    """Whether a row of a sheet needs nobody: both outputs are the same, and it is a tie."""
    return row.get("preferred") == "tie" and row["output_a"] == row["output_b"]


def settled_ties(sheet: Path, key: Path, grades: Sequence[Grade]) -> list[Grade]:
    """Ties of pairs whose outputs are the same, as far as the sheet was graded.

    In each comparison those before the last graded pair; all of them if no other pair is left.
    A sheet is in random order. All of them next to a few grades would outweigh the pairs that nobody looked at.
    """
    if not (sheet.exists() and key.exists()):
        return []
    assignment, found = read_json(key)["assignment"], list[Grade]()
    graded = {(grade.case, frozenset((grade.model_a, grade.model_b))) for grade in grades}
    compared: dict[frozenset[str], list[dict[str, Any]]] = {}
    for _, row in read_jsonl(sheet):
        if known := assignment.get(row.get("pair")):
            compared.setdefault(frozenset((known["a"], known["b"])), []).append(row)
    for models, rows in compared.items():
        others = [i for i, row in enumerate(rows) if not settled(row)]
        done = [i for i in others if (rows[i]["case"], models) in graded]
        end = len(rows) if len(done) == len(others) else max(done, default=0)
        names = [assignment[row["pair"]] for row in rows[:end] if settled(row)]
        found += [Grade(one["case"], one["a"], one["b"], "tie", settled=True) for one in names]
    return found


def _shown(case: Case) -> str:
    """What people compare: the answer, without the thinking before it; of an episode all that was said."""
    if case.dialogue:
        return "\n\n".join(f"[{who}]\n{text}" for who, text in case.dialogue)
    said = after_thinking(case.completion)
    return "(no answer: its thinking never ended)" if said is None else said


def _instructions(rubric: str, rows: int, pairs: int) -> str:
    """The rubric, with how the sheet is filled in."""
    first = f"Pairs 1 to {rows // pairs} decide the verdict; start with them. " if pairs > 1 else ""
    return (
        f"# How to grade\n\n{rubric}\n\n## How to fill in the sheet\n\n"
        'In `sheet.jsonl`, replace `"preferred": null` by `"a"`, `"b"` or `"tie"`, and change nothing else. '
        f"{first}Leave rows that you do not grade as they are; where both outputs are the same, a tie stands there. "
        "For a spreadsheet: `tieout label RUN --export sheet --out sheet.csv`; fill in its last column, then "
        "`tieout gate RUN --human sheet.csv`. "
        "`key.json` says which model wrote which output: do not read it before you are done.\n"
    )


def read_grades(path: Path, key: Path | None = None, models: Collection[str] | None = None) -> list[Grade]:
    """The grades in a filled sheet (with its key) or, without a key, in a file that names the models.

    A line of the latter is {"case", "model_a", "model_b", "preferred": "a" | "b" | "tie"}; several people may
    grade one case there. Lines not filled in are left out, settled ones of a sheet too. No file: no grades.
    Raises ValueError with the file and line for an unknown case or model, an output that is not the one written, or
    another value.
    """
    if not path.exists():
        return []
    assignment = None if key is None else read_json(key)["assignment"]
    grades: list[Grade] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        preferred = said(row.get("preferred"))
        if (preferred is None and "preferred" in row) or (assignment is not None and settled(row)):
            continue
        if preferred not in PREFERRED:
            expected = '"a", "b", "tie" or null (not graded)'
            raise InputError(f"{where}: preferred is {preferred!r}; expected {expected}")
        if not isinstance(row.get("case"), str):
            raise InputError(f"{where}: no case; the line has: {', '.join(row)}")
        row = {**row, "preferred": preferred}
        grade = _named(row, where) if assignment is None else unblinded(row, assignment, where, seen, number)
        for model in (grade.model_a, grade.model_b):
            if models is not None and model not in models:
                raise InputError(f"{where}: unknown model {model!r}; evaluated were: {', '.join(models)}")
        grades.append(grade)
    return grades


def is_sheet(path: Path) -> bool:
    """Whether a file is a sheet, filled in or not: it shows two outputs a line, and does not say whose they are."""
    first = next((row for _, row in read_jsonl(path)), {})
    return "output_a" in first and "model_a" not in first


def take_sheet(filled: Path, sheet: Path) -> None:
    """Put a sheet that was filled in elsewhere in the place of a run's own; one with other grades in it is kept under
    a numbered name. InputError, with its line: it is not the sheet of this run."""
    read_grades(filled, sheet.with_name("key.json"))
    graded = {row.get("pair"): row for _, row in read_jsonl(sheet) if row.get("preferred") is not None}
    given = {row.get("pair"): row for _, row in read_jsonl(filled)}
    if any(given.get(pair) != row for pair, row in graded.items()):
        set_aside(sheet)
    write_text(sheet, filled.read_text(encoding="utf-8"))


def said(preferred: Any) -> Any:
    """A grade as people write it: in any case; nothing, or blanks, for one that was not given.

    >>> said(" A"), said("Tie"), said("")
    ('a', 'tie', None)
    """
    return (preferred.strip().lower() or None) if isinstance(preferred, str) else preferred


def _named(row: dict[str, Any], where: str) -> Grade:
    missing = [name for name in ("model_a", "model_b") if not isinstance(row.get(name), str)]
    if missing:
        raise InputError(f"{where}: no {' and no '.join(missing)}; the line has: {', '.join(row)}")
    if row["model_a"] == row["model_b"]:
        raise InputError(f"{where}: model_a and model_b are both {row['model_a']!r}; expected two models")
    return Grade(row["case"], row["model_a"], row["model_b"], row["preferred"])


def unblinded(
    row: dict[str, Any], assignment: dict[str, dict[str, str]], where: str, seen: dict[str, int], number: int
) -> Grade:
    """The grade of a filled row of a sheet. InputError: not a row that was written, or one that was `seen`."""
    # Sheets of one comparison only were numbered by their cases.
    name = row["pair"] if isinstance(row.get("pair"), str) else row["case"]
    if name not in assignment:
        raise InputError(f"{where}: unknown pair {name!r}; the key has {len(assignment)} other pairs")
    if name in seen:
        raise InputError(f"{where}: pair {name!r} is graded again, first on line {seen[name]}")
    known = assignment[name]
    if _fingerprint(row) != known["sha256"]:
        raise InputError(
            f"{where}: the case, the prompt or an output of pair {name!r} is not the one that was written; "
            "change nothing but `preferred`"
        )
    seen[name] = number
    return Grade(row["case"], known["a"], known["b"], row["preferred"])


def _fingerprint(row: dict[str, Any]) -> str:
    """What a grader saw."""
    shown = [row.get(name) for name in ("case", "prompt", "output_a", "output_b")]
    return sha256_text(json.dumps(shown, sort_keys=True))
