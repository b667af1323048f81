"""The starting point of an attack: rows whose gold is paid, and the fixed probes made from each."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from ...errors import InputError
from ...rewards.scoring.runner import reward_name
from ...types import Prompt, Reward, Row
from .calling import pay
from .code_probes import code_probes
from .corpus import replayed
from .form_probes import form_probes
from .gold import Gold, read_gold, same_answer
from .json_probes import json_probes
from .number_probes import number_probes
from .probe import Probe, Setting, unique
from .text_probes import answer_probes, text_probes

SLOW_SECONDS = 0.1
"""A reward that takes longer for one gold is attacked on two rows."""


def pick_rows(
    reward: Reward, rows: Sequence[Row], max_rows: int, deadline: float
) -> tuple[list[int], dict[int, float], float]:
    """Rows whose gold is paid, spread over all; their scores; and the deadline, longer if gold takes long."""
    step = max(1, len(rows) // (2 * max_rows))
    candidates = [*range(0, len(rows), step)][: 2 * max_rows]
    began = time.monotonic()
    paid = pay(reward, rows, [(i, rows[i]["completion"]) for i in candidates], 60.0, began + 60.0)
    each = (time.monotonic() - began) / len(candidates)
    scores = {
        i: p.score for i, p in zip(candidates, paid, strict=True) if p is not None and p.score is not None
    }
    if not scores:
        reasons = [p.failed for p in paid if p is not None and p.failed]
        why = f"it failed: {reasons[0]}" if reasons else "it abstains on all"
        raise InputError(f"reward {reward_name(reward)!r} gives no gold a score; {why}")
    top = max(scores.values())
    count = max_rows if each < SLOW_SECONDS else min(2, max_rows)
    best = sorted(scores, key=lambda i: (scores[i] < top - 1e-9, i))[:count]
    if top <= 0 and any(p.score is not None and p.score < 0 for p in paid if p):
        raise InputError(f"reward {reward_name(reward)!r} gives gold {top:g} at most; is `completion` gold?")
    picked = sorted(i for i in best if scores[i] > 0 or top <= 0)
    return picked, {i: scores[i] for i in picked}, max(deadline, 20 * each)


def setting_of(rows: Sequence[Row], index: int, asked: Sequence[str]) -> Setting:
    """What the probes for one row may be made from; `asked`: the columns that the reward names."""
    row = rows[index]
    prompt = _text(row["prompt"])
    columns = [v for k, v in row.items() if k not in ("prompt", "completion") and isinstance(v, str)]
    sources = [text for text in (*columns, prompt) if len(text) >= 40 and (text in prompt or len(text) >= 80)]
    own = read_gold(row, asked)
    differing = [i for i in range(len(rows)) if i != index and _asks_something_else(rows[i], row)]
    # Neighbours first: they are the likeliest to be confused with this row.
    near = sorted(differing, key=lambda i: (i - index) % len(rows))[:40]
    others = [read_gold(rows[i], asked) for i in near]
    others = [other for other in others if not same_answer(other.answer, own.answer)]
    answers = Counter(other.answer for other in others if other.kind == "text" and len(other.answer) <= 60)
    return Setting(sources, others, [answer for answer, _ in answers.most_common(30)], prompt)


def _asks_something_else(other: Row, row: Row) -> bool:
    """Whether something that says what is right differs: then the other row's gold is wrong here."""
    same = {"prompt", "completion", "id", "index"}
    return any(other.get(name) != row[name] for name in row if name not in same) or set(row) <= same


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(str(turn.get("content", "")) for turn in prompt)


def fixed_probes(gold: Gold, setting: Setting, corpus: Sequence[Mapping[str, Any]], row: Row) -> list[Probe]:
    """All fixed probes; the classes in turn, so that each is tried even if the time is short."""
    made: Iterator[Probe] = chain(
        replayed(corpus, row),
        json_probes(gold, setting),
        form_probes(gold, setting),
        number_probes(gold),
        answer_probes(gold, setting),
        code_probes(gold, setting),
        text_probes(gold, setting),
    )
    by_kind: dict[str, list[Probe]] = defaultdict(list)
    for probe in unique(made, gold):
        by_kind[probe.kind].append(probe)
    # For a program, two of its own class come before one of the others: each may take a start of Python.
    own = by_kind.pop("code", []) if gold.kind == "code" else []
    rest = [probe for turn in zip_longest(*by_kind.values()) for probe in turn if probe is not None]
    turns = zip_longest(own[::2], own[1::2], rest) if own else zip(rest, strict=True)
    return [probe for turn in turns for probe in turn if probe is not None]
