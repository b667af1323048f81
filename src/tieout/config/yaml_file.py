"""Reading YAML so that nothing is silently something else, and errors carry file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .fields import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `1e-4` is a number; `no`, `on`, `010`, `1:30` and dates are text. No key twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            line = key_node.start_mark.line + 1
            place = f"{node.start_mark.name}:{line}"
            if not isinstance(key, str) or key_node.tag != "tag:yaml.org,2002:str":
                raise ConfigError(f"{place}: keys must be text, found {key!r}")
            if key in seen:
                raise ConfigError(f"{place}: key {key!r} again; first on line {seen[key]}")
            seen[key] = line
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The top-level keys and values of a YAML file.

    FileNotFoundError.
    ConfigError: bad syntax, not UTF-8, a key given twice, or something else than keys and values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such {'file; this is a folder' if path.is_dir() else 'file'}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from error
    try:
        loader = _Loader(text)
        loader.name = str(path)
        values = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        said = error.problem or error.context
        if "\\t" in str(said) and "token" in str(said):
            said = f"{said}: indent with spaces, as YAML takes no tabs"
        raise ConfigError(f"{place}: not valid YAML: {said}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if values is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def parse_value(text: str, where: str) -> Any:
    """The value of one line of YAML, such as `0.3`, `[a, b]` or `{rank: 8}`. ConfigError: it is not valid YAML."""
    loader = _Loader(text)
    loader.name = where
    try:
        return loader.get_single_data()
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"{where}: {text!r} is not valid YAML; quote text that has special characters"
        ) from error
