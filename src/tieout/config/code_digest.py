"""Digests of the user's own code, for the identity of a run: of a file with what it imports, or of one function."""

from __future__ import annotations

import hashlib
import inspect
import io
import sys
import tokenize
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .attribute import FILE_MODULE
from .siblings import siblings


def file_code(file: Path) -> str:
    """SHA-256 of a Python file and of the files next to it that it imports; comments and blank lines do not count."""
    try:
        near = list(siblings(file).values())
    except SyntaxError:  # it fails where it is imported, and says so there
        near = []
    return _sha256("\n".join(_without_comments(path.read_text("utf-8")) for path in (file, *near)))


def function_code(function: Callable[..., Any]) -> dict[str, str]:
    """Name of the file or function -> digest, of a function or class that is not installed; empty for all others.

    One that was loaded from a file by its path stands for the whole file. Any other stands for itself alone, an object
    for its class: the program that defines it may change around it.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or getattr(module, "__file__", None) is None:
        return {}
    file = Path(str(module.__file__))
    if module.__name__.startswith(FILE_MODULE):
        return {file.name: file_code(file)}
    if {"site-packages", "dist-packages"} & set(file.parts) or module.__name__.startswith("tieout."):
        return {}  # its version is on record
    named = function if hasattr(function, "__qualname__") else type(function)
    try:
        return {named.__qualname__: _sha256(_without_comments(inspect.getsource(named)))}
    except (OSError, TypeError):  # defined where there is no file
        return {}


def together(codes: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Digests of several functions as one; of files that have the same name in different folders, all of them."""
    found: dict[str, set[str]] = {}
    for code in codes:
        for name, digests in code.items():
            found.setdefault(name, set()).update(digests.split())
    return {name: " ".join(sorted(digests)) for name, digests in found.items()}


def _without_comments(source: str) -> str:
    lines = source.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, SyntaxError):  # such as the source of an indented function
        pass
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
