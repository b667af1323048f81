"""Methods and their fields, read from the source: importing them loads torch, which takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ..rows import Kind

PACKAGE = Path(__file__).resolve().parents[1]
ROWS: Mapping[str, Kind] = {
    "sft": "demonstration",
    "rejection_sampling": "prompt",
    "reward_model": "ranking",
    "dpo": "preference",
    "online_dpo": "prompt",
    "kto": "label",
    "orpo": "preference",
    "cpo": "preference",
    "simpo": "preference",
    "grpo": "prompt",
    "dr_grpo": "prompt",
    "dapo": "prompt",
    "gspo": "prompt",
    "cispo": "prompt",
    "rloo": "prompt",
    "ppo": "prompt",
    "distill": "prompt",
}
"""Name of a method -> the kind of its rows."""
LEAST: Mapping[str, float] = {"batch_size": 1, "learning_rate": 0, "max_new_tokens": 1}
"""Field -> the smallest value that every method takes."""

COMPARED = ("online_dpo", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo")
"""Methods that compare the completions of a group, which has at least two."""

UNSCORED = ("distill",)
"""Methods that sample, and need no reward."""


@cache
def fields_of(method: str) -> dict[str, str]:
    """Field of a method of the library -> its annotation."""
    return fields_in(_table()[method], *sorted(PACKAGE.glob("methods/*.py")))


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


@cache
def _table() -> dict[str, str]:
    """Name -> class, of `tieout.methods.METHODS`."""
    tree = ast.parse((PACKAGE / "methods" / "table.py").read_text(encoding="utf-8"))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
    ]
    pairs = zip(values[0].keys, values[0].values, strict=True)
    return {str(k.value): v.id for k, v in pairs if isinstance(k, ast.Constant) and isinstance(v, ast.Name)}
