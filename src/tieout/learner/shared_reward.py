"""A reward model as a reward function: on the policy's own base, or with a base of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..types import Completion, Group, Prompt
from .learner import Learner
from .models.loading import load


@dataclass(frozen=True)
class SharedReward:
    """Scores texts with a learner's score head: for one that `Model.add_reward` put beside the policy no second model
    is loaded.
    """

    learner: Learner

    def __call__(self, completions: Sequence[str], prompts: Sequence[Prompt]) -> list[float | None]:
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


def own_reward(folder: Path, device: str | None = None) -> SharedReward:
    """A trained reward model, with its base, loaded for scoring only. ValueError: the folder holds none."""
    model = load(str(folder), device=device)
    if not model.only_scores:
        raise InputError(
            f"{folder} is no reward model: expected a sequence-classification checkpoint with one label, or an "
            "adapter for one, as `tieout train reward_model` writes it"
        )
    return SharedReward(Learner(model, frozen=True))
