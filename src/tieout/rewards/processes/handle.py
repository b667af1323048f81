"""The handle of a worker process, whichever way it was started."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import time
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ..scoring.outcomes import Outcome
from .memory import KEPT_BYTES, LOOK_SECONDS, resident_bytes


@dataclass(eq=False)
class Worker:
    """A process that answers calls in the order in which they are sent."""

    pid: int
    line: socket.socket
    data: bytearray = field(default_factory=bytearray)
    """Received, but not yet a whole answer."""
    asked: int = 0
    """Calls that it was handed."""
    answered: int = 0
    shared: int = 0
    """Bytes that it was forked with: the fork server's, such as a table that the reward's file reads."""
    held_at_first: int = 0
    """Bytes that it held after its first call, with what that call has imported."""
    spent: bool = False
    """Whether it held so much more, when it was last looked at, that it is to be replaced."""

    def measure(self) -> int:
        """Bytes that it holds of its own."""
        held = resident_bytes(self.pid)
        if self.answered and not self.held_at_first:
            self.held_at_first = held
        self.spent = bool(self.held_at_first and held > self.held_at_first + KEPT_BYTES)
        return held - self.shared

    def send(self, message: Any) -> None:
        """Hand it a call, plain values; its answer carries the number of the call."""
        self.asked += 1
        line = json.dumps([self.asked, message]).encode() + b"\n"
        with contextlib.suppress(OSError):  # it is gone: the next read shows it
            self.line.sendall(line)

    def receive(self) -> list[list[Outcome]] | None:
        """What it answered, call by call, as far as it is complete; None: it is gone, or something else writes in its
        place, such as a child that the reward forked."""
        try:
            data = self.line.recv(1 << 20)
        except OSError:
            return None
        if not data:
            return None
        *lines, rest = (bytes(self.data) + data).split(b"\n")
        self.data = bytearray(rest)
        try:
            return [self._read(line) for line in lines]
        except (TypeError, ValueError):
            return None

    def _read(self, line: bytes) -> list[Outcome]:
        """The outcomes of the next call. ValueError: the line is no answer to it."""
        call, outcomes = json.loads(line)
        if call != self.answered + 1:
            raise ValueError
        self.answered += 1
        return [Outcome(*one) for one in outcomes]

    def ask(self, message: Any, seconds: float, most_bytes: float = inf) -> list[Outcome]:
        """Hand it one call and wait.

        TimeoutError: no answer within so many seconds. EOFError: it is gone. MemoryError: it holds more than that.
        """
        self.send(message)
        ends = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.line, selectors.EVENT_READ)
            while (left := ends - time.monotonic()) > 0:
                if not selector.select(min(LOOK_SECONDS, left)):
                    if self.measure() > most_bytes:
                        raise MemoryError
                    continue
                answers = self.receive()
                if answers is None:
                    raise EOFError
                if answers:
                    return answers[0]
        raise TimeoutError
