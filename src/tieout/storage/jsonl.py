"""JSON lines: read with their line numbers, written whole or appended line by line; `.gz` is compressed."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError
from .atomic import write_atomic


def write_text(path: Path, text: str) -> None:
    """Write all of it or nothing; half a surrogate pair, which UTF-8 cannot say, becomes its escape."""
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """One JSON value per line, as readable as UTF-8 allows, atomically: the old file stays until the new one is whole.

    A path that ends in `.gz` is compressed, to the same bytes for the same rows.
    ValueError, TypeError: NaN or inf, or a value that JSON cannot say (see `as_json`).
    """
    data = "".join(_line(row) for row in rows).encode()
    write_atomic(path, gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)


def stored(path: Path) -> Path:
    """The file, or the same one compressed next to it: `NAME.gz`. InputError: both are there."""
    compressed = path.with_name(f"{path.name}.gz")
    if not compressed.exists():
        return path
    if path.exists():
        raise InputError(f"{path} and {compressed.name} are both there; remove the one that does not count")
    return compressed


def content_sha256(path: Path) -> str:
    """Hex digest of what is in a file, so that compressing it changes nothing."""
    return hashlib.sha256(_bytes(path)).hexdigest()


def append_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Add lines to a log. NaN and inf become null; a line torn by a crash or a full disk is dropped first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, "a+b") as file:
            _drop_torn_line(file)
            file.write("".join(_line(_finite(row)) for row in rows).encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def as_json(value: Any) -> Any:
    """What Parquet, datasets and numpy hold beyond JSON; only values whose text is the same everywhere."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be written as JSON")


def read_json(path: Path) -> Any:
    """The JSON value in a file; the file and line are named if there is none."""
    try:
        return json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank."""
    # Only "\n" ends a line: str.splitlines would also break at characters that JSON strings may contain.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(value, dict):
            raise InputError(f"{path}:{number}: expected an object {{...}}, found a {type(value).__name__}")
        yield number, value


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects of a log that may be growing: a last line that is not whole is left out; none if there is no log."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(_read(path).split("\n")[:-1], 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}:{number}: not JSON ({error.msg}); remove the line, or the file"
            ) from error
    return found


def set_aside(*paths: Path) -> list[Path]:
    """Keep files under names with one free number, and return these: sheet.jsonl becomes sheet-1.jsonl."""
    number = 1
    while any(path.with_stem(f"{path.stem}-{number}").exists() for path in paths):
        number += 1
    return [path.rename(path.with_stem(f"{path.stem}-{number}")) for path in paths]


def sha256_text(text: str) -> str:
    """Hex digest of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(row: Any) -> str:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=as_json)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair
        text = json.dumps(row, allow_nan=False, default=as_json)
    return text + "\n"


def _finite(value: Any) -> Any:
    """NaN and inf become null: a metric that cannot be computed must not break the log's JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _drop_torn_line(file: BinaryIO) -> None:
    """Cut a file after its last newline."""
    if not file.seek(0, os.SEEK_END):
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from error


def _read(path: Path) -> str:
    data = _bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x})") from error
