"""Write a small Python function; hidden tests say whether it is right.

One row (`task.rows("test")[0]`), its prompt and its completion:

    Write a Python function `count_above(values)` that returns how many of the numbers are above 17.
    Example: count_above([46, 17, 28]) == 2
    Example: count_above([]) == 0
    Reply with the program only.

    def count_above(values):
        return sum(1 for v in values if v > 17)

    entry       count_above
    tests       [{"args": [[3, 44, 17, 90]], "expected": 2}, ...]: 8, none of them an example of the prompt

Rows are made from a seed: a family of functions, and the numbers in it. Splits share families, and numbers here and
there; families of the split `ood` occur in no other.
The expected values are what gold returns. The reward is `rewards.code`: the share of the hidden tests that pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import InputError
from ..rewards.library.code import code
from ..types import Row
from . import Task
from .splits import split_sizes

SIZES: Mapping[str, int] = {"train": 400, "calibration": 80, "test": 100, "ood": 60}
"""Split -> number of rows."""

NUM_EXAMPLES, NUM_TESTS = 2, 8
END = "Reply with the program only."

Arguments = Callable[[random.Random], list[Any]]


@dataclass(frozen=True)
class Family:
    """Functions that differ in their numbers: `{k}` in texts is one of them."""

    entry: str
    signature: str
    task: str
    body: str
    flawed: str
    """A body that passes some tests at most."""
    arguments: Arguments


def _numbers(rng: random.Random, low: int = -20, high: int = 100, most: int = 9) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(0, most))]


def _words(rng: random.Random) -> list[str]:
    stock = ["cash", "debt", "fee", "tax", "loan", "bond", "rent", "Cash", "TAX", "lease", "stock", "audit"]
    return [rng.choice(stock) for _ in range(rng.randint(0, 7))]


def _amounts(rng: random.Random) -> list[list[Any]]:
    return [[word, rng.randint(-50, 90)] for word in _words(rng)]


FAMILIES = [
    Family(
        "count_above",
        "values",
        "returns how many of the numbers are above {k}",
        "return sum(1 for v in values if v > {k})",
        "return sum(1 for v in values if v >= {k} - 9)",
        lambda rng: [_numbers(rng)],
    ),
    Family(
        "clip",
        "values",
        "returns the list with every number above {k} replaced by {k}",
        "return [min(v, {k}) for v in values]",
        "return [max(v, {k}) for v in values]",
        lambda rng: [_numbers(rng)],
    ),
    Family(
        "running_total",
        "values",
        "returns the list of running totals, starting from {k}",
        "total, result = {k}, []\n    for v in values:\n        total += v\n"
        "        result.append(total)\n    return result",
        "total, result = 0, []\n    for v in values:\n        total += v\n"
        "        result.append(total)\n    return result",
        lambda rng: [_numbers(rng)],
    ),
    Family(
        "sum_by_name",
        "rows",
        "takes pairs [name, amount] and returns a dict from each name to the sum of its amounts, plus {k} each",
        "result = {{}}\n    for name, amount in rows:\n"
        "        result[name] = result.get(name, {k}) + amount\n    return result",
        "return {{name: amount + {k} for name, amount in rows}}",
        lambda rng: [_amounts(rng)],
    ),
    Family(
        "count_word",
        "words",
        "returns how often each word occurs, ignoring case, as a dict, leaving out words of {m} letters or fewer",
        "result = {{}}\n    for w in words:\n        if len(w) > {m}:\n"
        "            result[w.lower()] = result.get(w.lower(), 0) + 1\n"
        "    return result",
        "return {{w: words.count(w) for w in words if len(w) > {m}}}",
        lambda rng: [_words(rng)],
    ),
    Family(
        "split_payment",
        "total, parts",
        "splits a whole amount into that many whole parts as equal as can be, larger ones first, each plus {m}",
        "low, rest = divmod(total, parts)\n"
        "    return [low + {m} + (1 if i < rest else 0) for i in range(parts)]",
        "return [total // parts + {m}] * parts",
        lambda rng: [rng.randint(0, 200), rng.randint(1, 7)],
    ),
    Family(
        "is_balanced",
        "debits, credits",
        "says whether the sums of the two lists differ by at most {m}, as a bool",
        "return abs(sum(debits) - sum(credits)) <= {m}",
        "return sum(debits) == sum(credits) + {m}",
        lambda rng: _near_equal(rng),
    ),
    Family(
        "every_nth",
        "values",
        "returns every number at a position divisible by {n}, counting from 1",
        "return values[{n} - 1 :: {n}]",
        "return values[::{n}]",
        lambda rng: [_numbers(rng, most=12)],
    ),
]

HELD_OUT = [
    Family(
        "longest_rise",
        "values",
        "returns the length of the longest stretch in which each number is larger than the one before by at least {m}",
        "best = run = 1 if values else 0\n    for a, b in zip(values, values[1:]):\n"
        "        run = run + 1 if b >= a + max(1, {m}) else 1\n"
        "        best = max(best, run)\n    return best",
        "return len(values)",
        lambda rng: [_numbers(rng, most=12)],
    ),
    Family(
        "merge_gaps",
        "spans",
        "merges spans [start, end] that overlap or are at most {m} apart, and returns them sorted",
        "result = []\n    for start, end in sorted(spans):\n"
        "        if result and start <= result[-1][1] + {m}:\n"
        "            result[-1][1] = max(result[-1][1], end)\n        else:\n"
        "            result.append([start, end])\n    return result",
        "return sorted(spans)",
        lambda rng: [[[s, s + rng.randint(0, 15)] for s in _numbers(rng, 0, 80)]],
    ),
    Family(
        "net_by_sign",
        "rows",
        "takes pairs [name, amount] and returns a tuple: the sum of amounts above {k} and the sum of the others",
        "above = sum(a for _, a in rows if a > {k})\n    return (above, sum(a for _, a in rows) - above)",
        "return (sum(a for _, a in rows), {k})",
        lambda rng: [_amounts(rng)],
    ),
]
"""Of the split `ood` only."""


def _near_equal(rng: random.Random) -> list[Any]:
    debits = _numbers(rng, 1, 60, 5)
    credits = [*debits]
    rng.shuffle(credits)
    if credits and rng.random() < 0.7:
        credits[0] += rng.randint(-4, 4)
    return [debits, credits]


def make(seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Task:
    """The task with other rows: `sizes` says how many rows each split has, for the splits to change."""
    counts = split_sizes("code", SIZES, sizes)

    @cache
    def rows(split: str) -> Sequence[Row]:
        if split not in counts:
            raise InputError(f"no split {split!r}; code has: {', '.join(SIZES)}")
        return [_row(split, seed, i) for i in range(counts[split])]

    return Task(
        "code", rows, code, gold=lambda row: str(row["completion"]), corrupt=corrupt, max_new_tokens=192
    )


def _row(split: str, seed: int, index: int) -> Row:
    rng = random.Random(f"code/{seed}/{split}/{index}")
    families = HELD_OUT if split == "ood" else FAMILIES
    family = families[index % len(families)]
    numbers = {"k": rng.randint(2, 60), "m": rng.randint(1, 3), "n": rng.randint(2, 4)}
    program = _program(family, family.body, numbers)
    scope: dict[str, Any] = {}
    exec(program, scope)  # our own text from above
    function = scope[family.entry]
    cases: dict[str, list[Any]] = {}
    while len(cases) < NUM_EXAMPLES + NUM_TESTS:
        arguments = family.arguments(rng)
        cases.setdefault(repr(arguments), arguments)
    tests = [{"args": arguments, "expected": function(*arguments)} for arguments in cases.values()]
    examples, hidden = tests[:NUM_EXAMPLES], tests[NUM_EXAMPLES:]
    shown = [
        f"Example: {family.entry}({', '.join(map(repr, test['args']))}) == {test['expected']!r}"
        for test in examples
    ]
    said = (
        f"Write a Python function `{family.entry}({family.signature})` that {family.task.format(**numbers)}."
    )
    return {
        "prompt": [{"role": "user", "content": "\n".join([said, *shown, END])}],
        "completion": program,
        "entry": family.entry,
        "tests": hidden,
        "flawed": _program(family, family.flawed, numbers),
    }


def _program(family: Family, body: str, numbers: Mapping[str, int]) -> str:
    return f"def {family.entry}({family.signature}):\n    {body.format(**numbers)}\n"


def corrupt(row: Row, rng: random.Random) -> str:
    """A program that is wrong: the family's usual mistake, one that computes nothing, or one that does not load."""
    entry, gold = str(row["entry"]), str(row["completion"])
    return rng.choice(
        [str(row["flawed"]), gold.replace("return", "retrun", 1), gold.replace(entry, f"{entry}_", 1)]
    )


task = make()
