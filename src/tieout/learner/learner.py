"""Learner: a model, its optimizer, and one forward that computes each prompt once. It never sees a method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from ..batch import Batch, Outputs, Totals
from ..types import Group
from .adapters import using
from .layouts import Layout, pack, plan, repeat
from .models import Model, decoder_of, head_of, why_not_packed
from .optimizer import FlatAdamW
from .processes import Processes, join
from .scalar import ScalarHead
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
        processes: Processes | None = None,
    ) -> None:
        """
        Args:
            model: what is trained; its parameters with a gradient.
            learning_rate: of AdamW; `learning_rate` may be set anew before every update.
            config: the rest of the optimizer's settings, and the layout.
            temperature: logits are divided by it, as when the completions were sampled.
            processes: the ranks that share the work; those this one was launched with if None.
        """
        self.processes = processes or join()
        self.model, self.config, self.temperature = model, config or LearnerConfig(), temperature
        self.learning_rate = learning_rate
        self.step = 0
        parameters = list(model.trained().values())
        if not parameters:
            raise ValueError(f"{model.name} has nothing to train: load it with an adapter")
        self.optimizer = FlatAdamW(parameters, learning_rate, self.config.weight_decay)
        self.skipped_updates = 0
        self.memory: dict[str, float] = {}
        """What a method must remember between steps, such as a coefficient that adapts; saved with the weights."""
        if self.config.activation_checkpointing:
            model.causal.gradient_checkpointing_enable({"use_reentrant": False})
            model.causal.enable_input_require_grads()

    # ------------------------------------------------------------------ the three things a method asks for

    def update(self, groups: Sequence[Group], loss: Loss) -> dict[str, float]:
        """One optimizer step on these groups: all of the step, of which each rank computes its share.

        A gradient that is not finite is not applied: the step is counted in `skipped_updates`.

        Returns:
            loss, entropy (nats a trained token; not of a reward model), grad_norm, tokens, shared_prefix (0 or 1),
            token_ratio (tokens of the plain layout over tokens fed), and the metrics of the loss.
        """
        totals = Totals.of(groups)
        if totals.tokens == 0:
            raise ValueError(
                "none of these completions has a trained token: nothing can be learned from them"
            )
        self.optimizer.zero()
        sums: dict[str, Tensor] = {}
        mine = [groups[i] for i in self.processes.share([g.unique_tokens for g in groups])]
        fed = 0
        with self._training():
            for part in self._micro_batches(mine):
                layout = self._layout(part)
                outputs = self.outputs(layout)
                batch = Batch(part, totals, self.model.device)
                value, metrics = loss(outputs, batch)
                if not value.requires_grad:
                    what = "scores" if self.model.only_scores else "log-probabilities"
                    raise ValueError(
                        f"the loss does not depend on anything that is trained: {self.model.name} gives {what}"
                    )
                value.backward()
                if outputs.scores is None:
                    metrics = {"entropy": batch.token_mean(outputs.entropies), **metrics}
                for name, x in {"loss": value.detach(), **metrics}.items():
                    sums[name] = sums.get(name, 0.0) + x.detach()
                fed += layout.fed
        self.processes.sum_gradients(self.optimizer.buffers)
        norm = self.optimizer.apply(self.learning_rate, self.config.max_grad_norm)
        # The device is waited for once a step, here: one copy of all that the step has to say.
        *values, grad_norm = torch.stack([x.float() for x in (*sums.values(), norm)]).tolist()
        shares = dict(zip(sums, values, strict=True)) | {"fed": float(fed)}
        result = self.processes.sum_metrics(shares) | {"grad_norm": grad_norm}
        all_fed = result.pop("fed")
        if not math.isfinite(grad_norm):
            self.skipped_updates += 1
        self.step += 1
        plain = sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions)
        return result | {
            "learning_rate": self.learning_rate,
            "tokens": float(totals.tokens),
            "shared_prefix": float(self.packs),
            "token_ratio": plain / all_fed,
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

    def values(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] what the value head says before each token. ValueError without one."""
        if self.model.value is None:
            raise ValueError(f"{self.model.name} has no value head: load it with head='value'")
        head = self.model.value
        answers = self._ask(groups, lambda layout: self._scalar(layout, head, layout.predictors))
        return [_split(a, [len(c.tokens) for c in g.completions]) for g, a in zip(groups, answers, strict=True)]

    def scores(self, groups: Sequence[Group]) -> list[list[float]]:
        """[group][completion] what the reward model says after the last token. ValueError without one."""
        if self.model.score is None:
            raise ValueError(
                f"{self.model.name} has no score head: load a reward model, or add one by model.add_reward"
            )
        head = self.model.score
        return self._ask(groups, lambda layout: self._scalar(layout, head, layout.finals), per_token=False)

    # ------------------------------------------------------------------ one forward

    def forward(self, layout: Layout, network: torch.nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """[T] log-probabilities and [T] entropies of the completion tokens of a layout."""
        causal = network if network is not None else self.model.causal
        layout = layout.to(self.model.device)
        return head_of(causal).score(
            self._hidden(layout, causal)[layout.predictors], layout.targets, self.temperature
        )

    def outputs(self, layout: Layout) -> Outputs:
        """All that the network says: one forward, and a second one if the value head has an adapter of its own."""
        layout = layout.to(self.model.device)
        hidden = self._hidden(layout, self.model.causal)
        value, score = self.model.value, self.model.score
        values = scores = None
        if value is not None:
            own = hidden if value.adapter is None else None
            values = self._scalar(layout, value, layout.predictors, own)
        if self.model.only_scores:  # what its output layer says means nothing: NaN, should a loss look at it
            assert score is not None
            scores = score(hidden[layout.finals])
            nothing = torch.full(layout.targets.shape, torch.nan, device=self.model.device)
            return Outputs(nothing, nothing, values, scores)
        logprobs, entropies = self.model.head.score(
            hidden[layout.predictors], layout.targets, self.temperature
        )
        return Outputs(logprobs, entropies, values)

    def _hidden(self, layout: Layout, causal: torch.nn.Module) -> Tensor:
        """[rows x columns, d]"""
        hidden = decoder_of(causal)(**layout.inputs, use_cache=False).last_hidden_state
        return hidden.reshape(-1, hidden.shape[-1])

    def _scalar(
        self, layout: Layout, head: ScalarHead | None, places: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """What a scalar head says at some places of a layout, under the adapter that it belongs to."""
        assert head is not None
        if hidden is None:
            with using(self.model.network, head.adapter):
                hidden = self._hidden(layout, self.model.causal)
        return head(hidden[places])

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
        mine = self.processes.share([g.unique_tokens for g in groups])
        measured = self._measure_alone([groups[i] for i in mine], network)
        return self.processes.place(measured, mine, len(groups))

    def _measure_alone(
        self, groups: Sequence[Group], network: torch.nn.Module | None
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

    @torch.no_grad()
    def _ask(
        self, groups: Sequence[Group], question: Callable[[Layout], Tensor], per_token: bool = True
    ) -> list[list[float]]:
        """The answers of each group, in the order of the groups whatever the ranks and micro-batches."""
        mine = self.processes.share([g.unique_tokens for g in groups])
        own = [groups[i] for i in mine]
        result: list[list[float]] = [[] for _ in own]
        for indices in self._plan(own):
            part = [own[i] for i in indices]
            answers = question(self._layout(part).to(self.model.device)).tolist()
            sizes = [sum(len(c.tokens) if per_token else 1 for c in g.completions) for g in part]
            for i, values in zip(indices, _split(answers, sizes), strict=True):
                result[i] = values
        return self.processes.place(result, mine, len(groups))

    def _training(self) -> _Mode | nullcontext[None]:
        """Train mode only where it changes something on purpose: dropout in the adapter, or checkpointing."""
        network = self.model.network
        dropout = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in network.modules())
        return _Mode(network) if dropout or self.config.activation_checkpointing else nullcontext()


def _split(values: Sequence[float], sizes: Sequence[int]) -> list[list[float]]:
    rest = iter(values)
    return [list(islice(rest, size)) for size in sizes]


class _Mode:
    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self.network.train()

    def __exit__(self, *_: object) -> None:
        self.network.eval()
