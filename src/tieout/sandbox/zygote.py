"""A zygote: a confined process with Python loaded that waits and forks once for every program.

`python -c BOOT` runs `main`: it takes requests from a socket, each with two descriptors, and says how each ended.
It reads nothing that a program or its author wrote.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from . import harness, namespaces, packages, seccomp, syscalls
from .clock import PATIENCE, Clock

STATUS = 5
"""Descriptor on which a child says that it is confined, or why not."""

MAX_PID = 9
"""Of the first processes in a namespace; bubblewrap's own come before the program."""

PRELOADED = (
    *(
        "bisect",
        "cmath",
        "collections.abc",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
    ),
    *("functools", "hashlib", "heapq", "io", "itertools", "math", "operator", "queue", "random", "re"),
    *("statistics", "string", "threading", "typing"),
)
"""Modules that programs often import, loaded once."""


def main(descriptor: int, shown: Mapping[str, str]) -> None:
    """Confine this process, say so (or why not), then serve until the socket closes.

    shown: packages that programs may import; see `packages.found`.
    """
    control = socket.socket(fileno=descriptor)
    os.setsid()
    try:
        proc = prepare(shown)
        sys.path.append(packages.FOLDER)
        for name in (*PRELOADED, *(name for name in packages.KNOWN if name in shown)):
            __import__(name)
    except (OSError, ImportError) as error:
        control.send(json.dumps({"error": str(error)}).encode())
        return
    control.send(json.dumps({"ready": True, "uid": os.geteuid()}).encode())
    gc.freeze()  # collections in the children need not touch, and so copy, what is here already
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 65536, 2)
        if not message:
            return
        if not descriptors:  # told to stop a program that had ended by itself
            continue
        control.send(json.dumps(_serve(control, json.loads(message), descriptors, proc)).encode())


def prepare(shown: Mapping[str, str]) -> int:
    """What is done once: the view of files, the user; returns a descriptor of /proc. OSError: forbidden here."""
    proc = namespaces.build_view(shown)
    child = os.fork()  # a trial: may a program have namespaces, and a filter?
    if child == 0:
        try:
            namespaces.enter(proc)
            seccomp.install(seccomp.program())
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, f"namespaces for a program: {os.strerror(code)}")
    return proc


def _serve(
    control: socket.socket, limits: dict[str, Any], descriptors: list[int], proc: int
) -> dict[str, Any]:
    """Run one program in a child, and wait until it ends, is told to, or is out of time."""
    began, clock = time.monotonic(), Clock(PATIENCE * limits["seconds"])
    status, said = os.pipe()
    child = os.fork()
    if child == 0:
        confine_and_run(limits, [*descriptors, said], proc)
    for descriptor in (*descriptors, said):
        os.close(descriptor)
    watched = os.pidfd_open(child)
    ready: list[int] = []
    while not ready and clock.left > 0:
        ready = clock.wait(lambda seconds: select.select([watched, control.fileno()], [], [], seconds)[0])
    if control.fileno() in ready:
        control.recv(1)  # the one byte that means stop, or nothing at the end
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.close(watched)
    _, _, used = os.wait4(child, 0)
    late = not ready or used.ru_utime + used.ru_stime >= limits["seconds"]
    ended = "timed out" if late else "exited" if watched in ready else "stopped"
    # Its other end closes before the program starts, so this does not wait and the program cannot write it.
    setup = os.read(status, 1000).decode()
    os.close(status)
    return {"ended": ended, "setup": setup, "seconds": time.monotonic() - began}


def confine_and_run(limits: dict[str, Any], descriptors: list[int], proc: int | None = None) -> NoReturn:
    """In the child: descriptors, namespaces, limits, filter, and then the program. Never returns.

    Args:
        limits: plain values, see `pool.ProgramLimits`.
        descriptors: inputs, answers, and where to say that all is set up.
        proc: descriptor of /proc, to make namespaces; None: bubblewrap made them, with capabilities and filter.
    """
    try:
        proc = _place_descriptors(descriptors, proc)
        if proc is not None:
            syscalls.die_with_parent()
            os.environ.clear()
            os.environ.update(PATH="/usr/bin:/bin", HOME="/tmp", LANG="C.UTF-8", **packages.ONE_THREAD)
            _into_namespaces(limits, proc)
        if os.getpid() > MAX_PID:  # the harness kills every process that it can see but itself
            raise OSError("the program has no process namespace of its own")
        if packages.FOLDER not in sys.path:
            sys.path.append(packages.FOLDER)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)  # bubblewrap has a first process of its own
        harness.limit(limits["resources"])
        if proc is not None:
            syscalls.drop_capabilities()
            seccomp.install(seccomp.program())
        os.write(STATUS, b"confined")
        os.close(STATUS)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(STATUS, f"{type(error).__name__}: {error}".encode()[:1000])
        os._exit(70)
    harness.main()
    os._exit(70)


def _place_descriptors(descriptors: list[int], proc: int | None) -> int | None:
    """Nothing for 0 to 2, the given ones from 3 on, and no other; returns where `proc` went."""
    null = os.open("/dev/null", os.O_RDWR)
    wanted = [null, null, null, *descriptors, *([] if proc is None else [proc])]
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in wanted]  # out of each other's way
    for target, source in enumerate(high):
        os.dup2(source, target)
    os.closerange(len(wanted), 65536)
    return None if proc is None else len(wanted) - 1


def _into_namespaces(limits: dict[str, Any], proc: int) -> None:
    """Become the first process of new namespaces; the process before it waits, and ends them by ending."""
    namespaces.enter(proc)
    os.close(proc)
    alive, held = os.pipe()
    child = os.fork()
    if child:
        os.closerange(3, held)  # answers end when the program does, not when this process does
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    os.close(held)
    syscalls.die_with_parent()
    if select.select([alive], [], [], 0)[0]:  # it ended before we asked to end with it
        os._exit(70)
    os.close(alive)
    namespaces.mount_tmp(limits["tmp_bytes"])
