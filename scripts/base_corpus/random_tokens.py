"""Copying and look-up among random tokens: taught first and short, since everything else is built on it."""

from __future__ import annotations

from random import Random

from .document import Document


def copy(rng: Random, plain: list[int], longest: int) -> Document:
    """A run of fewer than `longest` random tokens, to be repeated; an empty turn asks for it again."""
    run = rng.choices(_alphabet(rng, plain), k=rng.randrange(2, longest))
    turns: list[tuple[str, str | list[int]]] = [("user", run), ("assistant", run)]
    for _ in range(rng.randrange(0, 3) if len(run) < 30 else 0):
        turns += [("user", []), ("assistant", run)]
    return Document("random copy", tuple(turns))


def go_on(rng: Random, plain: list[int], line: int, longest: int) -> Document:
    """A run of different tokens and one or two of them; what comes after these is to be written, to the end.

    Unlike plain copying it cannot be done by counting places.
    """
    run = rng.sample(plain, rng.randrange(4, longest))
    start = rng.randrange(0, len(run) - 2)
    size = rng.choice((1, 2))
    return Document(
        "random go on",
        (("user", [*run, line, *run[start : start + size]]), ("assistant", run[start + size :])),
    )


def look_up(rng: Random, plain: list[int], line: int, most: int) -> Document:
    """Lines of a random key and a random value; asked with a key, the value or the line is the answer.

    `line` is the id of the newline token. Several keys are asked of one table.
    """
    alphabet = _alphabet(rng, plain)
    table: dict[tuple[int, ...], list[int]] = {}
    for _ in range(rng.randrange(2, most + 1)):
        table[tuple(rng.choices(plain, k=rng.choice((1, 1, 2, 3))))] = rng.choices(
            alphabet, k=rng.randrange(1, 7)
        )
    mark = rng.choice(plain)
    lines = {key: [*key, mark, *value] for key, value in table.items()}
    whole = rng.random() < 0.4
    shown = [token for body in lines.values() for token in (*body, line)]
    turns: list[tuple[str, str | list[int]]] = []
    for index in range(min(len(table), rng.randrange(1, 5))):
        key = rng.choice(list(table))
        turns.append(("user", [*shown, line, *key] if index == 0 else list(key)))
        turns.append(("assistant", lines[key] if whole else table[key]))
    return Document("random look-up", tuple(turns))


def _alphabet(rng: Random, plain: list[int]) -> list[int]:
    """All tokens, or few: with few tokens, as in figures, one must look further back to know the place."""
    return plain if rng.random() < 0.6 else rng.sample(plain, rng.randrange(8, 24))
