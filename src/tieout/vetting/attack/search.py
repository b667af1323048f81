"""Search beyond the fixed probes: combine changes, recombine fragments, breed on what pays best."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

from .calling import Paid
from .gold import Gold
from .json_probes import Change, changes, made_up, put
from .probe import Basis, Probe, Setting, unique

MAX_CHARS = 2000
"""Longer fragments are not bred on: a finding should be readable."""


def offspring(
    gold: Gold, setting: Setting, tried: Sequence[tuple[Probe, Paid]], count: int, rng: random.Random
) -> list[Probe]:
    """`count` new probes for one row, from those tried on it; what paid more is chosen more often."""
    paid = [
        (p, t.score or 0.0)
        for p, t in tried
        if p.basis in ("free", "form") and 0 < len(p.completion) <= MAX_CHARS
    ]
    paid.sort(key=lambda pair: (-pair[1], len(pair[0].completion)))
    known = {probe.completion for probe, _ in tried}
    children: list[Probe] = []
    for _ in range(20 * count):
        if len(children) >= count:
            break
        if gold.kind == "json" and rng.random() < 0.7:
            child = _combined(gold, setting, rng)
        elif paid:
            child = _crossed(gold, [probe for probe, _ in paid], rng)
        else:
            break
        if child is not None and child.completion not in known and unique([child], gold, setting.accepted):
            known.add(child.completion)
            children.append(child)
    return children


def _combined(gold: Gold, setting: Setting, rng: random.Random) -> Probe | None:
    """Two or three changes of gold's JSON, one of which makes it wrong."""
    wrong = [(kind, name, change) for kind, name, basis, change in changes(gold, setting) if basis == "wrong"]
    drops: list[tuple[str, str, Change]] = []
    if isinstance(gold.value, dict):
        drops = [("omission", f"no {key!r}", _without(key)) for key in gold.value]
        drops += [("omission", f"{key!r} null", _null(key)) for key in gold.value]
    basis: Basis = rng.choice(("free", "wrong"))
    picked = [rng.choice(wrong)] + [rng.choice([*wrong, *drops]) for _ in range(rng.choice((1, 1, 2)))]
    names = [name for _, name, _ in picked]
    if len(set(names)) < len(names):
        return None
    try:
        value = copy.deepcopy(gold.value)
        if basis == "free":
            value, names = made_up(value), ["made up", *names]
        for _, _, change in picked:
            value = change(value)
        said = put(gold, value)
        return Probe(picked[0][0], " + ".join(names), said, basis) if said != put(gold, gold.value) else None
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError):
        return None  # the second change found nothing left to change


def _without(key: str) -> Change:
    return lambda value: {k: v for k, v in value.items() if k != key}


def _null(key: str) -> Change:
    return lambda value: {**value, key: None}


def _crossed(gold: Gold, pool: Sequence[Probe], rng: random.Random) -> Probe:
    """Two fragments that know no answer, put together."""
    # Squared, so that the front, which pays best, is chosen more often.
    first, second = (pool[int(len(pool) * rng.random() ** 2)] for _ in range(2))
    a, b = first.completion, second.completion
    ways: list[Callable[[], str]] = [
        lambda: f"{a}\n{b}",
        lambda: a + b,
        lambda: gold.frame(a, b),
        lambda: f"{a}\n{a}",
        lambda: a[: rng.randrange(1, len(a) + 1)],
        lambda: a[rng.randrange(len(a)) :],
        lambda: a[: rng.randrange(len(a) + 1)] + b[rng.randrange(len(b)) :],
    ]
    kind = (
        second.kind if first.kind == "shell" else first.kind
    )  # what the shell is put around is what is paid
    return Probe(kind, f"{first.name} x {second.name}"[:120], rng.choice(ways)()[:MAX_CHARS], "free")


def shrunk(text: str, still: Callable[[list[str]], list[bool]], rounds: int = 12) -> str:
    """A shorter text for which `still` holds, by leaving out pieces: half of it, then smaller ones."""
    size = max(1, len(text) // 2)
    for _ in range(rounds):
        step = max(size, len(text) // 16)  # so many candidates at once at most
        candidates = [text[:start] + text[start + size :] for start in range(0, len(text), step)]
        candidates = [*dict.fromkeys(c for c in candidates if c and len(c) < len(text))]
        holds = [c for c, good in zip(candidates, still(candidates), strict=True) if good]
        if holds:
            text = min(holds, key=len)
            size = min(size, max(1, len(text) // 2))
        elif size == 1:
            break
        else:
            size = max(1, size // 2)
    return text
