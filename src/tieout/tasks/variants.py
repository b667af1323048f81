"""Variants of a row: the same question put otherwise, with a right answer that is known.

A variant is a row of its own: its prompt, and every column that the reward reads, say what was asked. `order`: what the
prompt lists stands in another order. `formatting`: the same text is set otherwise. `paraphrase`: what to do is said in
other words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from ..types import Row

Vary = Callable[[Row, random.Random], Row | None]
"""A variant of a row; None: it has none of this kind."""


def asked_in(row: Row) -> str | None:
    """What the user says last; None where the prompt is no conversation that ends with a user's text."""
    prompt = row.get("prompt")
    if isinstance(prompt, str) or not prompt or prompt[-1].get("role") != "user":
        return None
    said = prompt[-1].get("content")
    return said if isinstance(said, str) else None


def asking(row: Row, said: str, **columns: Any) -> Row:
    """The row with another text of the user, and other columns."""
    return {**row, "prompt": [*row["prompt"][:-1], {**row["prompt"][-1], "content": said}], **columns}


def instructed(row: Row, rng: random.Random, system: str, wordings: Sequence[str]) -> Row | None:
    """The row with one of other wordings of its system message; None where that is not `system`."""
    prompt = row.get("prompt")
    if isinstance(prompt, str) or not prompt or prompt[0].get("content") != system:
        return None
    return {**row, "prompt": [{**prompt[0], "content": rng.choice(wordings)}, *prompt[1:]]}


def surrounded(row: Row, rng: random.Random) -> Row | None:
    """Blank lines around what is asked, which change no meaning: `formatting` of any row, whatever it asks.

    Before a plain text only, which the model continues as it stands.
    """
    if isinstance(row.get("prompt"), str):
        return {**row, "prompt": f"\n\n{row['prompt']}"}
    said = asked_in(row)
    return None if said is None else asking(row, f"\n\n{said}\n\n")
