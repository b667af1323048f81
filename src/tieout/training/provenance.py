"""What decides the numbers of a run: kept with every checkpoint, and held against who wants to go on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.plain import changes, to_plain
from ..errors import InputError
from ..learner import Learner
from ..learner.checkpoint import digest
from ..learner.models.loading import POLICY, REFERENCE
from ..methods import Method
from ..rows import data_hash
from ..source import Source
from ..types import Row

if TYPE_CHECKING:
    from .loop import Schedule


def provenance(method: Method, source: Source, learner: Learner, schedule: Schedule) -> dict[str, Any]:
    """Method, model, adapter, reference, optimizer, schedule, seed and data, as plain values."""
    network = learner.model.network
    adapter = getattr(network, "peft_config", {}).get(POLICY)
    plain = {
        "method": {"name": type(method).__name__, **_plain(method)},
        "model": Path(learner.model.name).name,
        "adapter": adapter
        and {"rank": adapter.r, "alpha": adapter.lora_alpha, "dropout": adapter.lora_dropout},
        "reference": digest({n: p for n, p in network.named_parameters() if f".{REFERENCE}." in n}),
        "learner": _plain(learner.config),
        "temperature": learner.temperature,
        "schedule": _plain(schedule),
        "seed": source.seed,
        "task": source.task.name,
        "data": {"rows": len(source.rows), "sha256": _data(source.rows)},
    }
    result: dict[str, Any] = json.loads(json.dumps(plain))  # tuples compare equal to the lists that come back
    return result


def refuse_changes(was: Mapping[str, Any], is_now: Mapping[str, Any], folder: Path) -> None:
    """ValueError, with what was and what is, if the checkpoints in `folder` were made from something else."""
    if lines := changes(was, is_now):
        listed = "\n  ".join(lines)
        raise InputError(
            f"{folder} holds checkpoints of another run; what changed (was -> is):\n  {listed}\n"
            "repeat the old values, or use another folder"
        )


def _plain(config: Any) -> dict[str, Any]:
    """The fields of a dataclass; what has no plain form, such as a function, by its name."""
    result = {}
    for name, value in vars(config).items():
        try:
            result[name] = to_plain(value)
        except TypeError:
            result[name] = getattr(value, "__qualname__", type(value).__qualname__)
    return result


def _data(rows: Sequence[Row]) -> str | None:
    """None for rows that hold what no file can: they cannot be compared."""
    try:
        return data_hash(rows)
    except TypeError:
        return None
