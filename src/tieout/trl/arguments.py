"""What a trainer was given beside the model and the data -> its configuration."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from transformers import TrainingArguments

from .configs import RENAMED, Config

_WHY = {
    "model_init": "give the model itself",
    "quantization_config": "load the model with it, and give the model",
    "compute_loss_func": "write a method (docs: writing), 25 lines",
}


def arguments(config_class: type[Config], args: Any, more: dict[str, Any]) -> Config:
    """The configuration, from ours, from TrainingArguments, or from nothing; older trainers took some of it too.

    Options that are found in `more` are taken out of it.
    """
    known = {f.name for f in dataclasses.fields(config_class)} | _older(config_class)
    own = {name: more.pop(name) for name in list(more) if name in known}
    for gone in ("optimizers", "optimizer_cls_and_kwargs", *_WHY):
        value = more.pop(gone, None)
        if value is not None and value != (None, None):
            raise ValueError(f"{gone} cannot be honoured: {_WHY.get(gone, 'the learner has its own')}")
    if own:
        warnings.warn(
            f"{', '.join(own)} belong into {config_class.__name__} by now",
            FutureWarning,
            stacklevel=4,
        )
    if args is None:
        return config_class(output_dir="trainer_output", **own)
    if isinstance(args, config_class) and not own:
        return args
    if not isinstance(args, TrainingArguments):
        raise TypeError(f"args is a {type(args).__name__}; expected {config_class.__name__}")
    plain = type(args)(output_dir=args.output_dir) if type(args) is not TrainingArguments else None
    defaults = plain or TrainingArguments(output_dir=args.output_dir)
    changed = {
        f.name: getattr(args, f.name)
        for f in dataclasses.fields(args)
        if f.init and f.name in known and getattr(args, f.name) != getattr(defaults, f.name)
    }
    return config_class(**{"output_dir": args.output_dir, **changed, **own})


def _older(config: type[Config]) -> set[str]:
    return {*RENAMED[""], *RENAMED.get(config.__name__, {})}
