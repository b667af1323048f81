"""JSON Lines and JSON lists as rows; every refusal names file and line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .decoding import decode
from .locations import Rows, RowsError, kind_of

LARGEST = 16_000_000
"""Bytes of a row: four million tokens."""


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


def _number(text: str) -> float:
    if math.isinf(number := float(text)):
        raise _Refused(f"{text} is larger than any number of 64 bits")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_number)


def read_json(path: Path) -> Rows:
    data = path.read_bytes()
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    entries = _array(path, data) if start == b"[" else _lines(path, data)
    rows, lines = [], []
    for line, row in entries:
        if not isinstance(row, dict):
            raise RowsError(f"{path}:{line}: expected a JSON object with columns, found {kind_of(row)}")
        rows.append(row)
        lines.append(line)
    apart = len(set(lines)) == len(lines)  # a list in one line has no line for each row
    return Rows(rows, source=str(path), lines=lines if apart else None)


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    """JSON Lines: (line, value). Blank lines are skipped, but counted."""
    parts = data.split(b"\n")
    for number, part in enumerate(parts, start=1):
        _refuse_large(path, number, len(part))
        text = decode(part, path, number).strip()
        if not text:
            continue
        try:
            value = _loads(text)
        except json.JSONDecodeError as error:
            torn = number == len(parts)  # the last part has no newline after it
            hint = _document_hint(text, error)
            hint = hint or ("; the file ends inside this line: is it complete?" if torn else "")
            raise RowsError(
                f"{path}:{number}: not JSON at column {error.colno}: {error.msg}{hint}"
            ) from error
        except (_Refused, RecursionError, ValueError) as error:
            raise RowsError(f"{path}:{number}: {_reason(error)}") from error
        yield number, value


def _refuse_large(path: Path, line: int, size: int) -> None:
    if size > LARGEST:
        raise RowsError(
            f"{path}:{line}: a row of {size / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} are read, as no model's context "
            "holds more: leave it out, or cut it"
        )


def _document_hint(text: str, error: json.JSONDecodeError) -> str:
    """The cause, where a line is no torn JSON but another notation."""
    if text == "{":
        return "; expected one object a line, or a list of objects in [ ]"
    if error.msg == "Extra data":
        if text[error.pos :].strip() == ",":
            return "; a comma follows the object: leave it out, or put all objects into one list in [ ]"
        return "; there is more after the object: expected one object a line"
    if text.startswith("{'"):
        return "; this looks like Python's notation: expected double quotes, true, false and null, as json.dumps writes"
    return ""


def _trailing_comma(text: str, position: int) -> str:
    """A hint, if what stands before the position is a comma and what stands there closes something."""
    if text[:position].rstrip()[-1:] == "," and text[position : position + 1] in ("]", "}"):
        return "; leave out the comma after the last value"
    return ""


def _array(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    """One JSON list: (line on which the element starts, element)."""
    text = decode(data, path, 1)
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
        begin = position
        try:
            value, position = _decode_at(text, position)
        except json.JSONDecodeError as error:
            ended = error.pos >= len(text.rstrip())
            hint = "; the file ends here: is it complete?" if ended else _trailing_comma(text, error.pos)
            raise RowsError(
                f"{path}:{error.lineno}: not JSON at column {error.colno}: {error.msg}{hint}"
            ) from error
        except (_Refused, RecursionError, ValueError) as error:
            raise RowsError(f"{path}:{line}: {_reason(error)}") from error
        _refuse_large(path, line, position - begin)
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
