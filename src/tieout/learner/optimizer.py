"""AdamW over one flat buffer: what is trained are views of it, so a step is one kernel, one norm and one all-reduce."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import torch
from torch import Tensor, nn

LARGE = 1 << 22
"""A parameter with more numbers than this stays where it is: copying it together would gain nothing and need memory."""


class FlatAdamW(torch.optim.AdamW):
    """Fused AdamW (https://arxiv.org/abs/1711.05101) whose parameters are flat buffers, one for each kind of parameter.

    The parameters given become views of them, and so do their gradients: autograd adds into the flat gradient.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        """
        Args:
            parameters: what is trained; their data moves into the buffers, their values stay.
            lr: learning rate.
            weight_decay: decoupled weight decay.
        """
        self.views: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        """(parameter, its place in a buffer, its gradient's place)."""
        flat = list(_flatten(list(parameters), self.views))
        super().__init__(flat or [nn.Parameter(torch.zeros(0))], lr=lr, weight_decay=weight_decay, fused=True)

    @property
    def buffers(self) -> list[nn.Parameter]:
        """The flat parameters."""
        return self.param_groups[0]["params"]

    def zero(self) -> None:
        """All gradients to zero, in place; what was moved out of its buffer since (`model.to`) is put back."""
        for parameter, data, gradient in self.views:
            if parameter.data_ptr() != data.data_ptr():
                data.copy_(parameter.detach())
                parameter.data = data
            parameter.grad = gradient
        for buffer in self.buffers:
            if buffer.grad is None:
                buffer.grad = torch.zeros_like(buffer)
            buffer.grad.zero_()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """torch's name for `zero`: gradients are views, and must not be set to None."""
        self.zero()

    def apply(self, learning_rate: float, max_norm: float) -> Tensor:
        """Scale the gradients down to `max_norm` and step. The device is not waited for.

        Gradients that are not finite leave the weights and the moments as they are.

        Returns:
            [] the norm before scaling.
        """
        gradients = [b.grad for b in self.buffers if b.grad is not None]
        norms = [torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
        self.param_groups[0]["lr"] = learning_rate
        self.found_inf = (~norm.isfinite()).float()  # the fused kernel reads it, and then changes nothing
        self.step()
        return norm


def _flatten(
    parameters: list[nn.Parameter], views: list[tuple[nn.Parameter, Tensor, Tensor]]
) -> Iterator[nn.Parameter]:
    """Move small plain parameters into one buffer for each dtype and device; the others are yielded as they are."""

    def kind(parameter: nn.Parameter) -> tuple[str, str]:
        return str(parameter.dtype), str(parameter.device)

    def small(parameter: nn.Parameter) -> bool:
        # A subclass (FSDP's sharded DTensor) is no piece of plain memory.
        return parameter.numel() <= LARGE and type(parameter.data) is Tensor

    for _, same in groupby(sorted(filter(small, parameters), key=kind), key=kind):
        part = list(same)
        flat = nn.Parameter(torch.cat([p.detach().flatten() for p in part]))
        flat.grad = torch.zeros_like(flat)
        sizes = [p.numel() for p in part]
        for parameter, data, gradient in zip(
            part, flat.data.split(sizes), flat.grad.split(sizes), strict=True
        ):
            parameter.data = data.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)
            views.append((parameter, parameter.data, parameter.grad))
        yield flat
    yield from (p for p in parameters if not small(p))
