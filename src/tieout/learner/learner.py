"""Learner: one model, its optimizer step and its measurements. Independent of the method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch, Outputs, Totals
from ..errors import InputError
from ..types import Group
from .config import LearnerConfig
from .digest import digest
from .export import export
from .forward import Forward
from .logprob_cache import LogprobCache
from .memory import out_of_memory, training_mode
from .micro_batches import MicroBatches
from .models.gated_mlp import keep_less
from .models.model import Model
from .optimizer import FlatAdamW, not_decayed
from .parallel import sharding
from .parallel.processes import Processes, join
from .prefix.layouts import Layout
from .saved_state import load_optimizer, load_reference, load_weights, tensors_of
from .teachers import Teachers

Loss = Callable[[Outputs, Batch], "tuple[Tensor, Mapping[str, Tensor]]"]
"""(outputs, batch) -> the batch's share of the step's loss, and its shares of the metrics. Shares add up."""


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
            model: its parameters with a gradient are trained.
            learning_rate: of AdamW; `learning_rate` may be set before every update.
            config: the rest of the optimizer's settings, and the layout.
            temperature: logits are divided by it, as when the completions were sampled.
            processes: the ranks that share the work; those this one was launched with if None.
            frozen: measure only; otherwise a model without trained parameters is refused.
        """
        self.processes = processes or join()
        self.model, self.config = model, config or LearnerConfig()
        self.learning_rate = learning_rate
        self.step = 0
        keep_less(model.network)
        trained, spared = model.trained(), not_decayed(model.network) | {"value_head.bias"}
        if not trained and not frozen:
            raise InputError(f"{model.name} has nothing to train: load it with an adapter")
        kept = {p for n, p in trained.items() if n in spared}
        self.optimizer = FlatAdamW(trained.values(), learning_rate, self.config.weight_decay, kept)
        self.sharded = self.processes.count > 1 and sharding.wanted()
        if self.sharded:
            sharding.shard(model, self.processes)
        self.forward = Forward(model, temperature)
        self.micro_batches = MicroBatches(self.forward, self.config, self.processes.count, self.sharded)
        self.skipped_updates = 0
        self.memory: dict[str, float] = {}
        """State of a method between steps, such as an adaptive coefficient; saved with the weights."""
        self.logprob_cache = LogprobCache()
        """The reference's log-probabilities of completions that the data holds."""
        self.reference_folder: Path | None = None
        """Folder of the cache, for epochs after a restart and for other runs with the same reference."""
        self.teachers: Teachers | None = None
        """Frozen models that a method learns from."""

    # ------------------------------------------------------------------ update and measure

    def update(
        self, groups: Sequence[Group], loss: Loss, counts: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """One optimizer step on these groups: all of the step, of which each rank computes its share.

        A gradient that is not finite is not applied: the step is counted in `skipped_updates`. `counts` are further
        denominators of the loss over all these groups, which it finds as `batch.totals.counts`. Where memory
        runs out, this rank begins the step again in smaller micro-batches: same totals, same gradient.

        Returns:
            loss, entropy (nats per trained token; not of a reward model), grad_norm, tokens, shared_prefix (share of
            the groups whose prompt was computed once), token_ratio (tokens of the plain layout over tokens fed),
            recomputed (share of the tokens fed whose activations were computed twice), out_of_memory (how often the
            step began again), and the metrics of the loss.
        """
        totals = Totals.of(groups, counts)
        if totals.tokens == 0:
            raise InputError(
                "none of these completions has a trained token: nothing can be learned from them"
            )
        mine = [groups[i] for i in self.processes.share([g.unique_tokens for g in groups])]
        failures = 0
        while (done := self._accumulate(mine, totals, loss)) is None:
            failures += 1
            if not self.micro_batches.shrink(mine):
                raise InputError(
                    f"memory ran out in a step of {self.model.name}, and its micro-batches cannot be smaller: shorten "
                    "the rows, or take a smaller model or adapter"
                )
        sums, fed, shared, recomputed = done
        for part in self._idle(groups):
            outputs = self.forward.outputs(self.micro_batches.layout(part))
            (0.0 * (outputs.logprobs if outputs.scores is None else outputs.scores).sum()).backward()
        self.optimizer.collect()
        self.processes.sum_gradients(self.optimizer.buffers)
        norm = self.optimizer.apply(self.learning_rate, self.config.max_grad_norm or math.inf)
        # The device is waited for once per step, here: one copy of all metrics.
        *values, grad_norm = torch.stack([x.float() for x in (*sums.values(), norm)]).tolist()
        work = {"fed": float(fed), "shared_prefix": shared / len(groups), "recomputed": float(recomputed)}
        work["out_of_memory"] = float(failures)
        result = self.processes.sum_metrics({**dict(zip(sums, values, strict=True)), **work})
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

    def _accumulate(
        self, groups: Sequence[Group], totals: Totals, loss: Loss
    ) -> tuple[dict[str, Tensor], int, int, int] | None:
        """The gradient of these groups from zero: (sums of the metrics, tokens fed, groups whose prompt was shared,
        tokens computed twice). None if memory ran out, however far backward had come."""
        self.optimizer.zero()
        sums: dict[str, Tensor] = {}
        fed = shared = recomputed = 0
        try:
            for part in self._parts(groups):
                layout = self.micro_batches.layout(part)
                recompute = self.micro_batches.recomputes(layout.fed)
                fed += layout.fed
                shared += len(part) * layout.packed
                recomputed += layout.fed * recompute
                with training_mode(self.model, recompute):
                    outputs = self._outputs(layout, part)
                    batch = Batch(part, totals, self.model.device)
                    value, metrics = loss(outputs, batch)
                    if not value.requires_grad:
                        what = "scores" if self.model.only_scores else "log-probabilities"
                        raise InputError(
                            f"the loss does not depend on anything that is trained: {self.model.name} gives {what}"
                        )
                    value.backward()
                    self.optimizer.collect()
                    if outputs.scores is None:
                        metrics = {"entropy": batch.token_mean(outputs.entropies), **metrics}
                    for name, x in {"loss": value.detach(), **metrics}.items():
                        sums[name] = sums.get(name, 0.0) + x.detach()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None
        return sums, fed, shared, recomputed

    @torch.no_grad()
    def assess(
        self, groups: Sequence[Group], loss: Loss, counts: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """The loss and its metrics on these groups, without a step, for held-out rows."""
        totals, sums = Totals.of(groups, counts), dict[str, float]()
        mine = [groups[i] for i in self.processes.share([g.unique_tokens for g in groups])]
        for part in self._parts(mine):
            outputs = self._outputs(self.micro_batches.layout(part), part)
            value, metrics = loss(outputs, Batch(part, totals, self.model.device))
            for name, x in {"loss": value, **metrics}.items():
                sums[name] = sums.get(name, 0.0) + float(x)
        for part in self._idle(groups):
            self.forward.outputs(self.micro_batches.layout(part))
        return self.processes.sum_metrics(sums)

    def _parts(self, groups: Sequence[Group]) -> Iterator[list[Group]]:
        """The groups of each micro-batch, which has one teacher at most."""
        for own in self.teachers.divided(groups) if self.teachers else [groups]:
            yield from self.micro_batches.of(own)

    def _outputs(self, layout: Layout, part: Sequence[Group]) -> Outputs:
        outputs = self.forward.outputs(layout)
        return replace(outputs, teacher=partial(self.teachers.predictor, part)) if self.teachers else outputs

    def logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] nats under the current weights."""
        return self.measure(groups)

    def reference_logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] nats under the reference: the policy at step 0."""
        self._decide_layout()
        given = all(
            c.logprobs is None for g in groups for c in g.completions
        )  # not sampled: they will come again
        if given and not self.model.reference_moved:
            if self.reference_folder is not None:
                self.logprob_cache.open(self.reference_folder, self._reference_digest, self.processes.leads)
            return self.logprob_cache.get(groups, self._measure_reference)
        return self._measure_reference(groups)

    def teacher_logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] nats under the group's teacher, after the prompt that the teacher sees."""
        if self.teachers is None:
            raise InputError("there is no teacher: see tieout.training.teachers")
        return self.teachers.logprobs(groups)

    def _decide_layout(self) -> None:
        """With the policy's adapter on."""
        self.micro_batches.decide()

    def _measure_reference(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        with self.model.as_reference() as network:
            return self.measure(groups, network)

    @cached_property
    def _reference_digest(self) -> str:
        own = self.model.reference_network or self.model.network
        frozen = {n: p for n, p in own.named_parameters() if not p.requires_grad} | (self.model.start or {})
        config = self.model.causal.config.to_dict()
        config.pop("_name_or_path", None)  # where the model lies changes nothing
        return digest(frozen, sorted(config.items()), self.temperature)

    def values(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][completion][token] values before each token. InputError without a value head."""
        if self.model.value is None:
            raise InputError(f"{self.model.name} has no value head: load it with head='value'")
        head = self.model.value
        answers = self._ask(groups, lambda layout: self.forward.scalars(layout, head, layout.predictors))
        return [
            _split(a, [len(c.tokens) for c in g.completions]) for g, a in zip(groups, answers, strict=True)
        ]

    def scores(self, groups: Sequence[Group]) -> list[list[float]]:
        """[group][completion] scores after the last token. InputError without a score head."""
        if self.model.score is None:
            raise InputError(
                f"{self.model.name} has no score head: load a reward model, or add one by model.add_reward"
            )
        head = self.model.score
        return self._ask(
            groups, lambda layout: self.forward.scalars(layout, head, layout.finals), per_token=False
        )

    # ------------------------------------------------------------------ state

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint holds of this learner: tensors, and plain values besides its step."""
        return tensors_of(self.model, self.optimizer), {}

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], folder: Path) -> None:
        """Put back what `state` gave. InputError: `folder` holds it, and it is of another model."""
        load_weights(self.model, tensors, folder)
        load_optimizer(self.optimizer, tensors, folder)
        load_reference(self.model, tensors)

    def restore_weights(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], folder: Path) -> None:
        """Put back the weights of what `state` gave, and nothing else."""
        load_weights(self.model, tensors, folder)

    def forget(self, plain: Mapping[str, Any]) -> None:
        """Told of the plain values of a checkpoint that is deleted."""

    def export(self, folder: Path, tokenizer: bool = True) -> None:
        """Fill a folder with what is trained, as PEFT and transformers read it: see `tieout.learner.export`."""
        export(self.model, folder, tokenizer)

    # ------------------------------------------------------------------ how it computes

    @property
    def temperature(self) -> float:
        """Logits are divided by it."""
        return self.forward.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.forward.temperature = value

    @property
    def packs(self) -> bool:
        """Whether the completions of a group share their prompt."""
        return self.micro_batches.packs

    @torch.no_grad()
    def measure(
        self, groups: Sequence[Group], network: torch.nn.Module | None = None
    ) -> list[list[list[float]]]:
        """[group][completion][token] nats under the current weights, or under another network."""
        mine = self.processes.share([g.unique_tokens for g in groups])
        measured = self._measure_alone([groups[i] for i in mine], network)
        for part in self._idle(groups):
            self.forward(self.micro_batches.layout(part), network)
        return self.processes.place(measured, mine, len(groups))

    def _measure_alone(
        self, groups: Sequence[Group], network: torch.nn.Module | None
    ) -> list[list[list[float]]]:
        result: list[list[list[float]]] = [[] for _ in groups]
        for indices in self.micro_batches.plan(groups):
            part = [groups[i] for i in indices]
            logprobs = self.forward(self.micro_batches.layout(part), network)[0].tolist()
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
        """Numbers of each group, in the order of the groups for any ranks and micro-batches."""
        mine = self.processes.share([g.unique_tokens for g in groups])
        own = [groups[i] for i in mine]
        result: list[list[float]] = [[] for _ in own]
        for indices in self.micro_batches.plan(own):
            part = [own[i] for i in indices]
            answers = question(self.micro_batches.layout(part).to(self.model.device)).tolist()
            sizes = [sum(len(c.tokens) if per_token else 1 for c in g.completions) for g in part]
            for i, values in zip(indices, _split(answers, sizes), strict=True):
                result[i] = values
        for part in self._idle(groups):
            question(self.micro_batches.layout(part).to(self.model.device))
        return self.processes.place(result, mine, len(groups))

    def _idle(self, groups: Sequence[Group]) -> list[list[Group]]:
        """Micro-batches without use: sharded layers must be gathered as often on this rank as on any other."""
        if not self.sharded:
            return []
        if self.processes.count == 1:
            raise InputError(
                f"{self.model.name} is sharded over all ranks, and one of them computes with it alone: call this on "
                "every rank"
            )
        shares = self.processes.shares([g.unique_tokens for g in groups])
        counts = [len(self.micro_batches.plan([groups[i] for i in share])) for share in shares]
        return [list(groups[:1])] * (max(counts) - counts[self.processes.rank])


def _split(values: Sequence[float], sizes: Sequence[int]) -> list[list[float]]:
    rest = iter(values)
    return [list(islice(rest, size)) for size in sizes]
