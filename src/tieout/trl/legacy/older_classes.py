"""Names that classes had in earlier versions of TRL. Each says its name of today."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from ..online_configs import PPOConfig
from ..ppo import PPOTrainer
from .scripts import ScriptArguments


class PPOv2Config(PPOConfig):
    """PPOConfig."""

    def __post_init__(self) -> None:
        _say("PPOv2Config", "PPOConfig")
        super().__post_init__()


class PPOv2Trainer(PPOTrainer):
    """PPOTrainer."""

    def __init__(self, *given: Any, **options: Any) -> None:
        _say("PPOv2Trainer", "PPOTrainer")
        super().__init__(*given, **options)


@dataclass
class SFTScriptArguments(ScriptArguments):
    """ScriptArguments."""

    dataset_name: str | None = "timdettmers/openassistant-guanaco"

    def __post_init__(self) -> None:
        _say("SFTScriptArguments", "ScriptArguments")


@dataclass
class DPOScriptArguments(ScriptArguments):
    """ScriptArguments."""

    sanity_check: bool = False
    """Read by scripts that then take a few rows only."""

    def __post_init__(self) -> None:
        _say("DPOScriptArguments", "ScriptArguments")


def _say(older: str, today: str) -> None:
    warnings.warn(f"{older} is the older name of {today}", FutureWarning, stacklevel=4)
