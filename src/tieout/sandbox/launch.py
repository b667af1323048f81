"""Start a confining process, hand it a program, and read its output within a time and a size limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from . import bubblewrap, packages, seccomp
from .clock import PATIENCE, Clock
from .isolation import SandboxError, package_folder
from .namespaces import NOBODY, readable_for_all

# Appended, not put first: the folder has a types.py of its own.
BOOT = "import sys; sys.path.append(sys.argv[1]); from sandbox import zygote; sys.path.pop(); "
BOOT_ZYGOTE = BOOT + "import json; zygote.main(int(sys.argv[2]), json.loads(sys.argv[3]))"
BOOT_ONCE = BOOT + "import json; zygote.confine_and_run(*json.loads(sys.argv[2]))"
PYTHON = ["-s", "-S", "-P", "-B"]
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", **packages.ONE_THREAD}
"""The order of sets is the same in every run, so that a program that depends on it scores the same."""
GRACE_SECONDS = 5.0
"""What a zygote has, past a program's time, to say that it ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: by itself, out of time, or because it wrote too much."""

    how: Literal["exited", "timed out", "too much"]


class Zygote:
    """One process that forks confined ones, each in namespaces of its own."""

    def __init__(self, shown: Mapping[str, str] = MappingProxyType({})) -> None:
        """`shown`: of `packages.found`. SandboxError: this machine forbids namespaces."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = ["-c", BOOT_ZYGOTE, package_folder(), str(theirs.fileno()), json.dumps(dict(shown))]
        with theirs:
            self.process = subprocess.Popen(
                [os.path.realpath(sys.executable), *PYTHON, *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                cwd="/",
            )
        said = self._receive(Clock(30.0))
        if not said.get("ready"):
            self.process.kill()
            _, noise = self.process.communicate()
            reason = said.get("error") or noise.decode(errors="replace").strip()[-300:]
            self.close()
            raise SandboxError(f"namespaces: {reason or 'the zygote did not start'}")

    def run(self, data: bytes, limits: Mapping[str, Any], max_bytes: int) -> tuple[bytes, Ended]:
        """Run one request. SandboxError: the zygote broke, or could not confine the program."""
        inputs, send = os.pipe()
        receive, answers = os.pipe()
        with _closing(receive):
            try:
                with _closing(inputs, answers):
                    socket.send_fds(self.control, [json.dumps(limits).encode()], [inputs, answers])
            except OSError:
                os.close(send)
                raise
            clock = Clock(PATIENCE * limits["seconds"] + GRACE_SECONDS)
            output = _exchange(send, receive, data, max_bytes, clock, self.control)
            if len(output) > max_bytes:
                self.control.send(b"x")
            said = self._receive(clock)
            if said.get("setup") != "confined":
                raise SandboxError(
                    f"could not confine a program: {said.get('setup') or 'the zygote is gone'}"
                )
            output += _rest(receive, max_bytes)
        too_much = len(output) > max_bytes
        return output, Ended(
            "too much" if too_much else "timed out" if said["ended"] == "timed out" else "exited"
        )

    def _receive(self, clock: Clock) -> dict[str, Any]:
        """What the zygote says next; nothing if it is gone or too late."""

        def receive(seconds: float) -> bytes | None:
            self.control.settimeout(max(0.001, seconds))
            try:
                return self.control.recv(65536)
            except TimeoutError:
                return None
            except ConnectionError:
                return b""

        message = None
        while message is None and clock.left > 0:
            message = clock.wait(receive)
        said: dict[str, Any] = json.loads(message) if message else {}
        return said

    def close(self) -> None:
        """End it; what runs in it ends with it."""
        self.control.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


class Bubblewrapped:
    """The same by one call of bubblewrap per program."""

    def __init__(self, shown: Mapping[str, str] = MappingProxyType({})) -> None:
        """`shown`: of `packages.found`. SandboxError: no bwrap here, or we are root and Python is root's own."""
        found = bubblewrap.available()
        if found is None:
            raise SandboxError("bwrap is not installed")
        self.bwrap, self.shown = found, shown
        # Root's processes are not limited by the kernel, whatever user bubblewrap shows inside.
        self.user = NOBODY if os.geteuid() == 0 else None
        if self.user is not None and not readable_for_all():
            raise SandboxError(
                "run as root, and Python's library is readable for root only; use an ordinary user"
            )

    def run(self, data: bytes, limits: Mapping[str, Any], max_bytes: int) -> tuple[bytes, Ended]:
        """Run one request. SandboxError: bubblewrap could not confine it."""
        inputs, send = os.pipe()
        receive, answers = os.pipe()
        status, confined = os.pipe()
        filter_read, filter_write = os.pipe()
        os.write(filter_write, seccomp.program())  # some 1.5 kB: fits the pipe
        os.close(filter_write)
        with _closing(receive, status):
            with _closing(inputs, answers, confined, filter_read):
                given = [json.dumps([limits, [inputs, answers, confined]])]
                command = bubblewrap.command(
                    self.bwrap,
                    package_folder(),
                    BOOT_ONCE,
                    filter_read,
                    limits["tmp_bytes"],
                    given,
                    self.shown,
                )
                process = subprocess.Popen(
                    command,
                    pass_fds=[inputs, answers, confined, filter_read],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    user=self.user,
                    group=self.user,
                    extra_groups=None if self.user is None else [],
                    cwd="/",
                )
            clock = Clock(PATIENCE * limits["seconds"])
            output = _exchange(send, receive, data, max_bytes, clock)
            late = clock.left <= 0
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # bubblewrap's own processes; the rest dies with them
            _, noise = process.communicate()
            setup = os.read(status, 1000).decode(errors="replace")
        if setup != "confined":
            raise SandboxError(f"bubblewrap: {setup or noise.decode(errors='replace').strip()[-300:]}")
        return output, Ended("too much" if len(output) > max_bytes else "timed out" if late else "exited")

    def close(self) -> None:
        """Nothing stays running."""


@contextlib.contextmanager
def _closing(*descriptors: int) -> Any:
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _exchange(
    send: int, receive: int, data: bytes, max_bytes: int, clock: Clock, until: socket.socket | None = None
) -> bytes:
    """Write `data` while reading, so that a program that does not read cannot block us. Closes `send`.

    Ends at the end of what is read, past `max_bytes` or the time of `clock`, or when `until` has something to say.
    """
    left, output = memoryview(data), bytearray()
    os.set_blocking(send, False)
    with selectors.DefaultSelector() as events, contextlib.ExitStack() as stack:
        stack.callback(os.close, send)
        events.register(send, selectors.EVENT_WRITE)
        events.register(receive, selectors.EVENT_READ)
        if until is not None:
            events.register(until, selectors.EVENT_READ)
        while len(output) <= max_bytes and clock.left > 0:
            ready = {key.fd for key, _ in clock.wait(events.select)}
            if send in ready:
                try:
                    left = left[os.write(send, left) :]
                except BrokenPipeError:
                    left = left[:0]
                if not left:  # the reader waits for the end
                    events.unregister(send)
                    stack.close()
                    send = -1
            if receive in ready:
                if not (piece := os.read(receive, 1 << 16)):
                    break
                output += piece
            elif until is not None and until.fileno() in ready:
                break
    return bytes(output)


def _rest(receive: int, max_bytes: int) -> bytes:
    """What is still in the pipe; all its writers have ended."""
    os.set_blocking(receive, False)
    output = bytearray()
    with contextlib.suppress(BlockingIOError):
        while len(output) <= max_bytes and (piece := os.read(receive, 1 << 16)):
            output += piece
    return bytes(output)
