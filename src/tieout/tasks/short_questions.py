"""Negative controls for a pretrained model: short factual questions and small instructions, which it can do already.

A row, as `task.rows("test")` gives it, and one of "train":

    {"prompt": [{"role": "user", "content": "What is the capital of France?"}], "answers": ["Paris"],
     "skill": "capitals"}
    {"prompt": [{"role": "user", "content": "Describe a sunset in a few words."}],
     "completion": "The sunset is a breathtaking sight ..."}

The rows of `test` lie in short_questions.jsonl: those out of a longer list (scripts/short_questions.txt) that
SmolLM2-135M-Instruct in bf16 knew reliably before it was trained on anything here: right greedily, and in six of eight
samples. So its own score is near 1 by their choice; what is measured is how much of it training takes away.

The training rows are general rows, against forgetting: other questions, with what the same model replies to them
(scripts/short_answers.py), right or not.

Right is a reply whose first line holds one of the answers as whole words, whatever their case, and that is prose: a
model that has learnt to reply in JSON to everything has unlearnt to reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..rewards.text.thinking import after_thinking
from ..types import Row
from . import Task

FILE = Path(__file__).with_suffix(".jsonl")
REPLIES = FILE.with_name("short_answers.jsonl")


@cache
def _rows(split: str) -> tuple[Row, ...]:
    if split == "train":
        return tuple(
            {"prompt": [{"role": "user", "content": row["question"]}], "completion": row["reply"]}
            for row in map(json.loads, REPLIES.read_text(encoding="utf-8").splitlines())
        )
    if split != "test":
        return ()
    return tuple(
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "answers": row["answers"],
            "skill": row["skill"],
        }
        for row in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    )


def answered(completions: list[str], answers: list[list[str]], **_: Any) -> list[float | None]:
    """1 if the first line after any thinking is prose and holds one of the answers as whole words; else 0."""
    return [float(_right(after_thinking(c) or "", a)) for c, a in zip(completions, answers, strict=True)]


def _right(text: str, answers: Sequence[str]) -> bool:
    line = text.strip().partition("\n")[0]
    if re.search(r"[{}\[\]|]", line):
        return False
    return any(re.search(rf"(?<!\w){re.escape(a)}(?!\w)", line, re.IGNORECASE) for a in answers)


task = Task(
    name="short_questions",
    rows=_rows,
    reward=answered,
    gold=lambda row: str(row["answers"][0] if "answers" in row else row["completion"]),
    max_new_tokens=32,
)
