"""The handle of a worker process, whichever way it was started."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import time
from dataclasses import dataclass, field

from ..scoring.outcomes import Outcome


@dataclass(eq=False)
class Worker:
    """A process that answers calls in the order in which they are sent."""

    pid: int
    line: socket.socket
    data: bytearray = field(default_factory=bytearray)
    """Received, but not yet a whole answer."""

    def send(self, message: bytes) -> None:
        """Hand it a call: a line of JSON."""
        with contextlib.suppress(OSError):  # it is gone: the next read shows it
            self.line.sendall(message)

    def receive(self) -> list[list[Outcome]] | None:
        """What it answered, call by call, as far as it is complete; None: it is gone."""
        try:
            data = self.line.recv(1 << 20)
        except OSError:
            return None
        if not data:
            return None
        *lines, rest = (bytes(self.data) + data).split(b"\n")
        self.data = bytearray(rest)
        return [[Outcome(*one) for one in json.loads(line)] for line in lines]

    def ask(self, message: bytes, seconds: float) -> list[Outcome]:
        """Hand it one call and wait. TimeoutError: no answer within so many seconds; EOFError: it is gone."""
        self.send(message)
        ends = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.line, selectors.EVENT_READ)
            while selector.select(max(0.0, ends - time.monotonic())):
                answers = self.receive()
                if answers is None:
                    raise EOFError
                if answers:
                    return answers[0]
        raise TimeoutError
