"""The same task, with thinking before the answer: `<think>working</think><answer>answer</answer>`.

The reward is 0.9 of the task's own, of what stands in `<answer>`, and 0.1 of `tags`, for the form: a flawed answer in
tags is worth less than a right one without if the task pays it less than 8/9. With `credit: ladder` a missing citation
alone is paid more. Metrics read the answer alone, and the primary one stays what it was.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from ..rewards.library.format import tags
from ..rewards.scoring.combine import combine
from ..types import Row
from . import Task

ASKED = (
    " Think first, between <think> and </think>. Then give the answer, and nothing else, between <answer> and "
    "</answer>."
)
"""What the system message says in addition."""
SUBSTANCE, FORM = 0.9, 0.1
"""Weights of the task's reward and of `tags`."""

Thought = Callable[[Row], tuple[str, str]]
"""(working, answer) of the completion of a row of the task as it was."""


def thinking(task: Task, thought: Thought, whole: str = "{answer}", instruction: str = ASKED) -> Task:
    """The task with thinking.

    Args:
        task: has a reward, gold in the column `completion`, and a system message first in every prompt.
        thought: what of a completion is working, and what the answer.
        whole: the completion again, of `{working}` and `{answer}`.
        instruction: is added to the system message.
    """
    assert task.reward is not None

    def asked(row: Row) -> Row:
        system, *others = row["prompt"]
        told = {**system, "content": system["content"] + instruction}
        return {**row, "prompt": [told, *others], "completion": _tagged(thought(row))}

    def direct(row: Row) -> Row:
        system, *others = row["prompt"]
        untold = {**system, "content": system["content"].removesuffix(instruction)}
        return {**row, "prompt": [untold, *others], "completion": whole.format(**_parts(row["completion"]))}

    def varied(
        vary: Callable[[Row, random.Random], Row | None],
    ) -> Callable[[Row, random.Random], Row | None]:
        def vary_asked(row: Row, rng: random.Random) -> Row | None:
            found = vary(direct(row), rng)
            return None if found is None else asked(found)

        return vary_asked

    def flawed(corrupt: Callable[[Row, random.Random], str]) -> Callable[[Row, random.Random], str]:
        return lambda row, rng: _tagged(thought({**direct(row), "completion": corrupt(direct(row), rng)}))

    @cache
    def rows(split: str) -> Sequence[Row]:
        return [asked(row) for row in task.rows(split)]

    right: dict[str, Any] = {"metrics": {"right": task.reward, **task.metrics}, "primary": "right"}
    return replace(
        task,
        rows=rows,
        reward=combine({task.reward: SUBSTANCE, tags: FORM}),
        parts={},
        gold=lambda row: str(row["completion"]),
        corrupt=flawed(task.corrupt) if task.corrupt else None,
        flaws={name: flawed(flaw) for name, flaw in task.flaws.items()},
        variants={kind: varied(vary) for kind, vary in task.variants.items()},
        **({} if task.primary else right),
    )


_TAGGED = re.compile(r"<think>(?P<working>.*)</think>\n<answer>(?P<answer>.*)</answer>", re.DOTALL)


def _parts(completion: str) -> dict[str, str]:
    found = _TAGGED.fullmatch(completion)
    assert found is not None
    return found.groupdict()


def _tagged(thought: tuple[str, str]) -> str:
    working, answer = thought
    return f"<think>{working}</think>\n<answer>{answer}</answer>"
