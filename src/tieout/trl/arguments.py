"""Make a trainer's configuration from whatever it was given: ours, TrainingArguments, or options of its own."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any

from transformers import TrainingArguments

from ..errors import InputError
from .configs import Config
from .older import NAMES, older, renamed
from .options import HONOURED, name_of, table

_DERIVED = {
    "do_eval": "eval_strategy",
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
    "torch_compile_backend": "torch_compile_mode",
}
"""Option -> another one that transformers takes it from."""


def arguments(config_class: type[Config], args: Any, more: dict[str, Any]) -> Config:
    """The configuration. Options that older trainers took themselves are taken out of `more`."""
    known = {f.name for f in dataclasses.fields(config_class)} | older(name_of(config_class))
    own = {name: more.pop(name) for name in list(more) if name in known}
    for name, instead in NAMES["refused_arguments"].items():
        if more.pop(name, None) not in (None, (None, None)):
            raise InputError(f"{name} cannot be honoured: {instead}")
    if own:
        text = f"{', '.join(own)} belong into {config_class.__name__} by now"
        warnings.warn(text, FutureWarning, stacklevel=4)
    if args is None:
        return config_class(**{"output_dir": "trainer_output", **own})
    if not isinstance(args, TrainingArguments):
        raise TypeError(f"args is a {type(args).__name__}; expected {config_class.__name__}")
    config = args if isinstance(args, config_class) else _converted(config_class, args)
    return _overlaid(config, own) if own else config


def _converted(config_class: type[Config], args: TrainingArguments) -> Config:
    """All that both know, defaults too, as TRL does it: a rate of 5e-5 may have been chosen.

    What changes no number, and has the value that it has without being chosen, is not worth a warning.
    """
    plain = TrainingArguments(output_dir=args.output_dir, use_cpu=args.use_cpu)
    whats = table(name_of(config_class))
    known = {f.name for f in dataclasses.fields(config_class) if f.init}
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init}
    chosen = {f.name for f in dataclasses.fields(args) if f.init and _chosen(f, args, plain)}
    chosen -= {name for name, origin in _DERIVED.items() if getattr(args, origin) != getattr(plain, origin)}
    if isinstance(args, Config):
        given["bf16"] = None if args.wants_bf16 else False
    if lost := sorted(chosen - known):
        warnings.warn(
            f"{config_class.__name__} does not have these options of the {type(args).__name__} that was given, and "
            f"leaves them out: {', '.join(lost)}",
            stacklevel=5,
        )
    # Of options that transformers does not have, each method has its own defaults.
    shared = {f.name for f in dataclasses.fields(TrainingArguments)}
    taken = {n for n in known & given.keys() if (whats[n] == HONOURED and n in shared) or n in chosen}
    return config_class(**{name: given[name] for name in taken})


def _chosen(field: dataclasses.Field[Any], args: TrainingArguments, plain: TrainingArguments) -> bool:
    """Whether it is neither the default nor what transformers makes of it."""
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    value = getattr(args, field.name)
    return bool(value != default and value != getattr(plain, field.name, default))


def _overlaid(config: Config, own: dict[str, Any]) -> Config:
    """A copy with other values for some options; the user's own stays as it is."""
    given = type(config)(**{"output_dir": config.output_dir, "use_cpu": config.use_cpu, **own})
    names = {renamed(name_of(type(config))).get(name, name) for name in own}
    merged = copy.copy(config)
    names |= {"wants_bf16"} if names & {"bf16", "fp16"} else set()
    merged.__dict__.update({name: getattr(given, name) for name in names & vars(given).keys()})
    return merged
