"""A command's options: a dataclass, whose string under each field is the help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from ..config.docs import field_docs
from ..config.elsewhere import ANSWERS, ELSEWHERE
from ..errors import InputError
from .examples import examples

Parsed = TypeVar("Parsed")
_REGISTRY = ConstructorRegistry()
_REWARD = PrimitiveConstructorSpec[str](
    nargs="*",
    metavar="REWARD | REWARD=WEIGHT ...",
    instance_from_str=lambda parts: " ".join(parts),
    is_instance=lambda value: isinstance(value, str),
    str_from_instance=lambda spec: [spec],
)
_DATA = PrimitiveConstructorSpec[Path](
    nargs="*",
    metavar="FILE | FILE=WEIGHT ...",
    instance_from_str=lambda parts: Path(" ".join(parts)),
    is_instance=lambda value: isinstance(value, Path),
    str_from_instance=lambda path: [str(path)],
)
DataSpec = Annotated[Path, _DATA]
"""A file of rows, several with weights, `a.jsonl=2.0 b.jsonl=0.5`, or hub:OWNER/NAME: one text, for `read_rows`."""
RewardSpec = Annotated[str, _REWARD]
"""A reward, or several with their weights, `exact=1.0 length=0.2`: one text, which `load_reward` reads."""


def parse(options: type[Parsed], command: str, arguments: Sequence[str]) -> Parsed:
    """Parse the arguments; print the help, or the mistake in them, and exit where there are no options to return."""
    arguments = _once(list(arguments), _options_of(options))
    try:
        parsed = tyro.cli(options, prog=f"tieout {command}", args=arguments, registry=_REGISTRY)
    finally:
        if {"-h", "--help"} & set(arguments):
            print("\n".join(["", *examples(command)]))
    _refuse_infinite(parsed)
    return parsed


def check_port(port: int | None) -> None:
    """InputError: there is no such port."""
    if port is not None and not 0 <= port <= 65535:
        raise InputError(f"--port is {port}; expected 1 to 65535, or 0 for a free one")


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


def template_options(given: Sequence[str]) -> dict[str, Any]:
    """Options of the chat template from `KEY=VALUE`, or from a JSON object as TRL takes it. InputError: neither.

    >>> template_options(["enable_thinking=false"]), template_options(['{"enable_thinking": false}'])
    ({'enable_thinking': False}, {'enable_thinking': False})
    """
    from ..config.yaml_file import parse_value

    found: dict[str, Any] = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        whole = parse_value(setting, "--chat-template-kwargs") if setting.lstrip().startswith("{") else None
        if isinstance(whole, Mapping):
            found |= whole
        elif equals and key.strip():
            found[key.strip()] = parse_value(text, f"--chat-template-kwargs {key.strip()}")
        else:
            raise InputError(
                f"--chat-template-kwargs {setting!r}: expected KEY=VALUE, such as enable_thinking=false, or JSON"
            )
    return found


def _options_of(cls: Any) -> dict[str, Any]:
    """Name of an option, as it is given -> its type, also of those in dataclasses inside."""
    found: dict[str, Any] = {}
    for name, annotation in get_type_hints(cls, include_extras=True).items():
        inside = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        if is_dataclass(inside):
            own = _options_of(inside)
            flat = inside is not annotation or name in ("run", "method")
            found |= own if flat else {f"{name}.{key}": kind for key, kind in own.items()}
        else:
            found[name] = annotation
    return found


def _once(arguments: list[str], known: Mapping[str, Any]) -> list[str]:
    """The arguments, with the values of an option that takes several and was given several times in one place.

    InputError: another option was given twice, of which all but the last would be ignored; or one of TRL's.
    """
    names, starts = [_name(argument) for argument in arguments], dict[str, list[int]]()
    for at, name in enumerate(names):
        if name and name not in known:
            if (ours := ELSEWHERE.get(name)) in known:
                raise InputError(f"no option {arguments[at]}: here it is --{str(ours).replace('_', '-')}")
            if name in ANSWERS:
                raise InputError(f"no option {arguments[at]}: {ANSWERS[name]}")
        if name:
            starts.setdefault(name if name in known else name.removeprefix("no_"), []).append(at)
    for name, places in starts.items():
        kind = known.get(name)
        if len(places) == 1 or name == "help" or tyro.conf.UseAppendAction in get_args(kind):
            continue
        ends = [next((i for i in range(at + 1, len(names)) if names[i]), len(names)) for at in places]
        spans = list(zip(places, ends, strict=True))
        bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        said = (*get_args(kind), *map(_metadata, get_args(kind)))
        several = get_origin(bare) is tuple or any(one is _REWARD or one is _DATA for one in said)
        if not several or any("=" in arguments[at] for at in places):
            given = ", ".join(" ".join(arguments[at:end]) for at, end in spans)
            raise InputError(f"given {len(places)} times: {given}; an option counts once")
        moved = {i for at, end in spans for i in range(at, end)}
        rest = [argument for i, argument in enumerate(arguments) if i not in moved]
        values = [arguments[i] for i in sorted(moved - set(places))]
        return _once([*rest, arguments[places[0]], *values], known)
    return arguments


def _metadata(kind: Any) -> Any:
    """The first thing that an annotation says in addition to its type; None: it says nothing."""
    return next(iter(getattr(kind, "__metadata__", ())), None)


def _name(argument: str) -> str:
    """`batch_size` of `--batch-size` and `--batch-size=4`; empty for a value."""
    return argument[2:].partition("=")[0].replace("-", "_") if argument.startswith("--") else ""


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
                _shown(field, hints[field.name]),
                _default(field) if given is None else getattr(given, field.name),
                " ".join(docs.get(field.name, "").split()) or None,
            )
            for field in fields(info.type)
            if field.init
        ),
    )


def _shown(field: Field[Any], hint: Any) -> Any:
    """The annotation of a field, with its name in place of a positional's type, no `None` among the values that may be
    given, and no default that says nothing.
    """
    bare, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    options: dict[str, Any] = {}
    required = _default(field) is tyro.MISSING
    if tyro.conf.Positional in said and (bare in (str, Path) or type(None) in get_args(bare)):
        name = str(_REWARD.metavar) if _REWARD in said else field.name.upper()
        options["metavar"] = name if required else f"[{name}]"
        if required:  # tyro takes what may be several words for what may be left out
            options["help_behavior_hint"] = "(required)"
    elif type(None) in get_args(bare):
        (inside,) = (one for one in get_args(bare) if one is not type(None))
        options["metavar"] = _metavar(inside)
    if _default(field) in (None, "", (), {}) and tyro.conf.UseAppendAction not in said:
        options["help_behavior_hint"] = ""
    return Annotated[hint, tyro.conf.arg(**options)] if options else hint


def _metavar(kind: Any) -> str:
    """What stands in the help for a value of this type."""
    spec = _metadata(kind)
    if isinstance(spec, PrimitiveConstructorSpec):
        return str(spec.metavar)
    choices = ("True", "False") if kind is bool else map(str, get_args(kind))
    return f"{{{','.join(choices)}}}" if kind is bool or get_args(kind) else kind.__name__.upper()


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is MISSING else field.default
