"""The starting point of an attack: rows whose gold is paid, and the fixed probes made from each."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from ...errors import InputError
from ...rewards.scoring.runner import reward_name
from ...rows.messages import prompt_text
from ...rows.spread import spread
from ...tasks.wrong_statements import names
from ...types import Row
from .calling import Caller
from .code_probes import code_probes
from .columns import accepted_answers, lists_of, plain, texts_in, wrong_choices
from .corpus import replayed
from .form_probes import form_probes
from .gold import Gold, read_gold, same_answer
from .json_probes import json_probes
from .number_probes import number_probes
from .probe import Probe, Setting, unique
from .statement_probes import list_probes, statement_probes
from .text_probes import answer_probes, text_probes

TOLERANCE = re.compile(r"(?:^|_)(?:tol|tolerance|[ar]tol|eps|epsilon)(?:$|_)", re.IGNORECASE)
"""Names of options that say how far an answer may be off."""
MAX_READ = 20_000
"""Characters of sources in which names are looked for."""
SLOW_SECONDS = 0.1
"""A reward that takes longer for one gold is attacked on two rows."""


def pick_rows(
    caller: Caller, rows: Sequence[Row], max_rows: int, deadline: float
) -> tuple[list[int], dict[int, float], float]:
    """Rows whose gold is paid, spread over all; their scores; and the deadline, longer if gold takes long."""
    candidates = spread(range(len(rows)), 2 * max_rows)
    began = time.monotonic()
    paid = caller.pay([(i, rows[i]["completion"]) for i in candidates], 60.0, began + 60.0)
    each = (time.monotonic() - began) / len(candidates)
    scores = {
        i: p.score for i, p in zip(candidates, paid, strict=True) if p is not None and p.score is not None
    }
    if not scores:
        reasons = [p.failed for p in paid if p is not None and p.failed]
        why = f"it failed: {reasons[0]}" if reasons else "it abstains on all"
        raise InputError(f"reward {reward_name(caller.reward)!r} gives no gold a score; {why}")
    top = max(scores.values())
    count = max_rows if each < SLOW_SECONDS else min(2, max_rows)
    whole = [i for i in scores if scores[i] >= top - 1e-9]
    whole = [whole[k * (len(whole) - 1) // max(1, count - 1)] for k in range(count)][: len(whole)]
    best = [*whole, *spread([i for i in scores if i not in whole], count)][:count]
    if top <= 0 and any(p.score is not None and p.score < 0 for p in paid if p):
        raise InputError(
            f"reward {reward_name(caller.reward)!r} gives gold {top:g} at most; is `completion` gold?"
        )
    picked = sorted(i for i in best if scores[i] > 0 or top <= 0)
    return picked, {i: scores[i] for i in picked}, max(deadline, 20 * each)


def setting_of(
    rows: Sequence[Row], index: int, asked: Sequence[str], options: Mapping[str, Any] | None = None
) -> Setting:
    """What the probes for one row may be made from; `asked`: the columns that the reward names; `options`: its own."""
    row = rows[index]
    prompt = prompt_text(row["prompt"])
    own = read_gold(row, asked)
    given = {k: v for k, v in row.items() if k not in ("prompt", "completion")}
    texts = {name: v if isinstance(v, str) else "\n".join(texts_in(v)) for name, v in given.items()}
    long = {k: v for k, v in texts.items() if len(v) >= 40 and (v in prompt or len(v) >= 80)}
    sources = [*long.values(), *([prompt] if len(prompt) >= 40 else [])]
    lists = lists_of(row, [name for name in asked if name in given])
    differing = [i for i in range(len(rows)) if i != index and _asks_something_else(rows[i], row)]
    # Neighbours first: they are the likeliest to be confused with this row.
    near = sorted(differing, key=lambda i: (i - index) % len(rows))[:40]
    others = [read_gold(rows[i], asked) for i in near]
    others = [other for other in others if not same_answer(other.answer, own.answer)]
    answers = Counter(other.answer for other in others if other.kind == "text" and len(other.answer) <= 60)
    labels = [*wrong_choices(lists, own.answer), *(answer for answer, _ in answers.most_common(30))]
    said = " . ".join([prompt, *sources, *(other.text for other in others)])[:MAX_READ]
    return Setting(
        sources,
        others,
        labels,
        prompt,
        lists=lists,
        accepted=accepted_answers(lists, own.answer),
        names=names(said),
        tolerances=[
            v
            for k, v in {**(options or {}), **{k: row[k] for k in asked if k in row}}.items()
            if TOLERANCE.search(k)
        ],
        grounded=any(name in asked and not same_answer(text, own.answer) for name, text in long.items()),
    )


def _asks_something_else(other: Row, row: Row) -> bool:
    """Whether something that says what is right differs: then the other row's gold is wrong here."""
    same = {"prompt", "completion", "id", "index"}
    return (
        any(plain(other.get(name)) != plain(row[name]) for name in row if name not in same)
        or set(row) <= same
    )


def fixed_probes(gold: Gold, setting: Setting, corpus: Sequence[Mapping[str, Any]], row: Row) -> list[Probe]:
    """All fixed probes; the classes in turn, so that each is tried even if the time is short."""
    made: Iterator[Probe] = chain(
        replayed(corpus, row),
        json_probes(gold, setting),
        form_probes(gold, setting),
        number_probes(gold, setting.tolerances),
        answer_probes(gold, setting),
        statement_probes(gold, setting),
        list_probes(gold, setting),
        code_probes(gold, setting),
        text_probes(gold, setting),
    )
    by_kind: dict[str, list[Probe]] = defaultdict(list)
    for probe in unique(made, gold, setting.accepted):
        by_kind[probe.kind].append(probe)
    # For a program, two of its own class come before one of the others: each may take a start of Python.
    own = by_kind.pop("code", []) if gold.kind == "code" else []
    rest = [probe for turn in zip_longest(*by_kind.values()) for probe in turn if probe is not None]
    turns = zip_longest(own[::2], own[1::2], rest) if own else zip(rest, strict=True)
    return [probe for turn in turns for probe in turn if probe is not None]
