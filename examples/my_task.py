"""A task in one file: write a figure of a financial statement as a plain number.

One real row:

>>> TASK.rows("train")[0]
{'prompt': [{'role': 'user', 'content': 'Write (5,251) million as a plain number.'}],
 'completion': '-5251000000', 'answer': '-5251000000'}

Name it in a recipe (`task: examples/my_task.py:TASK`), or look at it and at what a model makes of it:

    python examples/my_task.py [MODEL_FOLDER_OR_ID]
"""

from __future__ import annotations

import random
import sys

from tieout.chat.template import Chat
from tieout.evidence.evaluate import evaluate
from tieout.learner import load
from tieout.rewards.library.exact import exact
from tieout.rewards.scoring.runner import score
from tieout.samplers.local.sampler import LocalSampler
from tieout.tasks import Task
from tieout.types import Row

SCALES = {"thousand": 1_000, "million": 1_000_000}
SIZES = {"train": 400, "calibration": 50, "test": 100}
LAST_DIGITS = {"train": "1234567", "calibration": "8", "test": "90"}
"""Splits share no figure: its last digit says which split it belongs to."""


def rows(split: str) -> list[Row]:
    """The rows of a split, the same every time; a split that the task does not have is empty."""
    rng = random.Random(f"my_task/{split}")
    return [make_row(rng, LAST_DIGITS[split]) for _ in range(SIZES.get(split, 0))]


def make_row(rng: random.Random, last_digits: str) -> Row:
    """One figure: negative in parentheses, with thousands separators, in a scale."""
    number = int(f"{rng.randrange(1, 1000)}{rng.choice(last_digits)}")
    scale, factor = rng.choice(list(SCALES.items()))
    negative = rng.random() < 0.5
    shown = f"({number:,})" if negative else f"{number:,}"
    answer = f"{'-' if negative else ''}{number * factor}"
    question = f"Write {shown} {scale} as a plain number."
    return {"prompt": [{"role": "user", "content": question}], "completion": answer, "answer": answer}


TASK = Task(
    name="plain_figures",
    rows=rows,
    reward=exact,  # compares with the column `answer`; see my_reward.py for a reward of your own
    gold=lambda row: row["completion"],
    max_new_tokens=16,
)


def main(arguments: list[str]) -> float:
    """Prove the task, then ask a model; returns the model's mean score."""
    for row in TASK.rows("test"):
        gold, empty = score(exact, [row["completion"], ""], [row["prompt"]] * 2, row)
        if (gold.score, empty.score) != (1.0, 0.0):
            raise ValueError(f"gold scores {gold.score} and empty {empty.score}; expected 1 and 0, in {row}")
    print(f"gold scores 1 and empty 0 on all {SIZES['test']} test rows, such as:\n  {TASK.rows('test')[0]}")
    model = load(arguments[0] if arguments else "tieout-base")
    sampler = LocalSampler(model, Chat(model.tokenizer))
    cases = evaluate(TASK, TASK.rows("test"), sampler)
    mean = sum(case.score or 0.0 for case in cases) / len(cases)
    print(f"{model.name}: mean score {mean:.2f}; it wrote, for example: {cases[0].completion!r}")
    return mean


if __name__ == "__main__":
    main(sys.argv[1:])
