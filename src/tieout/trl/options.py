"""Apply `options.yaml`, which says of every option of TRL's configurations whether it is honoured. None is silent."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..config.yaml_file import read_yaml
from ..errors import InputError

HONOURED, SAME, INSTEAD, REFUSED = "honoured", "same numbers: ", "instead: ", "refused: "
PLAIN_ADAMW = [
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_hf",
    "adamw_apex_fused",
    "paged_adamw_32bit",
    "paged_adamw",
]
"""Names of AdamW in full precision."""
FAMILIES = {
    **dict.fromkeys(("GRPOConfig", "RLOOConfig"), "rollouts"),
    **dict.fromkeys(("DPOConfig", "KTOConfig", "ORPOConfig", "CPOConfig"), "compared"),
}
"""Configuration -> the section of the tables that it shares with its like."""
DATASET_KWARGS = {"add_special_tokens", "append_concat_token", "skip_prepare_dataset"}
"""Keys of `dataset_kwargs` that change nothing here."""


def sections(config: str) -> tuple[str, ...]:
    """Sections of a table that are about a configuration: shared ones first, its own last."""
    return ("training", "models", FAMILIES.get(config, ""), config)


@cache
def table(config: str) -> dict[str, str]:
    """Option -> `honoured`, or a sentence that begins with `same numbers: `, `instead: ` or `refused: `."""
    return {
        name: what
        for section in sections(config)
        for what, names in _options().get(section, {}).items()
        for name in names.split()
    }


def name_of(config_class: type) -> str:
    """The configuration of TRL that a class is, or is made from."""
    return next(cls.__name__ for cls in config_class.__mro__ if cls.__name__ in _options())


def check(config: Any) -> None:
    """Refuse with InputError what is set and cannot be honoured; warn once of what has no or another effect."""
    name = name_of(type(config))
    said: dict[str, list[str]] = {REFUSED: [], SAME: [], INSTEAD: []}
    for field in dataclasses.fields(config):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = getattr(config, field.name)
        what = _what(field.name, value, table(name).get(field.name, HONOURED))
        if unsaid(value, default):
            continue
        kind, _, why = what.partition(": ")
        option = field.name if f"{kind}: " == SAME else f"{field.name}={value!r}"
        said.setdefault(f"{kind}: ", []).append(
            f"{option}: {why}" if what.startswith(REFUSED) else f"{option} ({why})"
        )
    if said[REFUSED]:
        raise InputError(f"{name} asks for what is not done here:\n  " + "\n  ".join(said[REFUSED]))
    for kind, result in ((SAME, "without effect"), (INSTEAD, "done otherwise")):
        if said[kind]:
            warnings.warn(f"{name}: set, and {result}: {'; '.join(said[kind])}", stacklevel=5)


def _what(option: str, value: Any, what: str) -> str:
    """The disposition of an option with this value: a few depend on it."""
    if option == "optim" and "adamw" in (kind := str(getattr(value, "value", value))):
        full = f"{INSTEAD}AdamW in full precision; an adapter's state is small"
        return HONOURED if kind in PLAIN_ADAMW else full
    if option == "dataset_kwargs" and isinstance(value, Mapping) and set(value) <= DATASET_KWARGS:
        return f"{INSTEAD}text gets the bos and eos that it lacks, and all rows are cut at max_length"
    return what


def unsaid(value: Any, default: Any) -> bool:
    """Whether it says no more than leaving the option out: the default, or nothing where the default is nothing."""
    nothing = default is None and (value is False or value in ("", [], {}, ()))
    nothing = nothing or (value == "no" and default is False)  # what a parser makes of it
    return bool(value == default or nothing or (value is None and not default))


@cache
def _options() -> dict[str, Any]:
    return read_yaml(Path(__file__).with_name("options.yaml"))
