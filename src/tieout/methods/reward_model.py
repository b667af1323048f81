"""Reward model: one number per completion, higher for the completion that humans prefer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..batch import Batch, Outputs
from ..config.method_table import TABLE
from ..errors import InputError
from ..groups import decided
from ..learner import Learner
from ..losses.preference import bradley_terry
from ..source import Source
from ..types import Group
from .method import Method, Needs


@dataclass(frozen=True)
class RewardModel(Method):
    """Bradley-Terry over every decided pair of a group. Eq. 1 of https://arxiv.org/abs/2203.02155."""

    learning_rate: float = 1e-5
    batch_size: int = 16
    """Pairs, or ranked groups, per optimizer step."""
    epochs: float = 1.0
    """Passes over the rows; a second one overfits (section C.2 of the paper)."""
    center_rewards_coefficient: float = 0.0
    """Weight of the square of a pair's summed scores, which keeps them around 0 (https://arxiv.org/abs/2312.09244)."""
    use_margin: bool = True
    """Where rows have a column `margin`, the better completion must win by it (Llama 2, eq. 2)."""

    @property
    def needs(self) -> Needs:
        """Pairs or rankings, and a score head."""
        return Needs(TABLE["reward_model"].rows, head="score")

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt, chosen and rejected, or with prompt, completions and scores."""
        return source.rankings(self.batch_size)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add the margin by which the better completion of a row must win, 0 where the row has none."""
        margins = [float(g.row.get("margin") or 0.0) if self.use_margin else 0.0 for g in groups]
        return [g.with_columns(margin=[m] * len(g.completions)) for g, m in zip(groups, margins, strict=True)]

    def counts(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Groups whose scores are not all equal: metrics are means over them."""
        return {"decided": sum(map(decided, groups))}

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean over the groups of the step, and within each over its pairs; a group without a decided pair weighs 0."""
        if outputs.scores is None:
            raise InputError("a reward model needs a score head: load the model with head='score'")
        better, worse, weights = batch.ranked()
        high, low = (outputs.scores.index_select(0, places) for places in (better, worse))
        loss = bradley_terry(high, low, batch["margin"][better])
        if self.center_rewards_coefficient:
            loss = loss + self.center_rewards_coefficient * (high + low) ** 2
        groups, high, low = batch.totals.groups, high.detach(), low.detach()
        shares = weights * (1 / max(1, batch.totals.counts["decided"]))
        return (loss * weights).sum() / groups, {
            "accuracy": ((high > low) * shares).sum(),
            "score_gap": ((high - low) * shares).sum(),
            "score_mean": outputs.scores.detach().sum() / batch.totals.completions,
            "decided": weights.sum() / groups,
        }
