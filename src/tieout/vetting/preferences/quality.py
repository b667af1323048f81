"""Measure preference pairs: gaps, good chosen ones, noise of labels, copies, lengths, and test rows among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from ...evidence.leakage import check_leakage
from ...evidence.stats import Estimate, mean
from ...rows import is_general, location
from ...rows.locations import MAX_PROBLEMS
from ...rows.near_copies import NEAR, PairText, find_copies, jaccard
from ...rows.pairs import claims_scores, scores_of
from ...rows.spread import spread
from ...types import Row
from .noise import Repeats, agreed_only, judgements, noise

FILE = "quality.json"
"""Where a run keeps the quality of the pairs of a stage."""
QUANTILES = (0, 10, 25, 50, 75, 90, 100)
SMALL = 0.1
"""A gap below this share of the scale is small."""
MOST = 20_000
"""Pairs that are compared with each other; of more, so many that are spread over all."""


@dataclass(frozen=True)
class Gaps:
    """Score of chosen minus score of rejected."""

    mean: Estimate
    quantiles: dict[str, float]
    """Percentile -> gap."""
    scale: tuple[float, float]
    """Declared by the reward, or else the lowest and the highest score there is."""
    small: Estimate
    """Share of gaps below a tenth of the scale."""
    turned: int
    """Pairs whose rejected scores higher."""


@dataclass(frozen=True)
class Good:
    """Chosen completions that are good in themselves, and not only better than the rejected."""

    standard: str
    share: Estimate


@dataclass(frozen=True)
class Lengths:
    """Characters of chosen and rejected."""

    difference: Estimate
    """Chosen minus rejected, in the mean."""
    longer: Estimate
    """Share of pairs of unlike length whose chosen is the longer one."""
    medians: tuple[float, float]
    """Of chosen and of rejected."""


@dataclass(frozen=True)
class Repeated:
    """Pairs that are there more than once."""

    compared: int
    exact: int
    near: int
    turned: int
    """Pairs that another row has the other way round."""
    alike: int
    """Pairs whose chosen and rejected are near-copies of each other."""
    wordless: int
    """Pairs whose chosen and rejected have the same words, and differ in case, white space, punctuation or the like."""
    examples: tuple[str, ...]
    """`WHERE repeats WHERE`, and so on."""
    contradictions: tuple[str, ...]
    """`WHERE contradicts WHERE`."""


@dataclass(frozen=True)
class Quality:
    """All that is measured of a set of pairs."""

    pairs: int
    """Rows with a preference."""
    general: int
    """Rows without one, whose chosen equals the rejected."""
    prompts: int
    """Different ones."""
    sources: dict[str, int]
    """Column `source` -> pairs, where rows have it."""
    no_preference: tuple[str, ...]
    """Where scores or judgements prefer one of two equal completions."""
    unread: tuple[str, ...]
    """Where a pair has a column of scores, and not two finite numbers in it."""
    gaps: Gaps | None
    """None: no pair has scores, or those of different sources are on scales of their own."""
    good: Good | None
    noise: dict[str, Repeats]
    copies: Repeated
    lengths: Lengths
    leakage: Mapping[str, Any] | None
    """Counts; None: no held-out rows were given."""
    agreed_only: bool = False
    """Whether the judgements of several people are in the rows, and no two that could differ."""
    one_scale: bool = True
    """Whether the scores of all sources are on one scale."""
    leaked: str = ""
    """Which held-out rows the pairs give away, where no reason accepts that."""


def measure(
    rows: Sequence[Row],
    held: Mapping[str, Sequence[Row]] | None = None,
    *,
    scale: tuple[float, float] | None = None,
    one_scale: bool = True,
    good: Sequence[bool | None] | None = None,
    standard: str = "",
    judged: Sequence[Mapping[str, Any]] | None = None,
    accept_leakage: str = "",
    option: str = "accept_leakage",
    source: str = "rows",
    seed: int = 0,
) -> Quality:
    """Measure pairs.

    Args:
        rows: with prompt, chosen and rejected, as `rows.pairs.preferences` gives them.
        held: source -> rows that are measured on, which must not be among them.
        scale: range of the scores, if it is declared.
        one_scale: whether all scores are on one scale; otherwise no gap is measured.
        good: of each row, whether its chosen is good in itself; None: not known.
        standard: what that means, in words.
        judged: every judgement that was made, where that is more than the rows have.
        accept_leakage: a reason to keep pairs that give held-out rows away.
        option: how to give that reason, for the message.
        source: what the rows are called in messages.
        seed: of the intervals.
    """
    kept = [i for i, row in enumerate(rows) if not is_general(row)]
    pairs = [rows[i] for i in kept]
    places = [location(rows, i, source) for i in kept]
    texts = [PairText(row) for row in pairs]
    prompts = [text.texts[0] for text in texts]
    names = [str(row["source"]) for row in pairs if isinstance(row.get("source"), str)]
    known = [x for i, x in enumerate(good or ()) if x is not None and not is_general(rows[i])]
    of = [prompts[n] for n, i in enumerate(kept) if good is not None and good[i] is not None]
    counts, leaked = _leaks(rows, held, (accept_leakage, option), source)
    return Quality(
        len(pairs),
        len(rows) - len(pairs),
        len(set(prompts)),
        {name: names.count(name) for name in dict.fromkeys(names)},
        _claimed(rows, source),
        tuple(
            place
            for row, place in zip(pairs, places, strict=True)
            if claims_scores(row) and scores_of(row) is None
        ),
        _gaps(pairs, prompts, scale, seed) if one_scale else None,
        Good(standard, mean([float(x) for x in known], of, seed=seed)) if known else None,
        noise(texts, judgements(rows) if judged is None else judged, judged is not None, seed),
        _copies(texts, places),
        _lengths(texts, prompts, seed),
        counts,
        agreed_only(judgements(rows) if judged is None else judged, judged is not None),
        one_scale,
        leaked,
    )


def _claimed(rows: Sequence[Row], source: str) -> tuple[str, ...]:
    """Where a row says that one of two equal completions is better; a general row says nothing of the kind."""
    return tuple(
        location(rows, i, source)
        for i, row in enumerate(rows)
        if is_general(row)
        and (("judgements" in row) or ((s := scores_of(row)) is not None and abs(s[0] - s[1]) > 1e-9))
    )


def _leaks(
    rows: Sequence[Row], held: Mapping[str, Sequence[Row]] | None, accept: tuple[str, str], source: str
) -> tuple[Mapping[str, Any] | None, str]:
    if held is None or not any(held.values()):
        return None, ""
    try:
        return check_leakage({source: rows}, held, *accept), ""
    except InputError as error:
        counts = check_leakage({source: rows}, held, "not accepted", "")
        return {**counts, "accepted": ""}, str(error)


def _gaps(
    pairs: Sequence[Row], prompts: Sequence[str], scale: tuple[float, float] | None, seed: int
) -> Gaps | None:
    scored = [
        (s, prompt) for row, prompt in zip(pairs, prompts, strict=True) if (s := scores_of(row)) is not None
    ]
    if not scored:
        return None
    values, of = [round(s[0] - s[1], 12) for s, _ in scored], [prompt for _, prompt in scored]
    every = [score for s, _ in scored for score in s]
    low, high = scale or (min(every), max(every))
    low, high = min(low, *every), max(high, *every)
    width = high - low or 1.0
    small = [float(value < SMALL * width - 1e-9) for value in values]
    places = np.percentile(values, QUANTILES)
    return Gaps(
        mean(values, of, (-width - 1e-9, width + 1e-9), seed),
        {str(q): round(float(gap), 6) for q, gap in zip(QUANTILES, places, strict=True)},
        (low, high),
        mean(small, of, seed=seed),
        sum(value < 0 for value in values),
    )


def _lengths(texts: Sequence[PairText], prompts: Sequence[str], seed: int) -> Lengths:
    sizes = [(len(text.texts[1]), len(text.texts[2])) for text in texts]
    values = [float(one - other) for one, other in sizes]
    most = max(1.0, *map(abs, values)) if values else 1.0
    unlike = [(float(value > 0), prompt) for value, prompt in zip(values, prompts, strict=True) if value]
    medians = np.median(np.array(sizes), axis=0) if sizes else np.zeros(2)
    return Lengths(
        mean(values, prompts, (-most, most), seed),
        mean([longer for longer, _ in unlike], [prompt for _, prompt in unlike], seed=seed),
        (float(medians[0]), float(medians[1])),
    )


def _copies(texts: Sequence[PairText], places: Sequence[str]) -> Repeated:
    chosen = spread(range(len(texts)), MOST)
    found = find_copies([texts[i] for i in chosen])
    alike = sum(jaccard(texts[i].runs[1], texts[i].runs[2]) >= NEAR for i in chosen)
    wordless = sum(texts[i].words[1] == texts[i].words[2] for i in chosen)

    def named(verb: str, those: Sequence[tuple[int, int]]) -> tuple[str, ...]:
        return tuple(f"{places[chosen[i]]} {verb} {places[chosen[j]]}" for i, j in those[:MAX_PROBLEMS])

    return Repeated(
        len(chosen),
        len(found.exact),
        len(found.near),
        len(found.reversed),
        alike,
        wordless,
        named("repeats", found.exact) + named("nearly repeats", found.near),
        named("contradicts", found.reversed),
    )


def scored(rows: Sequence[Row], scores: Sequence[tuple[float, float] | None]) -> list[dict[str, Any]]:
    """The rows with scores of chosen and rejected in place of their own; a row without keeps none."""
    names = ("chosen_score", "rejected_score", "score_chosen", "score_rejected")
    bare = [{name: value for name, value in row.items() if name not in names} for row in rows]
    return [
        row if s is None else {**row, "chosen_score": s[0], "rejected_score": s[1]}
        for row, s in zip(bare, scores, strict=True)
    ]
