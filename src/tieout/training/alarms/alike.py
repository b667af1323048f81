"""Mode collapse: how far answers to different prompts differ from each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from ...rewards.text.thinking import answer_text, as_read
from ...types import Group

SIZE, MAX_CHARS, NEIGHBOURS = 5, 2000, 4
"""Characters in a gram; characters read of a text; groups of the step that each group is compared with."""

_FORM = re.compile(r'"[^"\n]{1,80}"\s*:|</?\w{1,40}>')
"""Keys of JSON and tags: all answers of a format share them."""


def distinct(groups: Sequence[Group]) -> float | None:
    """How little sampled answers to different prompts share: 1 minus the mean Jaccard index of their 5-character grams.

    Keys of JSON and tags are left out. 0: every prompt gets the same answer. None: the step has one prompt only.
    """
    answers = [
        (group.row.get("prompt"), [_grams(answer_text(as_read(c))) for c in group.completions])
        for group in groups
        if group.completions[0].logprobs is not None
    ]
    shared = [
        len(a & b) / len(a | b)
        for shift in range(1, min(NEIGHBOURS, len(answers) - 1) + 1)
        for i, (prompt, own) in enumerate(answers)
        if prompt != (other := answers[(i + shift) % len(answers)])[0]
        for a, b in zip(own, other[1], strict=False)
    ]
    return 1 - fmean(shared) if shared else None


def _grams(text: str) -> set[str]:
    flat = " ".join(_FORM.sub(" ", text[:MAX_CHARS]).casefold().split())
    return {flat[i : i + SIZE] for i in range(max(1, len(flat) - SIZE + 1))}
