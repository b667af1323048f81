"""Methods for given data, applied to rollouts: online DPO takes the best and the worst, rejection sampling the best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..config.method_table import TABLE
from ..errors import InputError
from ..groups import best, best_and_worst, decided
from ..source import Source
from ..types import Group
from .checks import check_rollouts
from .dpo import DPO
from .method import Needs, Rollouts
from .sft import SFT


@dataclass(frozen=True)
class OnlineDPO(Rollouts, DPO):
    """DPO on pairs that the policy has just written. Guo et al., 2024, https://arxiv.org/abs/2402.04792."""

    group_size: int = 4
    """Completions per prompt, of which the best and the worst are the pair."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rollouts(self, TABLE["online_dpo"].group_size)
        if self.sft_anchor != DPO.sft_anchor:
            raise InputError(
                "sft_anchor is for given general rows, and online_dpo samples its pairs: leave it out"
            )

    @property
    def needs(self) -> Needs:
        """Rollouts and the reference."""
        return replace(super().needs, reference=True)

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Best and worst of groups sampled from the policy; groups of equal scores are replaced by later rows."""
        options = (self.group_size, self.temperature, self.max_new_tokens)
        for groups in source.rollouts(self.batch_size, *options, keep=decided):
            yield [best_and_worst(group) for group in groups]


@dataclass(frozen=True)
class RejectionSampling(Rollouts, SFT):
    """Supervised fine-tuning on the policy's own best. Section 3.2.3 of https://arxiv.org/abs/2307.09288."""

    group_size: int = 8
    """Completions per prompt, of which the best is the demonstration."""
    min_score: float | None = None
    """Prompts whose best completion scores less are skipped; left out: none is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rollouts(self)
        if self.general_kl:
            raise InputError(
                "general_kl is for sft: rejection_sampling learns from samples, and has no general rows"
            )

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """The best of each group sampled from the current policy; of a tie the first."""
        options = (self.group_size, self.temperature, self.max_new_tokens)
        for groups in source.rollouts(self.batch_size, *options, keep=self._keep):
            yield [best(group) for group in groups]

    def _keep(self, group: Group) -> bool:
        return self.min_score is None or max(group.scores or []) >= self.min_score
