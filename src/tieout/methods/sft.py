"""Supervised fine-tuning: make the given completions likely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from ..config.method_table import TABLE
from ..errors import InputError
from ..learner import Learner
from ..losses.policy import kl_from_policy
from ..losses.supervised import cross_entropy
from ..rows.values import truth
from ..source import Source
from ..types import Group, Row
from .checks import check_ranges
from .method import Method, Needs


@dataclass(frozen=True)
class SFT(Method):
    """Cross entropy of the completions' tokens; prompts are not trained on."""

    learning_rate: float = 2e-4
    batch_size: int = 16
    """Demonstrations per optimizer step."""
    general_kl: float = 0.0
    """Weight of KL(reference || policy) on general rows, in place of their cross entropy: for completions that the
    reference, the policy of step 0, wrote itself. It has no gradient until the policy leaves them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "sft")

    @property
    def needs(self) -> Needs:
        """Demonstrations; with general_kl, the reference."""
        return Needs(TABLE["sft"].rows, reference=self.general_kl > 0)

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt and completion."""
        return source.demonstrations(self.batch_size)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add the log-probabilities of general rows under the reference, with general_kl."""
        if not self.general_kl:
            return groups
        general = [group for group in groups if marked_general(group.row)]
        reference = iter(learner.reference_logprobs(general) if general else [])
        return [
            group.with_columns(
                general=[float(marked_general(group.row))] * len(group.completions),
                reference_logprobs=next(reference)
                if marked_general(group.row)
                else [[0.0] * len(c.tokens) for c in group.completions],
            )
            for group in groups
        ]

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean over the trained tokens of the step; those of general rows have the KL in it, with general_kl."""
        cross = cross_entropy(outputs.logprobs)
        if not self.general_kl:
            return batch.token_mean(cross), {}
        # The tokens are the reference's, so that its place and the policy's are exchanged.
        kl = kl_from_policy(batch["reference_logprobs"], outputs.logprobs)
        general = batch.per_token(batch["general"])
        loss = torch.where(general > 0, self.general_kl * kl, cross)
        return batch.token_mean(loss), {"general_kl": batch.token_mean(kl.detach() * general)}


def marked_general(row: Row) -> bool:
    """Whether a demonstration is marked as general: what the policy says to it is to stay. InputError: unclear."""
    value = row.get("general")
    marked = False if value is None else truth(value)
    if marked is None:
        raise InputError(f"general is {value!r} in a row; with general_kl it is true or false")
    return marked
