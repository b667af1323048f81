"""The code reward: the share of hidden tests that a program passes, run in the sandbox.

A completion is a Python program, bare or in exactly one fenced block, after its thinking; it defines a function, which
is called with each test's arguments. The expected values never enter the sandbox: it is sent the
arguments, it sends back what the function returned as JSON, and types and values are compared out here. So an
object that equals everything, `sys.exit(0)`, a patched harness or forged output earns no more than a wrong answer.

Range 0 to 1, in units of tests. What it does not catch: a program that is right on the tests only, so use many, and
keep them out of the prompt; a program that is slow within its limits; style. Only Python's standard library can be
imported. Each call runs in a process of its own, so state that a call leaves does not reach the next.

Where no sandbox works it raises SandboxError, an error of the machine: it is never a score.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...sandbox.choose import choose
from ...sandbox.pool import ProgramCall, ProgramLimits, Ran, Sandbox
from ...sandbox.values import encode, same
from ..scoring.outcomes import ranged
from ..text.fences import fences
from ..text.thinking import answer_text

__all__ = ["CodeResult", "ProgramLimits", "code", "code_reward", "extract_program", "run_tests"]

FENCE_MARK = re.compile(r"```|^~~~", re.MULTILINE)
KEYS = {"args", "kwargs", "expected"}

_sandboxes: dict[tuple[int, ProgramLimits], Sandbox] = {}
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class CodeResult:
    """The tests that a program passed."""

    passed: int
    total: int
    error: str = ""
    """Why the program as a whole failed, or why the first failing call did; empty if all passed."""

    @property
    def share(self) -> float:
        """Of the tests passed; 0 where there are none: no test executed is no pass."""
        return self.passed / self.total if self.total else 0.0


def run_tests(
    program: str,
    tests: Sequence[Mapping[str, Any]],
    entry: str,
    *,
    limits: ProgramLimits = ProgramLimits(),  # noqa: B008
) -> CodeResult:
    """Run a program's function on hidden tests in the sandbox.

    Args:
        program: Python source.
        tests: each `{"args": [...], "expected": value}`, and `kwargs` if there are any. Plain values: numbers,
            text, None, lists, tuples, sets, dicts. A float may differ by 1e-9 of itself; otherwise the types must
            agree: 1 is neither 1.0 nor True. A tuple stands for an expected list, as JSON has no tuples.
        entry: the function's name.
        limits: of time, memory and so on.

    Returns:
        CodeResult; with no tests its `error` says so, and nothing passed.

    Raises:
        ValueError: a test is not in this form. Then the row is wrong, not the program.
        SandboxError: no sandbox works here, or it broke. It says nothing about the program.

    >>> run_tests("def double(x):\\n    return 2 * x", [{"args": [2], "expected": 4}], "double")
    CodeResult(passed=1, total=1, error='')
    """
    calls = _calls(tests, entry)
    if not calls:
        return CodeResult(0, 0, "there are no tests: nothing was executed")
    return _tested(_sandbox(limits).run(program, entry, calls), tests)


@ranged(0, 1)
def code(
    completions: Sequence[str],
    tests: Sequence[Sequence[Mapping[str, Any]] | str],
    entry: Sequence[str],
    **_: Any,
) -> list[float | None]:
    """[K] share of the hidden tests that each completion's program passes, 0 to 1.

    Args:
        completions: [K] programs, bare or in one fenced block.
        tests: [K] lists of tests as in `run_tests`, or the same as JSON text.
        entry: [K] names of the function.
    """
    return _score(completions, tests, entry, ProgramLimits())


def code_reward(limits: ProgramLimits = ProgramLimits()) -> Callable[..., Any]:  # noqa: B008
    """The code reward with other limits."""

    @functools.wraps(code)
    def reward(completions: Sequence[str], tests: Any, entry: Sequence[str], **_: Any) -> list[float | None]:
        return _score(completions, tests, entry, limits)

    return reward


def extract_program(completion: str) -> str | None:
    """The program of a completion; None if there is none, or more than one.

    >>> extract_program("Here:\\n```python\\nx = 1\\n```")
    'x = 1\\n'
    """
    said = answer_text(completion)
    blocks = [block.body for block in fences(said)]
    if len(blocks) > 1 or (not blocks and FENCE_MARK.search(said)):
        return None
    program = blocks[0] if blocks else said
    return program if program.strip() else None


def _score(
    completions: Sequence[str],
    tests: Sequence[Any],
    entry: Sequence[str],
    limits: ProgramLimits,
) -> list[float | None]:
    scores: list[float | None] = [0.0] * len(completions)
    places, given, checks = [], [], []
    for place, (completion, row_tests, name) in enumerate(zip(completions, tests, entry, strict=True)):
        parsed = json.loads(row_tests) if isinstance(row_tests, str) else row_tests
        calls = _calls(parsed, name)
        if not calls:
            raise InputError(f"reward 'code': column 'tests' of the row with entry {name!r} has no tests")
        if (program := extract_program(completion)) is not None:
            places.append(place)
            given.append((program, name, calls))
            checks.append(parsed)
    for place, ran, row_tests in zip(places, _sandbox(limits).map(given), checks, strict=True):
        scores[place] = _tested(ran, row_tests).share
    return scores


def _calls(tests: Any, entry: str) -> list[ProgramCall]:
    if not isinstance(entry, str) or not entry.isidentifier():
        raise InputError(f"entry is {entry!r}; expected the name of a function")
    if isinstance(tests, str | Mapping) or not isinstance(tests, Sequence):
        raise InputError(f"tests is a {type(tests).__name__}; expected a list of {{'args', 'expected'}}")
    calls: list[ProgramCall] = []
    for number, test in enumerate(tests, 1):
        wrong = f"test {number} of {len(tests)}: "
        if not isinstance(test, Mapping) or "expected" not in test or not set(test) <= KEYS:
            shown = ", ".join(map(str, test)) if isinstance(test, Mapping) else repr(test)[:80]
            raise InputError(f"{wrong}has {shown}; expected the keys args, expected (and kwargs)")
        args, kwargs = test.get("args", []), test.get("kwargs") or {}
        if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
            raise InputError(f"{wrong}args is {args!r}; expected a list, also for one argument")
        try:
            for value in (list(args), dict(kwargs), test["expected"]):
                encode(value)
        except TypeError as error:
            raise InputError(f"{wrong}{error} is no plain value") from error
        calls.append((args, kwargs))
    return calls


def _tested(ran: Ran, tests: Sequence[Mapping[str, Any]]) -> CodeResult:
    passed, error = 0, ran.error
    for number, (answer, test) in enumerate(zip(ran.answers, tests, strict=True), 1):
        if not answer.error and same(answer.value, test["expected"]):
            passed += 1
        elif not error:
            # The expected value stays out of messages: they may end up where a policy reads them.
            error = f"test {number}: {answer.error or 'another value or type than expected'}"
    return CodeResult(passed, len(tests), error)


def _sandbox(limits: ProgramLimits) -> Sandbox:
    """The sandbox of this process for these settings, made on first use and kept warm."""
    key = (os.getpid(), limits)
    with _making:
        if key not in _sandboxes:
            _sandboxes[key] = Sandbox(choose(), limits)
        return _sandboxes[key]
