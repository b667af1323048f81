"""The handle of the fork server, which starts the workers of a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from contextlib import suppress
from typing import Any

from ...errors import InputError
from ..scoring.outcomes import RewardUnavailable
from .descendants import descendants
from .handle import Worker

START_SECONDS = 300.0
"""For the fork server to start, and for a reward's imports."""
END_SECONDS = 5.0
"""For the fork server to kill what it has started."""


class ForkServer:
    """The process that forks workers; it answers in the order of the questions."""

    def __init__(self) -> None:
        self.line, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", f"{__package__}.fork_server_main", str(other.fileno())]
            self.process = subprocess.Popen(
                command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.line.settimeout(START_SECONDS)
        self._finalizer = weakref.finalize(self, _end, self.line, self.process)
        self.ask({"path": sys.path})  # what can be imported here can be there

    def close(self) -> None:
        self._finalizer()

    def fork(self) -> Worker:
        own, other = socket.socketpair()
        with other:
            socket.send_fds(self.line, [b'{"fork": true}\n'], [other.fileno()])
        return Worker(self._answer()["pid"], own)

    def kill(self, worker: Worker) -> None:
        worker.line.close()
        self.ask({"kill": worker.pid})

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.line.sendall(json.dumps(message).encode() + b"\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        data = b""
        try:
            while not data.endswith(b"\n"):
                part = self.line.recv(1 << 16)
                if not part:
                    raise RewardUnavailable(
                        f"the reward workers ended (exit status {self.process.wait()}); run the command again, or "
                        "with reward workers 0 to call rewards in this process"
                    )
                data += part
        except TimeoutError:
            self.close()
            raise InputError(
                f"the reward's file took more than {START_SECONDS:g} seconds to import; if it needs longer, take "
                "reward workers 0, which call it in this process"
            ) from None
        answer: dict[str, Any] = json.loads(data)
        return answer


def _end(line: socket.socket, process: subprocess.Popen[bytes]) -> None:
    line.close()  # at which the fork server kills its workers and ends
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in [*descendants(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
