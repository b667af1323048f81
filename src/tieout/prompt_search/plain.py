"""Search by edits and examples, without a model that proposes: the baseline of any other search.

A step changes the best prompt so far in one place: it drops a sentence, swaps two, adds an instruction of a fixed list
(edits as in GrIPS, Prasad et al. 2023), or shows completions of the policy's own that the reward scored high (as
bootstrapped demonstrations in DSPy, Khattab et al. 2024; gold is never shown). The change is tried on a few training
rows first, and on the validation rows only if it scores more there than what it was made from.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from .budget import Budget
from .candidates import Candidate
from .journal import Scored
from .scoring import Named, Scorer
from .tried import Tried

ADDED = (
    "Follow the requested format exactly.",
    "Give only the answer, and nothing before or after it.",
    "Think step by step, then give the answer on the last line.",
    "Read the whole question before you answer.",
    "Check every figure against the text before you answer.",
    "Copy names and figures exactly as they are written.",
    "If the text does not say it, say so.",
    "Keep the answer short.",
    "Do not repeat yourself.",
)
"""Instructions that a step may add."""
SHOTS = (1, 2, 4)
"""Numbers of examples that a step may show."""
TOP = 8
"""Completions, the best, that examples are taken from."""
ATTEMPTS = 50
"""Changes in a row that lead to nothing new before the search ends."""
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n+")


def search(
    seed: Candidate,
    scorer: Scorer,
    train: Sequence[Named],
    validation: Sequence[Named],
    budget: Budget,
    number: int,
) -> list[Tried]:
    """The seed, and every candidate that was tried on the validation rows, in order.

    Args:
        seed: the prompt to begin with.
        scorer: of candidates.
        train: rows to try changes on, and to take examples from.
        validation: rows to choose by.
        budget: of completions; it is never exceeded.
        number: seed of the choices.
    """
    rng = random.Random(number)
    rows = {one.name: one.row for one in train}
    best = Tried(seed, "", "the seed", [one.score for one in scorer(seed, validation)])
    tried, seen = [best], {seed.key}
    known: dict[str, Scored] = {}
    for one in scorer(seed, train[: budget.spare // 4]):  # what examples are taken from
        known[one.row] = one
    attempts = 0
    while len(scorer.used) + budget.step <= budget.completions and attempts < ATTEMPTS:
        attempts += 1
        child, how = _changed(best.candidate, known, rows, rng)
        free = [one for one in train if one.name not in {*child.shown, *best.candidate.shown}]
        if child.key in seen or len(free) < budget.minibatch or scorer.unfit(child, [*train, *validation]):
            continue
        attempts = 0
        seen.add(child.key)
        batch = rng.sample(free, budget.minibatch)
        before, after = scorer(best.candidate, batch), scorer(child, batch)
        for one in (*before, *after):
            if one.row not in known or one.score > known[one.row].score:
                known[one.row] = one
        if sum(one.score for one in after) > sum(one.score for one in before):
            scores = [one.score for one in scorer(child, validation)]
            tried.append(Tried(child, best.candidate.key, how, scores))
            if tried[-1].mean > best.mean:
                best = tried[-1]
    return tried


def _changed(
    candidate: Candidate,
    known: Mapping[str, Scored],
    rows: Mapping[str, Mapping[str, object]],
    rng: random.Random,
) -> tuple[Candidate, str]:
    """The candidate with one change, and what it is; the same where the change does not apply."""
    if rng.random() < 0.4:
        return _with_shots(candidate, known, rows, rng)
    name = rng.choice(list(candidate.parts))
    sentences = [one for one in _SENTENCE.split(candidate.parts[name]) if one.strip()]
    what = rng.choice(("drop", "swap", "add", "add"))
    if what == "drop" and sentences:
        how = f"drop {sentences.pop(rng.randrange(len(sentences)))!r}"
    elif what == "swap" and len(sentences) > 1:
        a, b = rng.sample(range(len(sentences)), 2)
        sentences[a], sentences[b] = sentences[b], sentences[a]
        how = f"swap sentences {min(a, b) + 1} and {max(a, b) + 1}"
    else:
        new = [one for one in ADDED if one not in candidate.parts[name]]
        if not new:
            return candidate, ""
        sentences.append(rng.choice(new))
        how = f"add {sentences[-1]!r}"
    where = f" in {name}" if len(candidate.parts) > 1 else ""
    return replace(candidate, parts={**candidate.parts, name: " ".join(sentences)}), how + where


def _with_shots(
    candidate: Candidate,
    known: Mapping[str, Scored],
    rows: Mapping[str, Mapping[str, object]],
    rng: random.Random,
) -> tuple[Candidate, str]:
    """The candidate with other examples: completions that score above the mean, of the best."""
    if not known:
        return candidate, ""
    mean = fmean(one.score for one in known.values())
    good = sorted((one for one in known.values() if one.score > mean), key=lambda one: (-one.score, one.row))
    count = min(rng.choice(SHOTS), len(good[:TOP]))
    if not count:
        return candidate, ""
    chosen = rng.sample(good[:TOP], count)
    shots = tuple((rows[one.row]["prompt"], one.completion) for one in chosen)
    names = tuple(one.row for one in chosen)
    return replace(candidate, shots=shots, shown=names), f"show {', '.join(names)}"  # type: ignore[arg-type]
