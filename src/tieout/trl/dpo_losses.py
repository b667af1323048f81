"""TRL's `loss_type` of DPO, which may name several losses with weights, -> one method."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from ..errors import InputError
from ..losses.preference import PAIR_LOSSES
from ..losses.supervised import cross_entropy
from ..methods import DPO
from .configs import DPOConfig


@dataclass(frozen=True)
class SeveralLosses(DPO):
    """A weighted sum of DPO's losses."""

    parts: tuple[tuple[float, DPO], ...] = ()
    """(weight, loss)."""

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The metrics are the same for all of them."""
        values = [(weight, *part.loss(outputs, batch)) for weight, part in self.parts]
        total = torch.stack([weight * value for weight, value, _ in values]).sum()
        if self.rpo_alpha:
            total = total + self.rpo_alpha * batch.best_token_mean(cross_entropy(outputs.logprobs))
        return total, values[0][2]


def dpo(config: DPOConfig, common: dict[str, Any]) -> DPO:
    """The method. ValueError: an unknown loss, or weights that are not one a loss."""
    losses = [config.loss_type] if isinstance(config.loss_type, str) else list(config.loss_type)
    weights = config.loss_weights or [1.0] * len(losses)
    if len(weights) != len(losses):
        raise InputError(
            f"{len(weights)} loss_weights for {len(losses)} losses of loss_type; give one for each"
        )
    if unknown := [name for name in losses if name not in PAIR_LOSSES and name != "sft"]:
        raise InputError(f"loss_type {unknown[0]!r} is not here; known are {', '.join(PAIR_LOSSES)} and sft")
    weighted: dict[str, float] = {}
    for name, weight in zip(losses, weights, strict=True):
        weighted[name] = weighted.get(name, 0.0) + weight
    shared = {
        "beta": config.beta,
        "divergence": config.f_divergence_type,
        "divergence_alpha": 1
        - config.f_alpha_divergence_coef,  # theirs is one minus the paper's, which is ours
        "ld_alpha": 1.0 if config.ld_alpha is None else config.ld_alpha,
        **common,
    }
    cross = (config.rpo_alpha or 0.0) + weighted.pop("sft", 0.0)
    if not weighted:
        raise InputError("loss_type is sft alone, which compares nothing: use SFTTrainer")
    alone = len(losses) == 1
    parts = [(weight, _one(config, name, shared, alone)) for name, weight in weighted.items()]
    if len(parts) == 1 and parts[0][0] == 1:
        return replace(parts[0][1], rpo_alpha=cross)
    return SeveralLosses(**shared, rpo_alpha=cross, parts=tuple(parts))


def _one(config: DPOConfig, name: str, shared: Mapping[str, Any], alone: bool) -> DPO:
    """One of the losses. Alone it is told all options, and refuses those it does not take; of several, its own."""
    given = {"label_smoothing": config.label_smoothing, "discopop_tau": config.discopop_tau}
    options = {k: v for k, v in given.items() if alone or k in PAIR_LOSSES[name].options}
    if name == "exo_pair" and not config.label_smoothing:
        options["label_smoothing"] = 1e-3  # TRL does this, too, but without saying so
        warnings.warn("exo_pair needs label_smoothing above 0: it is 0.001", stacklevel=5)
    return DPO(loss_type=name, **options, **shared)  # type: ignore[arg-type]
