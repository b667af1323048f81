"""Settings of the learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LearnerConfig:
    """Settings of the optimizer and of a forward, the same for every method."""

    weight_decay: float = 0.0
    """AdamW's decoupled weight decay, https://arxiv.org/abs/1711.05101; norms and biases are left alone."""
    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it; 0: never."""
    micro_batch_tokens: int = 8192
    """Tokens of one forward. Smaller needs less memory; the gradient is the same."""
    layout: Literal["auto", "packed", "repeated"] = "auto"
    """auto: each prompt once where the model allows it; packed: that, or an error; repeated: plain."""
    activation_checkpointing: bool | None = None
    """Recompute activations in backward: less memory, about half as much work again. Left out: only in micro-batches
    whose activations would not fit into the memory that is free."""
