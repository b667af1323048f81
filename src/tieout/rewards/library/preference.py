"""A trained reward model as a reward: what people preferred, as far as the model learned it.

Range: any real number; only differences between completions of one prompt mean anything. It does not catch what its
pairs did not show: calibrate it on held-out pairs, and watch it against a second signal while training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...types import Prompt


@dataclass
class PreferenceReward:
    """Loads its model when it is first called, and keeps it: in the process that calls, so that it is there once."""

    folder: Path
    """Adapter or checkpoint of a reward model, as `tieout train reward_model` writes it, or transformers or PEFT."""
    device: str | None = None
    """cpu or cuda; None: cuda if there is one."""
    _scorer: Callable[..., list[float]] | None = field(default=None, repr=False)

    def __call__(self, completions: Sequence[str], prompts: Sequence[Prompt], **_: Any) -> list[float]:
        """[K] scores, higher for what people would prefer."""
        if self._scorer is None:
            from .. import load_attribute

            # By name, as registered rewards are: rewards stand below the learner, and import without torch.
            self._scorer = load_attribute("tieout.learner.shared_reward:own_reward")(self.folder, self.device)
        return self._scorer(completions, prompts)


def reward_model(folder: str | Path, device: str | None = None) -> PreferenceReward:
    """The reward function of a trained reward model; ValueError if there is no folder of that name."""
    if not Path(folder).is_dir():
        raise InputError(f"reward model {folder} does not exist; give the folder that training saved")
    return PreferenceReward(Path(folder), device)
