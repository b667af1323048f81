"""What becomes of every option of TRL's configurations: the table is `options.yaml`. Nothing is silent."""

from __future__ import annotations

import dataclasses
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from ..yaml_file import read_yaml

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


@cache
def table(config: str) -> dict[str, str]:
    """Option -> `honoured`, or a sentence that begins with `same numbers: `, `instead: ` or `refused: `."""
    sections = _sections()
    chosen = ("training", "models", *(("rollouts",) if config in ROLLOUTS else ()), config)
    return {name: what for s in chosen for what, names in sections[s].items() for name in names.split()}


def check(config: Any) -> None:
    """ValueError for what is set and cannot be honoured; one warning for what has no effect, or another one."""
    name = next(cls.__name__ for cls in type(config).__mro__ if cls.__name__ in _sections())
    whats = table(name)
    refused, without_effect, otherwise = [], [], []
    for field in dataclasses.fields(config):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value, what = getattr(config, field.name), whats.get(field.name, HONOURED)
        if value == default:
            continue
        if field.name == "optim" and "adamw" in (kind := str(getattr(value, "value", value))):
            if kind in PLAIN_ADAMW:
                continue
            what = f"{INSTEAD}AdamW in full precision; an adapter's state is small"
        if what.startswith(REFUSED):
            refused.append(f"  {field.name}={value!r}: {what.removeprefix(REFUSED)}")
        elif what.startswith(SAME):
            without_effect.append(f"{field.name} ({what.removeprefix(SAME)})")
        elif what.startswith(INSTEAD):
            otherwise.append(f"{field.name}={value!r} ({what.removeprefix(INSTEAD)})")
    if refused:
        raise ValueError(f"{name} asks for what is not done here:\n" + "\n".join(refused))
    if without_effect:
        warnings.warn(f"{name}: set, and without effect: {'; '.join(without_effect)}", stacklevel=5)
    if otherwise:
        warnings.warn(f"{name}: set, and done otherwise: {'; '.join(otherwise)}", stacklevel=5)


@cache
def _sections() -> Any:
    return read_yaml(Path(__file__).with_name("options.yaml"))
