"""Is the fast shared-prefix attention right on this device? Against the dense one, computed exactly.

The limit is the error that the dense attention itself has in the same dtype: rounding is allowed, nothing else is.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

GROUPS = [(64, (9, 1, 33)), (130, (40, 17)), (5, (200,)), (300, (64, 64, 64, 64)), (17, (0, 3))]
"""(prompt, completions) in tokens: several groups in one row, of lengths that no block size divides, one empty."""
HEADS = [(14, 2, 64), (8, 8, 128), (16, 4, 128), (4, 1, 256)]
"""(query heads, key heads, size)"""
WINDOWS = [None, 96]
TIMES = 3.0
"""How many times the dense attention's own error is allowed."""


def parity(device: str) -> list[dict[str, Any]]:
    """A row for each kind of heads and window."""
    return [check(device, heads, window) for heads in HEADS for window in WINDOWS]


def check(device: str, heads: tuple[int, int, int], window: int | None) -> dict[str, Any]:
    """Output and gradients against exact ones, and whether changing one completion leaves all others as they were."""
    from tieout.learner.prefix.attention import SharedPrefix, best_backend
    from tieout.learner.prefix.span import Span

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    path = best_backend(torch.device(device), dtype, heads[2])
    starts = [0, *accumulate(prompt + sum(completions) for prompt, completions in GROUPS)]
    spans = tuple(Span(s, p, c) for s, (p, c) in zip(starts, GROUPS, strict=False))
    generator = torch.Generator().manual_seed(0)

    def random(count: int) -> Tensor:
        return torch.randn(1, count, starts[-1], heads[2], generator=generator).to(device, dtype)

    inputs, direction = [random(heads[0]), random(heads[1]), random(heads[1])], random(heads[0])

    def run(name: Any, kind: torch.dtype, given: list[Tensor]) -> list[Tensor]:
        q, k, v = (x.to(kind).detach().requires_grad_() for x in given)
        out = SharedPrefix(spans, name).attend(0, q, k, v, heads[2] ** -0.5, window)
        return [out.detach(), *torch.autograd.grad(out, (q, k, v), direction.to(kind))]

    exact = run("dense", torch.float64 if device == "cpu" else torch.float32, inputs)
    fast, dense = run(path, dtype, inputs), run("dense", dtype, inputs)
    first = slice(GROUPS[0][0], GROUPS[0][0] + GROUPS[0][1][0])  # the first group's first completion
    changed = [x.clone() for x in inputs]
    for x in changed:
        x[:, :, first] += 1
    moved = (run(path, dtype, changed)[0] != fast[0]).any(1).any(-1)[0]
    moved[first] = False
    ours, noise = _errors(fast, exact), _errors(dense, exact)
    return {
        "path": path,
        "heads": heads,
        "window": window,
        "output": ours[0],
        "output_dense": noise[0],
        "gradient": max(ours[1:]),
        "gradient_dense": max(noise[1:]),
        "isolated": not bool(moved.any()),
        "right": not bool(moved.any()) and all(a <= TIMES * b for a, b in zip(ours, noise, strict=True)),
    }


def _errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """The norm of the difference, as a share of the exact one's."""
    return [((f.to(e.dtype) - e).norm() / e.norm()).item() for f, e in zip(found, exact, strict=True)]


def parity_table(checks: list[dict[str, Any]]) -> list[str]:
    """Markdown lines."""
    lines = [
        "## Is the attention right?",
        "",
        "Errors are norms of differences from the exact result, as shares of its norm; `dense` is plain attention's",
        f"own error in the same dtype, of which {TIMES:g} times are allowed. Isolated: changing one completion changes",
        "no bit of any other.",
        "",
        "| path | heads, key heads, size | window | output | dense | gradient | dense | isolated | right |",
        "|" + "---|" * 9,
    ]
    for c in checks:
        heads = ", ".join(map(str, c["heads"]))
        errors = " | ".join(f"{c[k]:.1e}" for k in ("output", "output_dense", "gradient", "gradient_dense"))
        yes = {True: "yes", False: "NO"}
        lines.append(
            f"| {c['path']} | {heads} | {c['window'] or ''} | {errors} | {yes[c['isolated']]} | {yes[c['right']]} |"
        )
    return lines
