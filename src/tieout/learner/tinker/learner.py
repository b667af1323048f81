"""A learner whose model is on a server: losses are computed here, their gradients by log-probability are sent.

The server is asked for log-probabilities, the method's loss is computed from them, and its gradient goes back as the
advantages of `importance_sampling`. Not as weights of `cross_entropy`, whose sum some servers divide by: one with both
signs is then off by any factor.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...batch import Batch, Outputs, Totals
from ...errors import InputError
from ...types import Group
from ..config import LearnerConfig
from ..digest import digest
from ..learner import Learner, Loss
from ..logprob_cache import LogprobCache
from ..models.base_record import record_base
from ..models.names import portable
from ..parallel.processes import join
from .archive import unpack
from .connection import Connection, ServerLost
from .reduction import Reduction
from .served_model import ServedModel
from .start_check import Adapter
from .wire import flat, nested, rows_to_learn, rows_to_score

PLACE = "tinker.json"
"""In the folder of an adapter: where it is on its server, so that a later stage can start from it."""
MOVED = 1e-2
"""Nats that a log-probability may change between a forward and the one of the backward: rounding, if nothing else."""


class TinkerLearner(Learner):
    """What `train` and the methods ask of a learner, done by a server.

    Policy and reference are two adapters there: the reference is a second one like the policy at step 0, and is never
    trained. Nothing is shared between completions: each row repeats its prompt.
    """

    def __init__(
        self,
        connection: Connection,
        model: ServedModel,
        adapter: Adapter,
        reduction: Reduction,
        *,
        learning_rate: float = 1e-4,
        config: LearnerConfig | None = None,
    ) -> None:
        """
        Args:
            connection: to the server.
            model: tokenizer and limits of the base.
            adapter: what is trained; the reference is a second one like it.
            reduction: how the server reduces gradients: see `examine`.
            learning_rate: of AdamW; `learning_rate` may be set before every update.
            config: the rest of the optimizer's settings.
        """
        self.processes = join()
        if not self.processes.alone:
            raise InputError(
                "a training server is asked by one process, and distributes the work itself: start the run without "
                "accelerate launch"
            )
        self.connection, self.model, self.adapter = connection, model, adapter
        self.limits, self.reduction = model.limits, reduction
        self.config, self.learning_rate = config or LearnerConfig(), learning_rate
        self.step, self.skipped_updates = 0, 0
        self.memory: dict[str, float] = {}
        self.logprob_cache = LogprobCache()
        self.reference_folder: Path | None = None
        self.teachers = None
        self.sharded = False
        self.examined = ""
        """What was found when the server was examined, for the log."""
        self.apart: float | None = None
        """Nats by which it differed then from the base here; None: not compared."""
        self._names = (f"tieout-{os.urandom(4).hex()}-{i:06d}" for i in itertools.count())
        self._policy: Any = None
        self._reference: Any = None

    # ------------------------------------------------------------------ adapters on the server

    @property
    def policy(self) -> Any:
        """Training client of what is trained; made when it is first asked for, as a resumed run never does."""
        if self._policy is None:
            self._policy = self.adapter.make(self.connection)
        return self._policy

    def save_for_sampler(self) -> str:
        """Keep the present weights for sampling, under a name of their own; their path."""
        return self.connection.save_for_sampler(self.policy, next(self._names))

    # ------------------------------------------------------------------ update and measure

    def update(
        self, groups: Sequence[Group], loss: Loss, counts: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """One optimizer step on these groups, as `Learner.update`.

        Returns:
            loss, grad_norm (if the server tells it), tokens, learning_rate, skipped_updates, `ratio_error` (nats by
            which log-probabilities changed between the forward and the server's backward), and the metrics of the loss.

        Raises:
            ServerLost: no reply, or one that cannot be right; the step may be lost, and nothing else is.
        """
        totals = Totals.of(groups, counts)
        if totals.tokens == 0:
            raise InputError(
                "none of these completions has a trained token: nothing can be learned from them"
            )
        logprobs = self._forward(self.policy, groups).requires_grad_()
        value, metrics = loss(_outputs(logprobs), Batch(groups, totals))
        if not value.requires_grad:
            raise InputError("the loss does not depend on log-probabilities, and a server gives nothing else")
        value.backward()
        gradient = logprobs.grad
        assert gradient is not None
        result = {name: float(x.detach()) for name, x in {"loss": value, **metrics}.items()}
        norm, moved = dict[str, float](), 0.0
        if bool(torch.isfinite(gradient).all()):
            norm, moved = self._step(groups, logprobs.detach(), gradient)
        else:  # sent, it would spoil every adapter on the server
            _refuse_entropies(groups, totals, logprobs.detach(), loss)
            norm = {"grad_norm": math.nan}
            self.skipped_updates += 1
        self.step += 1
        return result | {
            "learning_rate": self.learning_rate,
            **norm,
            "tokens": float(totals.tokens),
            "ratio_error": moved,
            "skipped_updates": float(self.skipped_updates),
        }

    def _step(
        self, groups: Sequence[Group], logprobs: Tensor, gradient: Tensor
    ) -> tuple[dict[str, float], float]:
        """`grad_norm` if it is told, and the largest change of a log-probability since the forward, in nats."""
        rows = rows_to_learn(groups, logprobs, gradient, self.reduction)
        url = self.connection.url
        again = flat(groups, self.connection.forward_backward(self.policy, rows), url)
        moved = float((again - logprobs).abs().max())
        if moved > MOVED:
            raise ServerLost(
                f"{url} gave log-probabilities {moved:.2g} nats from those of the forward before: something else "
                "trains this adapter. Repeat the command to resume from the last step"
            )
        rate, decay = self.learning_rate, self.config.weight_decay
        norm = self.connection.optim_step(self.policy, rate, decay)
        if norm is None:  # that nothing was spoiled shows in any row: the shortest
            each = [Group(g.prompt, [c]) for g in groups for c in g.completions if c.tokens]
            self._forward(
                self.policy, [min(each, key=lambda g: len(g.prompt) + len(g.completions[0].tokens))]
            )
            return {}, moved
        if not math.isfinite(norm):
            raise ServerLost(
                f"{url} made a step with a gradient of norm {norm}, and the one that was sent is finite: its adapters "
                "may be spoiled. Restart it, then repeat the command to resume"
            )
        return {"grad_norm": norm}, moved

    @torch.no_grad()
    def assess(
        self, groups: Sequence[Group], loss: Loss, counts: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """The loss and its metrics on these groups, without a step, for held-out rows."""
        logprobs = self._forward(self.policy, groups)
        value, metrics = loss(_outputs(logprobs), Batch(groups, Totals.of(groups, counts)))
        return {name: float(x) for name, x in {"loss": value, **metrics}.items()}

    def measure(self, groups: Sequence[Group], network: nn.Module | None = None) -> list[list[list[float]]]:
        """[group][completion][token] nats under the current weights. InputError: another network is asked for."""
        if network is not None:
            raise InputError("a training server has no other network that could be asked")
        return nested(groups, self._forward(self.policy, groups).tolist())

    def _decide_layout(self) -> None:
        """Nothing is decided here: each row repeats its prompt."""

    def _measure_reference(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        if self._reference is None:
            self._reference = self.adapter.make(self.connection)
        return nested(groups, self._forward(self._reference, groups).tolist())

    @property
    def _reference_digest(self) -> str:
        return digest({}, "tinker", self.adapter.base, self.model.name, self.adapter.start)

    def _forward(self, client: Any, groups: Sequence[Group]) -> Tensor:
        """[T]"""
        self.limits.check(groups)
        rows = rows_to_score(groups)
        return flat(groups, self.connection.forward(client, rows) if rows else [], self.connection.url)

    @property
    def temperature(self) -> float:
        """Of the log-probabilities that servers give: 1."""
        return 1.0

    @temperature.setter
    def temperature(self, value: float) -> None:
        if value != 1.0:
            raise InputError(
                f"temperature is {value:g}; a training server gives log-probabilities at temperature 1 only"
            )

    @property
    def packs(self) -> bool:
        """No: each row repeats its prompt."""
        return False

    # ------------------------------------------------------------------ state

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and optimizer stay on the server, under a name of their own: a checkpoint holds their path."""
        return {}, {"server": self.connection.save_state(self.policy, next(self._names))}

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], folder: Path) -> None:
        """A new adapter with the weights and the optimizer of a path: servers load into nothing else."""
        if "server" not in plain:
            raise InputError(f"{folder} holds no path on a training server: the run was begun elsewhere")
        self._policy = self.connection.restored(plain["server"], optimizer=True)

    def restore_weights(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], folder: Path) -> None:
        """The same: what remains to be done needs no optimizer."""
        self.restore(tensors, plain, folder)

    def forget(self, plain: Mapping[str, Any]) -> None:
        """Delete what a checkpoint named, on a server that can."""
        self.drop(plain.get("server", ""))

    def drop(self, path: str) -> None:
        """Delete a path on the server, if it can: nothing depends on it."""
        if path:
            try:
                self.connection.delete(path)
            except ServerLost:
                return

    def export(self, folder: Path, tokenizer: bool = True) -> None:
        """Fetch the adapter from the server, with the path of its weights for a stage that starts from it."""
        path = self.save_for_sampler()
        unpack(self.connection.archive(path), folder, portable(self.model.name))
        record_base(self.model.name, folder)
        self.drop(path)
        kept = self.connection.save_state(self.policy, next(self._names))
        place = {"url": self.connection.url, "base": self.adapter.base, "path": kept}
        (folder / PLACE).write_text(json.dumps(place), encoding="utf-8")
        if tokenizer:
            self.model.tokenizer.save_pretrained(str(folder))


def _outputs(logprobs: Tensor) -> Outputs:
    return Outputs(logprobs, torch.full_like(logprobs.detach(), torch.nan))


def _refuse_entropies(groups: Sequence[Group], totals: Totals, logprobs: Tensor, loss: Loss) -> None:
    """InputError: the loss is not a number because it reads entropies, and for no other reason."""
    again = logprobs.clone().requires_grad_()
    value, _ = loss(Outputs(again, torch.zeros_like(logprobs)), Batch(groups, totals))
    value.backward()
    if again.grad is not None and bool(torch.isfinite(again.grad).all()):
        raise InputError(
            "the loss reads the entropies of the policy's distributions, and a training server gives log-probabilities "
            "alone: take a loss without them (entropy_coef 0)"
        )
