"""What becomes of every option of TRL's configurations: the table is `options.yaml`. Nothing is silent."""

from __future__ import annotations

import dataclasses
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from ..yaml_file import read_yaml

HONOURED, SAME, REFUSED = "honoured", "same numbers: ", "refused: "
ROLLOUTS = ("GRPOConfig", "RLOOConfig")


@cache
def table(config: str) -> dict[str, str]:
    """Option -> `honoured`, or a sentence that begins with `same numbers: ` or `refused: `."""
    sections = _sections()
    chosen = ("training", "models", *(("rollouts",) if config in ROLLOUTS else ()), config)
    return {name: what for s in chosen for what, names in sections[s].items() for name in names.split()}


def check(config: Any) -> None:
    """ValueError for what is set and cannot be honoured; one warning for what is set and changes no number."""
    name = next(cls.__name__ for cls in type(config).__mro__ if cls.__name__ in _sections())
    whats = table(name)
    refused, without_effect = [], []
    for field in dataclasses.fields(config):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value, what = getattr(config, field.name), whats.get(field.name, HONOURED)
        if value == default:
            continue
        if what.startswith(REFUSED):
            refused.append(f"  {field.name}={value!r}: {what.removeprefix(REFUSED)}")
        elif what.startswith(SAME):
            without_effect.append(f"{field.name} ({what.removeprefix(SAME)})")
    if refused:
        raise ValueError(f"{name} asks for what is not done here:\n" + "\n".join(refused))
    if without_effect:
        warnings.warn(f"{name}: set, and without effect: {'; '.join(without_effect)}", stacklevel=5)


@cache
def _sections() -> Any:
    return read_yaml(Path(__file__).with_name("options.yaml"))
