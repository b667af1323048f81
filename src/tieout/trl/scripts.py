"""Parse the command lines and YAML files of TRL's scripts: data, model, adapter and training options."""

from __future__ import annotations

import json
import logging
import os
import sys
from argparse import SUPPRESS, Action, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, get_origin

import torch
from transformers import BitsAndBytesConfig, HfArgumentParser

from ..config.yaml_file import read_yaml
from ..errors import InputError
from ..learner.models.peft import LoraConfig
from .configs import Config, tabled
from .older import literal, older, renamed
from .options import name_of

_NOT_GIVEN = object()


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
    names = ("task_type", "r", "target_modules", "target_parameters", "modules_to_save")
    options = {name: getattr(model_args, f"lora_{name}") for name in names}
    for name in ("lora_alpha", "lora_dropout", "use_rslora", "use_dora"):
        options[name] = getattr(model_args, name)
    return LoraConfig(**options, bias="none")


def get_quantization_config(model_args: Any) -> BitsAndBytesConfig | None:
    """For `from_pretrained`; None without `load_in_4bit` and `load_in_8bit`."""
    if model_args.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    names = {"compute_dtype": "dtype", "quant_type": "bnb_4bit_quant_type", "use_double_quant": "use_bnb_nested_quant",
             "quant_storage": "bnb_4bit_quant_storage"}  # fmt: skip
    options = {f"bnb_4bit_{name}": getattr(model_args, option) for name, option in names.items()}
    return BitsAndBytesConfig(load_in_4bit=True, **options) if model_args.load_in_4bit else None


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
        self._own = {action.dest for action in self._actions}
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
        line, settings = list(sys.argv[1:] if args is None else args), dict[str, Any]()
        if "--config" in line:
            place = line.index("--config")
            settings |= read_yaml(Path(line[place + 1]))
            del line[place : place + 2]
            os.environ.update({k: str(v) for k, v in settings.pop("env", {}).items()})
        today = self._take_older_names()
        for action in self._actions:
            if action.dest in settings:
                action.required = False
                if isinstance(value := settings[action.dest], str) and callable(action.type):
                    settings[action.dest] = action.type(value)
        known = {action.dest for action in self._actions}
        blank = Namespace(**dict.fromkeys(known, _NOT_GIVEN))  # or defaults would be like what was given
        parsed, rest = self.parse_known_args(line, blank)
        given = {name: value for name, value in vars(parsed).items() if value is not _NOT_GIVEN}
        overruled = {today.get(name, name) for name in given}
        given |= {n: v for n, v in settings.items() if today.get(n, n) not in overruled and n in known}
        made = []
        for kind in self.dataclass_types:
            names = {f.name for f in fields(kind) if f.init}
            names |= older(name_of(kind)) - self._own if issubclass(kind, Config) else set()
            made.append(kind(**{name: value for name, value in given.items() if name in names}))
        unknown = [word for n, v in settings.items() if n not in known for word in (f"--{n}", str(v))]
        if return_remaining_strings:
            return (*made, unknown, rest) if separate_remaining_strings else (*made, unknown + rest)
        if unknown + rest and fail_with_unknown_args and not self._ignores:
            raise InputError(f"unknown options: {' '.join(unknown + rest)}")
        return tuple(made)

    def _take_older_names(self) -> dict[str, str]:
        """Add the older names of options, but those that a dataclass has; today's name of each."""
        today: dict[str, str] = {}
        for kind in filter(lambda kind: issubclass(kind, Config), self.dataclass_types):
            today |= {old: new for old, new in renamed(name_of(kind)).items() if old not in self._own}
            for name in older(name_of(kind)) - {action.dest for action in self._actions}:
                flags = {f"--{name}", f"--{name.replace('_', '-')}"}
                self.add_argument(*flags, dest=name, nargs="*", action=_Literals, help=SUPPRESS)
        return today


class _Literals(Action):
    """Read words as values of Python: none are True, as of a flag, and several a list."""

    def __call__(
        self, parser: Any, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        found = [literal(word) for word in values]
        setattr(namespace, self.dest, found if len(found) > 1 else found[0] if found else True)
