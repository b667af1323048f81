"""Supervised fine-tuning: make the given completions likely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..batch import Batch, Outputs
from ..learner import Learner
from ..losses.supervised import cross_entropy
from ..source import Source
from ..types import Group
from .method import Method, Needs


@dataclass(frozen=True)
class SFT(Method):
    """Cross entropy of the completions' tokens; prompts are not trained on."""

    learning_rate: float = 2e-4
    batch_size: int = 16
    """Demonstrations per optimizer step."""

    @property
    def needs(self) -> Needs:
        """Demonstrations."""
        return Needs("demonstration")

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt and completion."""
        return source.demonstrations(self.batch_size)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Nothing to add."""
        return groups

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean over the trained tokens of the step."""
        return batch.token_mean(cross_entropy(outputs.logprobs)), {}
