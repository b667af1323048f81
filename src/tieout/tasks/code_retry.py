"""Task `code` in turns: the model writes a program, sees what tests said, and writes another.

One episode of three turns, of a row of `code` (`load_task("code", {"turns": 3})`):

    user        Write a Python function `total_days(invoices)`. Return the total days of the invoices whose ...
    policy      def total_days(invoices):
                    return sum(r["days"] for r in invoices if r["amount"] >= 45)
    user        4 of 5 tests passed. total_days([{'days': 30, 'amount': 45}]) gave 30; expected 0.
                Reply with the whole program again.
    policy      def total_days(invoices):
                    return sum(r["days"] for r in invoices if r["amount"] > 45)

Every other test of the row is shown (column `shown`): the first of them that fails is told, or the line at which the
program is no Python. The others stay hidden (`tests`), and score the last program of the episode: whoever returns what
feedback expects gains nothing. An episode ends when the shown tests pass. It costs nothing to take more turns, and no
style is judged: of what a linter says only syntax errors are told.
"""

from __future__ import annotations

import ast
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from ..errors import InputError
from ..rewards.library.code import (
    ProgramLimits,
    code,
    extract_program,
    package_names,
    parsed_tests,
    run_tests,
)
from ..rewards.scoring.outcomes import ranged
from ..types import Message, Reward, Row
from . import Task
from .code_function import written
from .variants import asked_in

AGAIN = "Reply with the whole program again."
MAX_CHARS = 300
"""Of a call, or of a value, in feedback."""
Turns = Sequence[Sequence[Message]]


def in_turns(task: Task, turns: int) -> Task:
    """The task of single programs as one of up to `turns` programs.

    Raises InputError, when rows are asked for: a row has fewer than two tests, is a script, or its prompt is more than
    what a user says.
    """
    if turns < 2:
        raise InputError(f"task code: turns is {turns}; expected 1, or 2 and more to try again")

    @cache
    def rows(split: str) -> Sequence[Row]:
        return [_divided(row, f"row {number} of {split}") for number, row in enumerate(task.rows(split), 1)]

    metrics: dict[str, Reward] = {
        **{name: partial(last_program, judged=metric) for name, metric in task.metrics.items()},
        "solved at first": solved_at_first,
        "programs": programs,
    }
    return replace(
        task,
        rows=rows,
        reward=last_program,
        environment=partial(attempts, turns=turns),
        scored_by="reward",
        metrics=metrics,
    )


def attempts(row: Row, turns: int) -> Generator[str, str, None]:
    """One episode, as an environment; the reward scores it."""
    said = yield asked_in(row) or row["prompt"]
    for _ in range(turns - 1):
        feedback = told(said, row)
        if feedback is None:
            return
        said = yield feedback


def told(completion: str, row: Row) -> str | None:
    """What a program gets wrong, by the shown tests; None: nothing."""
    if (program := extract_program(completion)) is None:
        return f"There is no program in this, or more than one. {AGAIN}"
    try:
        ast.parse(program)
    except SyntaxError as error:
        return f"This is no Python: {error.msg}, line {error.lineno}. {AGAIN}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"This is no Python: {type(error).__name__}. {AGAIN}"
    tests = row["shown"]
    found = run_tests(
        program,
        tests,
        row["entry"],
        limits=ProgramLimits(packages=package_names(row.get("packages"))),
        tolerance=row.get("tolerance"),
        ints_for_floats=bool(row.get("ints_for_floats")),
    )
    if found.failed is None:
        return None
    if not found.error.startswith("test "):
        return f"None of {found.total} tests passed: {_short(found.error)}. {AGAIN}"
    test = tests[found.failed]
    call = _short(written((test.get("args") or [], test.get("kwargs") or {}), row["entry"]))
    answer = found.answer
    gave = f"failed: {_short(answer.error)}" if answer.error else f"gave {_short(repr(answer.value))}"
    expected = _short(repr(test["expected"]))
    return f"{found.passed} of {found.total} tests passed. {call} {gave}; expected {expected}. {AGAIN}"


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}..."


def repaired(row: Row) -> Row | None:
    """A demonstration for SFT: the row's flawed program, what its tests said, then gold. None: they do not notice."""
    flawed = row.get("flawed")
    feedback = told(flawed, row) if flawed else None
    if feedback is None:
        return None
    wrong = [{"role": "assistant", "content": flawed}, {"role": "user", "content": feedback}]
    asked = [{"role": "user", "content": asked_in(row) or row["prompt"]}]
    return {"prompt": asked + wrong, "completion": row["completion"]}


# --- rewards ------------------------------------------------------------------------------------------------


@ranged(0, 1)
def last_program(
    completions: Sequence[str],
    tests: Sequence[Any],
    completion_turns: Turns | None = None,
    judged: Reward = code,
    **columns: Any,
) -> list[float | None]:
    """[K] what `judged` says of the last program of each episode; of a single completion, of that."""
    last = [said[-1] for said in _said(completions, completion_turns)]
    return list(judged(last, tests=tests, **columns))


@ranged(0, 1)
def solved_at_first(
    completions: Sequence[str], tests: Sequence[Any], completion_turns: Turns | None = None, **columns: Any
) -> list[float | None]:
    """[K] 1 where the first program of an episode passes every hidden test, else 0."""
    first = [said[0] for said in _said(completions, completion_turns)]
    return [float(share == 1.0) for share in code(first, tests, **columns)]


def programs(
    completions: Sequence[str], completion_turns: Turns | None = None, **_: Any
) -> list[float | None]:
    """[K] how many programs were written."""
    return [float(len(said)) for said in _said(completions, completion_turns)]


def _said(completions: Sequence[str], turns: Turns | None) -> list[list[str]]:
    """What the policy said, turn by turn."""
    if turns is None:
        return [[completion] for completion in completions]
    return [[str(message["content"]) for message in own if message["role"] == "assistant"] for own in turns]


def _divided(row: Row, where: str) -> Row:
    """Every other test is shown, the others are hidden."""
    tests, kinds = parsed_tests(row["tests"]), row.get("kinds")
    if len(tests) < 2 or not row.get("entry"):
        raise InputError(
            f"task code: {where} has {len(tests)} tests and entry {row.get('entry')!r}; with turns expected a "
            "function, and two tests or more, as every other one is shown"
        )
    if not isinstance(row["prompt"], str) and (len(row["prompt"]) > 1 or asked_in(row) is None):
        raise InputError(
            f"task code: the prompt of {where} is more than one message of a user; turns begin with one"
        )
    hidden = {"kinds": kinds[1::2]} if kinds else {}
    return {**row, "shown": tests[::2], "tests": tests[1::2], **hidden}
