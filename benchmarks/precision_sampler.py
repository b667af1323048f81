"""Log-probabilities of one policy, as its sampler computes them and as its learner does, in fp32 and in bf16.

python benchmarks/precision_sampler.py            # smollm2-135m; writes benchmarks/results/precision_sampler.md
python benchmarks/precision_sampler.py --model tieout-base --prompts 2

The sampler folds the adapter into a copy of the weights and decodes token by token; the learner sums adapter and base,
over whole rows. Three adapters: fresh, after one step of SFT at a learning rate of 5e-5, and after some steps at 1e-3;
trained in bf16, and put into both. Completions are sampled at temperature 1 in each precision. Ratios are learner over
sampler.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from tieout.learner.config import LearnerConfig
from tieout.learner.learner import Learner
from tieout.learner.models.adapters import AdapterConfig
from tieout.learner.models.loading import load
from tieout.learner.models.precision import native_bf16
from tieout.methods import GSPO, SFT
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.storage.machine import environment
from tieout.tasks import load_task
from tieout.training.loop import train
from tieout.types import Group

RESULTS = Path(__file__).parent / "results"
BATCH = 8
HEAD = (
    "| base | adapter | tokens | mean, worst difference | sampler - learner | ratios of tokens past 0.2 |"
    " of completions past 0.2 | past GSPO's clip |"
)


def adapters(name: str, steps: int) -> dict[str, dict[str, Tensor]]:
    """Name of a stage -> weights of the adapter."""
    found = {}
    task = load_task("finance_statements")
    for stage, rate, count in (("fresh", 0.0, 0), ("one step", 5e-5, 1), (f"{steps} steps", 1e-3, steps)):
        model = load(name, AdapterConfig(), dtype="bf16", device="cpu")
        learner = Learner(model, rate, LearnerConfig(micro_batch_tokens=512, activation_checkpointing=False))
        if count:
            method = SFT(learning_rate=rate, batch_size=BATCH)
            train(method, Source(task, model.chat, seed=0), learner, steps=count)
        found[stage] = {n: p.detach().clone() for n, p in model.trained().items()}
    return found


def compared(
    name: str, dtype: str, stages: dict[str, dict[str, Tensor]], prompts: int, tokens: int
) -> list[str]:
    """A line of the table for each adapter."""
    model = load(name, AdapterConfig(), dtype=dtype, device="cpu")
    learner, lines = Learner(model), []
    rows = list(load_task("finance_statements").rows("test"))[:prompts]
    asked = [model.chat.prompt(row["prompt"]) for row in rows]
    for stage, weights in stages.items():
        for n, parameter in model.trained().items():
            parameter.data.copy_(weights[n])
        said = LocalSampler(model).sample(asked, 4, SamplingParams(tokens, temperature=1.0, seed=1))
        groups = [Group(p, [replace(c) for c in own]) for p, own in zip(asked, said, strict=True)]
        learned = [torch.tensor(x) for group in learner.logprobs(groups) for x in group]
        sampled = [torch.tensor(c.logprobs) for group in groups for c in group.completions]
        apart = [a - b for a, b in zip(learned, sampled, strict=True)]
        lines.append(f"| {dtype} | {stage} | {_line(apart)} |")
        print(lines[-1], flush=True)
    return lines


def _line(apart: Sequence[Tensor]) -> str:
    """Figures of the log of the ratios, [C] for each completion."""
    every = torch.cat(list(apart))
    totals, means = torch.stack([x.sum() for x in apart]), torch.stack([x.mean() for x in apart])
    gspo = GSPO()
    return " | ".join(
        (
            f"{len(every)}",
            f"{every.abs().mean():.1e}, {every.abs().max():.1e}",
            f"{-every.mean():+.1e}",
            *(f"{_past(x, 0.2, 0.2):.2%}" for x in (every, totals)),
            f"{_past(means, gspo.epsilon_low, gspo.epsilon_high):.2%}",
        )
    )


def _past(logs: Tensor, low: float, high: float) -> float:
    ratios = logs.exp()
    return ((ratios < 1 - low) | (ratios > 1 + high)).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--out", type=Path, default=RESULTS / "precision_sampler.md")
    given = parser.parse_args()
    stages, machine = adapters(given.model, given.steps), environment()
    options = " ".join(f"--{n} {getattr(given, n)}" for n in ("model", "steps", "prompts", "tokens"))
    lines = [
        "# Sampler and learner",
        "",
        f"`python benchmarks/precision_sampler.py {options}`, {datetime.now(UTC).date()}, {machine['processor']}, "
        f"threads: {torch.get_num_threads()}, torch {machine['versions']['torch']}, native bf16: "
        f"{native_bf16() or 'none'}. Nats per token; 4 completions a prompt of `finance_statements`, temperature 1. "
        "Ratios of tokens, of whole completions (as in RLOO), and of their mean per token (as in GSPO).",
        "",
        HEAD,
        "|---|---|---|---|---|---|---|---|",
    ]
    for dtype in ("fp32", "bf16"):
        lines += compared(given.model, dtype, stages, given.prompts, given.tokens)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
