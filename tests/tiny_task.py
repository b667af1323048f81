"""A task that every method can train on, and all that one run needs, on a tiny model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from random_groups import make_learner
from tieout.learner import AdapterConfig, Learner, load
from tieout.methods import DPO, GRPO, SFT, Method
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.tasks import Task

ROWS = [
    {
        "prompt": [{"role": "user", "content": f"Add {i} and {i * i}."}],
        "completion": f"{i + i * i}",
        "chosen": f"It is {i + i * i}.",
        "rejected": f"{i}{i}?" * (1 + i % 3),
        "answer": f"{i + i * i}",
        "label": i % 3 > 0,
    }
    for i in range(11)
]

METHODS: dict[str, Method] = {
    "sft": SFT(batch_size=4, learning_rate=1e-2),
    "dpo": DPO(batch_size=4, learning_rate=1e-2),
    "grpo": GRPO(batch_size=3, group_size=4, max_new_tokens=6, learning_rate=1e-2, beta=0.05),
}


def spread(completions: list[str], **_: Any) -> list[float]:
    """A score that almost never ties: how high the letters are."""
    return [sum(map(ord, text)) / (100 * len(text) + 1) for text in completions]


def make_task(**changes: Any) -> Task:
    return Task(**{"name": "sums", "rows": lambda split: ROWS, "reward": spread, **changes})


@dataclass
class Run:
    """What `train` needs."""

    method: Method
    source: Source
    learner: Learner


def make_run(
    method: str,
    folder: Path,
    *,
    start: Path | None = None,
    dropout: float = 0.0,
    head: Any = None,
    **changes: Any,
) -> Run:
    """A fresh run, as another process would build it."""
    adapter = AdapterConfig(rank=4, dropout=dropout)
    if start is None:
        learner = make_learner(folder, adapter=adapter, stir=False, head=head, max_grad_norm=1.0)
    else:
        learner = Learner(load(str(folder), adapter, start=start))
    sampler = LocalSampler(learner.model) if method == "grpo" else None
    return Run(METHODS[method], Source(make_task(**changes), learner.model.chat, sampler, seed=7), learner)
