"""Recipes of the earlier form, `pipeline: align`: refused, with the same recipe written as stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import yaml

from ..config.fields import ConfigError
from ..training.placement import Placement

METHODS = {"align": ("sft", "dpo"), "reason": ("sft", "grpo")}
CHECKS = {"attack": "attack", "calibration": "calibration"}


def refuse_earlier(plain: Mapping[str, Any], where: str) -> None:
    """ConfigError with the new lines, if these plain values are a recipe of the earlier form."""
    if "pipeline" not in plain:
        return
    pipeline = plain["pipeline"]
    if pipeline not in METHODS or "stages" in plain:
        raise ConfigError(
            f"{where}: unknown key 'pipeline': a recipe is a list of stages; see `tieout run --help` and recipes/"
        )
    lines = yaml.safe_dump(rewritten(plain), sort_keys=False, allow_unicode=True, width=120)
    raise ConfigError(f"{where}: `pipeline: {pipeline}` is now a list of stages. The same recipe:\n\n{lines}")


def rewritten(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of the earlier form as one of stages."""
    first, last = METHODS[plain["pipeline"]]
    placement = {f.name: plain[f.name] for f in fields(Placement) if f.name in plain}
    evaluate = dict(plain.get("evaluate") or {})
    gate = dict(plain.get("gate") or {})
    if "num_graded" in evaluate:
        gate["num_graded"] = evaluate.pop("num_graded")
    check = {new: plain[old] for old, new in CHECKS.items() if old in plain}
    pairs = [{"pairs": plain.get("preferences") or {}}] if last == "dpo" else []
    stages = [
        {"check": check},
        {"train": first, **(plain.get(first) or {})},
        *pairs,
        {"train": last, **(plain.get(last) or {})},
        {"evaluate": evaluate},
        {"gate": gate},
        {"ship": {}},
    ]
    gone = {"pipeline", "sft", "dpo", "grpo", "preferences", "evaluate", "gate", *CHECKS, *placement}
    top = {key: value for key, value in plain.items() if key not in gone}
    return {**top, **({"placement": placement} if placement else {}), "stages": stages}
