"""A trained reward model as a reward: its estimate of which completion people prefer.

Range: any real number; only differences between completions of one prompt mean anything. It does not catch what its
pairs did not show: calibrate it on held-out pairs, and watch it against a second signal while training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...types import Completion, Group, Prompt

if TYPE_CHECKING:  # naming a reward model needs no torch, only calling it does
    from ...learner import Learner


@dataclass(frozen=True)
class SharedReward:
    """Scores texts with a learner's score head: for one that `Model.add_reward` put next to the policy no second model
    is loaded.
    """

    learner: Learner

    def __call__(self, completions: Sequence[str], prompts: Sequence[Prompt], **_: Any) -> list[float | None]:
        """[K] scores of K completions; those of one prompt share its computation."""
        groups: list[Group] = []
        chat = self.learner.model.chat
        for prompt, text in zip(prompts, completions, strict=True):
            tokens, written = chat.prompt(prompt), chat.completion(prompt, text)
            completion = Completion(written, [True] * len(written))
            if groups and groups[-1].prompt == tokens:
                groups[-1].completions.append(completion)
            else:
                groups.append(Group(tokens, [completion]))
        return [score for scores in self.learner.scores(groups) for score in scores]


@dataclass
class PreferenceReward:
    """Loads its model when it is first called, and keeps it: in the process that calls, so that it is there once."""

    folder: Path
    """Adapter or checkpoint of a reward model, as `tieout train reward_model` writes it, or transformers or PEFT."""
    device: str | None = None
    """cpu or cuda; None: cuda if there is one."""
    _loaded: SharedReward | None = field(default=None, repr=False)

    def __call__(self, completions: Sequence[str], prompts: Sequence[Prompt], **_: Any) -> list[float | None]:
        """[K] scores, higher for what people would prefer. InputError: the folder holds no reward model."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded(completions, prompts)

    def _load(self) -> SharedReward:
        from ...learner import Learner, load

        model = load(str(self.folder), device=self.device)
        if not model.only_scores:
            raise InputError(
                f"{self.folder} is no reward model: expected a sequence-classification checkpoint with one label, or "
                "an adapter for one, as `tieout train reward_model` writes it"
            )
        return SharedReward(Learner(model, frozen=True))


def reward_model(folder: str | Path, device: str | None = None) -> PreferenceReward:
    """The reward function of a trained reward model. InputError: there is no folder of that name."""
    if not Path(folder).is_dir():
        raise InputError(f"reward model {folder} does not exist; give the folder that training saved")
    return PreferenceReward(Path(folder), device)
