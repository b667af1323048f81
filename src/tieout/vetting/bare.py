"""What can be asked of a reward without gold: nothing said must not be paid best, nor what is the same for all rows."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..rewards.scoring.outcomes import judges_form, reward_range
from ..rows.messages import prompt_text
from ..rows.spread import spread
from ..types import Reward, Row
from .attack.calling import pay
from .attack.findings import PAID

EMPTY = ("", " ", "\n\n")
CONSTANT = ("{}", "0", "1", "42", "yes", "no", "A", "I do not know.", "lorem ipsum " * 20)
MAX_ROWS = 2


def bare(reward: Reward, rows: Sequence[Row], seconds: float) -> list[tuple[str, str]]:
    """(class, finding in one line) of each class that has one.

    An empty completion is found if nothing that was tried is paid better, and something is paid less; a constant or a
    copy of the prompt only if the reward declares its range, which says what paid in full is. What raises, hangs or
    ends its process is found as `harness`. A penalty, which pays 0 at most, is held to that alone.
    """
    rows = spread(rows, MAX_ROWS)
    copies = {i: prompt_text(row.get("prompt", "")) for i, row in enumerate(rows)}
    asks = [(i, text) for i in copies for text in (*EMPTY, *CONSTANT, copies[i])]
    paid = pay(reward, rows, asks, 1.0, time.monotonic() + seconds)
    said = [(i, text, one) for (i, text), one in zip(asks, paid, strict=True) if one is not None]
    found: dict[str, str] = {}

    def add(kind: str, text: str, why: str) -> None:
        found.setdefault(kind, f"{kind}: {text[:60]!r} {why}")

    for _, text, one in said:
        if one.failed and not one.elsewhere:
            add("harness", text, one.failed)
    scores = [(i, text, one.score) for i, text, one in said if one.score is not None]
    if not scores or judges_form(reward):
        return list(found.items())
    declared = reward_range(reward)
    low, high = min(s for *_, s in scores), max(s for *_, s in scores)
    if high <= 0:
        return list(found.items())
    best_empty = max((s for _, text, s in scores if text in EMPTY), default=low)
    if low < best_empty == high:
        add("shell", "", f"gets {best_empty:g}, and nothing else that was tried gets more")
    if declared is not None:
        full = declared[0] + PAID * (declared[1] - declared[0])
        for i, text, score in scores:
            if score >= full:
                kind = "regurgitation" if text == copies[i] else "shell" if text in EMPTY else "constant"
                everywhere = all(s >= full for _, other, s in scores if other == text)
                if kind != "constant" or (everywhere and len(rows) > 1):
                    add(kind, text, f"gets {score:g} of at most {declared[1]:g}")
    return list(found.items())
