"""The identity of a run that was not specified: read off the objects that `train` is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..learner import Learner
from ..learner.digest import digest
from ..learner.models.adapters import POLICY
from ..learner.models.precision import name_of
from ..methods import Method
from ..rewards.scoring.reward_identity import held_by, scored_by_code
from ..rows import data_hash
from ..source import Source
from ..types import Row
from .spec import TrainSpec, identity


def provenance(method: Method, source: Source, learner: Learner, schedule: Any) -> dict[str, Any]:
    """Method, model, adapter, reference, optimizer, schedule, seed and data: the keys of a specification's identity."""
    network, rows = learner.model.network, len(source.rows)
    part = {"pass_size": source.pass_size} if source.pass_size not in (0, rows) else {}
    spec = TrainSpec(method, learner.model.name, learner=learner.config, schedule=schedule, seed=source.seed)
    plain, held = identity(spec), held_by(source.task.reward)
    plain.usual = {**plain.usual, **held}  # earlier versions do not know it
    plain |= {
        "adapter": _adapter(getattr(network, "peft_config", {}).get(POLICY)),
        "start": digest(learner.model.start or {}),
        "dtype": name_of(learner.model.dtype),
        "temperature": learner.temperature,
        "task": source.task.name,
        **scored_by_code(source.task.reward),
        **held,
        "data": {"rows": rows, "sha256": _data(source.rows), **part},
    }
    return plain


def _adapter(config: Any) -> dict[str, Any] | None:
    if config is None:
        return None
    return {"rank": config.r, "alpha": config.lora_alpha, "dropout": config.lora_dropout}


def _data(rows: Sequence[Row]) -> str | None:
    """None for rows that hold what no file can: they cannot be compared."""
    try:
        return data_hash(rows)
    except TypeError:
        return None
