"""Load an attribute of a module or of a Python file by its name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import CellType, ModuleType
from typing import Any

from ..errors import InputError, TieoutError
from .siblings import shadowed, siblings

FILE_MODULE = "tieout_file_"
"""What the names of modules start with that were loaded from a file by its path."""
_DIGEST = "__tieout_digest__"
"""On such a module: the SHA-256 of the file that was imported."""


def load_attribute(spec: str) -> Any:
    """What `file.py:attribute` or `package.module:attribute` names."""
    place, _, attribute = spec.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place, spec)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            functions = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
            raise InputError(f"{spec!r}: {place} has no {attribute!r}; it has: {', '.join(functions)}")
        found = getattr(found, name)
    return found


def imported_digest(function: Any) -> str:
    """SHA-256 of the file that a function was loaded from by its path, as it was then; empty for any other."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    return str(getattr(module, _DIGEST, ""))


def same_function(one: Any, other: Any, above: tuple[tuple[int, int], ...] = ()) -> bool:
    """Whether two are one function, also where its file was loaded twice: equal code, defaults and closure.

    Two closures of one factory are one only if what they close over is. `above`: pairs that are being compared.
    """
    pair = id(one), id(other)
    if one is other or pair in above:  # a function may close over itself
        return True
    code = getattr(one, "__code__", None)
    if code is None or code != getattr(other, "__code__", None):
        return _equal(one, other)
    if code.co_filename != other.__code__.co_filename:
        return False
    held, there = _held(one), _held(other)
    return len(held) == len(there) and all(
        same_function(a, b, (*above, pair)) for a, b in zip(held, there, strict=True)
    )


def _held(function: Any) -> list[Any]:
    """What a function has besides its code: its object, its defaults, and the cells that it closes over."""
    named = function.__kwdefaults__ or {}
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
    own = getattr(function, "__self__", None)
    return [own, function.__defaults__, [named[name] for name in sorted(named)], *cells]


def _equal(one: Any, other: Any) -> bool:
    kinds = [(type(value).__module__, type(value).__qualname__) for value in (one, other)]
    loaded_twice = type(one) is not type(other) and kinds[0] == kinds[1] and hasattr(one, "__dict__")
    try:
        return bool(vars(one) == vars(other) if loaded_twice else one == other)
    except Exception:  # an array has no single truth
        return False


def _load_module(place: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise InputError(f"{spec!r}: cannot import {place!r} ({error})") from error


def _load_file(path: Path) -> ModuleType:
    """Import a file under a name of its own, so that two files called reward.py do not meet; one that has not changed
    is imported once.

    Files of its folder can be imported from it, after all that is installed. InputError: by such a name another file is
    imported, of another folder.
    """
    if not path.is_file():
        raise InputError(f"file {path} does not exist (looked in {Path.cwd()})")
    path = path.resolve()
    name = f"{FILE_MODULE}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    before = sys.modules.get(name) if sys.pycache_prefix != os.devnull else None
    if before is not None and getattr(before, _DIGEST, "") == digest:
        return before
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"file {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look their module up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what lies next to it; last, so that it hides nothing installed
    try:
        near = siblings(path)
        spec.loader.exec_module(module)
        _refuse_another(module, path)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, TieoutError) or not isinstance(error, Exception):
            raise
        raise InputError(f"file {path} cannot be imported{_line(error, path)}: {_said(error)}") from error
    if wrong := shadowed(near):
        del sys.modules[name]
        raise InputError(f"file {path}: {wrong}")
    setattr(module, _DIGEST, digest)
    return module


def _refuse_another(module: ModuleType, path: Path) -> None:
    """InputError: it imports a module of a name that lies next to it, and got another one."""
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        beside = path.parent / f"{name}.py"
        if not isinstance(name, str) or "." in name or not beside.is_file() or beside == path:
            continue
        found = getattr(sys.modules.get(name), "__file__", None)
        if found is None or Path(found).read_bytes() != beside.read_bytes():
            raise InputError(
                f"file {path} imports {name!r}, and got {found or 'a built-in module'}, not {beside}, which lies next "
                "to it: rename one of them"
            )


@contextmanager
def from_source() -> Iterator[None]:
    """Import what is imported meanwhile from its source: compiled code that lies next to it is not looked at."""
    before = sys.pycache_prefix, sys.dont_write_bytecode
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
    try:
        yield
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode = before


def _line(error: Exception, path: Path) -> str:
    """` (line N)`: where in the file it was raised, or where its syntax is wrong."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.filename == str(path) else ""
    lines = [
        number for frame, number in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)
    ]
    return f" (line {lines[-1]})" if lines else ""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
