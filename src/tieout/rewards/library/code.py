"""The code reward: the share of hidden tests that a program passes, run in the sandbox.

A completion is a Python program after its thinking: bare, in its only fenced block, or in its only one of Python;
indentation before its first line, or of all its lines, is taken off. With an entry it defines that function, or a class
`Solution` with that method, which is called with each test's arguments; without one it is a script, which reads each
test's `stdin` and prints. The expected values never enter the sandbox: it is sent the arguments, it sends back what the
function returned as JSON, and types and values are compared out here. So an object that equals everything,
`sys.exit(0)`, a patched harness or forged output earns no more than a wrong answer.

Range 0 to 1, in units of tests. What it does not catch: a program that is right on the tests only, so use many, and
keep them out of the prompt; a program that is slow within its limits; style. Only Python's standard library can be
imported, and numpy and pandas where `packages` says so. Each call runs in a process of its own, so state that a call
leaves does not reach the next.

Where no sandbox works it raises SandboxError, an error of the machine: it is never a score.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import dedent
from typing import Any

from ...errors import InputError
from ...sandbox.answers import Answer
from ...sandbox.choose import choose
from ...sandbox.pool import ProgramCall, ProgramLimits, Ran, Sandbox
from ...sandbox.values import encode, plain, same, same_output
from ..scoring.options import each
from ..scoring.outcomes import ranged
from ..text.fences import fences
from ..text.thinking import answer_text

__all__ = ["CodeResult", "ProgramLimits", "code", "code_reward", "extract_program", "run_tests"]

FENCE_MARK = re.compile(r"```|^~~~", re.MULTILINE)
PYTHON = re.compile(r"\{?\.?py(?:thon)?3?\b.*", re.IGNORECASE)
"""What the mark of a block says of Python."""
KEYS = {"args", "kwargs", "expected"}
OUTPUT = {"stdout", "output", "expected_output"}
INPUT = {"stdin", "input"}
"""Keys of a test of a script: one of each."""
Test = Mapping[str, Any]

_sandboxes: dict[tuple[int, ProgramLimits], Sandbox] = {}
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class CodeResult:
    """The tests that a program passed."""

    passed: int
    total: int
    error: str = ""
    """Why the program as a whole failed, or why the first failing call did; empty if all passed."""
    failed: int | None = field(default=None, repr=False)
    """Index of the first test that failed; None if all passed."""
    answer: Answer = field(default=Answer(), repr=False)
    """Of that test: the value that the program gave, or what it raised."""

    @property
    def share(self) -> float:
        """Of the tests passed; 0 where there are none: no test executed is no pass."""
        return self.passed / self.total if self.total else 0.0


def run_tests(
    program: str,
    tests: Sequence[Test],
    entry: str = "",
    *,
    limits: ProgramLimits = ProgramLimits(),  # noqa: B008
    tolerance: float | None = None,
    ints_for_floats: bool = False,
) -> CodeResult:
    """Run a program's function, or the program as a script, on hidden tests in the sandbox.

    Args:
        program: Python source.
        tests: with an entry each `{"args": [...], "expected": value}`, and `kwargs` if there are any. Plain values:
            numbers, text, None, lists, tuples, sets, dicts. What `==` calls equal is equal (a Counter for a dict, a
            named tuple for a tuple, a Decimal or numpy's number for a number), but that the types of numbers must
            agree: 1 is neither 1.0 nor True. A tuple stands for an expected list, as JSON has no tuples, and so do
            numpy's arrays. Without an entry each `{"stdin": text, "stdout": text}` (or `input` and `output`): white
            space at the ends of lines does not count.
        entry: the function's name, `Class.method`, or a method of the class `Solution`; empty: a script.
        limits: of time, memory and so on, and `packages` that may be imported.
        tolerance: floats, and numbers that are printed, may differ by so much, or by so much of themselves; None: by
            1e-9 of themselves, and printed ones not at all.
        ints_for_floats: 1 and 1.0 are the same.

    Returns:
        CodeResult; with no tests its `error` says so, and nothing passed.

    Raises:
        ValueError: a test is not in this form. Then the row is wrong, not the program.
        SandboxError: no sandbox works here, or it broke. It says nothing about the program.

    >>> run_tests("def double(x):\\n    return 2 * x", [{"args": [2], "expected": 4}], "double")
    CodeResult(passed=1, total=1, error='')
    >>> run_tests("print(2 * int(input()))", [{"stdin": "2", "stdout": "4"}]).share
    1.0
    """
    calls = _calls(tests, entry)
    if not calls:
        return CodeResult(0, 0, "there are no tests: nothing was executed")
    check = _Check(_tolerance(tolerance), ints_for_floats)
    return _tested(_sandbox(limits).run(program, entry, calls), tests, check)


@ranged(0, 1)
def code(
    completions: Sequence[str],
    tests: Sequence[Sequence[Test] | str],
    entry: Sequence[str | None] | None = None,
    tolerance: Sequence[float | None] | float | None = None,
    ints_for_floats: Sequence[bool | None] | bool = False,
    packages: Sequence[str | None] | str = "",
    limits: ProgramLimits = ProgramLimits(),  # noqa: B008
    **_: Any,
) -> list[float | None]:
    """[K] share of the hidden tests that each completion's program passes, 0 to 1.

    Args:
        completions: [K] programs, bare or in a fenced block.
        tests: [K] lists of tests as in `run_tests`, or the same as JSON text; or `{"inputs": [...], "outputs": [...]}`
            of a script.
        entry: [K] names of the function; None or empty: a script.
        tolerance: of floats, [K] or one for all; see `run_tests`.
        ints_for_floats: whether 1 and 1.0 are the same, [K] or one for all.
        packages: what may be imported besides the standard library, as in "numpy, pandas"; [K] or one for all.
        limits: of all programs; set by `functools.partial` or `code_reward`.
    """
    given: dict[
        ProgramLimits, list[tuple[int, tuple[str, str, list[ProgramCall]], Sequence[Test], _Check]]
    ] = {}
    count = len(completions)
    columns = (each(value, count) for value in (entry or "", tolerance, ints_for_floats, packages))
    for place, (completion, row_tests, *options) in enumerate(zip(completions, tests, *columns, strict=True)):
        name, near, alike, names = options
        parsed, name = parsed_tests(row_tests), name or ""
        calls = _calls(parsed, name)
        if not calls:
            raise InputError(f"reward 'code': column 'tests' of the row with entry {name!r} has no tests")
        shown = package_names(names) or limits.packages
        check = _Check(_tolerance(near), bool(alike))
        within = replace(limits, packages=shown)
        if (program := extract_program(completion)) is not None:
            given.setdefault(within, []).append((place, (program, name, calls), parsed, check))
    scores: list[float | None] = [0.0] * count
    for within, some in given.items():
        for (place, _call, row_tests, check), ran in zip(
            some, _sandbox(within).map([one[1] for one in some]), strict=True
        ):
            scores[place] = _tested(ran, row_tests, check).share
    return scores


def code_reward(limits: ProgramLimits = ProgramLimits(), **options: Any) -> Callable[..., Any]:  # noqa: B008
    """The code reward with other limits, and with other options fixed: tolerance, ints_for_floats, packages."""
    return functools.partial(code, limits=limits, **options)


def extract_program(completion: str) -> str | None:
    """The program of a completion: its only block of Python, else its only block, else all of it; or None.

    >>> extract_program("Here:\\n```python\\nx = 1\\n```")
    'x = 1\\n'
    """
    said = answer_text(completion)
    found = fences(said)
    blocks = [block.body for block in found if PYTHON.fullmatch(block.info)]
    blocks = blocks if len(blocks) == 1 else [block.body for block in found]
    if len(blocks) > 1 or (not blocks and FENCE_MARK.search(said)):
        return None
    program = _unindented(blocks[0] if blocks else said)
    return program if program.strip() else None


def _unindented(program: str) -> str:
    """A program without white space before its first line; an indented one with as much less on every line.

    >>> _unindented("  def f():\\n    return 1")
    'def f():\\n    return 1'
    >>> _unindented("  x = 1\\n  y = 2")
    'x = 1\\ny = 2'
    """
    lines = [line for line in program.splitlines() if line.strip()]
    first, *others = [len(line) - len(line.lstrip()) for line in lines] or [0]
    if not first:
        return program
    opens = lines[0].rstrip().endswith(":") and others and others[0] <= first
    return dedent(program) if others and min(others) == first and not opens else program.lstrip()


@dataclass(frozen=True, slots=True)
class _Check:
    """How answers are compared with what is expected."""

    tolerance: float | None
    ints_for_floats: bool

    def passes(self, given: Any, test: Test) -> bool:
        if "expected" in test:
            return same(given, test["expected"], self.tolerance, self.ints_for_floats)
        expected = next(test[key] for key in test if key in OUTPUT)
        return isinstance(given, str) and same_output(given, expected, self.tolerance)


def _tolerance(tolerance: float | None) -> float | None:
    known = isinstance(tolerance, int | float) and not isinstance(tolerance, bool) and 0 <= tolerance < 1
    if tolerance is not None and not known:
        raise InputError(f"tolerance is {tolerance!r}; expected a number from 0 to below 1, such as 1e-6")
    return tolerance


def package_names(packages: str | None) -> tuple[str, ...]:
    """The names in a column `packages`. InputError: it is not text.

    >>> package_names("numpy, pandas"), package_names(None)
    (('numpy', 'pandas'), ())
    """
    if packages is not None and not isinstance(packages, str):
        raise InputError(f"packages is {packages!r}; expected text, such as 'numpy, pandas'")
    return tuple(re.findall(r"[^\s,]+", packages or ""))


def parsed_tests(tests: Any) -> Any:
    """Tests as a list: JSON is read, and `inputs` with `outputs` are joined."""
    try:
        tests = json.loads(tests) if isinstance(tests, str) else tests
    except ValueError as error:
        raise InputError(
            f"reward 'code': column 'tests' is text that is no JSON ({error}): {tests[:80]!r}"
        ) from error
    if isinstance(tests, Mapping) and {"inputs", "outputs"} <= set(tests):
        inputs, outputs = tests["inputs"], tests["outputs"]
        if tests.get("fn_name") or len(inputs) != len(outputs):
            raise InputError(
                f"reward 'code': column 'tests' has {len(inputs)} inputs, {len(outputs)} outputs and fn_name "
                f"{tests.get('fn_name')!r}; expected as many outputs as inputs of a script; for a "
                "function give a list of {'args', 'expected'} and column 'entry'"
            )
        return [{"stdin": given, "stdout": printed} for given, printed in zip(inputs, outputs, strict=True)]
    return tests


def _calls(tests: Any, entry: str) -> list[ProgramCall]:
    if not isinstance(entry, str) or (entry and not all(part.isidentifier() for part in entry.split("."))):
        raise InputError(f"entry is {entry!r}; expected the name of a function, or nothing for a script")
    if isinstance(tests, str | Mapping) or not isinstance(tests, Sequence):
        raise InputError(f"tests is a {type(tests).__name__}; expected a list of {{'args', 'expected'}}")
    return [_call(test, entry, f"test {number} of {len(tests)}: ") for number, test in enumerate(tests, 1)]


def _call(test: Any, entry: str, wrong: str) -> ProgramCall:
    # A table of tests of several kinds fills up with None what one of them has not.
    keys = {k for k in test if test[k] is not None or k == "expected"} if isinstance(test, Mapping) else set()
    if not entry:
        texts = [test[key] for key in keys & (INPUT | OUTPUT)]
        if (
            len(keys & INPUT) != 1
            or len(keys & OUTPUT) != 1
            or not all(isinstance(text, str) for text in texts)
        ):
            raise InputError(
                f"{wrong}has {_shown(test)}; without an entry expected the texts stdin and stdout"
            )
        return str(next(test[key] for key in keys & INPUT))
    if "expected" not in keys or not keys <= KEYS:
        raise InputError(f"{wrong}has {_shown(test)}; expected the keys args, expected (and kwargs)")
    args, kwargs = plain(test.get("args", [])), plain(test.get("kwargs")) or {}
    if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
        raise InputError(f"{wrong}args is {args!r}; expected a list, also for one argument")
    try:
        for value in (list(args), kwargs, plain(test["expected"])):
            encode(value)
    except TypeError as error:
        raise InputError(f"{wrong}{error} is no plain value") from error
    return (args, kwargs)


def _shown(test: Any) -> str:
    return ", ".join(map(str, test)) if isinstance(test, Mapping) else repr(test)[:80]


def _tested(ran: Ran, tests: Sequence[Test], check: _Check) -> CodeResult:
    passes = [
        not answer.error and check.passes(answer.value, test)
        for answer, test in zip(ran.answers, tests, strict=True)
    ]
    if all(passes):
        return CodeResult(len(tests), len(tests), ran.error)
    failed = passes.index(False)
    answer = ran.answers[failed]
    # The expected value stays out of messages: they may end up where a policy reads them.
    error = ran.error or f"test {failed + 1}: {answer.error or 'another value or type than expected'}"
    return CodeResult(sum(passes), len(tests), error, failed, answer)


def _sandbox(limits: ProgramLimits) -> Sandbox:
    """The sandbox of this process for these settings, made on first use and kept warm."""
    key = (os.getpid(), limits)
    with _making:
        if key not in _sandboxes:
            _sandboxes[key] = Sandbox(choose(), limits)
        return _sandboxes[key]
