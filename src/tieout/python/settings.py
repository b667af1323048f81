"""Keywords to the command line's options: one set of names, defaults and checks for both."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from ..config.fields import from_plain, nearest
from ..config.weights import weighted
from ..errors import InputError
from ..rows import Kind, Rows, data_hash, read_rows
from ..rows.pairs import PairSelection, rows_for
from ..storage.jsonl import write_jsonl
from ..types import Reward, Row

Data = str | os.PathLike[str] | Iterable[Row]
"""Rows: a file, a list of dictionaries, or a `datasets.Dataset`."""
RewardLike = str | Reward | Mapping[str | Reward, float]
"""A name, a function, or several with their weights."""
NESTED = ("adapter", "learner", "schedule", "guards", "selection")
"""Options that are a keyword each: a dictionary of their fields."""
OWN = ("data", "model", "out", "plan", "plan_memory", "plan_length", "reward", "held_out")
"""Options that are arguments of the functions, or that only print."""


def rows_of(data: Any, what: str) -> Rows:
    """The rows of a file, a list or a dataset. InputError: it holds none, or no rows."""
    if isinstance(data, str | os.PathLike):
        return read_rows(Path(data))
    if isinstance(data, bytes) or not isinstance(data, Iterable):
        raise InputError(
            f"{what} is {_short(data)}; expected rows: a list of dictionaries, a dataset or a file"
        )
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # pandas: iterating it gives names of columns
        data = data.to_dict("records")
    return read_rows(data)


def checked(kind: Kind, data: Any, what: str) -> None:
    """InputError: rows lack the columns of the method; said before the seconds that importing torch takes."""
    if data is not None and "torch" not in sys.modules:
        where = str(data) if isinstance(data, str | os.PathLike) else what
        rows_for(kind, rows_of(data, what), where, PairSelection())


def kept(data: Any, out: Path, name: str) -> Path:
    """A file with the rows: the given one, or `out/NAME.jsonl`, so that a later evaluation and the command line find
    what a list or a dataset held. InputError: another run's rows are there."""
    if isinstance(data, str | os.PathLike):
        return Path(data)
    rows, path = rows_of(data, name), out / f"{name}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, rows)
    elif data_hash(read_rows(path)) != data_hash(rows):
        raise InputError(
            f"{path} has other rows than were given: name another folder as out, or remove {out}"
        )
    return path


def reward_named(reward: RewardLike | None) -> Any:
    """The name by which the command line and worker processes load a reward, or the function itself if it has none (of
    a notebook, say): it is then called in this process, under no deadline. Weighted rewards, a mapping, are one."""
    from ..rewards.processes.importable import refer

    if reward is None or isinstance(reward, str):
        return reward
    if isinstance(reward, Mapping):
        parts = {reward_named(part): weight for part, weight in reward.items()}
        if all(isinstance(part, str) for part in parts):
            return weighted(parts, "reward")
        from ..rewards.scoring.combine import combine

        return combine(parts)
    if not callable(reward):
        raise InputError(
            f"reward is {_short(reward)}; expected a name, FILE.py:function, a function, or a dictionary from those to "
            "their weights"
        )
    try:
        reference = refer(reward)
    except ValueError:
        return reward
    plain = not (reference["options"] or reference["functions"] or reference["messages"])
    return reference["spec"] if plain else reward


def filled(cls: type[Any], settings: Mapping[str, Any], where: str, own: Mapping[str, Any]) -> Any:
    """The options of a command that are dataclasses of options, each keyword in whichever of them has the field.

    Args:
        cls: a dataclass of dataclasses: those in `NESTED` are keywords themselves, the fields of the others are.
        settings: keyword -> plain value, dictionary or dataclass.
        where: the call, for errors.
        own: options that are no keywords, as they are.

    Raises:
        InputError: an unknown keyword (the nearest is named), or a value that a field does not take.
    """
    hints = get_type_hints(cls)
    owner = {field.name: part for part in hints if part not in NESTED for field in fields(hints[part])}
    known = (set(owner) | set(hints) & set(NESTED)) - set(OWN)
    for name in settings:
        if name not in known:
            hint = nearest(name, known) or ";"
            raise InputError(f"{where} has no setting {name!r}{hint} there are: {', '.join(sorted(known))}")
    given: dict[str, dict[str, Any]] = {part: {} for part in hints}
    for name, value in settings.items():
        if name in owner:
            given[owner[name]][name] = value
    given |= {name: settings[name] for name in NESTED if name in settings}
    if isinstance(told := given["run"].get("chat_template_kwargs"), Mapping):
        given["run"]["chat_template_kwargs"] = [json.dumps(told)]
    given["run"] |= {name: value for name, value in own.items() if name != "reward"}
    parts = {part: from_plain(kind, given[part], where) for part, kind in hints.items()}
    parts["run"] = replace(parts["run"], reward=own["reward"])  # a function is no plain value
    return cls(**parts)


def _short(value: object) -> str:
    text = repr(value)
    return (
        f"{text[:60]}... ({type(value).__name__})" if len(text) > 60 else f"{text} ({type(value).__name__})"
    )
