"""JSON Lines, JSON lists, CSV and Parquet as rows; every refusal names file and line."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .types import Row


class RowsError(ValueError):
    """Data that cannot be used; the message names file and line, what is there and what is expected."""


class Rows(list[Row]):
    """A list of rows that knows its source and, for text files, the line of each row."""

    def __init__(self, rows: Iterable[Row] = (), source: str = "rows", lines: Sequence[int] | None = None):
        super().__init__(rows)
        self.source = source
        self.lines = lines

    def place(self, index: int) -> str:
        """`train.jsonl:17`, or `train.parquet, row 17` where there are no lines."""
        if self.lines is not None:
            return f"{self.source}:{self.lines[index]}"
        return f"{self.source}, row {index + 1}"


def read_file(path: Path) -> Rows:
    """Rows of one file, by its suffix. RowsError: see `rows.read_rows`."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RowsError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(READERS)}")
    rows = reader(path)
    if not rows:
        raise RowsError(f"{path}: the file has no rows")
    return rows


def kind_of(value: Any) -> str:
    """A value's type in words."""
    names = {
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


# ---------------------------------------------------------------- JSON


class _Refused(ValueError):
    """Valid for Python's parser, but not to be accepted as data."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"key {twice!r} is given twice")
    return row


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is not JSON; use null")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _json(path: Path) -> Rows:
    data = path.read_bytes()
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    entries = _array(path, data) if start == b"[" else _lines(path, data)
    rows, lines = [], []
    for line, row in entries:
        if not isinstance(row, dict):
            raise RowsError(f"{path}:{line}: expected a JSON object with columns, found {kind_of(row)}")
        rows.append(row)
        lines.append(line)
    return Rows(rows, source=str(path), lines=lines)


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    """JSON Lines: (line, value). Blank lines are skipped, but counted."""
    parts = data.split(b"\n")
    for number, part in enumerate(parts, start=1):
        text = _decode(part, path, number).strip()
        if not text:
            continue
        try:
            value = _loads(text)
        except json.JSONDecodeError as error:
            torn = number == len(parts)  # the last part has no newline after it
            hint = "; the file ends inside this line: is it complete?" if torn else _document_hint(path, text)
            raise RowsError(
                f"{path}:{number}: not JSON at column {error.colno}: {error.msg}{hint}"
            ) from error
        except (_Refused, RecursionError, ValueError) as error:
            raise RowsError(f"{path}:{number}: {_reason(error)}") from error
        yield number, value


def _document_hint(path: Path, text: str) -> str:
    if text == "{":
        return "; expected one object a line, or a list of objects in [ ]"
    return ""


def _array(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    """One JSON list: (line on which the element starts, element)."""
    text = _decode(data, path, 1)
    line, seen = 1, 0
    position = text.index("[") + 1
    first = True
    while True:
        position = _skip_space(text, position)
        line, seen = line + text.count("\n", seen, position), position
        if text[position : position + 1] == "]":
            break
        if not first:
            if text[position : position + 1] != ",":
                ended = position >= len(text)
                what = "the file ends inside the list: is it complete?" if ended else "expected ',' or ']'"
                raise RowsError(f"{path}:{line}: not a JSON list: {what}")
            position = _skip_space(text, position + 1)
            line, seen = line + text.count("\n", seen, position), position
        try:
            value, position = _decode_at(text, position)
        except json.JSONDecodeError as error:
            place = f"{path}:{error.lineno}"
            hint = "; the file ends here: is it complete?" if error.pos >= len(text.rstrip()) else ""
            raise RowsError(f"{place}: not JSON at column {error.colno}: {error.msg}{hint}") from error
        except (_Refused, RecursionError, ValueError) as error:
            raise RowsError(f"{path}:{line}: {_reason(error)}") from error
        yield line, value
        first = False
    if text[position + 1 :].strip():
        raise RowsError(f"{path}:{line}: there is more after the list; for one value a line, do not use [ ]")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _decode_at(text: str, position: int) -> tuple[Any, int]:
    value, end = _DECODER.raw_decode(text, position)
    _check_surrogates(text[position:end], value)
    return value, end


def _loads(text: str) -> Any:
    value = _DECODER.decode(text)
    _check_surrogates(text, value)
    return value


def _check_surrogates(text: str, value: Any) -> None:
    r"""Half a surrogate pair, such as "\ud800": no tokenizer takes it and no file can hold it."""
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            half = ord(error.object[error.start])
            raise _Refused(f"\\u{half:04x} is half a character (a lone surrogate)") from error


def _reason(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _decode(data: bytes, path: Path, line: int) -> str:
    """UTF-8, with or without a byte order mark on line 1."""
    try:
        return data.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        if line == 1 and error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise RowsError(f"{path}: the file is UTF-16; save it as UTF-8") from error
        number = line + before.count(b"\n")
        column = error.start - (before.rfind(b"\n") + 1) + 1
        byte = error.object[error.start]
        raise RowsError(
            f"{path}:{number}: not UTF-8: byte 0x{byte:02x} at byte {column} of the line"
        ) from error


# ---------------------------------------------------------------- tables


_LABELS = {"true": True, "1": True, "false": False, "0": False}


def _csv(path: Path) -> Rows:
    text = _decode(path.read_bytes(), path, 1)
    old_limit = csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long prompt
    try:
        return _csv_rows(path, text)
    finally:
        csv.field_size_limit(old_limit)


def _csv_rows(path: Path, text: str) -> Rows:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
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
                    raise RowsError(f"{path}:{start}: {len(cells)} cells; the header has {len(names)}")
                row: dict[str, Any] = dict(zip(names, cells, strict=True))
                label = row.get("label")
                if isinstance(label, str):
                    row["label"] = _LABELS.get(label.lower(), label)
                rows.append(row)
                lines.append(start)
    except csv.Error as error:
        raise RowsError(f"{path}:{line}: not CSV: {error}") from error
    return Rows(rows, source=str(path), lines=lines)


def _parquet(path: Path) -> Rows:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RowsError(f"{path}: not readable as Parquet: {str(error).splitlines()[0]}") from error
    return Rows(table.to_pylist(), source=str(path))


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
