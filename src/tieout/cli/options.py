"""A command's options: a dataclass, whose string under each field is the help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from math import isfinite
from typing import Any, TypeVar, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from ..config.docs import field_docs
from ..errors import InputError

Parsed = TypeVar("Parsed")
_REGISTRY = ConstructorRegistry()


def parse(options: type[Parsed], command: str, arguments: Sequence[str]) -> Parsed:
    """Parse the arguments; print the help, or the mistake in them, and exit where there are no options to return."""
    parsed = tyro.cli(options, prog=f"tieout {command}", args=list(arguments), registry=_REGISTRY)
    _refuse_infinite(parsed)
    return parsed


def task_options(task: str | None, given: Sequence[str]) -> dict[str, Any]:
    """Options of a task from `KEY=VALUE`, with values read as YAML. InputError: there is no task, or no `=`."""
    from ..config.yaml_file import parse_value

    if given and not task:
        raise InputError("--task-option is for a task of the library or your own: give --task too")
    found = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--task-option {setting!r}: expected KEY=VALUE, such as path=rows.json")
        found[key.strip()] = parse_value(text, f"--task-option {key.strip()}")
    return found


def _refuse_infinite(options: Any) -> None:
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, float) and not isfinite(value):
            raise InputError(f"--{field.name.replace('_', '-')} is {value}; expected a finite number")
        if is_dataclass(value):
            _refuse_infinite(value)


@_REGISTRY.struct_rule
def _dataclass(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass with the help in one piece: tyro itself breaks lines where the source does."""
    if not (isinstance(info.type, type) and is_dataclass(info.type)):
        return None
    given = None if info.default in (tyro.MISSING, tyro.MISSING_NONPROP) else info.default
    hints, docs = get_type_hints(info.type, include_extras=True), field_docs(info.type)
    return StructConstructorSpec(
        instantiate=info.type,
        fields=tuple(
            StructFieldSpec(
                field.name,
                hints[field.name],
                _default(field) if given is None else getattr(given, field.name),
                " ".join(docs.get(field.name, "").split()) or None,
            )
            for field in fields(info.type)
            if field.init
        ),
    )


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is MISSING else field.default
