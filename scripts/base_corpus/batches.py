"""Batches of documents: every document in a row of its own, rows of similar length together."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from .mixture import Mixture

_RATIO = 1.4
"""The longest document of a part is at most this much longer than its shortest."""


@dataclass(frozen=True)
class Part:
    """Rows of similar length."""

    tokens: np.ndarray
    """[B, L] token ids; padding (0) at the end of each row."""
    skill: np.ndarray
    """[B, L] index into `skills` of the document whose trained token this is; -1 where not trained."""


@dataclass(frozen=True)
class Batch:
    """What one step is trained on."""

    parts: list[Part]
    skills: list[str]
    num_tokens: int
    """Without padding."""


def make_batch(mixture: Mixture, seed: int, step: int, progress: float, size: int) -> Batch:
    """Documents of at least `size` tokens in all, drawn from (seed, step) alone.

    A document never sees another: with several statements in one row, a label that is looked up stands in all
    of them, and so small a model learns to tell them apart instead of learning to read one.
    """
    rng = Random(f"{seed}:{step}")
    longest = mixture.longest(rng, progress)
    encoded: list[tuple[list[int], list[int]]] = []
    skills: list[str] = []
    total = 0
    while total < size:
        document = mixture.draw(rng, progress, longest)
        tokens, mask = mixture.encoder(document)
        if len(tokens) > longest:
            continue
        if document.skill not in skills:
            skills.append(document.skill)
        index = skills.index(document.skill)
        encoded.append((tokens, [index if trained else -1 for trained in mask]))
        total += len(tokens)
    encoded.sort(key=lambda row: len(row[0]))
    parts: list[list[tuple[list[int], list[int]]]] = [[]]
    for row in encoded:
        if parts[-1] and len(row[0]) > _RATIO * len(parts[-1][0][0]):
            parts.append([])
        parts[-1].append(row)
    return Batch([_pad(rows) for rows in parts], skills, total)


def _pad(rows: list[tuple[list[int], list[int]]]) -> Part:
    width = max(len(tokens) for tokens, _ in rows)
    part = Part(np.zeros((len(rows), width), np.int64), np.full((len(rows), width), -1, np.int64))
    for at, (tokens, marks) in enumerate(rows):
        part.tokens[at, : len(tokens)] = tokens
        part.skill[at, : len(marks)] = marks
    return part
