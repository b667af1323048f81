"""The error of bf16: log-probabilities, gradients and a short SFT, against fp32 on the same rows.

python benchmarks/precision.py                 # smollm2-135m; writes benchmarks/results/precision.md
python benchmarks/precision.py --rows 4 --steps 2

Three ways: fp32; bf16; and bf16 with PEFT's own LoRA layers, which round twice. Log-probabilities and gradients are
compared under one adapter: that of the SFT in fp32, which is as small as adapters are while they learn.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from tieout.learner.forward import Forward
from tieout.learner.learner import Learner
from tieout.learner.models.adapters import AdapterConfig
from tieout.learner.models.loading import load
from tieout.learner.models.model import Model
from tieout.learner.models.precision import native_bf16
from tieout.learner.prefix.layouts import pack
from tieout.methods import SFT
from tieout.source import Source
from tieout.storage.machine import environment
from tieout.tasks import load_task
from tieout.training.loop import train
from tieout.types import Group

RESULTS = Path(__file__).parent / "results" / "precision.md"
BATCH = 16
WAYS = {"fp32": ("fp32", False), "bf16": ("bf16", False), "bf16, PEFT's layers": ("bf16", True)}


@dataclass
class Found:
    """What one way gave."""

    losses: list[float]
    logprobs: Tensor
    """[T] of the held-out rows under the common adapter."""
    gradient: Tensor
    merged: Tensor
    """[T] with the adapter folded in, as rows are sampled."""


def measure(way: str, name: str, rows: int, steps: int, adapter: dict[str, Tensor]) -> Found:
    """Train for some steps, then put the common adapter in place (the first way makes it) and compare."""
    dtype, twice = WAYS[way]
    rounding = mock.patch("tieout.learner.models.reference.round_once") if twice else nullcontext()
    with rounding:
        model = load(name, AdapterConfig(), dtype=dtype, device="cpu")
    task = load_task("finance_statements")
    source = Source(task, model.chat, seed=0)
    losses: list[float] = []
    learner = Learner(model, 5e-4)
    train(
        SFT(learning_rate=5e-4, batch_size=BATCH),
        source,
        learner,
        steps=steps,
        on_step=lambda step, metrics: losses.append(metrics["loss"]),
    )
    trained = {n: p for n, p in model.network.named_parameters() if p.requires_grad}
    if not adapter:
        adapter |= {n: p.detach().clone() for n, p in trained.items()}
    for n, parameter in trained.items():
        parameter.data = adapter[n].clone()
    held = [source.given(row, [row["completion"]], None) for row in list(task.rows("test"))[:rows]]
    logprobs, gradient = _forward_backward(model, held, list(trained.values()))
    with torch.no_grad(), model.merged() as network:
        merged = torch.cat([Forward(model, 1.0)(pack([g], "merge"), network)[0] for g in held])
    return Found(losses, logprobs, gradient, merged)


def _forward_backward(model: Model, held: list[Group], trained: list[Tensor]) -> tuple[Tensor, Tensor]:
    forward, parts = Forward(model, 1.0), []
    for parameter in trained:  # it still holds that of the last step
        parameter.grad = None
    for group in held:
        logprobs = forward(pack([group], "merge"))[0]
        parts.append(logprobs.detach())
        (-logprobs.sum()).backward()
    gradient = torch.cat([p.grad.flatten().double() for p in trained if p.grad is not None])
    return torch.cat(parts), gradient


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    adapter: dict[str, Tensor] = {}
    found = {way: measure(way, arguments.model, arguments.rows, arguments.steps, adapter) for way in WAYS}
    exact, machine = found["fp32"], environment()
    native = native_bf16() or "none"
    options = f"--model {arguments.model} --rows {arguments.rows} --steps {arguments.steps}"
    lines = [
        "# The error of bf16",
        "",
        f"`python benchmarks/precision.py {options}`, {datetime.now(UTC).date()}, {machine['processor']}, "
        f"threads: {torch.get_num_threads()}, torch {machine['versions']['torch']}, native bf16: {native}.",
        f"SFT on `finance_statements`, {BATCH} rows a step; {len(exact.logprobs)} tokens of "
        f"{arguments.rows} held-out rows.",
        "",
        "| way | loss at each step | mean log-prob | its mean, largest difference from fp32 | folded: mean difference |"
        " gradient: cosine, size |",
        "|---|---|---|---|---|---|",
    ]
    for way, one in found.items():
        apart = (one.logprobs - exact.logprobs).abs()
        folded = (one.merged - exact.logprobs).abs().mean().item()
        cosine = torch.cosine_similarity(one.gradient.double(), exact.gradient.double(), 0).item()
        size = (one.gradient.double().norm() / exact.gradient.double().norm()).item()
        lines.append(
            f"| {way} | {', '.join(f'{x:.3f}' for x in one.losses)} | {one.logprobs.mean():.4f} | "
            f"{apart.mean():.4f}, {apart.max():.3f} | {folded:.4f} | {cosine:.4f}, {size:.3f} |"
        )
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
