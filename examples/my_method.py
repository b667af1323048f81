"""A method in one file: RAFT, or rejection sampling. Sample a group, keep its best completion, imitate it.

A method says which groups it wants (`collect`), what must be known about them before the loss (`annotate`), and the
loss on one token's log-probability (`loss`). `Rollouts` adds the fields of a method that samples, and declares that it
needs prompts, a sampler and a reward. Nothing has to be registered; the command line and recipes take the file:

    tieout train examples/my_method.py:RAFT --data prompts.jsonl --reward numeric --out runs/raft
    python examples/my_method.py [MODEL_FOLDER_OR_ID]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from tieout.batch import Batch, Outputs
from tieout.learner import AdapterConfig, Learner, load
from tieout.losses.supervised import cross_entropy
from tieout.methods import Method, Rollouts
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.tasks import Task
from tieout.training.loop import train
from tieout.types import Group, Row


@dataclass(frozen=True)
class RAFT(Rollouts, Method):
    """Imitate the best completion of each prompt. Dong et al., 2023, https://arxiv.org/abs/2304.06767."""

    learning_rate: float = 2e-4
    batch_size: int = 8
    """Prompts per optimizer step."""
    skip_ties: bool = False
    """Replace groups whose scores are all equal by groups of later prompts."""

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """The best of every group; of a tie the first."""
        options = (self.group_size, self.temperature, self.max_new_tokens)
        for groups in source.rollouts(self.batch_size, *options, keep=self._keep):
            yield [best(group) for group in groups]

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Nothing: once the best is chosen, its score is forgotten and it is a demonstration like any other."""
        return groups

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross entropy, averaged over all trained tokens of the step."""
        return batch.token_mean(cross_entropy(outputs.logprobs)), {}

    def _keep(self, group: Group) -> bool:
        return differ(group) or not self.skip_ties


def differ(group: Group) -> bool:
    """Whether the group has scores that differ."""
    return len(set(group.scores or [])) > 1


def best(group: Group) -> Group:
    """The completion with the highest score, as a demonstration."""
    scores = group.scores or []
    return Group(group.prompt, [group.completions[scores.index(max(scores))]], None, group.row)


# ---------------------------------------------------------------- see it work on a toy


def late(completions: list[str], **_: object) -> list[float | None]:
    """[K] share of the characters that are letters from the second half of the alphabet."""
    return [sum("n" <= c.lower() <= "z" for c in text) / max(1, len(text)) for text in completions]


def toy_rows(split: str) -> list[Row]:
    """Eight prompts."""
    return [
        {"prompt": [{"role": "user", "content": f"Name a {kind}."}]}
        for kind in ["figure", "colour", "town", "bird", "tree", "fish", "tool", "game"]
    ]


def main(model: str = "tieout-base", steps: int = 20, learning_rate: float = 2e-3) -> tuple[float, float]:
    """Train on the toy; returns the mean reward of samples before and after."""
    method = RAFT(learning_rate=learning_rate, max_new_tokens=12)
    policy = load(model, AdapterConfig(rank=8))
    source = Source(Task("late letters", toy_rows, reward=late), policy.chat, LocalSampler(policy))
    learner = Learner(policy)

    def mean_reward() -> float:
        params = SamplingParams(method.max_new_tokens, seed=1)
        groups = source.rollout(source.rows, 16, params)
        return fmean(s for group in groups for s in group.scores or [])

    before = mean_reward()
    train(method, source, learner, steps=steps)
    after = mean_reward()
    print(f"{model}: mean reward {before:.3f} before, {after:.3f} after {steps} steps")
    return before, after


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tieout-base")
