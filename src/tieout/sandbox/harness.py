"""The harness inside the sandbox: load the program, call its function, write what it returns.

A program is asked in one of two ways: its function `entry` is called with arguments, or, without an entry, it is run as
a script on a text for its standard input and answers by what it prints.

It knows no expected value. It shares its process with the program, which may read and change all of it. That is no
loss: whatever a program makes it say must still be the right answer, and the right answers are elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import select
import signal
import sys
import time
import types
import typing
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from .clock import PATIENCE, TICK, Clock, processor_seconds
from .values import decode, encode, plain

INPUTS, ANSWERS = 3, 4
"""Descriptors."""
ENDED = "the process ended without a value ({})"
FORKS = 5
"""Times that a process is asked for: the machine may have none just now."""


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
    try:
        code = compile(request["program"], "<program>", "exec", dont_inherit=True)
        run = (
            _function(code, request["entry"]) if request["entry"] else functools.partial(exec, code, _scope())
        )
    except BaseException as error:
        say(error=_described(error))
        os._exit(1)
    asked = _called if request["entry"] else _printed
    for index, call in enumerate(request["calls"]):
        left = request["seconds"] - time.process_time() - _of_children()
        if left <= 0:
            if not index:
                say(error=f"it timed out after {request['seconds']:g} seconds")
                os._exit(1)
            say(index=index, error="it timed out before this call")
            continue
        seconds = min(request["call_seconds"], left)
        say(index=index, **asked(run, call, seconds, request["max_answer_bytes"]))
    os._exit(0)


def _of_children() -> float:
    """Seconds of the processor that the calls so far have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _scope(name: str = "__main__") -> dict[str, Any]:
    """The names that a program starts with."""
    return {"__name__": name, "__builtins__": __builtins__, "exit": sys.exit, "quit": sys.exit}


def _function(code: types.CodeType, entry: str) -> Callable[..., Any]:
    """The function that a program defines, or the method of its class: `Solution`, or the one that `entry` names.

    A method is called on a new object every time. Names of typing are there, as where such classes are asked for.
    """
    scope = {**{name: getattr(typing, name) for name in typing.__all__}, **_scope("program")}
    given = dict(scope)
    exec(code, scope)
    owner, _, name = entry.rpartition(".")
    owner = owner or ("Solution" if scope.get(entry) is given.get(entry) and "Solution" in scope else "")
    if owner and callable(getattr(scope.get(owner), name, None)):
        return lambda *args, **kwargs: getattr(scope[owner](), name)(*args, **kwargs)
    function = None if owner or scope.get(entry) is given.get(entry) else scope[entry]
    if not callable(function):
        raise NameError(f"it defines no function {entry!r}")
    return function


def _called(
    function: Callable[..., Any], call: dict[str, Any], seconds: float, max_bytes: int
) -> dict[str, Any]:
    """What the function returns; its value or error."""

    def work() -> bytes:
        value = encode(plain(function(*decode(call["args"]), **decode(call["kwargs"]))))
        return json.dumps({"value": value}).encode()

    return _in_child(work, seconds, max_bytes)


def _printed(
    script: Callable[[], None], call: dict[str, Any], seconds: float, max_bytes: int
) -> dict[str, Any]:
    """What a script prints on the given input; an error where it does not end as a script should."""
    with _nameless_file() as given, _nameless_file() as output:
        given.write(call["stdin"].encode("utf-8", "surrogatepass"))
        given.seek(0)

        def work() -> bytes:
            os.dup2(given.fileno(), 0)
            os.dup2(output.fileno(), 1)
            sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.stdout = printed = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            try:
                script()
            except SystemExit as error:
                if error.code not in (None, 0):
                    raise
            finally:
                for file in {sys.stdout, printed}:
                    with contextlib.suppress(ValueError):  # it closed it
                        file.flush()
            return b'{"value": ""}'

        outcome = _in_child(work, seconds, max_bytes)
        if outcome.get("error") != ENDED.format("exit status 0") and "error" in outcome:
            return outcome
        if os.fstat(output.fileno()).st_size > max_bytes:
            return {"error": f"more than {max_bytes} bytes of output"}
        output.seek(0)
        return {"value": output.read().decode("utf-8", "replace")}


def _nameless_file() -> BinaryIO:
    path = f"/tmp/{os.urandom(16).hex()}"
    file = open(path, "x+b", buffering=0)  # noqa: SIM115
    os.unlink(path)
    return cast(BinaryIO, file)


def _in_child(work: Callable[[], bytes], seconds: float, max_bytes: int) -> dict[str, Any]:
    """Do it in a process of its own: a call that hangs, exits or spoils its memory costs itself only.

    seconds: of the processor, and `PATIENCE` times as many by the clock.
    """
    reading, writing = os.pipe()
    for left in reversed(range(FORKS)):
        try:
            child = os.fork()
            break
        except OSError as error:
            if not left:
                os.close(reading)
                os.close(writing)
                return {"error": f"no process for the call: {error.strerror}"}
            time.sleep(TICK)
    if child == 0:
        os.close(reading)
        with open(writing, "wb") as file:
            try:
                said = work()
            except BaseException as error:
                said = json.dumps({"error": _described(error)}).encode()
            file.write(said)
        os._exit(0)
    os.close(writing)
    data, clock = bytearray(), Clock(PATIENCE * seconds)
    watched, late = os.pidfd_open(child), False
    while len(data) <= max_bytes:
        ready = clock.wait(lambda wait: select.select([reading, watched], [], [], wait)[0])
        late = watched not in ready and (clock.left <= 0 or processor_seconds(child) >= seconds)
        if not ready and not late:
            continue
        # Its own end counts, not that of the pipe: processes that it left behind may hold that.
        piece = os.read(reading, 1 << 16) if reading in ready else b""
        data += piece
        if late or not piece:
            break
    os.close(reading)
    os.close(watched)
    status, used = _ended(child)
    late = late or used >= seconds
    if len(data) > max_bytes:
        return {"error": f"a value of more than {max_bytes} bytes"}
    if late:
        return {"error": f"no value within {seconds:.3g} seconds"}
    try:
        outcome = json.loads(data)
        return {key: outcome[key] for key in ("value", "error") if key in outcome} or {"error": "no value"}
    except (ValueError, TypeError, AttributeError):
        how = os.waitstatus_to_exitcode(status)
        return {"error": ENDED.format(f"exit status {how}" if how >= 0 else f"signal {-how}")}


def _ended(child: int) -> tuple[int, float]:
    """Kill all of this sandbox but us: how the child ended, and the seconds of the processor that it used.

    What it left behind is waited for, or the next call would have fewer processes.
    """
    status, used = 0, 0.0
    for attempt in range(10):  # a second in all, where something is born again and again
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            while (found := os.wait4(-1, os.WNOHANG))[0]:
                if found[0] == child:
                    status, used = found[1], found[2].ru_utime + found[2].ru_stime
        except ChildProcessError:
            break
        time.sleep(0.001 * 2**attempt)
    return status, used


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return "an exception that cannot be described"
