"""The isolation that a sandbox has: own users, processes, files, network and a private /tmp, by one of two backends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import TieoutError

Backend = Literal["namespaces", "bubblewrap"]
"""namespaces: made by this program. bubblewrap: made by the installed `bwrap`, where a process may not make them."""

BACKENDS: tuple[Backend, ...] = get_args(Backend)
"""Fastest first."""


class SandboxError(TieoutError, RuntimeError):
    """There is no sandbox here, or it broke: says nothing about the program."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """Whether one backend works here."""

    backend: Backend
    works: bool
    reason: str = ""
    """Why it does not work."""


def package_folder() -> str:
    """The folder that holds this package; a fresh Python finds it there."""
    return str(Path(__file__).resolve().parent.parent)
