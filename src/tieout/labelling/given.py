"""The grades that people hand in to the gate, in each of the forms that they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..evidence.human import is_sheet, take_sheet
from ..evidence.human_table import TABLES, grades_in
from ..storage.jsonl import write_jsonl
from .exports import Row, human_rows
from .journal import read_journal
from .state import State
from .store import JOURNAL


def graded(given: Path, sheet: Path, aside: Path) -> Path | None:
    """A file of rows of case, model_a, model_b and preferred; None: the grades are in the run's sheet.

    `given` is a folder of `tieout label`, a table, the sheet itself, a filled copy of it (which takes its place), or
    such a file. What has to be written is in the folder `aside`. InputError: it is none of these, or a row is wrong.
    """
    key = sheet.with_name("key.json")
    if not given.exists():
        raise InputError(f"{given} does not exist; the sheet to fill in is {sheet}")
    if given.is_dir():
        if not (given / JOURNAL).exists():
            raise InputError(f"{given} holds no {JOURNAL}: it is no folder of `tieout label`")
        return _written(human_rows(State(read_journal(given / JOURNAL)), key), aside)
    if given.suffix.lower() in TABLES:
        return _written(grades_in(given, sheet, key), aside)
    if not sheet.exists() or not is_sheet(given):
        return given
    if not given.samefile(sheet):
        take_sheet(given, sheet)
    return None


def _written(rows: Sequence[Row], folder: Path) -> Path:
    path = folder / "grades.jsonl"
    write_jsonl(path, rows)
    return path
