"""Choose a sandbox backend that works on this machine. Where none does, programs are refused, never run unconfined."""

from __future__ import annotations

import functools
import os
import sys

from . import bubblewrap, seccomp
from .isolation import BACKENDS, Backend, Isolation, SandboxError
from .pool import Sandbox


@functools.cache
def isolation(backend: Backend) -> Isolation:
    """Whether a backend works here, tried once per process by running a program in it."""
    reason = _fault(backend)
    return Isolation(backend, not reason, reason)


def available() -> tuple[Isolation, ...]:
    """Each backend, fastest first."""
    return tuple(map(isolation, BACKENDS))


def choose() -> Backend:
    """The first backend that works. SandboxError: none does; the message says why, for each, and what to do."""
    for backend in BACKENDS:
        if isolation(backend).works:
            return backend
    reasons = "; ".join(f"{found.backend}: {found.reason}" for found in available())
    raise SandboxError(
        f"no sandbox works here ({reasons}), and code that a model wrote is not run without one. Allow unprivileged "
        "user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that permits unshare and "
        "mount), or install bubblewrap"
    )


def _fault(backend: Backend) -> str:
    """Why a backend does not work; empty if it does."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, this is {sys.platform}"
    if not seccomp.supported():
        return f"no table of system calls for {os.uname().machine}"
    if backend == "bubblewrap" and not bubblewrap.available():
        return "bwrap is not installed"
    program = "import json, random, datetime, decimal\ndef f(x):\n    return x + 1\n"
    try:
        with Sandbox(backend, size=1) as sandbox:
            ran = sandbox.run(program, "f", [((1,), {})])
    except (SandboxError, OSError) as error:
        return str(error)
    return "" if ran.error == "" and ran.answers[0].value == 2 else ran.error or ran.answers[0].error
