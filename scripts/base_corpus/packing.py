"""Documents laid one after another in rows of one length, so that hardly a token is padding."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from .mixture import Mixture


@dataclass(frozen=True)
class Batch:
    """Rows of documents."""

    tokens: np.ndarray
    """[B, L] token ids."""
    skill: np.ndarray
    """[B, L] index into `skills` of the document whose trained token this is; -1 where not trained."""
    skills: list[str]


def make_batch(mixture: Mixture, seed: int, step: int, progress: float, size: int) -> Batch:
    """About `size` tokens in rows of one length, drawn from (seed, step) alone."""
    rng = Random(f"{seed}:{step}")
    length = mixture.row_length(rng, progress)
    rows: list[tuple[list[int], list[int]]] = [([], []) for _ in range(size // length)]
    skills: list[str] = []
    misses = 0
    while misses < 8:
        document = mixture.draw(rng, progress, length)
        tokens, mask = mixture.encoder(document)
        if len(tokens) > length:
            continue
        free = [row for row in rows if len(row[0]) + len(tokens) <= length]
        if not free:
            misses += 1
            continue
        if document.skill not in skills:
            skills.append(document.skill)
        index = skills.index(document.skill)
        free[0][0].extend(tokens)
        free[0][1].extend(index if trained else -1 for trained in mask)
    tokens_array = np.zeros((len(rows), length), dtype=np.int64)
    skill_array = np.full((len(rows), length), -1, dtype=np.int64)
    for at, (tokens, marks) in enumerate(rows):
        tokens_array[at, : len(tokens)] = tokens
        skill_array[at, : len(marks)] = marks
    return Batch(tokens_array, skill_array, skills)
