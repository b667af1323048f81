"""Scores that a judge, or any reward, gives the completions; told of an item only once the person has answered."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from ..rewards.scoring.runner import score
from ..storage.jsonl import append_jsonl, read_jsonl
from ..types import Reward
from .items import Item

Scores = list[float | None]


class Prelabels:
    """[K] scores of an item, in the order of the source: from its row, or from a reward, which is asked once.

    What it said is kept under its identity: another judge, or the same with another rubric, is asked anew. A call that
    failed is not kept.
    """

    def __init__(self, reward: Reward | None = None, kept: Path | None = None) -> None:
        self._reward, self._kept, self._lock = reward, kept, threading.Lock()
        self._known: dict[str, Scores] = {}
        self._judge = "" if reward is None else _known_by(reward)
        if reward is not None and kept and kept.exists():
            rows = [row for _, row in read_jsonl(kept)]
            self._known = {row["item"]: row["scores"] for row in rows if row.get("judge") == self._judge}

    def of(self, item: Item) -> Scores | None:
        """None: the row has no scores, and nothing scores it."""
        if self._reward is None:
            return _of_row(item)
        with self._lock:
            if item.id not in self._known:
                prompts = [item.prompt] * len(item.completions)
                outcomes = score(self._reward, item.texts, prompts, item.row)
                scores = [outcome.score for outcome in outcomes]
                if any(outcome.status == "errored" for outcome in outcomes):
                    return scores
                self._known[item.id] = scores
                if self._kept:
                    append_jsonl(self._kept, [{"item": item.id, "judge": self._judge, "scores": scores}])
            return self._known[item.id]


def _known_by(reward: Reward) -> str:
    from ..config.plain import fingerprint  # with judges and models, which a page without --judge needs not
    from ..rewards.scoring.reward_identity import reward_identity

    return fingerprint(reward_identity(reward))


def _of_row(item: Item) -> Scores | None:
    row = item.row
    found: Sequence[object] = row.get("scores") or [
        row.get(name)
        for name in (("chosen_score", "rejected_score") if len(item.completions) == 2 else ("score",))
    ]
    numbers = [float(one) if isinstance(one, int | float) else None for one in found]
    return numbers if len(numbers) == len(item.completions) and any(n is not None for n in numbers) else None
