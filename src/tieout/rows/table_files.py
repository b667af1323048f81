"""CSV, Parquet and saved `datasets` folders as rows."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

from .decoding import decode
from .locations import Rows, RowsError
from .messages import without_gaps

_LABELS = {"true": True, "1": True, "false": False, "0": False}
_NUMBERS = ("chosen_score", "rejected_score", "score_chosen", "score_rejected", "pair_weight")
"""Columns of pairs that hold numbers; an empty cell is none."""


def read_csv(path: Path) -> Rows:
    text = decode(path.read_bytes(), path, 1)
    old_limit = csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long prompt
    try:
        return _csv_rows(path, text)
    finally:
        csv.field_size_limit(old_limit)


def _csv_rows(path: Path, text: str) -> Rows:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    rows, lines = [], []
    line = 1
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if not names:
                names = cells
                if len(set(names)) < len(names):
                    raise RowsError(f"{path}:{start}: the header names a column twice: {', '.join(names)}")
            elif cells:
                if len(cells) != len(names):
                    divided = {"\t": "tabs", ";": "semicolons", ",": "commas"}[delimiter]
                    raise RowsError(
                        f"{path}:{start}: {len(cells)} cells; the header has {len(names)}, divided by {divided}: put a "
                        "cell that holds one, or a line break, into double quotes"
                    )
                row: dict[str, Any] = dict(zip(names, cells, strict=True))
                label = row.get("label")
                if isinstance(label, str):
                    row["label"] = _LABELS.get(label.lower(), label)
                row.update((name, _number(row[name])) for name in _NUMBERS if name in row)
                rows.append(row)
                lines.append(start)
    except csv.Error as error:
        raise RowsError(f"{path}:{line}: not CSV: {error}") from error
    return Rows(rows, source=str(path), lines=lines)


def _number(cell: str) -> float | str | None:
    """A cell as a number; text that is none stays."""
    try:
        return float(cell) if cell.strip() else None
    except ValueError:
        return cell


def _delimiter(text: str) -> str:
    """Of the header: a spreadsheet of a country whose decimals have commas writes semicolons, others tabs."""
    header = text.partition("\n")[0]
    return next((mark for mark in (";", "\t") if mark in header and "," not in header), ",")


def read_parquet(path: Path) -> Rows:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RowsError(f"{path}: not readable as Parquet: {str(error).splitlines()[0]}") from error
    return Rows(map(without_gaps, table.to_pylist()), source=str(path))


def read_saved(path: Path) -> Rows:
    if not (path / "state.json").is_file():
        splits = path / "dataset_dict.json"
        hint = "; it holds several splits, name one of its folders" if splits.is_file() else ""
        raise RowsError(f"{path} is a folder; expected a file, or a folder written by save_to_disk{hint}")
    from datasets import load_from_disk

    return Rows(map(without_gaps, load_from_disk(str(path)).to_list()), source=str(path))
