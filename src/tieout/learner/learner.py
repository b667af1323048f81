"""Learner: a model, its optimizer, and one forward that computes each prompt once. It never sees a method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..batch import Batch, Outputs, Totals
from ..errors import InputError
from ..types import Group
from .logprob_cache import LogprobCache, digest
from .memory import USABLE, free_bytes, kept_bytes, training_mode
from .models.adapters import using
from .models.loading import Model, decoder_of, head_of, why_not_packed
from .models.scalar_head import ScalarHead
from .optimizer import FlatAdamW
from .parallel import sharding
from .parallel.processes import Processes, join
from .prefix.attention import Path as AttentionPath
from .prefix.attention import best_path
from .prefix.cost import Cost, cheaper_repeated
from .prefix.layouts import Layout, pack, plan, repeat
from .prefix.selfcheck import disagreement, probe

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
    activation_checkpointing: bool | None = None
    """Recompute activations in backward: less memory, about half as much work again. None: only in micro-batches whose
    activations would not fit into the memory that is free."""


class Learner:
    """Update, measure. Everything is exact for any number of micro-batches: losses only sum."""

    def __init__(
        self,
        model: Model,
        learning_rate: float = 1e-4,
        config: LearnerConfig | None = None,
        temperature: float = 1.0,
        processes: Processes | None = None,
        frozen: bool = False,
    ) -> None:
        """
        Args:
            model: what is trained; its parameters with a gradient.
            learning_rate: of AdamW; `learning_rate` may be set anew before every update.
            config: the rest of the optimizer's settings, and the layout.
            temperature: logits are divided by it, as when the completions were sampled.
            processes: the ranks that share the work; those this one was launched with if None.
            frozen: only measures; else a model in which nothing is trained is refused.
        """
        self.processes = processes or join()
        self.model, self.config, self.temperature = model, config or LearnerConfig(), temperature
        self.learning_rate = learning_rate
        self.step = 0
        parameters = list(model.trained().values())
        if not parameters and not frozen:
            raise InputError(f"{model.name} has nothing to train: load it with an adapter")
        self.optimizer = FlatAdamW(parameters, learning_rate, self.config.weight_decay)
        self.sharded = self.processes.count > 1 and sharding.wanted()
        if self.sharded:
            sharding.shard(model, self.processes)
        self.skipped_updates = 0
        self.memory: dict[str, float] = {}
        """What a method must remember between steps, such as a coefficient that adapts; saved with the weights."""
        self.kept = LogprobCache()
        """The reference's log-probabilities of completions that the data holds."""
        self.reference_folder: Path | None = None
        """Where they are kept for epochs after a restart, and for other runs with the same reference."""

    # ------------------------------------------------------------------ the three things a method asks for

    def update(self, groups: Sequence[Group], loss: Loss) -> dict[str, float]:
        """One optimizer step on these groups: all of the step, of which each rank computes its share.

        A gradient that is not finite is not applied: the step is counted in `skipped_updates`.

        Returns:
            loss, entropy (nats a trained token; not of a reward model), grad_norm, tokens, shared_prefix (share of the
            groups whose prompt was computed once), token_ratio (tokens of the plain layout over tokens fed), recomputed
            (share of the tokens fed whose activations were computed twice), and the metrics of the loss.
        """
        totals = Totals.of(groups)
        if totals.tokens == 0:
            raise InputError(
                "none of these completions has a trained token: nothing can be learned from them"
            )
        self.optimizer.zero()
        sums: dict[str, Tensor] = {}
        mine = [groups[i] for i in self.processes.share([g.unique_tokens for g in groups])]
        fed = shared = recomputed = 0
        for part in self._micro_batches(mine):
            layout = self._layout(part)
            recompute = self._recomputes(layout.fed)
            fed += layout.fed
            shared += len(part) * layout.packed
            recomputed += layout.fed * recompute
            with training_mode(self.model, recompute):
                outputs = self.outputs(layout)
                batch = Batch(part, totals, self.model.device)
                value, metrics = loss(outputs, batch)
                if not value.requires_grad:
                    what = "scores" if self.model.only_scores else "log-probabilities"
                    raise InputError(
                        f"the loss does not depend on anything that is trained: {self.model.name} gives {what}"
                    )
                value.backward()
                if outputs.scores is None:
                    metrics = {"entropy": batch.token_mean(outputs.entropies), **metrics}
                for name, x in {"loss": value.detach(), **metrics}.items():
                    sums[name] = sums.get(name, 0.0) + x.detach()
        for part in self._idle(groups):
            outputs = self.outputs(self._layout(part))
            (0.0 * (outputs.logprobs if outputs.scores is None else outputs.scores).sum()).backward()
        self.processes.sum_gradients(self.optimizer.buffers)
        norm = self.optimizer.apply(self.learning_rate, self.config.max_grad_norm)
        # The device is waited for once a step, here: one copy of all that the step has to say.
        *values, grad_norm = torch.stack([x.float() for x in (*sums.values(), norm)]).tolist()
        counts = {"fed": float(fed), "shared_prefix": shared / len(groups), "recomputed": float(recomputed)}
        result = self.processes.sum_metrics({**dict(zip(sums, values, strict=True)), **counts})
        all_fed = result.pop("fed")
        if not math.isfinite(grad_norm):
            self.skipped_updates += 1
        self.step += 1
        plain = sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions)
        return result | {
            "learning_rate": self.learning_rate,
            "grad_norm": grad_norm,
            "tokens": float(totals.tokens),
            "token_ratio": plain / all_fed,
            "recomputed": result["recomputed"] / all_fed,
            "skipped_updates": float(self.skipped_updates),
        }

    @torch.no_grad()
    def assess(self, groups: Sequence[Group], loss: Loss) -> dict[str, float]:
        """The loss and its metrics on these groups, and no step: what an evaluation on held-out rows needs."""
        totals, sums = Totals.of(groups), dict[str, float]()
        for part in self._micro_batches(
            [groups[i] for i in self.processes.share([g.unique_tokens for g in groups])]
        ):
            value, metrics = loss(self.outputs(self._layout(part)), Batch(part, totals, self.model.device))
            for name, x in {"loss": value, **metrics}.items():
                sums[name] = sums.get(name, 0.0) + float(x)
        return self.processes.sum_metrics(sums)

    def logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] nats under the current weights."""
        return self._measure(groups)

    def reference_logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] nats under the reference: the policy at step 0."""
        self.packs  # noqa: B018  decided with the policy's adapter on: the self-check needs its gradients
        given = all(
            c.logprobs is None for g in groups for c in g.completions
        )  # not sampled: they will come again
        if given and not self.model.reference_moved:
            if self.reference_folder is not None:
                self.kept.open(self.reference_folder, self._reference_digest, self.processes.leads)
            return self.kept.get(groups, self._measure_reference)
        return self._measure_reference(groups)

    def _measure_reference(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        with self.model.as_reference() as network:
            return self._measure(groups, network)

    @cached_property
    def _reference_digest(self) -> str:
        own = self.model.reference_network or self.model.network
        frozen = {n: p for n, p in own.named_parameters() if not p.requires_grad}
        return digest(frozen, self.model.name, self.temperature)

    def values(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] what the value head says before each token. ValueError without one."""
        if self.model.value is None:
            raise InputError(f"{self.model.name} has no value head: load it with head='value'")
        head = self.model.value
        answers = self._ask(groups, lambda layout: self._scalar(layout, head, layout.predictors))
        return [
            _split(a, [len(c.tokens) for c in g.completions]) for g, a in zip(groups, answers, strict=True)
        ]

    def scores(self, groups: Sequence[Group]) -> list[list[float]]:
        """[group][completion] what the reward model says after the last token. ValueError without one."""
        if self.model.score is None:
            raise InputError(
                f"{self.model.name} has no score head: load a reward model, or add one by model.add_reward"
            )
        head = self.model.score
        return self._ask(groups, lambda layout: self._scalar(layout, head, layout.finals), per_token=False)

    # ------------------------------------------------------------------ one forward

    def forward(self, layout: Layout, network: torch.nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """[T] log-probabilities and [T] entropies of the completion tokens of a layout."""
        causal = network if network is not None else self.model.causal
        layout = layout.to(self.model.device)
        return head_of(causal).logprobs(
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
        logprobs, entropies = self.model.head.logprobs(
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
    def attention_path(self) -> AttentionPath:
        """How packed rows are attended on this device."""
        config = self.model.causal.config.get_text_config()
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return best_path(self.model.device, self.model.causal.dtype, head_size)

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
            raise InputError(f"{message}; use layout='auto' or 'repeated'")
        warnings.warn(f"{message}. The plain layout is used: same numbers, more work", stacklevel=2)
        return False

    def _layout(self, groups: Sequence[Group]) -> Layout:
        budget, chosen = self.config.micro_batch_tokens, self.config.layout == "packed"
        if self.packs and (chosen or not cheaper_repeated(self._cost, groups, budget)):
            return pack(groups, self.attention_path)
        return repeat(groups, self.model.tokenizer.pad_token_id or 0)

    @cached_property
    def _cost(self) -> Cost:
        return Cost.of(self.model, self.attention_path)

    def _recomputes(self, fed: int) -> bool:
        """Whether a micro-batch of so many tokens is computed again in backward, because it would not fit."""
        if self.config.activation_checkpointing is not None or self.sharded:  # all ranks alike
            return bool(self.config.activation_checkpointing)
        free = free_bytes(self.model.device)
        sharing = self.processes.count if self.model.device.type == "cpu" else 1
        return free is not None and fed * self._bytes_per_token > USABLE * free / sharing

    @cached_property
    def _bytes_per_token(self) -> float:
        """What a token keeps for backward, measured on a few."""
        layout = self._layout(probe(self.model.causal.config.get_text_config().vocab_size)[0])
        weights = list(self.model.network.parameters())
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        # Dropout draws: a resumed run measures at another step, and must see the numbers that the unbroken one saw.
        with torch.random.fork_rng(devices), training_mode(self.model, False):
            return kept_bytes(lambda: self.outputs(layout), weights) / layout.fed

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
        for part in self._idle(groups):
            self.forward(self._layout(part), network)
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
        for part in self._idle(groups):
            question(self._layout(part).to(self.model.device))
        return self.processes.place(result, mine, len(groups))

    def _idle(self, groups: Sequence[Group]) -> list[list[Group]]:
        """Micro-batches whose results nobody needs: cut layers are gathered as often on this rank as on any other."""
        if not self.sharded:
            return []
        if self.processes.count == 1:
            raise RuntimeError("a model that is cut over the ranks cannot be asked by one of them alone")
        shares = self.processes.shares([g.unique_tokens for g in groups])
        counts = [len(self._plan([groups[i] for i in share])) for share in shares]
        return [list(groups[:1])] * (max(counts) - counts[self.processes.rank])


def _split(values: Sequence[float], sizes: Sequence[int]) -> list[list[float]]:
    rest = iter(values)
    return [list(islice(rest, size)) for size in sizes]
