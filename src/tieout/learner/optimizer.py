"""AdamW over flat buffers: what is trained are views of them, so a step is one kernel, one norm and one all-reduce.

Weights in bf16 or fp16 are trained in fp32: the optimizer holds a copy of them, with its gradient and its moments, and
rounds it back after each step. In 16 bits alone most steps of a usual size would round to nothing, and so would a
moment's decay by 1 in 1000.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from itertools import groupby

import torch
from torch import Tensor, nn

LARGE = 1 << 22
"""A parameter with more numbers than this stays where it is: copying it together would gain nothing and need memory."""

_NOT_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def not_decayed(network: nn.Module) -> set[str]:
    """Names of the parameters that weight decay leaves alone, as in transformers: those of norms, and biases."""
    norms = {
        f"{path}.{name}"
        for path, module in network.named_modules()
        if isinstance(module, nn.LayerNorm)
        for name in module._parameters
    }
    return {n for n, _ in network.named_parameters() if n in norms or _NOT_DECAYED.search(n.lower())}


class FlatAdamW(torch.optim.AdamW):
    """Fused AdamW (https://arxiv.org/abs/1711.05101) whose parameters are flat buffers, one for each kind of parameter.

    Parameters in fp32 become views of them, and so do their gradients: autograd adds into the flat gradient.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        not_decayed: Container[nn.Parameter] = (),
    ) -> None:
        """
        Args:
            parameters: what is trained; their data moves into the buffers, their values stay.
            lr: learning rate.
            weight_decay: decoupled weight decay.
            not_decayed: those of the parameters that it leaves alone.
        """
        self.views: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        """(parameter, its place in a buffer, its gradient's place)."""
        self.rounded: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        """The same of parameters in 16 bits, whose places are in fp32."""
        self.masters: list[nn.Parameter] = []
        """Those of the buffers that hold them: part of what a checkpoint needs."""
        given = list(parameters)
        groups = [(weight_decay, given)]
        if weight_decay:
            spared = [p for p in given if p in not_decayed]
            groups = [(weight_decay, [p for p in given if p not in not_decayed]), (0.0, spared)]
        flat = [
            {"params": buffers, "weight_decay": decay}
            for decay, part in groups
            if (buffers := list(self._flatten(part)))
        ]
        super().__init__(flat or [nn.Parameter(torch.zeros(0))], lr=lr, weight_decay=weight_decay, fused=True)

    @property
    def buffers(self) -> list[nn.Parameter]:
        """The flat parameters."""
        return [buffer for group in self.param_groups for buffer in group["params"]]

    def zero(self) -> None:
        """All gradients to zero, in place; what was moved out of its buffer since (`model.to`) is put back.

        Weights in 16 bits that were changed since (a checkpoint was loaded) are taken over.
        """
        for parameter, data, gradient in self.views:
            if parameter.data_ptr() != data.data_ptr():
                data.copy_(parameter.detach())
                parameter.data = data
            parameter.grad = gradient
        for parameter, data, _ in self.rounded:
            parameter.grad, own = None, parameter.detach()
            torch.where(own == data.to(own.dtype), data, own.float(), out=data)
        for buffer in self.buffers:
            if buffer.grad is None:
                buffer.grad = torch.zeros_like(buffer)
            buffer.grad.zero_()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """torch's name for `zero`: gradients are views, and must not be set to None."""
        self.zero()

    def collect(self) -> None:
        """Add the gradients of weights in 16 bits to those in fp32; call it after each backward."""
        for parameter, _, gradient in self.rounded:
            if parameter.grad is not None:
                gradient.add_(parameter.grad)
                parameter.grad = None

    def apply(self, learning_rate: float, max_norm: float) -> Tensor:
        """Scale the gradients down to `max_norm` and step. The device is not waited for.

        Gradients that are not finite leave the weights and the moments as they are.

        Returns:
            [] the norm before scaling.
        """
        self.collect()
        gradients = [b.grad for b in self.buffers if b.grad is not None]
        norms = [torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
        for group in self.param_groups:
            group["lr"] = learning_rate
        self.found_inf = (~norm.isfinite()).float()  # the fused kernel reads it, and then changes nothing
        self.step()
        with torch.no_grad():
            for parameter, data, _ in self.rounded:
                parameter.copy_(data)
        return norm

    def _flatten(self, parameters: list[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Small plain parameters as one buffer for each dtype and device; the others as they are, or in fp32."""

        def kind(parameter: nn.Parameter) -> tuple[str, str]:
            return str(parameter.dtype), str(parameter.device)

        def small(parameter: nn.Parameter) -> bool:
            # A subclass (FSDP's sharded DTensor) is no piece of plain memory.
            return parameter.numel() <= LARGE and type(parameter.data) is Tensor

        for _, same in groupby(sorted(filter(small, parameters), key=kind), key=kind):
            part = list(same)
            yield self._buffer(torch.cat([p.detach().flatten() for p in part]), part)
        for parameter in parameters:
            if not small(parameter):
                yield self._buffer(parameter.detach(), [parameter]) if _short(parameter) else parameter

    def _buffer(self, numbers: Tensor, part: list[nn.Parameter]) -> nn.Parameter:
        """A buffer of these numbers, in which each of these parameters gets its place."""
        short = _short(numbers)
        flat = nn.Parameter(numbers.float() if short else numbers)
        flat.grad = torch.zeros_like(flat)
        if short:
            self.masters.append(flat)
        places = [(flat.data, flat.grad)]
        if len(part) > 1 or flat.ndim == 1:
            sizes = [p.numel() for p in part]
            places = list(zip(flat.data.split(sizes), flat.grad.split(sizes), strict=True))
        for parameter, (data, gradient) in zip(part, places, strict=True):
            place = parameter, data.view_as(parameter), gradient.view_as(parameter)
            (self.rounded if short else self.views).append(place)
            if not short:
                parameter.data, parameter.grad = place[1:]
        return flat


def _short(numbers: Tensor) -> bool:
    """Whether they are in 16 bits."""
    return numbers.dtype in (torch.bfloat16, torch.float16)
