"""Examine a training server before the first step, on an adapter that is not used again.

What a run takes for granted: rank, scale and precision of its adapters; log-probabilities like those of the base here;
whether gradients are summed or averaged; a step that raises what it is meant to raise; an adapter that can be fetched
and gives the same numbers here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...errors import InputError
from ...types import Completion, Group
from ..learner import Learner
from ..models.adapters import WEIGHTS
from ..models.bases import Bases
from ..models.loading import load
from ..models.names import portable
from .archive import unpack
from .connection import LINEAR, Connection
from .reduction import ALONE, SHORT, Reduction, ask
from .served_model import ServedModel
from .step_check import check_step
from .wire import flat, rows_to_learn, rows_to_score

FAR = 0.1
"""Nats per token, mean absolute difference of server and base here, that refuses a server: another model, or rounding
so coarse that a policy's ratios mean nothing."""
RATE, SMALL = 1e-3, 1e-4
"""Of the step that is tried; of those that tell the server's optimizer, which change the gradient by a few per cent."""
CHANGE = 1e-5
"""Of a weight by its gradient, in the steps that measure norms: so small that the next gradient is the same."""
TARGETS = (12, 7)
"""Of the rows that are asked about."""


@dataclass(frozen=True)
class Adapter:
    """What a run asks of its adapters."""

    base: str
    """Name of the base on the server."""
    rank: int
    alpha: float
    seed: int
    start: str = ""
    """Path on the server of the weights to start from; empty: fresh ones."""
    folder: Path | None = None
    """The same adapter here, where it is known."""

    def make(self, connection: Connection) -> Any:
        """A training client of these weights."""
        if self.start:
            return connection.restored(self.start)
        return connection.fresh(self.base, self.rank, self.seed)


@dataclass(frozen=True)
class Examined:
    """What was found."""

    reduction: Reduction
    apart: float | None
    """Nats, the largest difference of a log-probability to the base here; None: not compared."""
    said: str
    """For the log."""


def examine(
    connection: Connection,
    model: ServedModel,
    adapter: Adapter,
    local: bool = True,
    weight_decay: float = 0.0,
) -> Examined:
    """Try everything that a run will need.

    Args:
        connection: to the server.
        model: the base.
        adapter: what will be trained.
        local: whether the base is loaded here, in fp32, and compared.
        weight_decay: of the run.

    Raises:
        InputError: the server computes something else; what it gave, what was expected, what to do.
        ServerLost: it gave no reply, or one that cannot be right.
    """
    client, url = adapter.make(connection), connection.url
    groups = [probe(targets, model.limits.vocabulary) for targets in TARGETS]

    def asked() -> Tensor:
        return flat(groups, connection.forward(client, rows_to_score(groups)), url)

    with tempfile.TemporaryDirectory() as parts:
        first = _fetch(connection, client, adapter, model, Path(parts) / "first")
        before = asked()
        here = Bases() if local else None
        apart = _compare(before, _here(adapter.folder or first, groups, here), url) if here else None
        check_steps(connection, client, adapter, model, weight_decay)
        reduction, told = find_reduction(connection, client, adapter, model)
        before = asked()
        rows = rows_to_learn(groups, before, torch.full_like(before, -1.0), reduction)
        connection.forward_backward(client, rows)
        connection.optim_step(client, RATE)
        after = asked()
        if not float((after - before).sum()) > 0:
            raise InputError(
                f"{url}: one step that should raise log-probabilities by gradient ascent changed them by "
                f"{float((after - before).mean()):+.2g} nats per token: its loss or its optimizer is not the API's"
            )
        said = f"{adapter.base} on {url}: gradients are reduced as {reduction.kind}"
        if here and apart is not None:
            trained = _fetch(connection, client, adapter, model, Path(parts) / "trained")
            then = _refuse_other_scale(before, after, _here(trained, groups, here), apart, url)
            said += f"; {apart:.1e} nats from the base here, and {then:.1e} after a step"
        else:
            said += "; not compared with the base, which is not loaded here"
        said += "" if told else "; it tells no norms of gradients, so grad_norm is in no metrics"
    return Examined(reduction, apart, said)


def probe(targets: int, vocabulary: int) -> Group:
    """A prompt of one token, and a completion of so many that are spread over the vocabulary."""
    ids = [(i * 37 + 5) % vocabulary for i in range(targets + 1)]
    return Group(ids[:1], [Completion(ids[1:], [True] * targets)])


def check_steps(
    connection: Connection, client: Any, adapter: Adapter, model: ServedModel, weight_decay: float
) -> None:
    """InputError: a step of this client, which has made none, is another than it is asked for."""

    def step(factor: float) -> None:
        _send(connection, client, model, [SHORT], factor)
        connection.optim_step(client, SMALL, weight_decay)

    try:
        check_step(lambda: _weights(connection, client, adapter, model), step, SMALL, weight_decay)
    except InputError as error:
        raise InputError(f"{connection.url}: {error}") from error


def _send(
    connection: Connection,
    client: Any,
    model: ServedModel,
    targets: list[int],
    factor: float = 1.0,
    apart: bool = False,
) -> None:
    """Send this factor times the gradient of the first `SHORT` tokens; `apart`: each row in a request of its own."""
    groups = [probe(n, model.limits.vocabulary) for n in targets]
    logprobs = flat(groups, connection.forward(client, rows_to_score(groups)), connection.url)
    gradient = torch.zeros_like(logprobs)
    gradient[:SHORT] = -factor
    rows = rows_to_learn(groups, logprobs, gradient, Reduction("sum"))
    for part in [[row] for row in rows] if apart else [rows]:
        connection.forward_backward(client, part)


def find_reduction(
    connection: Connection, client: Any, adapter: Adapter, model: ServedModel
) -> tuple[Reduction, bool]:
    """How a server reduces gradients, and whether it tells their norms.

    They are asked for by steps of rate 0. Of a server that tells none, they are read off what small steps without
    memory change of the adapter's weights, which are fetched before and after.
    """
    seen: list[Tensor] = []

    def norm(targets: list[int], apart: bool, factor: float = 1.0) -> float:
        _send(connection, client, model, targets, factor, apart)
        told = None if seen else connection.optim_step(client, 0.0)
        if told is not None:
            return told
        if not seen:
            seen.append(_weights(connection, client, adapter, model))
            _send(connection, client, model, targets, factor, apart)
        connection.optim_step(client, CHANGE * LINEAR["eps"], adam=LINEAR)
        seen.append(_weights(connection, client, adapter, model))
        return float((seen[-1] - seen[-2]).norm()) / CHANGE

    try:
        once = norm(ALONE, False)
        if seen and not abs(norm(ALONE, False, 2.0) / once - 2) < 0.04:
            raise InputError(
                "it tells no norms of gradients, and a step without memory does not follow the gradient: betas and "
                "eps of the request are not used, so whether it sums or averages cannot be told"
            )
        return ask(norm), not seen
    except InputError as error:
        raise InputError(f"{connection.url}: {error}") from error


def _weights(connection: Connection, client: Any, adapter: Adapter, model: ServedModel) -> Tensor:
    """[N] all weights of the adapter of a client, in float64."""
    with tempfile.TemporaryDirectory() as parts:
        folder = _fetch(connection, client, adapter, model, Path(parts) / "weights")
        tensors = sorted(load_file(folder / WEIGHTS).items())
    return torch.cat([tensor.flatten().double() for _, tensor in tensors])


def _fetch(connection: Connection, client: Any, adapter: Adapter, model: ServedModel, folder: Path) -> Path:
    """The adapter of a client in a folder. InputError: it has another rank or scale than was asked for."""
    folder.mkdir()
    path = connection.save_for_sampler(client, f"tieout-{folder.name}-{os.urandom(4).hex()}")
    config = unpack(connection.archive(path), folder, portable(model.name))
    found = {"rank": float(config["r"]), "alpha": float(config.get("lora_alpha", 0))}
    for name, given in {"rank": float(adapter.rank), "alpha": float(adapter.alpha)}.items():
        if found[name] != given:
            raise InputError(
                f"{connection.url} makes adapters of {name} {found[name]:g}, and {given:g} was asked for: give "
                f"--adapter.{name} {found[name]:g}, or set it on the server. The API has no field for alpha"
            )
    return folder


def _here(folder: Path, groups: Sequence[Group], bases: Bases) -> Tensor:
    """[T] log-probabilities of an adapter on the base here, in fp32."""
    model = load(str(folder), dtype=torch.float32, device="cpu", bases=bases)
    found = Learner(model, frozen=True).logprobs(groups)
    return torch.tensor([x for group in found for row in group for x in row])


def _compare(server: Tensor, here: Tensor, url: str) -> float:
    """Largest difference in nats. InputError: they are far apart."""
    mean = float((server - here).abs().mean())
    if not mean <= FAR:
        raise InputError(
            f"{url} gives log-probabilities {mean:.2g} nats per token from those of the model here (limit {FAR:g}): it "
            "serves another base, or computes in too coarse a precision. Name the same model as --model, or start the "
            "server with it in float32"
        )
    return float((server - here).abs().max())


def _refuse_other_scale(before: Tensor, after: Tensor, here: Tensor, apart: float, url: str) -> float:
    """Largest difference after a step. InputError: it grew with the step, so the adapter acts otherwise here."""
    moved, worst = float((after - before).abs().max()), float((after - here).abs().max())
    if not worst <= 3 * apart + 0.02 * moved:
        raise InputError(
            f"{url}: after one step, its log-probabilities and those of the fetched adapter on the base here differ by "
            f"{worst:.2g} nats, of {moved:.2g} that the step moved them: the adapter is scaled otherwise there, or "
            "trains more than is fetched"
        )
    return worst
