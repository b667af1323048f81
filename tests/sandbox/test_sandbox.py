"""What a confined program can do, what it cannot, and the refusal where no isolation works."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tieout.sandbox import choose as chooser
from tieout.sandbox import zygote
from tieout.sandbox.choose import available, choose
from tieout.sandbox.isolation import BACKENDS, Backend, Isolation, SandboxError
from tieout.sandbox.pool import ProgramLimits, Sandbox
from tieout.sandbox.probes import PROBES, run_probes

QUICK = ProgramLimits(seconds=5.0, call_seconds=4.0, memory_bytes=256 << 20)


def works(backend: Backend) -> Isolation:
    return next(found for found in available() if found.backend == backend)


@pytest.fixture(scope="module", params=BACKENDS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    found = works(request.param)
    if not found.works:
        pytest.skip(f"{found.backend} does not work here: {found.reason}")
    with Sandbox(request.param, limits=QUICK, size=1) as made:
        yield made


def test_no_probe_escapes(sandbox: Sandbox) -> None:
    """Each in its own process: files, network, processes, kernel interfaces, limits, daemons, expected values."""
    few = [name for name in PROBES if "bomb" in name or "outside" in name or "TCP" in name or "root" in name]
    names = few if sandbox.backend == "bubblewrap" else list(PROBES)  # a start of Python for each
    escaped = [found for found in run_probes(sandbox, names) if not found.held]
    assert not escaped


def test_the_probes_find_a_sandbox_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: without confinement the same probes get what they are after."""

    class Open:
        def run(self, program: str, entry: str, calls: list) -> object:
            from tieout.sandbox.answers import Answer
            from tieout.sandbox.pool import Ran

            scope: dict = {}
            exec(program, scope)
            try:
                return Ran([Answer(scope[entry](*calls[0][0]))])
            except OSError as error:
                return Ran([Answer(error=str(error))])

    names = [
        "read a file outside",
        "write a file outside",
        "make a file outside",
        "remove a file outside",
        "change the rights of a file outside",
        "see the environment of the trainer",
        "connect by TCP",
        "connect to a Unix socket",
        "signal the trainer",
        "find an expected value",
    ]
    found = {e.probe: e.held for e in run_probes(Open(), names)}  # type: ignore[arg-type]
    del found["find an expected value"]  # there is none in this process either: its halves come apart
    assert not any(found.values()), found


def test_values_come_back_with_their_types(sandbox: Sandbox) -> None:
    program = (
        "def f(a, *, b=0):\n    return {'sum': a + b, 1: (a, [True, None, 1.5]), 's': {b}, 'i': float('inf')}"
    )
    (answer,) = sandbox.run(program, "f", [((2,), {"b": 3})]).answers
    assert answer.value == {"sum": 5, 1: (2, [True, None, 1.5]), "s": {3}, "i": float("inf")}
    assert type(answer.value[1]) is tuple
    assert type(answer.value[1][1][0]) is bool


def test_one_bad_call_costs_itself_only(sandbox: Sandbox) -> None:
    program = """
import os, sys, ctypes
state = []
def f(x):
    state.append(x)
    if x == 1: sys.exit(0)
    if x == 2: os._exit(0)
    if x == 3: ctypes.string_at(0)
    if x == 4: return f
    return len(state)
"""
    answers = sandbox.run(program, "f", [((x,), {}) for x in range(7)]).answers
    assert [a.value for a in answers] == [1, None, None, None, None, 1, 1]
    assert [bool(a.error) for a in answers] == [False, True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("def f(x): return (", "SyntaxError"),
        ("x = 1", "defines no function 'f'"),
        ("f = 1", "defines no function 'f'"),
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("import os; os._exit(0)", "ended before any call"),
        ("import numpy\ndef f(x): return x", "ModuleNotFoundError"),
        ("import os\nos.write(4, b'{}\\n')\ndef f(x): return x", "something other"),
        ("import os\nos.close(4)\ndef f(x): return x", ""),
        ("import os\nwhile True: os.write(4, b'x' * 65536)", "more than its answers"),
    ],
)
def test_a_program_that_fails_as_a_whole_says_why(sandbox: Sandbox, program: str, error: str) -> None:
    ran = sandbox.run(program, "f", [((1,), {})])
    assert error in ran.error
    assert ran.error
    assert ran.answers[0].error


def test_output_is_thrown_away_and_cannot_fill_anything(sandbox: Sandbox) -> None:
    program = "def f(x):\n    for _ in range(200): print('x' * 100_000)\n    return x"
    assert sandbox.run(program, "f", [((7,), {})]).answers[0].value == 7


def test_a_value_too_large_is_an_error() -> None:
    with Sandbox(choose(), size=1, limits=ProgramLimits(answer_bytes=1000)) as sandbox:
        answers = sandbox.run(
            "def f(n): return 'x' * n", "f", [((10,), {}), ((5000,), {}), ((3,), {})]
        ).answers
    assert answers[0].value == "x" * 10
    assert "more than 1000 bytes" in answers[1].error
    assert answers[2].value == "xxx"


def test_a_program_that_hangs_costs_its_time_and_nothing_else() -> None:
    with Sandbox(choose(), size=1, limits=ProgramLimits(seconds=2.0, call_seconds=0.5)) as sandbox:
        sandbox.run("def f(x): return x", "f", [((1,), {})])
        began = time.monotonic()
        ran = sandbox.run("import time\ndef f(x): time.sleep(x); return x", "f", [((60,), {}), ((0,), {})])
        assert [a.value for a in ran.answers] == [None, 0]
        ran = sandbox.run("while True: pass", "f", [((1,), {})])
        assert "timed out" in ran.error
        assert sandbox.run("def f(x): return x", "f", [((1,), {})]).answers[0].value == 1
        assert time.monotonic() - began < 6.0


BUSY = """
import time
def f(seconds):
    ends = time.process_time() + seconds
    while time.process_time() < ends:
        pass
    return seconds
"""


def test_a_machine_that_stands_still_costs_no_program_its_tests() -> None:
    with Sandbox(choose(), size=1, limits=ProgramLimits(seconds=2.0, call_seconds=0.5)) as sandbox:
        sandbox.run("def f(x): return x", "f", [((1,), {})])
        zygote = sandbox._free.get_nowait()
        sandbox._free.put(zygote)
        group, stopped = zygote.process.pid, set[int]()  # type: ignore[union-attr]

        def stop() -> None:
            time.sleep(0.15)
            for _ in range(
                4
            ):  # longer than a call may take by the clock, for the call and for who watches it
                stopped.update(found := _of_session(group))
                for process in found:
                    os.kill(process, signal.SIGSTOP)
                time.sleep(0.6)
                for process in found:
                    os.kill(process, signal.SIGCONT)
                time.sleep(0.02)

        thread = threading.Thread(target=stop)
        thread.start()
        answers = sandbox.run(BUSY, "f", [((0.3,), {}), ((0.3,), {})]).answers
        thread.join()
    assert [(a.value, a.error) for a in answers] == [(0.3, ""), (0.3, "")]
    assert len(stopped) > 2  # the program's own, too


def test_time_is_that_of_the_processor() -> None:
    with Sandbox(choose(), size=1, limits=ProgramLimits(seconds=2.0, call_seconds=0.4)) as sandbox:
        asked = (0.1, 60.0, 0.2, 60.0, 60.0, 60.0, 60.0, 0.1)
        answers = sandbox.run(BUSY, "f", [((x,), {}) for x in asked]).answers
    assert [a.value for a in answers] == [0.1, None, 0.2, *[None] * 5]
    assert "no value within 0.4 seconds" in answers[1].error
    assert "timed out before" in answers[-1].error


def test_what_a_call_leaves_behind_is_dead_before_the_next(sandbox: Sandbox) -> None:
    program = """
import os, time
def f(x):
    for _ in range(5):  # of eight processes that it may have
        if os.fork() == 0:
            time.sleep(60)
    return x
"""
    answers = sandbox.run(program, "f", [((x,), {}) for x in range(6)]).answers
    assert [a.value for a in answers] == list(range(6)), answers


def test_a_program_that_is_born_again_and_again_ends() -> None:
    program = """
import os, threading, time
def again():
    while True:
        if os.fork() == 0:
            time.sleep(60)
        time.sleep(0.001)
threading.Thread(target=again, daemon=True).start()
def f(x): return x
"""
    with Sandbox(choose(), size=1, limits=ProgramLimits(seconds=2.0, call_seconds=0.5)) as sandbox:
        began = time.monotonic()
        sandbox.run(program, "f", [((1,), {})])
        assert sandbox.run("def f(x): return x", "f", [((1,), {})]).answers[0].value == 1
        assert time.monotonic() - began < 20.0


def test_a_load_that_takes_all_the_time_is_said() -> None:
    program = BUSY + "f(1.2)"
    with Sandbox(choose(), size=1, limits=ProgramLimits(seconds=1.0, call_seconds=0.4)) as sandbox:
        assert "timed out after 1 seconds" in sandbox.run(program, "f", [((0.1,), {})]).error


def test_nothing_stays_behind_when_a_sandbox_closes() -> None:
    sandbox = Sandbox(choose(), size=1)
    sandbox.run("def f(x): return x", "f", [((1,), {})])
    zygote = sandbox._free.get_nowait()
    sandbox._free.put(zygote)
    threading.Thread(target=sandbox.run, args=("import time; time.sleep(60)", "f", [((1,), {})])).start()
    time.sleep(0.5)
    group = zygote.process.pid  # type: ignore[union-attr]
    zygote.process.kill()  # type: ignore[union-attr]
    zygote.process.wait()  # type: ignore[union-attr]
    deadline = time.monotonic() + 5.0
    while _of_session(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = _of_session(group)
    sandbox.close()
    assert not left


def _of_session(session: int) -> list[int]:
    """Processes of a session that run still."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def test_a_zygote_that_died_is_replaced() -> None:
    with Sandbox(choose(), size=1) as sandbox:
        sandbox.run("def f(x): return x", "f", [((1,), {})])
        zygote = sandbox._free.get_nowait()
        zygote.process.kill()  # type: ignore[union-attr]
        sandbox._free.put(zygote)
        assert sandbox.run("def f(x): return x", "f", [((1,), {})]).answers[0].value == 1


def test_sets_have_one_order_in_every_run() -> None:
    program = "def f(): return list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})"
    seen = set()
    for _ in range(2):
        with Sandbox(choose(), size=1) as sandbox:
            seen.add(tuple(sandbox.run(program, "f", [((), {})]).answers[0].value))
    assert len(seen) == 1


def test_where_no_isolation_works_it_refuses_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "namespaces": Isolation("namespaces", False, "unshare: Operation not permitted"),
        "bubblewrap": Isolation("bubblewrap", False, "bwrap is not installed"),
    }
    monkeypatch.setattr(chooser, "isolation", found.__getitem__)
    with pytest.raises(
        SandboxError, match=r"Operation not permitted; .*not installed.*userns.*install bubblewrap"
    ):
        choose()
    found["bubblewrap"] = Isolation("bubblewrap", True)
    assert choose() == "bubblewrap"


def test_no_program_runs_outside_a_process_namespace() -> None:
    """As if bubblewrap had not made one."""
    inputs, answers, (said, status) = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(os.devnull, os.O_WRONLY),
        os.pipe(),
    )
    child = os.fork()
    if child == 0:
        zygote.confine_and_run({"resources": {}}, [inputs, answers, status])
    os.close(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70
    assert b"no process namespace" in os.read(said, 1000)
    for descriptor in (inputs, answers, said):
        os.close(descriptor)


def test_a_sandbox_does_not_survive_a_fork() -> None:
    with Sandbox(choose(), size=1) as sandbox:
        child = os.fork()
        if child == 0:
            try:
                sandbox.run("def f(): pass", "f", [((), {})])
            except SandboxError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
