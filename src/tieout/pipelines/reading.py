"""Read a recipe: a YAML file and the values that replace some of it, checked against the dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..config.fields import ConfigError, from_plain, nearest, to_plain
from ..config.tagged import tag_of
from ..config.weights import one_reward
from ..config.yaml_file import read_yaml
from ..methods import load_method
from ..rows.sources import one_source, sources_of
from .earlier import refuse_earlier
from .kinds import KINDS, Stage, Train, TrainOptions
from .links import linked
from .overrides import apply, names_of
from .recipe import Recipe

INHERITED = ("adapter", "learner", "schedule", "guards", "evaluation")
"""Settings of the recipe that a train stage may replace key by key."""


def read_recipe(
    path: Path, overrides: Mapping[str, Any] | None = None, settings: Sequence[str] = ()
) -> Recipe:
    """The recipe in a YAML file, with every link between its stages resolved.

    Args:
        path: the file; paths inside it are relative to the folder that the command runs in.
        overrides: top-level keys that replace those of the file.
        settings: `key=value` as `--set` takes them, such as `stages.dpo.beta=0.3`.

    Raises:
        ConfigError: what is wrong, where, and the nearest key.
    """
    plain = {**read_yaml(path), **(overrides or {})}
    refuse_earlier(plain, str(path))
    return make_recipe(apply(plain, settings), str(path))


def make_recipe(plain: Mapping[str, Any], where: str) -> Recipe:
    """The recipe that plain values give; see `read_recipe`."""
    items = plain.get("stages")
    if not isinstance(items, list) or not items:
        raise ConfigError(
            f"{where}: stages is {items!r}; expected a list such as [{{train: sft}}, {{evaluate: {{}}}}]; "
            f"stages are: {', '.join(KINDS)}"
        )
    plain = one_reward(plain, where)
    if "data" in plain:
        plain["data"] = sources_of(plain["data"], where)
    _check_keys(plain, where)
    recipe = from_plain(Recipe, {**plain, "stages": []}, where)
    placed = [f"{where}: stages[{i}]" for i in range(len(items))]
    for item, place in zip(items, placed, strict=True):
        tag_of(item, KINDS, place)
    names = names_of(items)
    stages = [_stage(item, place, recipe) for item, place in zip(items, placed, strict=True)]
    stages = [_named(stage, name) for stage, name in zip(stages, names, strict=True)]
    return linked(replace(recipe, stages=tuple(stages)), where)


def _check_keys(plain: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys; one that belongs a level deeper is named with its place."""
    known = {field.name: field for field in fields(Recipe)}
    for key in plain:
        if key in known:
            continue
        groups = [(name, f.default_factory) for name, f in known.items() if callable(f.default_factory)]
        inside = [name for name, make in groups if is_dataclass(group := make()) and hasattr(group, str(key))]
        hint = f"; did you mean {f'{inside[0]}.{key}'!r}?" if inside else nearest(str(key), known)
        raise ConfigError(f"{where}: unknown key {str(key)!r}{hint or ';'} known: {', '.join(known)}")


def _named(stage: Stage, name: str) -> Stage:
    if isinstance(stage, Train):
        return replace(stage, options=replace(stage.options, name=name))
    return replace(stage, name=name)


def _stage(item: Mapping[str, Any], place: str, recipe: Recipe) -> Stage:
    kind = tag_of(item, KINDS, place)
    if kind == "train":
        return _train(item, place, recipe)
    cls: Any = KINDS[kind]
    where = f"{place} ({kind})"
    values = {} if item[kind] is None else item[kind]
    known = [field.name for field in fields(cls)]
    if outside := [str(key) for key in item if key != kind]:
        inside = " (indent it further)" if outside[0] in known or outside[0] == "from" else ""
        raise ConfigError(
            f"{where}: key {outside[0]!r} is next to {kind!r}; its settings go inside: "
            f"`{kind}: {{{outside[0]}: ...}}`{inside}"
        )
    if isinstance(values, Mapping) and "reward" in known:
        values = one_reward(values, where)
    if isinstance(values, Mapping) and "start" in known:
        values = _from_as_start(values, where)
    stage: Stage = from_plain(cls, values, where)
    return stage


def _train(item: Mapping[str, Any], place: str, recipe: Recipe) -> Train:
    """The method's fields and the stage's options lie flat in one mapping."""
    name = item["train"]
    if not isinstance(name, str):
        raise ConfigError(f"{place}: train is {name!r}; expected the name of a method, or FILE.py:Class")
    try:
        method: Any = load_method(name)
    except ValueError as error:
        raise ConfigError(f"{place} (train): {error}") from error
    where = f"{place} (train {name})"
    own = [field.name for field in fields(method) if field.init]
    others = ["from" if f.name == "start" else f.name for f in fields(TrainOptions)]
    if both := sorted(set(own) & {*others, "train"}):
        raise ConfigError(
            f"{where}: the method's field {both[0]!r} is a key of every train stage; rename the field"
        )
    known = [*own, *others]
    given = one_reward({str(key): value for key, value in item.items() if key != "train"}, where)
    given |= {key: one_source(given[key], f"{where}: {key}") for key in ("data", "held_out") if key in given}
    for key in given:
        if key not in known:
            hint = "; did you mean 'from'?" if key == "start" else nearest(key, known)
            raise ConfigError(f"{where}: unknown key {key!r}{hint or ';'} known: {', '.join(known)}")
    options = _from_as_start({key: given[key] for key in given if key in others}, where)
    for group in INHERITED:
        inherited = getattr(recipe, group)
        if isinstance(options.get(group), Mapping):
            options[group] = {**to_plain(inherited), **options[group]}
        else:
            options.setdefault(group, inherited)
    fields_given = {key: given[key] for key in given if key in own}
    if "max_new_tokens" in own and recipe.max_new_tokens:
        fields_given.setdefault("max_new_tokens", recipe.max_new_tokens)
    return Train(name, from_plain(method, fields_given, where), from_plain(TrainOptions, options, where))


def _from_as_start(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`from` is a word of Python, so the field has another name."""
    if "start" in values:
        raise ConfigError(f"{where}: unknown key 'start'; did you mean 'from'?")
    return {"start" if key == "from" else str(key): value for key, value in values.items()}
