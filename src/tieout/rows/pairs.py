"""Preference pairs of given rows: a ranking becomes its decided pairs, and scores in the rows select among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ..errors import InputError
from ..groups import ranked_pairs, spread
from ..types import Kind, Row
from .checks import check_rows, is_general
from .locations import Rows, RowsError, location
from .messages import same

SCORES = (("chosen_score", "rejected_score"), ("score_chosen", "score_rejected"))
"""Names of the columns that hold the scores of a pair."""
WEIGHT = "pair_weight"
"""Column of a pair's weight in the loss; pairs without it weigh 1."""


@dataclass(frozen=True)
class PairSelection:
    """Which pairs of given rows are learned from, by the scores that the rows hold."""

    min_chosen: float | None = None
    """The least score of a chosen completion; left out: any."""
    min_gap: float = 0.0
    """The least difference of the two scores; 0 takes every pair."""
    pairs_per_prompt: int = 8
    """Pairs that one ranking (prompt, completions, scores) may give."""

    def __post_init__(self) -> None:
        if self.pairs_per_prompt < 1:
            raise InputError(f"pairs_per_prompt is {self.pairs_per_prompt}; it must be at least 1")
        if not self.min_gap >= 0:
            raise InputError(f"min_gap is {self.min_gap}; it must be at least 0")

    @property
    def asks(self) -> bool:
        """Whether it asks for scores."""
        return self.min_chosen is not None or self.min_gap > 0

    def refuses(self, chosen: float, rejected: float) -> str:
        """Why a pair is left out; empty: it is not."""
        if self.min_chosen is not None and chosen < self.min_chosen - 1e-9:
            return f"the chosen scores below min_chosen ({self.min_chosen:g})"
        if self.min_gap > 0 and chosen - rejected < self.min_gap - 1e-9:
            return f"the scores differ by less than min_gap ({self.min_gap:g})"
        return ""


class Preferences(Rows):
    """Checked rows with prompt, chosen and rejected."""

    left_out: Mapping[str, int] = {}
    """Reason -> how many pairs were left out for it."""

    @property
    def said(self) -> str:
        """How many pairs were left out and why; empty: none was."""
        reasons = "; ".join(f"{count} x {reason}" for reason, count in self.left_out.items())
        return f"{len(self)} pairs; left out: {reasons}" if reasons else ""


def rows_for(
    kind: Kind, rows: Sequence[Row], source: str = "rows", selection: PairSelection | None = None
) -> Rows:
    """Rows in the form that a kind of method needs: see `check_rows`; rankings too where it needs preferences."""
    return preferences(rows, source, selection) if kind == "preference" else check_rows(rows, kind, source)


def preferences(
    rows: Sequence[Row], source: str = "rows", selection: PairSelection | None = None
) -> Preferences:
    """Pairs and rankings as pairs.

    A ranking gives every pair of completions of which one scores higher, at most `pairs_per_prompt` of them, with
    weights: see `weighted`. A pair with scores (`chosen_score` and `rejected_score`) must meet the selection.

    >>> rows = preferences([{"prompt": "1+1?", "completions": ["2", "3", "two"], "scores": [1, 0, 1]}])
    >>> [(row["chosen"], row["rejected"], row["pair_weight"]) for row in rows]
    [('2', '3', 1.0), ('two', '3', 1.0)]

    Raises:
        RowsError: a row is neither a pair nor a ranking, lacks the scores that are asked for, or no pair is left.
    """
    kind: Kind = "ranking" if _ranked(rows) else "preference"
    return selected(check_rows(rows, kind, source), source, selection)


def selected(
    rows: Sequence[Row], source: str = "rows", selection: PairSelection | None = None
) -> Preferences:
    """The same of rows that are checked, or that need no check."""
    selection = selection or PairSelection()
    ranked, numbers = _ranked(rows), rows.lines if isinstance(rows, Rows) else None
    found, lines, left_out = list[Row](), list[int | str](), Counter[str]()
    for index, row in enumerate(rows):
        if "chosen" in row:
            reason = _refused(row, selection, location(rows, index, source))
            pairs = [] if reason else [row]
            left_out.update([reason] if reason else [])
        else:
            pairs = list(_decided(row, selection, left_out))
        found += pairs
        lines += [numbers[index]] * len(pairs) if numbers is not None else []
    if not found:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in left_out.most_common())
        advice = "lower min_chosen or min_gap" if selection.asks else "no completion is preferred to another"
        raise RowsError(f"{source}: no pair is left ({reasons}): {advice}")
    made = weighted(found) if ranked else found
    result = Preferences(made, source, lines if numbers is not None else None)
    result.left_out = dict(left_out.most_common())
    return result


def _ranked(rows: Sequence[Row]) -> bool:
    return any("completions" in row and "chosen" not in row for row in rows)


def weighted(pairs: Sequence[Row]) -> list[Row]:
    """The pairs with a weight, so that every prompt counts the same in the sum, however many pairs it gave.

    The weights are 1 in the mean. A mean over the pairs of a step, each times its weight, is then an unbiased estimate
    of the mean over prompts of the mean over the prompt's pairs.
    """
    counts = Counter(repr(pair["prompt"]) for pair in pairs)
    mean = len(pairs) / max(1, len(counts))
    return [{**pair, WEIGHT: mean / counts[repr(pair["prompt"])]} for pair in pairs]


def scores_of(pair: Row) -> tuple[float, float] | None:
    """The scores of chosen and rejected that a row holds, both of them finite numbers; None: it holds none."""
    for names in SCORES:
        found = [pair.get(name) for name in names]
        if all(
            isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            for value in found
        ):
            return float(found[0] or 0), float(found[1] or 0)
    return None


def claims_scores(pair: Row) -> bool:
    """Whether a row has a column of scores that is filled, readable or not."""
    return any(pair.get(name) is not None for names in SCORES for name in names)


def _refused(row: Row, selection: PairSelection, where: str) -> str:
    if not selection.asks or is_general(row):
        return ""
    scores = scores_of(row)
    if scores is None:
        raise RowsError(
            f"{where}: min_chosen and min_gap compare the scores of a pair, and this row has none: expected numbers "
            f"{' and '.join(SCORES[0])} (or {' and '.join(SCORES[1])}); it has: {', '.join(row)}"
        )
    return selection.refuses(*scores)


def _plain(said: Any) -> str:
    return said.strip() if isinstance(said, str) else repr(said)


def _decided(row: Row, selection: PairSelection, left_out: Counter[str]) -> Iterator[Row]:
    """The pairs of a ranking, those with the largest gap first."""
    texts, scores = row["completions"], row["scores"]
    rest: dict[str, Any] = {k: v for k, v in row.items() if k not in ("completions", "scores")}
    kept, seen = list[tuple[int, int]](), set[tuple[str, str]]()
    for better, worse in sorted(ranked_pairs(scores), key=lambda pair: scores[pair[1]] - scores[pair[0]]):
        alike = same(texts[better], texts[worse])
        reason = "two scores for one text" if alike else selection.refuses(scores[better], scores[worse])
        both = _plain(texts[better]), _plain(texts[worse])
        if not reason and both in seen:
            reason = "the ranking has the same two texts again"
        if reason:
            left_out[reason] += 1
        else:
            seen.add(both)
            kept.append((better, worse))
    if not kept and len(set(scores)) == 1:
        left_out["all completions of a prompt score the same"] += 1
    for better, worse in spread(kept, selection.pairs_per_prompt):
        yield {
            **rest,
            "chosen": texts[better],
            "rejected": texts[worse],
            "chosen_score": scores[better],
            "rejected_score": scores[worse],
        }
