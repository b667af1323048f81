"""Decode files as UTF-8; an error names the line and the byte."""

from __future__ import annotations

from pathlib import Path

from .locations import RowsError


def decode(data: bytes, path: Path, line: int) -> str:
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
