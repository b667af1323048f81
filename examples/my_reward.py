"""A reward in one file: how close is the figure that the model wrote to the right one?

Name it in a recipe or on the command line, and it is found:

    reward: examples/my_reward.py:close

A reward is a plain function, called once per group of completions of one prompt. It is given `completions` and
(if it asks) `prompts`; every other argument is a column of your rows, here `answer`, repeated for each completion.
It returns one number per completion, higher is better, or None where it has nothing to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

ANSWER = re.compile(r"\s*(-?[0-9][0-9,]*(?:\.[0-9]+)?)\.?\s*")
"""A figure and nothing else: words next to it may say that it is wrong."""


def close(completions: Sequence[str], answer: Sequence[Any], **_: Any) -> list[float | None]:
    """[K] 1 for the right figure, at most 0.5 for one that is near it, 0 for all else; None if the row has no answer.

    >>> close(["1,200.", "1,260", "not 1,200", "900 or 1,200", "", "-1200"], answer=["1,200"] * 6)
    [1.0, 0.475, 0.0, 0.0, 0.0, 0.0]
    """
    scores: list[float | None] = []
    for completion, right in zip(completions, answer, strict=True):
        if right is None:
            scores.append(None)  # abstain: this is not a wrong answer, and 0 would teach that it is
            continue
        found = ANSWER.fullmatch(completion)
        if found is None:
            scores.append(0.0)  # two figures are a hedge, and "not 1,200" is no 1,200
            continue
        wanted = float(str(right).replace(",", ""))
        error = abs(float(found[1].replace(",", "")) - wanted) / max(1.0, abs(wanted))
        # Partial credit gives early training something to climb; half of it is kept for being right.
        scores.append(1.0 if error == 0 else 0.5 * max(0.0, 1.0 - error))
    return scores


def main() -> None:
    """Show what the reward pays for. Look for what it should not pay for before you train on it."""
    attempts = [
        "1,200",
        "1200.00",
        "1,260",
        "0",
        "-1200",
        "not 1,200",
        "1,100 to 1,200",
        "twelve hundred",
        "",
    ]
    for text, score in zip(attempts, close(attempts, answer=[1200] * len(attempts)), strict=True):
        print(f"{score!s:>6}  {text!r}")


if __name__ == "__main__":
    main()
