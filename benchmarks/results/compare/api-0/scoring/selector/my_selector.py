"""Choose among several samples without gold: the one that agrees most with the others.

    evaluate: {best_of_n: 8, selector: examples/my_selector.py:agreement}

It asks for prompts and completions alone, so that it can be served. With whole answers in place of their parts it is
self-consistency (Wang et al., 2022, https://arxiv.org/abs/2203.11171); long answers are hardly ever the same.
"""

from __future__ import annotations

import re

_ENDS = re.compile(r"[\[\]{},\n]")


def agreement(completions: list[str], prompts: list[object]) -> list[float]:
    """Of each sample of a prompt, 0 to 1: what it shares with each of the others, on average.

    Two share the parts that both have of all that either has (Jaccard); parts end at brackets, commas and lines.

    >>> agreement(['{"year": 2020, "total": 5}', '{"year": 2020, "total": 7}', '{"year": 2020, "total": 5}'], ["?"] * 3)
    [0.6666666666666666, 0.3333333333333333, 0.6666666666666666]
    """
    parts = [{part.strip() for part in _ENDS.split(text)} - {""} for text in completions]
    return [
        sum(_shared(own, other) for j, other in enumerate(parts) if j != i) / max(1, len(parts) - 1)
        for i, own in enumerate(parts)
    ]


def _shared(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0
