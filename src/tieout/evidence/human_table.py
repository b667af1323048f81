"""The sheet of the human track as a table for a spreadsheet, and the grades in one that people filled in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rows import location, read_rows
from ..rows.messages import prompt_text
from ..storage.atomic import write_atomic
from ..storage.jsonl import read_json, read_jsonl
from .human import PREFERRED, said, settled

TABLES = (".csv", ".tsv")


def table_of(sheet: Path) -> list[dict[str, str]]:
    """The rows to fill in: pairs whose outputs differ. `preferred` is what was filled in before, if anything."""
    return [
        {
            "pair": row["pair"],
            "prompt": prompt_text(row["prompt"]),
            "output_a": row["output_a"],
            "output_b": row["output_b"],
            "preferred": said(row.get("preferred")) or "",
        }
        for _, row in read_jsonl(sheet)
        if not settled(row)
    ]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV, or for FILE.tsv divided by tabs; what is no text is JSON. A BOM tells spreadsheets of UTF-8."""
    text = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, dialect="excel-tab" if path.suffix.lower() == ".tsv" else "excel")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in row.items()}
        )
    write_atomic(path, text.getvalue().encode("utf-8-sig"))


def grades_in(table: Path, sheet: Path, key: Path) -> list[dict[str, Any]]:
    """Rows of case, model_a, model_b, preferred, from a table with `pair` or with those columns.

    Rows without a grade are left out. InputError: what is wrong with which row.
    """
    return list(_grades(table, sheet, key))


def _grades(table: Path, sheet: Path, key: Path) -> Iterator[dict[str, Any]]:
    rows = read_rows(table)
    assignment = read_json(key)["assignment"] if key.exists() else {}
    written = {row["pair"]: row for _, row in read_jsonl(sheet)} if sheet.exists() else {}
    for index, row in enumerate(rows):
        where = location(rows, index)
        if "preferred" not in row:
            raise InputError(f"{where}: no column 'preferred'; the table has: {', '.join(row)}")
        preferred = said(row["preferred"])
        if preferred is None:
            continue
        if preferred not in PREFERRED:
            raise InputError(
                f"{where}: preferred is {row['preferred']!r}; expected a, b, tie or nothing (not graded)"
            )
        if "pair" not in row:
            yield {**row, "preferred": preferred}
            continue
        known, own = assignment.get(row["pair"]), written.get(row["pair"])
        if known is None or own is None:
            raise InputError(
                f"{where}: unknown pair {row['pair']!r}; the sheet has {len(written)} other pairs"
            )
        for name in ("output_a", "output_b"):
            if name in row and row[name].split() != own[name].split():
                raise InputError(f"{where}: {name} of pair {row['pair']!r} is not the one that was written; fill in "
                                 "'preferred' alone")  # fmt: skip
        yield {"case": known["case"], "model_a": known["a"], "model_b": known["b"], "preferred": preferred}
