"""A judge of your own, for `pairs: {sources: [judged], judge: examples/my_judge.py:judge}`.

    tieout run recipes/pairs_judged.yaml

Here a script stands for the model that judges, and it judges as a hasty reader does: the more rows a breakdown lists,
the better it looks. It does not check a figure, which is what the program is there for. With a model behind an API, put
this in its place (and see docs/judges.md):

    APISampler("a-model", base_url="http://127.0.0.1:8000/v1", budget=Budget(max_requests=5000))
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tieout.rewards.library.judge import Judge
from tieout.samplers.mock import MockSampler
from tieout.types import Message

RUBRIC = """5: lists every row that adds up to the total, and cites each of them.
1: lists almost nothing."""


def hasty(prompt: Sequence[Message]) -> str:
    """A reply in the form that the judge was asked for."""
    system, data = (str(message["content"]) for message in prompt)
    asked = re.search(r'"mark": "(\w+)"', system)
    mark = asked.group(1) if asked else ""
    said = re.search(rf"\[completion {mark}\]\n(.*)\n\[end of completion {mark}\]", data, re.DOTALL)
    rows = said.group(1).count('"name"') if said else 0
    return f"It lists {rows} rows.\n" + json.dumps({"mark": mark, "score": max(1, min(5, rows))})


judge = Judge(MockSampler(hasty), RUBRIC)
