"""Rows of data: read them, check that they fit a method, hash them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..config.weights import weights_of
from ..storage.jsonl import as_json
from ..types import Kind, Row
from .checks import KINDS, LongRows, check_general, check_rows, is_general
from .json_files import read_json
from .locations import Rows, RowsError, kind_of, location, raise_problems
from .sources import HUB, mixed, read_hub
from .table_files import read_csv, read_parquet, read_saved

__all__ = [
    "KINDS",
    "Kind",
    "LongRows",
    "Rows",
    "RowsError",
    "check_general",
    "check_rows",
    "data_hash",
    "is_general",
    "location",
    "raise_problems",
    "read_rows",
]

_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}


def read_rows(source: str | Path | Iterable[Row]) -> Rows:
    """Rows of a file (.jsonl, .json, .csv, .tsv, .parquet), a saved `datasets` folder, or already in memory; of several
    files, `a.jsonl=2.0 b.jsonl=0.5`; of a data set of the hub, `hub:OWNER/NAME:SPLIT`.

    FileNotFoundError; RowsError: an empty or unreadable file, a line that is not a JSON object, a key twice.
    CSV cells are text; only a column `label` of true/false or 1/0 is read as true and false, and the scores and weights
    of pairs (`chosen_score`, `rejected_score`, `pair_weight`) as numbers.
    """
    if not isinstance(source, str | Path):
        return _in_memory(source)
    path = Path(source)
    if not path.exists():
        if str(source).startswith(HUB):
            return read_hub(str(source))
        if parts := weights_of(str(source), "data"):
            return mixed(parts, read_rows)
    if path.is_dir():
        return read_saved(path)
    if os.path.lexists(path) and not path.is_file():
        kind = (
            "a link that leads nowhere"
            if path.is_symlink()
            else "no regular file, such as a pipe or a device"
        )
        raise RowsError(f"{path} is {kind}; give a file")
    if not path.is_file():
        raise FileNotFoundError(f"data file not found: {path}{_similar(path)}")
    return _file(path)


def _file(path: Path) -> Rows:
    """Rows of one file, by its suffix."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RowsError(
            f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(_READERS)}"
        )
    rows = reader(path)
    if not rows:
        raise RowsError(f"{path}: the file has no rows")
    return rows


def _similar(path: Path) -> str:
    """A hint at a file with a similar name in the same folder."""
    if not path.parent.is_dir() and (len(path.parts) != 2 or path.suffix) and " " not in str(path):
        return f"; there is no folder {path.parent} either"
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    found = get_close_matches(path.name, near, n=1)
    if len(several := str(path).split()) > 1 and all(Path(one).suffix in _READERS for one in several):
        weights = " ".join(f"{one}=1.0" for one in several)
        return f"; several files have weights, how often their rows are learned: {weights}"
    hub = f"; a data set of the hub is hub:{path}" if len(path.parts) == 2 and not path.suffix else ""
    return f"; did you mean {path.parent / found[0]}?" if found else hub


def _in_memory(source: Any) -> Rows:
    if isinstance(source, Rows):
        return source
    if isinstance(source, Mapping):
        kind = "DatasetDict" if type(source).__name__ == "DatasetDict" else type(source).__name__
        raise RowsError(
            f"expected rows, found one {kind} with {', '.join(map(str, source))}; choose one of them"
        )
    rows = list(source)
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise RowsError(f"rows, row {index + 1}: expected a mapping of columns, found {kind_of(row)}")
    if not rows:
        raise RowsError("there are no rows")
    return Rows(rows)


def data_hash(rows: Iterable[Row]) -> str:
    """SHA-256 over the rows in their order, whatever the order of their keys."""
    digest = hashlib.sha256()
    for row in rows:
        text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=as_json)
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
