"""What becomes of every option of TRL's configurations: the table is `options.yaml`. Nothing is silent."""

from __future__ import annotations

import ast
import dataclasses
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..config.yaml_file import read_yaml
from ..errors import InputError

HONOURED, SAME, INSTEAD, REFUSED = "honoured", "same numbers: ", "instead: ", "refused: "
PLAIN_ADAMW = (
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_hf",
    "adamw_apex_fused",
    "paged_adamw_32bit",
    "paged_adamw",
)
"""Names of the optimizer there is."""
ROLLOUTS = ("GRPOConfig", "RLOOConfig")
COMPARED = ("DPOConfig", "KTOConfig", "ORPOConfig", "CPOConfig")
"""Configurations of what learns from a better and a worse completion."""
DATASET_KWARGS = {"add_special_tokens", "append_concat_token", "skip_prepare_dataset"}
"""Keys of `dataset_kwargs` that change nothing here."""


@cache
def table(config: str) -> dict[str, str]:
    """Option -> `honoured`, or a sentence that begins with `same numbers: `, `instead: ` or `refused: `."""
    sections = _sections()
    chosen = ("training", "models", *(("rollouts",) if config in ROLLOUTS else ()), config)
    return {name: what for s in chosen for what, names in sections[s].items() for name in names.split()}


@cache
def gone(config: str) -> dict[str, tuple[str, Any]]:
    """Option that earlier versions had -> the same sentences, and the value that says no more than leaving it out."""
    sections = _sections()["older"]
    shared = (
        "training",
        *(("rollouts",) if config in ROLLOUTS else ("compared",) if config in COMPARED else ()),
    )
    found: dict[str, tuple[str, Any]] = {}
    for section in (*shared, config):
        for what, options in sections.get(section, {}).items():
            for option in options.split():
                name, _, unsaid = option.partition("=")
                found[name] = (what, literal(unsaid))
    return found


def name_of(config_class: type) -> str:
    """The configuration of TRL that a class is, or is made from."""
    return next(cls.__name__ for cls in config_class.__mro__ if cls.__name__ in _sections())


def check(config: Any) -> None:
    """ValueError for what is set and cannot be honoured; one warning for what has no effect, or another one."""
    name = name_of(type(config))
    whats = table(name)
    refused, without_effect, otherwise = [], [], []
    for field in dataclasses.fields(config):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value, what = getattr(config, field.name), whats.get(field.name, HONOURED)
        if unsaid(value, default):
            continue
        if field.name == "optim" and "adamw" in (kind := str(getattr(value, "value", value))):
            if kind in PLAIN_ADAMW:
                continue
            what = f"{INSTEAD}AdamW in full precision; an adapter's state is small"
        if field.name == "dataset_kwargs" and isinstance(value, Mapping) and set(value) <= DATASET_KWARGS:
            what = f"{INSTEAD}text gets the bos and eos that it lacks, and all rows are cut at max_length"
        if what.startswith(REFUSED):
            refused.append(f"  {field.name}={value!r}: {what.removeprefix(REFUSED)}")
        elif what.startswith(SAME):
            without_effect.append(f"{field.name} ({what.removeprefix(SAME)})")
        elif what.startswith(INSTEAD):
            otherwise.append(f"{field.name}={value!r} ({what.removeprefix(INSTEAD)})")
    if refused:
        raise InputError(f"{name} asks for what is not done here:\n" + "\n".join(refused))
    if without_effect:
        warnings.warn(f"{name}: set, and without effect: {'; '.join(without_effect)}", stacklevel=5)
    if otherwise:
        warnings.warn(f"{name}: set, and done otherwise: {'; '.join(otherwise)}", stacklevel=5)


def unsaid(value: Any, default: Any) -> bool:
    """Whether it says no more than leaving the option out: the default, or nothing where the default is nothing."""
    nothing = default is None and (value is False or value in ("", [], {}, ()))
    nothing = nothing or (value == "no" and default is False)  # what a parser makes of it
    return bool(value == default or nothing or (value is None and not default))


def literal(text: str) -> Any:
    """`False`, `false` and `-100` as Python has them; what is none of its values is text; nothing is None."""
    try:
        return ast.literal_eval({"true": "True", "false": "False", "": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


@cache
def _sections() -> Any:
    return read_yaml(Path(__file__).with_name("options.yaml"))
