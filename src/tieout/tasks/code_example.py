"""What a prompt of the task `code` shows of its tests: the example, by which one of several samples can be chosen."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from ..rewards.library.code import code
from ..rewards.scoring.outcomes import ranged

MARK = "Example: "


@ranged(0, 1)
def passes_example(completions: Sequence[str], prompts: Sequence[Any]) -> list[float | None]:
    """[K] 1 where a program returns what the example in its prompt says, else 0; None where there is no example.

    It reads nothing but the prompt, so it can be served: a selector of best of N.
    """
    found = [example(prompt) for prompt in prompts]
    known = [i for i, one in enumerate(found) if one]
    scores: list[float | None] = [None] * len(completions)
    if known:
        tests, entries = zip(*(found[i] or ({}, "") for i in known), strict=True)
        given = [completions[i] for i in known]
        passed = code(given, [[test] for test in tests], entries, tolerance=1e-6, ints_for_floats=True)
        for i, score in zip(known, passed, strict=True):
            scores[i] = score
    return scores


def example(prompt: Any) -> tuple[dict[str, Any], str] | None:
    """The example of a prompt as a hidden test would be, and the function's name; None without one.

    >>> example([{"role": "user", "content": "Add.\\nExample: add([1, 2], more=3) == 6\\nReply."}])
    ({'args': [[1, 2]], 'kwargs': {'more': 3}, 'expected': 6}, 'add')
    """
    text = prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
    shown = [line.removeprefix(MARK) for line in text.splitlines() if line.startswith(MARK)]
    try:
        match ast.parse(shown[-1] if shown else "", mode="eval").body:
            case ast.Compare(
                left=ast.Call(func=ast.Name(id=entry)) as call, ops=[ast.Eq()], comparators=[value]
            ):
                args = [ast.literal_eval(one) for one in call.args]
                named = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
                return {"args": args, "kwargs": named, "expected": ast.literal_eval(value)}, entry
    except (SyntaxError, TypeError, ValueError):  # TypeError: a dictionary whose key is a list
        return None
    return None
