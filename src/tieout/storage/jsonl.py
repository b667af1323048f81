"""Evidence on disk: JSON lines with their line numbers, and files that are whole or absent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from .atomic import write_atomic


def write_text(path: Path, text: str) -> None:
    """Write all of it or nothing; half a surrogate pair, which UTF-8 cannot say, becomes its escape."""
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """One JSON value a line, as readable as UTF-8 allows."""
    write_text(path, "".join(_line(row) + "\n" for row in rows))


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


def set_aside(*paths: Path) -> None:
    """Keep files under names with one free number: sheet.jsonl becomes sheet-1.jsonl."""
    number = 1
    while any(path.with_stem(f"{path.stem}-{number}").exists() for path in paths):
        number += 1
    for path in paths:
        path.rename(path.with_stem(f"{path.stem}-{number}"))


def sha256_text(text: str) -> str:
    """Hex digest of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(row: Any) -> str:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(row, allow_nan=False)
    return text


def _read(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x})") from error
