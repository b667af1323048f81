"""Items on which people differ."""

from __future__ import annotations

import re

from .journal import Entry
from .scheme import Scheme
from .state import State
from .values import decisions, marked


def answers(entry: Entry, state: State, scheme: Scheme) -> dict[str, str]:
    """A judgement as answers to single questions."""
    if scheme.kind != "spans":
        return decisions(entry["value"], scheme)
    text = state.items[entry["item"]].texts[0]
    return marked(entry["value"], [word.span() for word in re.finditer(r"\S+", text)])


def disputes(state: State, scheme: Scheme) -> list[str]:
    """Items on which people differ and nobody has settled it."""
    return [
        item
        for item, own in state.by_item().items()
        if item not in state.verdicts
        and any(answers(e, state, scheme) != answers(own[0], state, scheme) for e in own)
    ]
