"""A judge of your own, for `pairs: {sources: [judged], judge: examples/my_judge.py:judge}`.

    tieout run recipes/pairs_judged.yaml

Here a script stands for the model that judges, and it judges as a careful reader in a hurry does: it looks for every
figure and every quoted row in the source. It does not ask whether they are of the right year, or whether they add up
to the total, which is what the program is there for. With a model behind an API, put this in its place (and see
docs/judges.md):

    APISampler("a-model", "http://127.0.0.1:8000/v1", ledger=Ledger(None, Budget(max_calls=5000)))
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tieout.rewards.library.judge import Judge
from tieout.samplers.mock import MockSampler
from tieout.types import Message

RUBRIC = """20: every figure and every quoted row is in the source.
0: none is. In between: their share, each figure and each quoted row counting once."""

_FIGURE = re.compile(r"\d[\d,.]*")


def hurried(prompt: Sequence[Message]) -> str:
    """A reply in the form that the judge was asked for."""
    system, data = (str(message["content"]) for message in prompt)
    mark = _between('"mark": "', '"', system)
    source, said = (
        _between(f"[{part} {mark}]\n", f"\n[end of {part} {mark}]", data) for part in ("prompt", "completion")
    )
    quotes = [quote for quote in re.findall(r'"([^"]*)"', said) if _FIGURE.search(quote)]
    figures = list(map(_plain, _FIGURE.findall(re.sub(r'"[^"]*"', " ", said))))
    known = {"0", *map(_plain, _FIGURE.findall(source))}  # a dash is zero
    flat = " ".join(source.split())
    found = [figure in known for figure in figures] + [" ".join(quote.split()) in flat for quote in quotes]
    score = round(20 * sum(found) / len(found)) if found else 0
    return f"{sum(found)} of {len(found)} are in the source.\n" + json.dumps({"mark": mark, "score": score})


def _between(start: str, end: str, text: str) -> str:
    """What stands between the first `start` and the next `end`; empty: nothing does."""
    return text.partition(start)[2].partition(end)[0]


def _plain(figure: str) -> str:
    """A figure without thousands separators, or the full stop after it."""
    return figure.replace(",", "").rstrip(".")


judge = Judge(MockSampler(hurried), RUBRIC, low=0, high=20)
