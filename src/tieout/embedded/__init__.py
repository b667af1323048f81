"""Models that ship inside the package."""

from __future__ import annotations

from pathlib import Path

_FOLDERS = {"tieout-base": Path(__file__).parent / "tieout_base"}


def exists(name: str) -> bool:
    """Whether `name` is an embedded model."""
    return name in _FOLDERS


def path(name: str = "tieout-base") -> Path:
    """The folder of an embedded model."""
    if name not in _FOLDERS:
        raise ValueError(f"no embedded model {name!r}; there are: {', '.join(_FOLDERS)}")
    return _FOLDERS[name]
