"""The check of a merged model in 16 bits: its weights against exact ones, and what it says against the policy in fp32.

A fixed bound on log-probabilities cannot do it: at a token that the policy is unsure of, rounding alone moves them by
0.3 nats, and an adapter that was left out may move them by less, if it is young. So there are two checks.

**Weights.** Each layer's adapter is merged again, in fp32, by PEFT. Every weight on disk has to be a neighbour in 16
bits of the exact one, and what no adapter changes has to be the base's to the bit. A small update lies between two
neighbours, of which the base's own weight is one. Therefore the share of the update D = exact - base that arrived is
measured, <written - base, D> / <D, D>, for each layer and for all together. Rounded at random in proportion to the
distance it is 1 in expectation, whatever the model, with a variance that follows from the exact weights: sum D^2
(exact - below) (above - exact) / <D, D>^2. It may differ from 1 by SLACK and six standard errors: chance alone gets
there once in 10^9 times. An adapter left out gives 0, applied twice 2, scaled by half 0.5, in another layer about 0.

**Log-probabilities**, of the policy's own tokens. The policy from disk is computed in 16 bits and in fp32; their
difference is what rounding does on these very tokens. The merged model may be off from fp32 by MEAN times as much in
the mean and WORST times as much at one token, and never by more in the mean than is allowed without a measurement. The
multiples are above 1 as merging rounds the weights too, and wide for the worst token, as a few tokens that the policy
is unsure of decide it: right merges of SmolLM2 after SFT and after DPO, with three sets of random numbers each, were
off by 0.7 to 1.7 times as much in the mean and by 0.6 to 2.1 times as much at the worst token. This finds what the
weights do not show: configuration, tied layers, files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from ..learner.memory import free_bytes
from ..learner.models.adapters import POLICY
from ..learner.models.model import Model
from ..learner.models.peft import AuxiliaryTrainingWrapper, BaseTunerLayer

SLACK = 0.1
"""By which the share of an update that arrived may differ from 1, in addition to chance."""
ERRORS = 6.0
"""Standard errors by which it may differ in addition."""
MEAN, WORST = 4.0, 5.0
"""Multiples of what rounding does to the policy itself."""
LEAST = 1e-4
"""Nats that are allowed where rounding does nothing."""
PRECISION = {torch.bfloat16: 8, torch.float16: 11}
"""Bits of a weight, with the first one that is not stored."""


class MergeError(Exception):
    """A weight is not the exact one, rounded; says which layer, and how it differs."""


@dataclass(frozen=True)
class Exact:
    """A policy in fp32, and how far from it 16 bits may be."""

    logprobs: list[list[float]]
    """Of each example's tokens, in nats."""
    noise: float
    """Largest difference of the policy in 16 bits, in nats."""
    mean_noise: float

    @property
    def allowed(self) -> tuple[float, float]:
        """Nats at one token, and in the mean over all."""
        return max(LEAST, WORST * self.noise), max(LEAST, MEAN * self.mean_noise)


def exact_of(rounded: list[list[float]], exact: list[list[float]]) -> Exact:
    """What rounding does, from the log-probabilities of one policy in 16 bits and in fp32."""
    apart = [abs(a - b) for x, y in zip(rounded, exact, strict=True) for a, b in zip(x, y, strict=True)]
    return Exact(exact, max(apart), fmean(apart))


def fits(model: Model) -> bool:
    """Whether there is memory for the model in fp32 next to the merged one in 16 bits."""
    free = free_bytes(model.device)
    return free is None or free > 6 * sum(p.numel() for p in model.network.parameters())


# ---------------------------------------------------------------- weights


@dataclass
class _Share:
    """Sums over weights."""

    square: float = 0.0
    """<D, D>"""
    error: float = 0.0
    """<written - exact, D>"""
    variance: float = 0.0
    """Of `error`, as exact weights are rounded at random."""

    def add(self, other: _Share) -> None:
        self.square += other.square
        self.error += other.error
        self.variance += other.variance

    def problem(self) -> str | None:
        """What is wrong with the share that arrived, if it is not what chance gives."""
        if self.square == 0:
            return None
        off, slack = self.error / self.square, SLACK + ERRORS * math.sqrt(self.variance) / self.square
        if abs(off) <= slack:  # NaN is not
            return None
        return f"{1 + off:.2f} of the adapter's update arrived, where 1 is right and {slack:.2f} from it is allowed"


@torch.no_grad()
def check_weights(policy: Model, merged: Model) -> None:
    """Compare the weights of a merged model in 16 bits with the exact ones of the policy, a layer at a time.

    Modules that the adapter replaces whole (`modules_to_save`, trained tokens) are not compared: log-probabilities are.

    Raises:
        MergeError: the layer, and what is wrong with it.
    """
    written = dict(merged.causal.named_parameters(remove_duplicate=False))
    every = _Share()
    for path, before, exact in _exact_weights(policy):
        if path not in written:
            raise MergeError(f"{path} is missing")
        found = written[path]
        if before is exact:
            if not torch.equal(found, exact.to(found.dtype)):
                raise MergeError(f"{path} is not that of the base, and no adapter changes it")
            continue
        share = _rounded(path, found, before, exact)
        if problem := share.problem():
            raise MergeError(f"{path}: {problem}")
        every.add(share)
    if problem := every.problem():
        raise MergeError(f"all layers together: {problem}")


def _exact_weights(policy: Model) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, of the base, with the adapter merged in fp32) of every weight; both are one tensor where no adapter is."""
    done: list[str] = []
    for path, module in policy.causal.named_modules():
        if any(path.startswith(f"{other}.") for other in done):
            continue
        if isinstance(module, AuxiliaryTrainingWrapper):
            done.append(path)
        elif isinstance(module, BaseTunerLayer):
            done.append(path)
            before, exact = _merged(module)
            for name, weight in exact.items():
                changed = not torch.equal(weight, before[name])
                yield f"{path}.{name}", before[name], weight if changed else before[name]
        else:
            for name, weight in module.named_parameters(path, recurse=False):
                yield name, weight, weight


def _merged(layer: nn.Module) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The base's parameters under a layer, in fp32, before and after its adapter is merged into them."""
    whole = copy.deepcopy(layer).float()
    base = whole.get_base_layer()  # type: ignore[operator]
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    for part in reversed(list(whole.modules())):  # one layer may hold the adapters of several parameters
        if isinstance(part, BaseTunerLayer):
            part.merge(adapter_names=[POLICY])
    return before, {name: p.detach() for name, p in base.named_parameters()}


def _rounded(path: str, found: Tensor, before: Tensor, exact: Tensor) -> _Share:
    """Sums over the weights of one parameter. MergeError: one of them is no neighbour of the exact one."""
    if found.shape != exact.shape:
        raise MergeError(f"{path} has the shape {[*found.shape]}, expected {[*exact.shape]}")
    step = _spacing(exact, found.dtype)
    off, update = found.float() - exact, exact - before
    room = 1.5 * torch.maximum(step, _spacing(before, found.dtype))
    if not bool((off.abs() <= room).all()):  # NaN is not
        worst = int(((off.abs() / room).nan_to_num(torch.inf)).argmax())
        values = ", ".join(f"{x.flatten()[worst].item():.6g}" for x in (found, exact, before))
        raise MergeError(
            f"{path}: a weight is not the exact one, rounded (written, exact, of the base: {values})"
        )
    above = (exact / step - (exact / step).floor()) * step
    variance = (update.square() * above * (step - above)).double().sum().item()
    return _Share(
        update.double().square().sum().item(), (update.double() * off.double()).sum().item(), variance
    )


def _spacing(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance of neighbours in 16 bits around each number."""
    _, exponent = torch.frexp(x)
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return torch.ldexp(torch.ones_like(x), exponent - PRECISION[dtype]).clamp(min=least)
