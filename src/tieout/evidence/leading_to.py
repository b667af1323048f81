"""The stages of a recipe that made a model: its own, what it starts or learns from, its teachers and reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LINKS = ("from", "data", "reward_model", "reflection")
"""Keys of a stage that name an earlier one."""


def leading_to(
    models: Sequence[str], stages: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, settings) of the stages of a recipe in plain values, in their order; none for the base or an API."""
    found, wanted = list[tuple[str, Mapping[str, Any]]](), set(models)
    for stage in reversed(stages):
        made = (
            stage[kind] for kind in ("demonstrations", "pairs", "refresh", "optimize_prompt") if kind in stage
        )
        settings = stage if "train" in stage else next(made, {})
        if settings.get("name") in wanted:
            wanted |= {settings[link] for link in LINKS if link in settings}
            teachers = str(settings.get("teacher", "")).split(",")  # MODEL, or NAME=MODEL,NAME=MODEL
            wanted |= {teacher.rpartition("=")[2].strip() for teacher in teachers}
            found.insert(0, (settings["name"], settings))
    return found
