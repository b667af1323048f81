"""The format of a task's own answers, by which sampled completions are told valid: JSON, or tags."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from ..rewards.library.format import tags
from ..rewards.text.structured import parse_json
from ..tasks import Task
from ..types import Reward

EXAMPLES = 8
"""Answers of the task that are looked at."""


def format_of(task: Task) -> Reward | None:
    """1.0 for completions in the format that all answers looked at have: `tags`, or `json_form`; None: neither.

    The answers are the task's gold, or the completions (else the chosen ones) in its rows.
    """
    answers = _answers(task)
    known = (tags, json_form) if answers else ()  # JSON in tags is both
    return next((form for form in known if form(answers) == [1.0] * len(answers)), None)


def json_form(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] 1.0 for one JSON object or array, bare or in one fence; else 0.0.

    >>> json_form(['{"a": 1}', "42", '{"a": 1'])
    [1.0, 0.0, 0.0]
    """
    return [float(isinstance(parse_json(text).value, dict | list)) for text in completions]


def _answers(task: Task) -> list[str]:
    rows = list(islice(task.rows("train"), EXAMPLES))
    if task.gold is not None:
        try:
            golds = [task.gold(row) for row in rows]
            return [] if None in golds else [str(gold) for gold in golds]
        except (KeyError, TypeError, ValueError):  # rows of a file, which this gold was never meant for
            return []
    column = next((name for name in ("completion", "chosen") if rows and name in rows[0]), "")
    answers = [row[column] for row in rows if isinstance(row.get(column), str)]
    return answers if len(answers) == len(rows) else []
