"""How strong a sandbox can be on this machine. What is asked for and cannot be had is refused, never weakened."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import TieoutError
from . import bubblewrap, landlock, seccomp

Backend = Literal["namespaces", "bubblewrap", "landlock"]
"""namespaces and bubblewrap: own users, processes, files, network and a private /tmp. landlock: no namespaces; the
program can open nothing but system files for reading, and may start no process and use no socket."""

BACKENDS: tuple[Backend, ...] = get_args(Backend)
"""Strongest and fastest first."""

STRENGTH: dict[Backend, int] = {"namespaces": 2, "bubblewrap": 2, "landlock": 1}
ACCEPT = "TIEOUT_SANDBOX"
"""Environment variable: `landlock` accepts the weaker isolation by name."""


class SandboxError(TieoutError, RuntimeError):
    """The sandbox cannot be had, or broke: says nothing about the program."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What one backend gives here."""

    backend: Backend
    works: bool
    reason: str = ""
    """Why it does not work, or what limits it."""


@functools.cache
def isolation(backend: Backend) -> Isolation:
    """Whether a backend works here, tried once a process by running a program in it."""
    reason = _fault(backend)
    return Isolation(backend, not reason, reason)


def available() -> tuple[Isolation, ...]:
    """Each backend, strongest first."""
    return tuple(map(isolation, BACKENDS))


def choose(asked: Backend | None = None) -> Backend:
    """The first backend that works and is as strong as asked (None: what TIEOUT_SANDBOX says, else namespaces).

    SandboxError: none is; the message says why, for each.
    """
    asked = asked or _from_environment()
    for backend in BACKENDS:
        if STRENGTH[backend] >= STRENGTH[asked] and isolation(backend).works:
            return backend
    reasons = "; ".join(f"{i.backend}: {i.reason or 'works, but is weaker'}" for i in available())
    raise SandboxError(
        f"no sandbox here is as strong as {asked!r} ({reasons}). Allow user namespaces or install bubblewrap; "
        f"or accept the weaker one by name: {ACCEPT}=landlock"
    )


def _from_environment() -> Backend:
    named = os.environ.get(ACCEPT, "namespaces")
    for backend in BACKENDS:
        if named == backend:
            return backend
    raise SandboxError(f"{ACCEPT} is {named!r}; expected one of {', '.join(BACKENDS)}")


def _fault(backend: Backend) -> str:
    """Why a backend does not work; empty if it does."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, this is {sys.platform}"
    if not seccomp.supported():
        return f"no table of system calls for {os.uname().machine}"
    if backend == "bubblewrap" and not bubblewrap.available():
        return "bwrap is not installed"
    if backend == "landlock" and not landlock.version():
        return "the kernel has no Landlock"
    from .pool import Sandbox

    program = "import json, random, datetime, decimal\ndef f(x):\n    return x + 1\n"
    try:
        with Sandbox(backend=backend, size=1) as sandbox:
            ran = sandbox.run(program, "f", [((1,), {})])
    except (SandboxError, OSError) as error:
        return str(error)
    return "" if ran.error == "" and ran.answers[0].value == 2 else ran.error or ran.answers[0].error


def package_folder() -> str:
    """The folder that holds this package; a fresh Python finds it there."""
    return str(Path(__file__).resolve().parent.parent)
