"""The harness inside the sandbox: load the program, call its function, write what it returns.

It knows no expected value. It shares its process with the program, which may read and change all of it. That is no
loss: whatever a program makes it say must still be the right answer, and the right answers are elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from .values import decode, encode

INPUTS, ANSWERS = 3, 4
"""Descriptors."""


def limit(limits: dict[str, Any]) -> None:
    """Set the resource limits, soft and hard: they cannot be raised again."""
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(which)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def main() -> None:
    """Read the request, answer one JSON object a line: {nonce, error} or {nonce, index, value | error}."""
    with open(INPUTS, "rb", closefd=False) as file:
        request = json.loads(file.read())
    os.close(INPUTS)
    nonce = request["nonce"]

    def say(**answer: Any) -> None:
        data = memoryview(json.dumps({"nonce": nonce, **answer}).encode() + b"\n")
        while data:
            data = data[os.write(ANSWERS, data) :]

    sys.dont_write_bytecode = True
    scope: dict[str, Any] = {"__name__": "program", "__builtins__": __builtins__}
    try:
        exec(compile(request["program"], "<program>", "exec", dont_inherit=True), scope)
        function = scope.get(request["entry"])
        if not callable(function):
            raise NameError(f"it defines no function {request['entry']!r}")
    except BaseException as error:
        say(error=_described(error))
        os._exit(1)
    for index, call in enumerate(request["calls"]):
        outcome = _in_child(function, call, request["call_seconds"], request["max_answer_bytes"])
        say(index=index, **outcome)
    os._exit(0)


def _called(function: Callable[..., Any], call: dict[str, Any]) -> bytes:
    """Call the function; its value or error as JSON."""
    try:
        value = encode(function(*decode(call["args"]), **decode(call["kwargs"])))
        return json.dumps({"value": value}).encode()
    except BaseException as error:
        return json.dumps({"error": _described(error)}).encode()


def _in_child(
    function: Callable[..., Any], call: dict[str, Any], seconds: float, max_bytes: int
) -> dict[str, Any]:
    """Call it in a process of its own: a call that hangs, exits or spoils its memory costs itself only."""
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return {"error": f"no process for the call: {error.strerror}"}
    if child == 0:
        os.close(reading)
        with open(writing, "wb") as file:
            file.write(_called(function, call))
        os._exit(0)
    os.close(writing)
    data, deadline = bytearray(), time.monotonic() + seconds
    watched, late = os.pidfd_open(child), False
    while len(data) <= max_bytes:
        ready, _, _ = select.select([reading, watched], [], [], max(0.0, deadline - time.monotonic()))
        late = not ready
        # Its own end counts, not that of the pipe: processes that it left behind may hold that.
        piece = os.read(reading, 1 << 16) if reading in ready else b""
        data += piece
        if not piece:
            break
    os.close(reading)
    os.close(watched)
    os.kill(-1, signal.SIGKILL)  # all of this sandbox but us: the child and what it left behind
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    if len(data) > max_bytes:
        return {"error": f"a value of more than {max_bytes} bytes"}
    if late:
        return {"error": f"no value within {seconds:g} seconds"}
    try:
        outcome = json.loads(data)
        return {key: outcome[key] for key in ("value", "error") if key in outcome} or {"error": "no value"}
    except (ValueError, TypeError, AttributeError):
        how = os.waitstatus_to_exitcode(status)
        said = f"exit status {how}" if how >= 0 else f"signal {-how}"
        return {"error": f"the process ended without a value ({said})"}


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return "an exception that cannot be described"
