"""Python files that a file imports from its own folder, found in its source and without running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

INSTALLED = ("site-packages", "dist-packages")
NEVER = {*sys.stdlib_module_names, __name__.partition(".")[0]}


def siblings(file: Path) -> dict[str, Path]:
    """Module name -> its file, of all that a file imports from its folder or below, and that those import in turn.

    Imports inside functions count; names of the standard library, and names that are computed, do not. SyntaxError: the
    file's own.
    """
    root, found = file.resolve().parent, dict[str, Path]()
    todo = [(file.resolve(), "")]
    while todo:
        path, package = todo.pop()
        try:
            names = list(_imported(path, package))
        except (SyntaxError, ValueError):
            if path == file.resolve():
                raise
            continue  # it fails where it is imported, if it is
        for name in names:
            for module, place in _files(root, name):
                if module not in found and place != file.resolve():
                    found[module] = place
                    is_package = place.name == "__init__.py"
                    todo.append((place, module if is_package else module.rpartition(".")[0]))
    return dict(sorted(found.items()))


def shadowed(found: dict[str, Path]) -> str:
    """What a sibling's name imports instead of it, from a folder that is not an installation's; empty: nothing."""
    for name, place in found.items():
        there = _imports(name)
        if there is None or set(INSTALLED) & set(Path(there).parts):
            continue
        if Path(there).resolve() != place and Path(there).read_bytes() != place.read_bytes():
            return f"its import {name!r} gives {there}, another file than {place}; rename one of them"
    return ""


def _imports(name: str) -> str | None:
    """The file that a name imports, or will; None: it is not known before it is imported."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    if "." in name:  # finding it would import what it is in
        return None
    spec = find_spec(name)
    return spec.origin if spec and spec.has_location else None


def _imported(path: Path, package: str) -> Iterator[str]:
    """Dotted names that a file may import, in full."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            of = ".".join([*filter(None, above), *filter(None, [node.module])])
            yield from ([of] if of else [])
            yield from (f"{of}.{alias.name}".lstrip(".") for alias in node.names)


def _files(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The files in a folder that importing a dotted name runs, with their module names."""
    parts = name.split(".")
    if parts[0] in NEVER:
        return
    for i in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:i])
        module = ".".join(parts[:i])
        if (place / "__init__.py").is_file():
            yield module, place / "__init__.py"
        elif place.with_suffix(".py").is_file():
            yield module, place.with_suffix(".py")
            return
        elif not place.is_dir():
            return
