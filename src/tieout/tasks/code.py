"""Write a Python function over a table; hidden tests say how much of it is right.

One row (`task.rows("test")[0]`), its prompt and its completion:

    Write a Python function `total_days(invoices)`. Return the total days of the invoices whose amount is more than 45.
    Example: total_days([{'status': 'open', 'days': 91, 'amount': 82}, {'status': 'open', ...}]) == 91
    Reply with the program only.

    def total_days(invoices):
        return sum(r["days"] for r in invoices if r["amount"] > 45)

    entry       total_days
    tests       [{"args": [[{"status": "open", "days": 87, "amount": 72}, ...]], "expected": 265}, ...]: 8
    kinds       usual (4 times), boundary (twice), one row, empty: of each test
    flawed      the same with `>= 45`, which passes the example

Rows are made from a seed. `level="lines"` is a grammar of functions of one or two lines, for a small model
(`code_lines`); `level="tables"` are functions of finance of up to 15 lines (`code_tables`), with `library="pandas"`
those that have a program in pandas. No program stands in two splits, and families of `ood` occur in no other. Rows of
your own: `load("rows.jsonl")`, with prompt, tests, entry and, for gold, completion.

The reward is `rewards.code`, the share of the hidden tests that pass; `solved` says that all do. The expected values
are what gold returns.
"""

from __future__ import annotations

import ast
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import InputError
from ..rewards.library.code import code, extract_program, package_names, parsed_tests
from ..rewards.scoring.outcomes import ranged
from ..rows import check_rows, read_rows
from ..sandbox.packages import found
from ..types import Row
from . import Task, code_lines, code_tables
from .code_function import Function, defined, written
from .code_retry import in_turns
from .splits import check_columns, from_lists, split_sizes

SIZES: Mapping[str, int] = {"train": 400, "calibration": 80, "test": 100, "ood": 60}
"""Split -> number of rows."""
SHARES: Mapping[str, range] = {"train": range(14), "calibration": range(14, 16), "test": range(16, 20)}
"""Split -> which twentieths of all functions it has, by a hash of their program. `ood` has families of its own."""
Level = Literal["lines", "tables"]
Library = Literal["python", "pandas"]
END = "Reply with the program only."
PANDAS = "Use pandas; a DataFrame or Series is no answer."
MORE = 20
"""Calls drawn for a hidden test, until one is new, and TELLING."""
TELLING = ("usual", "boundary")
"""Kinds of tests that do not expect 0, nothing or None, which a program that computes nothing returns."""
OPTIONS = ("tests", "entry", "tolerance", "ints_for_floats", "packages")
"""Columns of the reward."""
TRIES = 2000
"""Functions drawn for a row, until one is of its split, new, and has a mistake that its example does not show."""


def make(
    seed: int = 0,
    sizes: Mapping[str, int] = SIZES,
    level: Level = "lines",
    library: Library = "python",
    turns: int = 1,
) -> Task:
    """The task with other rows: `sizes` says how many rows each split has, for the splits to change.

    With `turns` the model sees what half of the tests say of its program, and tries again: `code_retry`.
    """
    for name, value, known in (("level", level, get_args(Level)), ("library", library, get_args(Library))):
        if value not in known:
            raise InputError(f"task code: {name} is {value!r}; expected {' or '.join(known)}")
    if library == "pandas":
        if level != "tables":
            raise InputError(f"task code: library pandas is for level tables; level is {level}")
        try:
            found([library])
        except ImportError as error:
            raise InputError(
                f"task code: {error}: `pip install pandas`, or leave library out for plain Python"
            ) from error
    counts = split_sizes("code", SIZES, sizes)

    @cache
    def rows(split: str) -> Sequence[Row]:
        if split not in counts:
            raise InputError(f"no split {split!r}; code has: {', '.join(SIZES)}")
        return _rows(split, counts[split], seed, level, library)

    return replace(_task(rows, 96 if level == "lines" else 512, turns), entity="completion")


def load(path: str | Path, max_new_tokens: int = 512, turns: int = 1) -> Task:
    """Rows of a file as the task: prompt, tests, entry (none: a script), completion (gold) and other options of the
    reward as further columns. A row's split is the column `split`, else a hash of its prompt: 14 in 20 train, 2
    calibration, 4 test.

    Raises InputError for a row whose tests, options or kinds have another form, whose split is not known, or that
    stands twice.
    """
    given = check_rows(read_rows(path), "prompt", str(path))
    check_columns(code, given, str(path))
    splits: dict[str, list[Row]] = {split: [] for split in SIZES}
    seen = dict[str, int]()
    for number, row in enumerate(given, 1):
        try:
            columns: dict[str, Any] = {name: [row[name]] for name in OPTIONS if name in row}
            code([""], **columns)
            found(package_names(row.get("packages")))
            _check_kinds(row)
        except (InputError, ImportError) as error:
            raise InputError(f"{path}, row {number}: {error}") from error
        text = repr(row["prompt"])
        if text in seen:
            raise InputError(
                f"{path}, row {number}: its prompt is that of row {seen[text]}; drop one of them"
            )
        seen[text] = number
        split = row.get("split") or _split(text)
        if split not in splits:
            raise InputError(f"{path}, row {number}: split is {split!r}; expected one of {', '.join(splits)}")
        splits[split].append(row)
    return _task(from_lists("code", splits), max_new_tokens, turns)


def _check_kinds(row: Row) -> None:
    kinds, count = row.get("kinds"), len(parsed_tests(row["tests"]))
    named = isinstance(kinds, list | tuple) and all(isinstance(kind, str) for kind in kinds)
    if kinds is not None and not (named and len(kinds) == count):
        raise InputError(
            f"kinds is {kinds!r}; expected a list with the kind of each of the {count} tests, such as usual or edge"
        )


def _task(rows: Any, max_new_tokens: int, turns: int) -> Task:
    task = Task(
        "code",
        rows,
        code,
        metrics={"solved": solved, "edge cases": edge_cases, "parses": parses},
        primary="solved",
        gold=lambda row: str(row["completion"]) if row.get("completion") else None,
        corrupt=corrupt,
        max_new_tokens=max_new_tokens,
    )
    return task if turns == 1 else in_turns(task, turns)


@ranged(0, 1)
def solved(completions: Sequence[str], tests: Sequence[Any], **columns: Any) -> list[float | None]:
    """[K] 1 where a program passes every hidden test, else 0."""
    return [float(share == 1.0) for share in code(completions, tests, **columns)]


@ranged(0, 1)
def edge_cases(
    completions: Sequence[str],
    tests: Sequence[Any],
    kinds: Sequence[Sequence[str] | None] | None = None,
    **columns: Any,
) -> list[float | None]:
    """[K] the share of the tests passed that are not usual: `kinds` names each one's kind. None where it does not."""
    scores: list[float | None] = [None] * len(completions)
    for i, of in enumerate(kinds or ()):
        if of is None:
            continue
        edges = [test for test, kind in zip(parsed_tests(tests[i]), of, strict=True) if kind != "usual"]
        if edges:
            one: dict[str, Any] = {
                name: value[i : i + 1] for name, value in columns.items() if isinstance(value, list)
            }
            (scores[i],) = code(completions[i : i + 1], [edges], **one)
    return scores


@ranged(0, 1, form=True)
def parses(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] 1 where the program is Python, else 0."""
    return [float(_parses(extract_program(completion))) for completion in completions]


def _parses(program: str | None) -> bool:
    try:
        ast.parse(program or "(")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _split(text: str) -> str:
    part = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 20
    return next(split for split, parts in SHARES.items() if part in parts)


def _rows(split: str, count: int, seed: int, level: Level, library: Library) -> list[Row]:
    rows, seen = list[Row](), set[str]()
    for index in range(count):
        rng = random.Random(f"code/{level}/{seed}/{split}/{index}")
        for tried in range(TRIES):
            function = _function(split, index + tried // 40, level, library, rng)
            if function.program not in seen and (split == "ood" or _split(function.program) == split):
                row = _row(function, library, rng)
                if row is not None:
                    seen.add(function.program)
                    rows.append(row)
                    break
        else:
            raise InputError(
                f"task code: {split} has {len(rows)} different functions of level {level}, and {count} rows are "
                "asked for; lower its `sizes`"
            )
    return rows


def _function(split: str, index: int, level: Level, library: Library, rng: random.Random) -> Function:
    if level == "lines":
        names = code_lines.HELD_OUT if split == "ood" else code_lines.FAMILIES
        return code_lines.line(names[index % len(names)], rng)
    families = [one for one in code_tables.families(split == "ood") if library == "python" or one.pandas]
    return code_tables.table(families[index % len(families)], rng, library)


def _row(function: Function, library: Library, rng: random.Random) -> Row | None:
    """The row of a function; None if telling calls are rare, or no flawed program passes the example alone."""
    gold = defined(function.program, function.entry)
    example = function.calls["example"](rng)
    calls, tests = {written(example, function.entry): example}, list[dict[str, Any]]()
    for kind in function.kinds:
        for _ in range(MORE):
            call = function.calls[kind](rng)
            expected = gold(*call[0], **call[1])
            if written(call, function.entry) not in calls and (expected or kind not in TELLING):
                break
        else:
            return None
        calls[written(call, function.entry)] = call
        tests.append(_test(call, expected))
    expected = gold(*example[0], **example[1])
    if not expected:
        return None  # an example that shows nothing
    for flawed in function.flawed:
        wrong = defined(flawed, function.entry)
        if _returns(wrong, example) == repr(expected) and any(
            _returns(wrong, call) != repr(gold(*call[0], **call[1])) for call in calls.values()
        ):
            break
    else:
        return None
    hidden = [(call, repr(gold(*call[0], **call[1]))) for call in list(calls.values())[1:]]
    for program in function.caught:
        wrong = defined(program, function.entry)
        if all(_returns(wrong, call) == right for call, right in hidden):
            return None
    shown = f"Example: {written(example, function.entry)} == {expected!r}"
    lines = [function.text, shown, *([PANDAS] if library == "pandas" else []), END]
    return {
        "prompt": [{"role": "user", "content": "\n".join(lines)}],
        "completion": function.program,
        "entry": function.entry,
        "family": function.family,
        "tests": tests,
        "kinds": list(function.kinds),
        "ints_for_floats": True,
        "tolerance": 1e-6,
        **({"packages": library} if library == "pandas" else {}),
        "flawed": flawed,
    }


def _test(call: Any, expected: Any) -> dict[str, Any]:
    args, kwargs = call
    return {"args": args, **({"kwargs": kwargs} if kwargs else {}), "expected": expected}


def _returns(function: Any, call: Any) -> str:
    args, kwargs = call
    try:
        return repr(function(*args, **kwargs))
    except Exception as error:
        return type(error).__name__


def corrupt(row: Row, rng: random.Random) -> str:
    """A program that is wrong: one that passes the example, one that is no Python, or one of another name."""
    gold, name = str(row["completion"]), str(row.get("entry") or "").rpartition(".")[2]
    renamed = re.sub(rf"\bdef {name}\b", f"def {name}_", gold) if name else gold
    wrong = {str(row.get("flawed") or gold): None, f"{gold}\n)": None, renamed: None}
    return rng.choice([program for program in wrong if program != gold])
