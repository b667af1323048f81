"""Values of a recipe given on the command line: `stages.dpo.beta=0.3`, `adapter.rank=8`, `model=...`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ..config.fields import ConfigError, nearest
from ..config.tagged import tag_of
from ..config.yaml_file import parse_value

STAGE_KINDS = (
    "check",
    "calibrate",
    "train",
    "demonstrations",
    "pairs",
    "refresh",
    "optimize_prompt",
    "evaluate",
    "gate",
    "ship",
)
"""The keys that name the kind of a stage. Here, where recipes are read before torch is loaded."""


def names_of(items: Sequence[Any]) -> list[str]:
    """Name of every stage: the one given, else the method's or the kind's; the second of a name gets `-2`.

    >>> names_of([{"train": "sft"}, {"train": "grpo"}, {"train": "grpo"}, {"evaluate": {}}])
    ['sft', 'grpo', 'grpo-2', 'evaluate']
    """
    names: list[str] = []
    given = [_given_name(item) for item in items]
    for item, own in zip(items, given, strict=True):
        base = own or _derived(item)
        name, count = base, 1
        while not own and (name in names or name in given):
            count += 1
            name = f"{base}-{count}"
        names.append(name)
    return names


def _given_name(item: Any) -> str:
    """The name that a stage says, in the place where its kind has it."""
    settings = _settings(item)
    name = settings.get("name") if isinstance(settings, Mapping) else None
    return name if isinstance(name, str) else ""


def _settings(item: Any) -> Any:
    """Where the settings of a stage are: next to `train`, inside any other kind."""
    kind = tag_of(item, STAGE_KINDS, "stage")
    return item if kind == "train" else item[kind]


def _derived(item: Mapping[str, Any]) -> str:
    kind = tag_of(item, STAGE_KINDS, "stage")
    if kind != "train":
        return kind
    method = str(item["train"])
    return method.rpartition(":")[2].lower() if ":" in method else method


def apply(plain: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The plain values of a recipe with every `key=value` in its place; values are read as YAML.

    ConfigError: a setting without `=`, a stage that the recipe does not have, or a path through a plain value.
    """
    result: dict[str, Any] = copy.deepcopy(dict(plain))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, such as stages.dpo.beta=0.3")
        where = f"--set {path.strip()}"
        place, keys = result, path.strip().split(".")
        if keys[0] == "stages":
            place, keys = _stage(result, keys, where), keys[2:]
        _put(place, keys, parse_value(text, where), where)
    return result


def _stage(plain: dict[str, Any], keys: Sequence[str], where: str) -> dict[str, Any]:
    """The mapping that holds the settings of the stage that `keys` name."""
    items = plain.get("stages")
    if not isinstance(items, list):
        raise ConfigError(f"{where}: the recipe has no list of stages")
    names = names_of(items)
    if len(keys) < 3:
        raise ConfigError(f"{where}: expected stages.NAME.KEY; the stages are: {', '.join(names)}")
    asked = keys[1]
    index = int(asked) if asked.isdigit() else names.index(asked) if asked in names else len(items)
    if index >= len(items):
        raise ConfigError(
            f"{where}: no stage {asked!r}{nearest(asked, names) or ';'} there are: {', '.join(names)}"
        )
    item = items[index]
    kind = tag_of(item, STAGE_KINDS, where)
    if kind != "train":
        item[kind] = item[kind] or {}
    settings = _settings(item)
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}: stage {asked!r} is {settings!r}; expected keys and values")
    return settings


def _put(place: dict[str, Any], keys: Sequence[str], value: Any, where: str) -> None:
    for key in keys[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{where}: {key!r} is {inner!r}, which has no keys")
        place = inner
    place[keys[-1]] = value
