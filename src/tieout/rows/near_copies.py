"""Find pairs that are there twice, or nearly: an exact join of word sets, without hashing into signatures or a library.

Two pairs are near-copies if prompt, chosen and rejected of one each share NEAR of their runs of words (Jaccard's
measure) with those of the other, and the prompts hold the same figures: a question on other figures is another one.
Runs that many prompts hold are a template, and do not count.

Candidates come from prefix filtering (Chaudhuri et al. 2006, Bayardo et al. 2007): with the rarest runs first, two sets
that share NEAR of their runs share one of the first (1 - NEAR) n + 1. So none is missed, unlike with MinHash.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from ..types import Row
from .leakage import words_of
from .messages import prompt_text, whole_text

NEAR = 0.8
"""Jaccard's measure from which two texts are near-copies."""
RUN = 3
"""Words in a run; a shorter text is one run."""
TEMPLATE = (20, 0.1)
"""A run that more prompts hold than this many, and than this share of them, is a template."""

Runs = frozenset[Hashable]
PARTS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Copies:
    """Positions of pairs that repeat others."""

    exact: list[tuple[int, int]]
    """(pair, the first one that it repeats): the same words in all three texts."""
    near: list[tuple[int, int]]
    """(pair, the first one that it nearly repeats), without those in `exact`."""
    reversed: list[tuple[int, int]]
    """(pair, the first one that prefers the other way round): the same prompt and completions."""


class PairText:
    """A pair in the forms that are compared."""

    def __init__(self, row: Row) -> None:
        self.texts = (prompt_text(row["prompt"]), whole_text(row["chosen"]), whole_text(row["rejected"]))

    @cached_property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """Of prompt, chosen and rejected."""
        return tuple(tuple(words_of(text)) or (text.strip(),) for text in self.texts)

    @cached_property
    def figures(self) -> list[str]:
        """Of the prompt."""
        return sorted(word for word in self.words[0] if any(letter.isdigit() for letter in word))

    @cached_property
    def runs(self) -> tuple[Runs, ...]:
        """Of prompt, chosen and rejected."""
        return tuple(runs_of(words) for words in self.words)


def runs_of(words: Sequence[str]) -> Runs:
    """The runs of a text as a set."""
    return frozenset(tuple(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1)))


def jaccard(one: Runs, other: Runs) -> float:
    """Share of the runs of both that both have; 1 for two empty sets.

    >>> jaccard(frozenset("abcd"), frozenset("abce"))
    0.6
    """
    every = len(one | other)
    return len(one & other) / every if every else 1.0


def find_copies(pairs: Sequence[PairText]) -> Copies:
    """What repeats in a set of pairs; each pair is named once, with the first one that it repeats."""
    first: dict[Hashable, int] = {}
    sides: dict[Hashable, int] = {}
    exact, turned = list[tuple[int, int]](), list[tuple[int, int]]()
    for i, pair in enumerate(pairs):
        prompt, chosen, rejected = pair.words
        if (seen := first.setdefault(pair.words, i)) != i:
            exact.append((i, seen))
        if chosen != rejected and (other := sides.get((prompt, rejected, chosen))) is not None:
            turned.append((i, other))
        sides.setdefault((prompt, chosen, rejected), i)
    left = sorted(first.values())
    nearest: dict[int, int] = {}
    for i, j in _near([pairs[k] for k in left]):
        later, earlier = left[max(i, j)], left[min(i, j)]
        nearest[later] = min(earlier, nearest.get(later, earlier))
    return Copies(exact, sorted(nearest.items()), turned)


def _near(pairs: Sequence[PairText]) -> Iterator[tuple[int, int]]:
    """Positions of two pairs that are near-copies and not the same."""
    held = Counter(run for runs in {pair.runs[0] for pair in pairs} for run in runs)
    most = max(TEMPLATE[0], TEMPLATE[1] * len({pair.words[0] for pair in pairs}))
    template = {run for run, count in held.items() if count > most}
    own = [(pair.runs[0] - template or pair.runs[0], *pair.runs[1:]) for pair in pairs]
    tagged = [frozenset((part, run) for part, runs in enumerate(of) for run in runs) for of in own]

    def alike(i: int, j: int) -> bool:
        return pairs[i].figures == pairs[j].figures and all(
            jaccard(one, other) >= NEAR for one, other in zip(own[i], own[j], strict=True)
        )

    # Three parts that each share NEAR of their runs do so together.
    yield from join(tagged, NEAR, alike)


def join(
    sets: Sequence[Runs], least: float, alike: Callable[[int, int], bool] = lambda i, j: True
) -> Iterator[tuple[int, int]]:
    """Positions of every two sets with a Jaccard measure of `least` or more, of which `alike` holds."""
    counts = Counter(run for runs in sets for run in runs)
    index: dict[Hashable, list[int]] = defaultdict(list)
    for i in sorted(range(len(sets)), key=lambda i: len(sets[i])):
        mine = sets[i]
        rare = sorted(mine, key=lambda run: (counts[run], repr(run)))
        prefix = rare[: len(mine) - ceil(least * len(mine) - 1e-9) + 1]
        found: set[int] = set()
        for run in prefix:
            found.update(index[run])
            index[run].append(i)
        for j in found:
            if len(sets[j]) >= least * len(mine) - 1e-9 and jaccard(mine, sets[j]) >= least and alike(i, j):
                yield i, j
