"""The entropy bonus of methods that sample, and the floor below which alone it acts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from statistics import fmean

from torch import Tensor

from ..batch import Batch, Outputs
from ..errors import InputError
from ..losses.policy import entropy_bonus
from ..types import Group


@dataclass(frozen=True)
class Entropy:
    """The fields of the bonus and its three parts; to be inherited in front of `Rollouts`."""

    entropy_coef: float = 0.0
    """Weight of the entropy bonus: the mean entropy of the trained tokens is taken off the loss."""
    entropy_floor: float | None = None
    """Nats per token: the bonus acts only on batches whose tokens had less entropy when sampled. Left out: always."""

    def check_entropy(self) -> None:
        """InputError: there is a floor, and no bonus that it could switch."""
        if self.entropy_floor is not None and not self.entropy_coef:
            raise InputError(
                f"entropy_floor is {self.entropy_floor}, but entropy_coef is 0: there is no bonus"
            )

    def with_entropy_coef(self, groups: list[Group]) -> list[Group]:
        """Add the step's coefficient, 0 where its tokens were sampled with at least the floor's entropy."""
        if not self.entropy_coef:
            return groups
        completions = [c for g in groups for c in g.completions]
        sampled = [x for c in completions for x in compress(c.logprobs or [], c.mask)]
        low = self.entropy_floor is None or -fmean(sampled or [0.0]) < self.entropy_floor
        coef = self.entropy_coef * low
        return [g.with_columns(entropy_coef=[coef] * len(g.completions)) for g in groups]

    def less_entropy(self, loss: Tensor, outputs: Outputs, logratio: Tensor, batch: Batch) -> Tensor:
        """[] the loss minus the bonus; `logratio` [T] is that to the policy that sampled."""
        if not self.entropy_coef:
            return loss
        bonus = entropy_bonus(outputs.logprobs, logratio, outputs.entropies)
        return loss - batch.token_mean(bonus * batch.per_token(batch["entropy_coef"]))
