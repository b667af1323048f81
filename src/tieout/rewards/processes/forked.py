"""A worker forked from this process: it can call any function, also one that no other process could import.

For short work that may hang or die, such as an attack. A run has its workers from a fork server instead, which holds
neither a model nor threads.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from .handle import Worker
from .serve import Answer, kill, serve


@contextlib.contextmanager
def forked(answer: Answer) -> Iterator[Worker]:
    """A worker that answers with this function, and is killed at the end with whatever it started.

    What it prints is thrown away, and it reads nothing.
    """
    own, other = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        own.close()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        serve(other.detach(), answer)
    other.close()
    try:
        yield Worker(pid, own)
    finally:
        own.close()
        kill(pid)
