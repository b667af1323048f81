"""Parse the command lines and YAML files of TRL's scripts: data, model, adapter and training options."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, get_origin

import torch
from transformers import BitsAndBytesConfig, HfArgumentParser

from ..config.yaml_file import read_yaml
from ..errors import InputError
from ..learner.models.peft import LoraConfig
from .configs import Config, remember, tabled
from .older import literal, older, renamed, translated
from .options import name_of


@tabled("ScriptArguments")
class ScriptArguments:
    """Which data a script loads; `datasets.load_dataset` is the script's own business."""


@tabled("ModelConfig")
class ModelConfig:
    """Which model, how it is loaded, and which adapter it gets: see `get_peft_config`."""

    trust_remote_code: ClassVar[bool] = False
    """Code from a repository is never run; the option of this name belongs to the trainer's configuration."""

    def __post_init__(self: Any) -> None:
        if self.load_in_8bit and self.load_in_4bit:
            raise InputError("load_in_8bit and load_in_4bit: choose one")
        if self.lora_target_modules is not None and len(self.lora_target_modules) == 1:
            self.lora_target_modules = self.lora_target_modules[0]  # such as all-linear
        self.dtype = self.torch_dtype or self.dtype


def get_peft_config(model_args: Any) -> LoraConfig | None:
    """The adapter's settings; None without `use_peft`."""
    if not model_args.use_peft:
        return None
    same = {
        name: getattr(model_args, name) for name in ("lora_alpha", "lora_dropout", "use_rslora", "use_dora")
    }
    other = {name: getattr(model_args, f"lora_{name}") for name in (
        "task_type", "r", "target_modules", "target_parameters", "modules_to_save")}  # fmt: skip
    return LoraConfig(**same, **other, bias="none")


def get_quantization_config(model_args: Any) -> BitsAndBytesConfig | None:
    """For `from_pretrained`; None without `load_in_4bit` and `load_in_8bit`."""
    if model_args.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    if not model_args.load_in_4bit:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=model_args.dtype,
        bnb_4bit_quant_type=model_args.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=model_args.use_bnb_nested_quant,
        bnb_4bit_quant_storage=model_args.bnb_4bit_quant_storage,
    )


def get_kbit_device_map() -> dict[str, int] | None:
    """All of a quantized model on this process's GPU; None without one."""
    return {"": int(os.environ.get("LOCAL_RANK", 0))} if torch.cuda.is_available() else None


def init_zero_verbose() -> None:
    """Log errors only. Warnings are still shown: some say what becomes of an option."""
    logging.basicConfig(format="%(message)s", datefmt="[%X]", level=logging.ERROR)


class TrlParser(HfArgumentParser):
    """Dataclasses from the command line, and from the YAML file of `--config FILE`, which the command line overrules.

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
        """One object per dataclass. InputError: an option that none of them has, unless the rest is asked for.

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
            settings: dict[str, Any] = dict(read_yaml(Path(given[place + 1])))
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

    def _become_defaults(self, settings: dict[str, Any]) -> list[str]:
        """Returns what nothing knows, as the command line would have it."""
        for config_class in self._older:
            settings = self._of_today(config_class, settings)
        for action in self._actions:  # a flag has two, --flag and --no_flag
            if action.dest in settings:
                action.default, action.required = settings[action.dest], False
        unknown = settings.keys() - {action.dest for action in self._actions}
        return [word for name in settings if name in unknown for word in (f"--{name}", str(settings[name]))]

    def _of_today(self, config_class: type[Config], settings: dict[str, Any]) -> dict[str, Any]:
        """Settings with the options of one class by today's names; those of other classes stay as they are."""
        config, known = name_of(config_class), {f.name for f in fields(config_class) if f.init}
        taken = older(config) - {action.dest for action in self._actions}
        if not taken & settings.keys():
            return settings
        own = {name: value for name, value in settings.items() if name in known | taken}
        self._older[config_class] |= {name: value for name, value in own.items() if name not in known}
        rest = {name: value for name, value in settings.items() if name not in own}
        return {**rest, **translated(config, own, known)}

    def _line_of_today(self, config_class: type[Config], given: list[str]) -> list[str]:
        """A command line with the options of one class by today's names."""
        spans = _spans(given)
        values = {name: _value(span) for name, span in spans.items() if name}
        today = self._of_today(config_class, values)
        if today is values:
            return given
        names = renamed(name_of(config_class))
        moved = {names[name] for name in values.keys() - today.keys() if name in names} & today.keys()
        line = [w for name, span in spans.items() if not name or name in today.keys() - moved for w in span]
        for name in sorted(moved):
            value = today[name]
            line += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        return line


def _spans(line: Sequence[str]) -> dict[str, list[str]]:
    """Each option's words, by its name: `--name` or `--name=value`, and what follows. What is before all: under ''."""
    spans: dict[str, list[str]] = {"": []}
    name = ""
    for word in line:
        if word.startswith("--"):
            name = word[2:].partition("=")[0].replace("-", "_")
            spans[name] = []  # the last one counts
        spans[name].append(word)
    return spans


def _value(span: Sequence[str]) -> Any:
    """What was given: a flag is True, several words are a list."""
    _, equals, rest = span[0].partition("=")
    values = [literal(word) for word in [*([rest] if equals else []), *span[1:]]]
    return values if len(values) > 1 else values[0] if values else True
