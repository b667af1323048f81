"""The documentation of a config: the string under each field of its dataclass."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from functools import cache


def field_docs(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass, bases included; fields without one are left out.

    >>> from tieout.samplers import SamplingParams
    >>> field_docs(SamplingParams)["max_new_tokens"]
    'Completions are cut off after this many tokens.'
    """
    docs: dict[str, str] = {}
    for part in reversed(cls.__mro__):
        if is_dataclass(part):
            docs.update(_own_docs(part))
    return docs


@cache
def _own_docs(cls: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # defined in a shell: there is no file to read
        return {}
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for line, below in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            docs[line.target.id] = inspect.cleandoc(below.value.value)
    return docs
