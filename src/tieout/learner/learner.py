"""Learner: a model, its optimizer, and one forward that computes each prompt once. It never sees a method."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..batch import Batch, Outputs, Totals
from ..types import Group
from .layouts import Layout, pack, plan, repeat
from .models import Model, decoder_of, head_of, why_not_packed
from .selfcheck import disagreement

Loss = Callable[[Outputs, Batch], "tuple[Tensor, Mapping[str, Tensor]]"]
"""(outputs, batch) -> the batch's share of the step's loss, and its shares of the metrics. Shares add up."""


@dataclass(frozen=True)
class LearnerConfig:
    """How the weights are moved; what they are moved by is the method's."""

    weight_decay: float = 0.0
    """AdamW's decoupled weight decay, https://arxiv.org/abs/1711.05101."""
    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it."""
    micro_batch_tokens: int = 8192
    """Tokens of one forward. Smaller needs less memory; the gradient is the same."""
    layout: Literal["auto", "packed", "repeated"] = "auto"
    """auto: each prompt once where the model allows it; packed: that, or an error; repeated: plain."""
    activation_checkpointing: bool = False
    """Recompute activations in backward: less memory, about half as much work again."""


class Learner:
    """Update, measure. Everything is exact for any number of micro-batches: losses only sum."""

    def __init__(
        self,
        model: Model,
        learning_rate: float = 1e-4,
        config: LearnerConfig | None = None,
        temperature: float = 1.0,
    ) -> None:
        """
        Args:
            model: what is trained; its parameters with a gradient.
            learning_rate: of AdamW; `learning_rate` may be set anew before every update.
            config: the rest of the optimizer's settings, and the layout.
            temperature: logits are divided by it, as when the completions were sampled.
        """
        self.model, self.config, self.temperature = model, config or LearnerConfig(), temperature
        self.learning_rate = learning_rate
        self.step = 0
        parameters = list(model.trained().values())
        if not parameters:
            raise ValueError(f"{model.name} has nothing to train: load it with an adapter")
        self.optimizer = torch.optim.AdamW(
            parameters, lr=learning_rate, weight_decay=self.config.weight_decay, fused=True
        )
        self.skipped_updates = 0
        if self.config.activation_checkpointing:
            model.causal.gradient_checkpointing_enable({"use_reentrant": False})
            model.causal.enable_input_require_grads()

    # ------------------------------------------------------------------ the three things a method asks for

    def update(self, groups: Sequence[Group], loss: Loss) -> dict[str, float]:
        """One optimizer step on these groups.

        A gradient that is not finite is not applied: the step is counted in `skipped_updates`.

        Returns:
            loss, entropy (nats a trained token), grad_norm, tokens, shared_prefix (0 or 1), token_ratio (tokens of the
            plain layout over tokens fed), and the metrics of the loss.
        """
        totals = Totals.of(groups)
        if totals.tokens == 0:
            raise ValueError(
                "none of these completions has a trained token: nothing can be learned from them"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad(set_to_none=False)
        sums: dict[str, Tensor] = {}
        fed = 0
        with self._training():
            for part in self._micro_batches(groups):
                layout = self._layout(part)
                outputs = Outputs(*self.forward(layout))
                batch = Batch(part, totals, self.model.device)
                value, metrics = loss(outputs, batch)
                value.backward()
                entropy = batch.token_mean(outputs.entropies)
                for name, x in {"loss": value.detach(), "entropy": entropy, **metrics}.items():
                    sums[name] = sums.get(name, 0.0) + x.detach()
                fed += layout.fed
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        result = {name: float(x) for name, x in sums.items()} | {"grad_norm": float(norm)}
        if norm.isfinite():
            self.optimizer.step()
        else:
            self.skipped_updates += 1
        self.step += 1
        plain = sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions)
        return result | {
            "learning_rate": self.learning_rate,
            "tokens": float(totals.tokens),
            "shared_prefix": float(self.packs),
            "token_ratio": plain / fed,
            "skipped_updates": float(self.skipped_updates),
        }

    def logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] nats under the current weights."""
        return self._measure(groups)

    def reference_logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] nats under the reference: the policy at step 0."""
        self.packs  # noqa: B018  decided with the policy's adapter on: the self-check needs its gradients
        with self.model.as_reference() as network:
            return self._measure(groups, network)

    # ------------------------------------------------------------------ one forward

    def forward(self, layout: Layout, network: torch.nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """[T] log-probabilities and [T] entropies of the completion tokens of a layout."""
        causal = network if network is not None else self.model.causal
        layout = layout.to(self.model.device)
        hidden = decoder_of(causal)(**layout.inputs, use_cache=False).last_hidden_state
        picked = hidden.reshape(-1, hidden.shape[-1])[layout.predictors]
        return head_of(causal).score(picked, layout.targets, self.temperature)

    @property
    def attention_path(self) -> Literal["dense", "merge"]:
        """How packed rows are attended on this device."""
        return "merge" if self.model.device.type == "cpu" else "dense"

    @cached_property
    def packs(self) -> bool:
        """Whether prompts are shared. Decided on first use; a refusal is never silent."""
        if self.config.layout == "repeated":
            return False
        reason = why_not_packed(self.model) or disagreement(self)
        if reason is None:
            return True
        message = f"{self.model.name} cannot share prompts between completions: {reason}"
        if self.config.layout == "packed":
            raise ValueError(f"{message}; use layout='auto' or 'repeated'")
        warnings.warn(f"{message}. The plain layout is used: same numbers, more work", stacklevel=2)
        return False

    def _layout(self, groups: Sequence[Group]) -> Layout:
        if self.packs:
            return pack(groups, self.attention_path)
        return repeat(groups, self.model.tokenizer.pad_token_id or 0)

    def _micro_batches(self, groups: Sequence[Group]) -> Iterator[list[Group]]:
        for indices in self._plan(groups):
            yield [groups[i] for i in indices]

    def _plan(self, groups: Sequence[Group]) -> list[list[int]]:
        if self.packs:
            sizes = [g.unique_tokens for g in groups]
        else:
            sizes = [sum(len(g.prompt) + len(c.tokens) for c in g.completions) for g in groups]
        return plan(sizes, self.config.micro_batch_tokens)

    @torch.no_grad()
    def _measure(
        self, groups: Sequence[Group], network: torch.nn.Module | None = None
    ) -> list[list[list[float]]]:
        result: list[list[list[float]]] = [[] for _ in groups]
        for indices in self._plan(groups):
            part = [groups[i] for i in indices]
            logprobs = self.forward(self._layout(part), network)[0].tolist()
            start = 0
            for i in indices:
                for completion in groups[i].completions:
                    result[i].append(logprobs[start : start + len(completion.tokens)])
                    start += len(completion.tokens)
        return result

    def _training(self) -> _Mode | nullcontext[None]:
        """Train mode only where it changes something on purpose: dropout in the adapter, or checkpointing."""
        network = self.model.network
        dropout = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in network.modules())
        return _Mode(network) if dropout or self.config.activation_checkpointing else nullcontext()


class _Mode:
    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self.network.train()

    def __exit__(self, *_: object) -> None:
        self.network.eval()
