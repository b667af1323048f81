"""Weighted rewards or files as one text, `exact=1.0 length=0.2`: what a command line, a recipe and a record hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

_PART = re.compile(r"(\S.*?)=([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\s+|$)")
_NO_NUMBER = re.compile(r"(\S+)=([^\s=/:\\]*)(?:\s|$)")
FORM = "give each its weight: NAME=1.0 FILE.py:function=0.2"


def weights_of(spec: str, what: str = "reward") -> dict[str, float] | None:
    """Name of a reward or file -> its weight; None: the text names one, without a weight.

    InputError: some of several rewards have no weight, or one that is no number; or one is given twice.

    >>> weights_of("exact=1.0 my rewards.py:brief=-0.2"), weights_of("exact")
    ({'exact': 1.0, 'my rewards.py:brief': -0.2}, None)
    """
    found: dict[str, float] = {}
    place = 0
    while match := _PART.match(spec, place):
        if match[1] in found:
            raise InputError(f"{what} {match[1]!r} is given twice: one weight counts")
        found[match[1]] = float(match[2])
        place = match.end()
    rest = spec[place:].strip()
    for text in (*found, rest):
        no_number = _NO_NUMBER.search(text)
        if no_number and not re.search(r"\.[A-Za-z]", no_number[2]) and not _is_path(text):
            raise InputError(
                f"{what} {spec!r}: the weight of {no_number[1]!r} is {no_number[2]!r}; expected a number, such as "
                f"{no_number[1]}=1.0"
            )
    if rest and found:
        form = FORM if what == "reward" else "give each its weight: a.jsonl=1.0 b.jsonl=0.5"
        raise InputError(f"{what} {spec!r}: {rest!r} has no weight; {form}")
    return found or None


def _is_path(text: str) -> bool:
    """Whether a `=` belongs to the name of a file or folder, also behind the kind of a reward, `reward_model:`."""
    return any(one and Path(one).exists() for one in (text, text.partition(":")[2]))


def weighted(rewards: Any, where: str) -> str:
    """The text of a mapping from name to weight. InputError: it is none, or a weight is no number."""
    if not isinstance(rewards, Mapping) or not rewards:
        raise InputError(f"{where} is {rewards!r}; expected rewards with weights, such as {{exact: 1.0}}")
    for name, weight in rewards.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise InputError(f"{where}: the weight of {name!r} is {weight!r}; expected a number")
    return " ".join(f"{name}={float(weight)!r}" for name, weight in rewards.items())


def one_reward(plain: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The same settings with `rewards: {exact: 1.0, length: 0.2}` as the text of one `reward`. InputError: both are
    given."""
    found = {key: value for key, value in plain.items() if key != "rewards"}
    if "rewards" in plain:
        if found.get("reward"):
            raise InputError(f"{where}: reward and rewards are both given; leave out one of them")
        found["reward"] = weighted(plain["rewards"], f"{where}: rewards")
    elif isinstance(plain.get("reward"), Mapping):
        found["reward"] = weighted(plain["reward"], f"{where}: reward")
    return found
