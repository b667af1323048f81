"""Rows to learn from, made of pools of scored samples: rankings, demonstrations, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..chat.template import Chat
from ..rows.carried import carried
from .best_of import Pooled

Made = list[dict[str, Any]]
_OURS = ("scores", "gold", "score", "samples", "chosen_score", "rejected_score")


def ranking_rows(pools: Sequence[Pooled], chat: Chat | None = None) -> Made:
    """Samples with a score and a text: `prompt`, `completions`, `scores`, and `gold` if another reward was asked."""
    rows = []
    for pool in pools:
        kept = _kept(pool)
        row = {
            **carried(pool.row, _OURS),
            "prompt": pool.row["prompt"],
            "completions": [_written(pool, k, chat) for k in kept],
            "scores": [pool.scores[k] for k in kept],
        }
        rows.append({**row, "gold": [pool.gold[k] for k in kept]} if pool.gold is not None else row)
    return [row for row in rows if row["completions"]]


def best_rows(
    pools: Sequence[Pooled], num: int, chat: Chat | None = None, min_chosen: float | None = None
) -> tuple[Made, Made]:
    """Of each prompt the best of its first `num` scored samples as a demonstration; and a pair of it and the worst.

    A prompt whose best scores under `min_chosen` gives neither; one whose samples all score the same gives no pair.
    """
    best: Made = []
    pairs: Made = []
    for pool in pools:
        ranked = sorted(_kept(pool, num), key=lambda k: -float(pool.scores[k] or 0.0))
        if not ranked:
            continue
        chosen, rejected = ranked[0], ranked[-1]
        high, low = float(pool.scores[chosen] or 0.0), float(pool.scores[rejected] or 0.0)
        if min_chosen is not None and high < min_chosen - 1e-9:
            continue
        own = {**carried(pool.row, _OURS), "prompt": pool.row["prompt"]}
        written = _written(pool, chosen, chat)
        best.append({**own, "completion": written, "score": high, "samples": len(ranked)})
        if high - low > 1e-9:
            sides = {"chosen": written, "rejected": _written(pool, rejected, chat)}
            pairs.append({**own, **sides, "chosen_score": high, "rejected_score": low})
    return best, pairs


def _kept(pool: Pooled, num: int | None = None) -> list[int]:
    """Of the first `num` samples with a score those that are not empty: no file of rows may hold an empty one."""
    return [k for k in pool.scored[:num] if pool.texts[k].strip()]


def _written(pool: Pooled, place: int, chat: Chat | None) -> Any:
    """A sample as its model writes it after the prompt."""
    text = str(pool.answers[place])
    return text if chat is None else chat.as_sampled(pool.row["prompt"], text)
