"""Fields and docstrings of methods, read from the source: importing them loads torch, which takes seconds."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from ..config.method_table import TABLE

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def fields_of(method: str) -> dict[str, str]:
    """Field of a method of the library -> its annotation."""
    return fields_in(TABLE[method].place.partition(":")[2], *sorted(PACKAGE.glob("methods/*.py")))


def about(method: str) -> str:
    """The first sentence of the docstring of a method of the library."""
    file, _, name = TABLE[method].place.partition(":")
    tree = ast.parse((PACKAGE / "methods" / f"{file}.py").read_text(encoding="utf-8"))
    own = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return (ast.get_docstring(own) or "").partition("\n")[0].partition(". ")[0].rstrip(".")


@cache
def fields_in(name: str, *files: Path) -> dict[str, str]:
    """Field -> annotation of a dataclass in one of these files, bases in the same files included."""
    found = {
        node.name: node
        for file in files
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }

    def own(name: str) -> dict[str, str]:
        node, fields = found[name], dict[str, str]()
        for base in reversed(node.bases):
            if isinstance(base, ast.Name) and base.id in found:
                fields |= own(base.id)
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                fields[line.target.id] = ast.unparse(line.annotation)
        return fields

    return own(name)
