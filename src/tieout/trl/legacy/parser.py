"""The command line and the YAML file of TRL's scripts, with the options' older names."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin

from transformers import HfArgumentParser

from ...config.yaml_file import read_yaml
from ...errors import InputError
from ..configs import Config
from ..options import literal, name_of
from .older_names import older, remember, renamed, translated


class TrlParser(HfArgumentParser):
    """Dataclasses from the command line, and from a YAML file of `--config FILE`, which the command line overrules.

    Older names of options are taken in both, with one warning each.
    """

    def __init__(self, dataclass_types: Any = None, ignore_extra_args: bool = False, **options: Any) -> None:
        types = dataclass_types if isinstance(dataclass_types, Iterable) else [dataclass_types]
        super().__init__([t for t in types if t is not None], **options)
        self._ignores = ignore_extra_args
        self._older: dict[type[Config], dict[str, Any]] = {
            t: {} for t in self.dataclass_types if issubclass(t, Config)
        }
        for action in self._actions:
            if get_origin(action.type) is dict:
                action.type = json.loads

    def parse_args_and_config(
        self,
        args: Sequence[str] | None = None,
        return_remaining_strings: bool = False,
        fail_with_unknown_args: bool = True,
        separate_remaining_strings: bool = False,
    ) -> tuple[Any, ...]:
        """One object a dataclass. ValueError: an option that none of them has, unless the rest is asked for.

        Args:
            args: what was given; the command line if None.
            return_remaining_strings: the last element is what nothing knows.
            fail_with_unknown_args: False leaves it out.
            separate_remaining_strings: the last two are what nothing knows of the file, and of the command line.
        """
        given = list(sys.argv[1:] if args is None else args)
        unknown: list[str] = []
        if "--config" in given:
            place = given.index("--config")
            settings = dict(read_yaml(Path(given[place + 1])))
            del given[place : place + 2]
            os.environ.update({k: str(v) for k, v in settings.pop("env", {}).items()})
            unknown = self._become_defaults(settings)
        for config_class in self._older:
            given = self._line_of_today(config_class, given)
        *made, rest = self.parse_args_into_dataclasses(given, return_remaining_strings=True)
        for one in made:
            remember(one, self._older.get(type(one), {}))
        if return_remaining_strings:
            return (*made, unknown, rest) if separate_remaining_strings else (*made, unknown + rest)
        if unknown + rest and fail_with_unknown_args and not self._ignores:
            raise InputError(f"unknown options: {' '.join(unknown + rest)}")
        return tuple(made)

    def _become_defaults(self, settings: Mapping[str, Any]) -> list[str]:
        """Returns what nothing knows, as the command line would have it."""
        for config_class in self._older:
            settings = self._of_today(config_class, settings)
        for action in self._actions:  # a flag has two, --flag and --no_flag
            if action.dest in settings:
                action.default, action.required = settings[action.dest], False
        unknown = settings.keys() - {action.dest for action in self._actions}
        return [word for name in settings if name in unknown for word in (f"--{name}", str(settings[name]))]

    def _of_today(self, config_class: type[Config], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with the options of one class by today's names; those of other classes stay as they are."""
        config, known = name_of(config_class), {f.name for f in fields(config_class) if f.init}
        taken = older(config) - {action.dest for action in self._actions}
        if not taken & settings.keys():
            return dict(settings)
        own = {name: value for name, value in settings.items() if name in known | taken}
        self._older[config_class] |= {name: value for name, value in own.items() if name not in known}
        rest = {name: value for name, value in settings.items() if name not in own}
        return {**rest, **translated(config, own, known)}

    def _line_of_today(self, config_class: type[Config], given: Sequence[str]) -> list[str]:
        """A command line with the options of one class by today's names."""
        spans = _spans(given)
        values = {name: _value(span) for name, span in spans if name is not None}
        today = self._of_today(config_class, values)
        if today == values:
            return list(given)
        names = renamed(name_of(config_class))
        moved = {names[name] for name in values.keys() - today.keys() if name in names} & today.keys()
        kept = [word for name, span in spans if name is None or name in today.keys() - moved for word in span]
        for name in sorted(moved):
            value = today[name]
            kept += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        return kept


def _spans(given: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """Each option with its words: `--name`, or `--name=value`, and what follows it."""
    spans: list[tuple[str | None, list[str]]] = []
    for word in given:
        if word.startswith("--"):
            spans.append((word[2:].partition("=")[0].replace("-", "_"), [word]))
        elif spans:
            spans[-1][1].append(word)
        else:
            spans.append((None, [word]))
    return spans


def _value(span: Sequence[str]) -> Any:
    """What was given: a flag is True, several words are a list."""
    _, equals, rest = span[0].partition("=")
    words = [*([rest] if equals else []), *span[1:]]
    values = [literal(word) for word in words]
    return values if len(values) > 1 else values[0] if values else True


def init_zero_verbose() -> None:
    """Log errors only. Warnings are still shown: some say what becomes of an option."""
    logging.basicConfig(format="%(message)s", datefmt="[%X]", level=logging.ERROR)
