"""The models that are shipped inside the package: `path("tieout-base")` is a folder that transformers can load."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError

NAMES = ("tieout-base", "tieout-letters")
"""Names of the shipped models."""


def path(name: str = "tieout-base") -> Path:
    """The folder of a shipped model: configuration, safetensors, tokenizer and model card."""
    if name not in NAMES:
        raise InputError(f"no shipped model {name!r}; there are: {', '.join(NAMES)}")
    folder = Path(__file__).parent / name.replace("-", "_")
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(
            f"{folder} has no model.safetensors: the installation is incomplete; reinstall tieout, or in a "
            f"clone run `python scripts/build_{name.removeprefix('tieout-')}.py --install`"
        )
    return folder
