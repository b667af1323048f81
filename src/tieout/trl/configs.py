"""TRL's configuration classes. Their fields, defaults and help are in `configs.yaml`."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast  # noqa: F401  # the table's types name them

from transformers import TrainingArguments

from ..config.yaml_file import read_yaml
from .older import translated
from .options import check, sections

C = TypeVar("C", bound=type)

CONFIGS: dict[str, type] = {}
"""Name -> class."""
FIELDS: dict[str, dict[str, list[Any]]] = read_yaml(Path(__file__).with_name("configs.yaml"))
"""Section -> field -> its type, its default and its help, if it has any."""


def tabled(*names: str) -> Callable[[C], C]:
    """Make a class a dataclass with the fields of these sections of the table."""

    def make(cls: C) -> C:
        fields = {name: field for section in names for name, field in FIELDS.get(section, {}).items()}
        cls.__annotations__ = {name: kind for name, (kind, *_) in fields.items()}
        for name, (_, default, *said) in fields.items():
            metadata = {"help": said[0].replace("%", "%%")} if said else {}  # argparse formats it with %
            made: dict[str, Any] = {"default": default}
            if isinstance(default, list):
                made = {"default_factory": functools.partial(list, default)}
            setattr(cls, name, dataclasses.field(**made, metadata=metadata))
        return cast(C, dataclasses.dataclass(cls))

    return make


def config(cls: C) -> C:
    """A configuration of TRL by its name: the constructor takes older names too, with one warning."""
    made: Any = tabled(*sections(cls.__name__))(cls)
    CONFIGS[cls.__name__] = made
    known = {f.name for f in dataclasses.fields(made) if f.init}
    generated: Callable[..., None] = made.__init__

    @functools.wraps(generated)
    def init(self: Any, *given: Any, **options: Any) -> None:
        generated(self, *given, **translated(cls.__name__, options, known))
        # Programs read `args.max_seq_length` where they have given it.
        self.__dict__.update((k, v) for k, v in options.items() if k not in known and not hasattr(cls, k))

    made.__init__ = init
    return cast(C, made)


@tabled("shared")
class Config(TrainingArguments):
    """transformers' TrainingArguments with TRL's defaults: what all configurations share.

    Options that are set and cannot be honoured are an error; those that change no number are named in one warning.
    """

    if TYPE_CHECKING:
        bf16: Any
        fp16: Any

        def __init__(self, *given: Any, **options: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    def __post_init__(self) -> None:
        check(self)  # as it was given: TrainingArguments changes some options itself
        self.wants_bf16 = self.bf16 is None or bool(self.bf16) or bool(self.fp16)
        self.bf16, self.fp16, self.push_to_hub = bool(self.bf16), False, False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`(gradient|activation)_checkpointing", FutureWarning)
            super().__post_init__()


@config
class SFTConfig(Config):
    """Supervised fine-tuning."""


@config
class RewardConfig(Config):
    """Reward modelling: Bradley-Terry on pairs."""


@config
class DPOConfig(Config):
    """Direct Preference Optimization."""


@config
class KTOConfig(Config):
    """Kahneman-Tversky Optimization."""


@config
class ORPOConfig(Config):
    """Odds Ratio Preference Optimization."""


@config
class CPOConfig(Config):
    """Contrastive Preference Optimization, and SimPO."""


@config
class GRPOConfig(Config):
    """Group Relative Policy Optimization and its family."""


@config
class RLOOConfig(Config):
    """REINFORCE with the mean of the other completions as baseline."""


@config
class PPOConfig(Config):
    """Proximal Policy Optimization: today's names, and those of the step interface of earlier versions."""

    def __new__(cls, *given: Any, **options: Any) -> PPOConfig:
        """A configuration that knows what it was given by name."""
        made = super().__new__(cls)
        made.__dict__["_given"] = frozenset(options)
        return made

    def chose(self, option: str) -> bool:
        """Whether the option has another value than the default, or was given by name.

        Parsers of command lines give all options by name, so that only the value tells.
        """
        fields = {f.name: f.default for f in dataclasses.fields(self) if f.init}
        given = self.__dict__["_given"]
        return getattr(self, option) != fields[option] or (option in given and not fields.keys() <= given)
