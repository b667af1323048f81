"""Processes that train one model together: their ranks, the division of work and its collectives.

`accelerate launch` starts them. Every rank sees all groups of a step, takes the same decisions and holds the same
weights. Only the expensive work is divided: rollouts, forwards and backwards. Their results are gathered, gradients
once per step after the last backward. So ranks may hold different numbers of micro-batches, or none, and everything
that is counted, compared or decided over a step (denominators, advantages, monitors) is as in one process.
"""

from __future__ import annotations

import atexit
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from ...errors import TieoutError
from ...storage.machine import launched

TIMEOUT = timedelta(hours=12)
"""Of one collective: the others wait while the first rank evaluates."""


class PeerError(TieoutError, RuntimeError):
    """Another rank failed, with this message; or the ranks no longer agree."""


class Processes:
    """The ranks of a run, seen from one of them. One process alone is the case count = 1, and costs nothing."""

    def __init__(self, rank: int = 0, count: int = 1, device: torch.device | None = None) -> None:
        """
        Args:
            rank: of this process, from 0.
            count: of processes.
            device: where tensors have to be to be sent.
        """
        self.rank, self._count, self.device = rank, count, device or torch.device("cpu")
        self._by_itself = False

    @property
    def count(self) -> int:
        """Number of ranks that share the work; 1 inside of `together` and `first`, where each rank works by itself."""
        return 1 if self._by_itself else self._count

    @property
    def alone(self) -> bool:
        """Whether the run has one process only."""
        return self._count == 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes files and logs."""
        return self.rank == 0

    # ------------------------------------------------------------------ division of work

    def share(self, sizes: Sequence[int]) -> list[int]:
        """Which of these pieces of work are this rank's: the largest first, each to the rank with the least so far."""
        return self.shares(sizes)[self.rank if self.count > 1 else 0]

    def shares(self, sizes: Sequence[int]) -> list[list[int]]:
        """The `share` of each rank."""
        loads, result = [0] * self.count, [list[int]() for _ in range(self.count)]
        for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            rank = loads.index(min(loads))
            loads[rank] += sizes[index]
            result[rank].append(index)
        return [sorted(part) for part in result]

    def stretch(self, count: int) -> tuple[int, int]:
        """[start, end) of this rank's part of `count` things in a row."""
        if self.count == 1:
            return 0, count
        return count * self.rank // self.count, count * (self.rank + 1) // self.count

    # ------------------------------------------------------------------ collectives

    def gather(self, value: Any) -> list[Any]:
        """Plain values (as JSON has them; floats keep every bit) of all ranks, in the order of ranks."""
        if self.count == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(self.device)
        sizes = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.count)]
        _collect(dist.all_gather, sizes, torch.tensor([len(data)], device=self.device))
        longest = max(int(size) for size in sizes)
        parts = [torch.empty(longest, dtype=torch.uint8, device=self.device) for _ in sizes]
        _collect(dist.all_gather, parts, torch.nn.functional.pad(data, (0, longest - len(data))))
        return [json.loads(bytes(part[: int(n)].tolist())) for part, n in zip(parts, sizes, strict=True)]

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return any(self.gather(bool(flag)))

    def together(self, function: Callable[[], Any]) -> list[Any]:
        """Run something on every rank, each by itself; the plain values of all. One rank's error is raised on all."""
        if self.count == 1:
            return [function()]
        value: Any = None
        error: Exception | None = None
        self._by_itself = True
        try:
            value = function()
        except Exception as caught:
            error = caught
        finally:
            self._by_itself = False
        words = f"{type(error).__name__}: {error}" if error else ""
        replies = self.gather([value, words])
        if error:
            raise error
        for rank, (_, message) in enumerate(replies):
            if message:
                raise PeerError(f"rank {rank}: {message}")
        return [value for value, _ in replies]

    def first(self, function: Callable[[], Any]) -> Any:
        """Run something on the first rank only, while the others wait; its plain value, or its error, on all."""
        return self.together(lambda: function() if self.leads else None)[0]

    def place(self, values: Sequence[Any], mine: Sequence[int], count: int) -> list[Any]:
        """`count` values in their order, of which this rank has computed those at `mine`."""
        if self.count == 1:
            return list(values)
        result: list[Any] = [None] * count
        for part in self.gather([list(mine), list(values)]):
            for index, value in zip(*part, strict=True):
                result[index] = value
        return result

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over the ranks, bitwise the same on all; no gradient counts as zeros."""
        if self.count == 1:
            return
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if len(gradients) == 1 and gradients[0].is_contiguous():
            _collect(dist.all_reduce, gradients[0])
            return
        flat = torch.cat([g.flatten() for g in gradients])
        _collect(dist.all_reduce, flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def sum_metrics(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Sums over the ranks, by name; a rank without a name adds nothing to it."""
        if self.count == 1:
            return dict(metrics)
        result: dict[str, float] = {}
        for part in self.gather(dict(metrics)):
            for name, value in part.items():
                result[name] = result.get(name, 0.0) + value
        return result

    def agree(self, value: Any, what: str) -> None:
        """PeerError unless all ranks have the same plain value: weights that drifted apart must not be saved."""
        values = self.gather(value)
        if any(other != values[0] for other in values):
            raise PeerError(
                f"the ranks disagree about {what}: {values}. They must run the same program on the same data and "
                "versions; start all of them again from the last checkpoint"
            )


def _collect(collective: Callable[..., Any], *arguments: Tensor | list[Tensor]) -> None:
    """Run a collective until gloo's thread, too, has let go of the tensors.

    It holds them a moment longer than the caller waits. Where it is the last to let go, it needs the interpreter for
    that, and one that is shutting down by then aborts the process ("terminate called without an active exception").
    """
    tensors = [
        t for argument in arguments for t in ([argument] if isinstance(argument, Tensor) else argument)
    ]
    before = held(tensors)
    try:
        collective(*arguments)
    except RuntimeError as error:  # gloo's and NCCL's, of a connection that is gone
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PeerError(
            f"the connection to another rank is gone ({said}): that one was killed or has crashed, and its own output "
            "says why. Start all of them again; the run resumes from its newest checkpoint"
        ) from error
    while tensors[0].device.type == "cpu" and held(tensors) > before:
        time.sleep(0)


def held(tensors: Iterable[Tensor]) -> int:
    """References to these tensors, C++ threads' included."""
    return sum(t._use_count() for t in tensors)  # type: ignore[attr-defined]


def _leave() -> None:
    """Close the connections before interpreter shutdown, as far as nothing else holds them."""
    if dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


@cache
def join() -> Processes:
    """The processes of this run: this one alone, or all that `accelerate launch` started.

    Before anything is put on a device: with several GPUs, this chooses the rank's own.
    """
    if launched()[1] == 1:
        if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ:
            warnings.warn(
                "several processes were requested, but `accelerate launch --cpu` starts only one where there is no "
                "MPI; use --config_file recipes/accelerate/cpu.yaml",
                stacklevel=2,
            )
        return Processes()
    from accelerate import PartialState

    wanted_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    state = PartialState(cpu=wanted_cpu or not torch.cuda.is_available(), timeout=TIMEOUT)
    device = state.device if state.device.type == "cuda" else torch.device("cpu")
    atexit.register(_leave)
    return Processes(state.process_index, state.num_processes, device)
