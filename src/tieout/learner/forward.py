"""One forward of a model over a layout: log-probabilities, entropies, values and scores."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batch import Outputs
from .models.adapters import using
from .models.architecture import decoder_of, head_of, head_size
from .models.model import Model
from .models.predictor import Predictor
from .models.scalar_head import ScalarHead
from .prefix.attention import AttentionBackend, best_backend
from .prefix.layouts import Layout


@dataclass(eq=False)
class Forward:
    """Forwards of one model at one temperature."""

    model: Model
    temperature: float
    """Logits are divided by it."""

    def __call__(self, layout: Layout, network: Any = None) -> tuple[Tensor, Tensor]:
        """[T] log-probabilities and [T] entropies of the completion tokens, by the model or another network."""
        causal = network if network is not None else self.model.causal
        layout = layout.to(self.model.device)
        hidden = _places(_hidden(layout, causal), layout.predictors)
        return head_of(causal).logprobs(hidden, layout.targets, self.temperature)

    def outputs(self, layout: Layout) -> Outputs:
        """All numbers of the model and its heads: one forward; two if the value head has an adapter of its own."""
        layout = layout.to(self.model.device)
        hidden = _hidden(layout, self.model.causal)
        value, score = self.model.value, self.model.score
        values = None
        if value is not None:
            own = hidden if value.adapter is None else None
            values = self.scalars(layout, value, layout.predictors, own)
        if score is not None and score.adapter is None:
            # The output layer of a reward model means nothing: NaN, should a loss read it.
            nothing = torch.full(layout.targets.shape, torch.nan, device=self.model.device)
            return Outputs(nothing, nothing, values, score(_places(hidden, layout.finals)))
        before, head = _places(hidden, layout.predictors), self.model.head
        logprobs, entropies = head.logprobs(before, layout.targets, self.temperature)
        return Outputs(logprobs, entropies, values, predictions=Predictor(head, before, self.temperature))

    @torch.no_grad()
    def predictor(self, layout: Layout, active: Callable[[], AbstractContextManager[Any]]) -> Predictor:
        """The distributions before the completion tokens, without gradient, by the network that `active` gives."""
        layout = layout.to(self.model.device)
        with active() as network:
            hidden = _places(_hidden(layout, network), layout.predictors)
            return Predictor(head_of(network), hidden, self.temperature, active)

    def scalars(
        self, layout: Layout, head: ScalarHead, places: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """Numbers of a scalar head at some places of a layout on the model's device, under the head's adapter."""
        if hidden is None:
            with using(self.model.network, head.adapter):
                hidden = _hidden(layout, self.model.causal)
        return head(_places(hidden, places))

    @property
    def attention_backend(self) -> AttentionBackend:
        """The attention backend of packed rows on this device."""
        config = self.model.causal.config.get_text_config()
        return best_backend(self.model.device, self.model.causal.dtype, head_size(config))


def _places(hidden: Tensor, places: Tensor) -> Tensor:
    """[P] places of [T, d] hidden states; completions of one prompt share its last.

    Not `hidden[places]`: its backward on a CPU adds to a shared place from several threads, in the order in which they
    arrive, and the last bits of a gradient would differ from run to run.
    """
    return hidden.index_select(0, places)


def _hidden(layout: Layout, causal: Any) -> Tensor:
    """[rows x columns, d]"""
    hidden = decoder_of(causal)(**layout.inputs, use_cache=False).last_hidden_state
    return hidden.reshape(-1, hidden.shape[-1])
