"""Simulate the time of a GRPO step on more GPUs and rollout servers, from phases measured on one worker.

    python benchmarks/scale.py            # seconds, and benchmarks/results/scale.md

A worker is what the phases were measured on: one core, for a model of 58 million parameters. What carries over to GPUs
is the shape (what is divided, what waits for what), not the seconds. Assumed, and not measured: workers are alike, sums
of gradients cost nothing, and a training server divides its work evenly.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PROMPTS, GROUP_SIZE, PROMPT_TOKENS = 64, 8, 512
CALL = 0.1
"""Seconds in which SkyRL's engine looks for work: the least of every request."""
CALLS = 6
"""Requests of a GRPO step on a training server: forward, forward_backward, optim_step, two saves, sample."""
WORKERS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Phases:
    """Seconds of one worker."""

    step: float
    """Of one step of decoding, whatever it decodes."""
    row: float
    """Of each row in it."""
    token: float
    """Of forward and backward of one token."""


def measured() -> tuple[Phases, list[int]]:
    """Phases of the 58M model, and lengths of completions that tieout-base sampled: of committed benchmarks.

    decoder_step.md (one thread): a step of 8 and of 64 rows in fp32. against_trl.json: row grpo-60m (two threads), an
    update of a group; row text-grpo-base, the lengths.
    """
    lines = (RESULTS / "decoder_step.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| 58M")]
    few, many = (
        next(float(r[4]) for r in rows if r[2] == size and r[3] == "fp32") / 1000 for size in ("8", "64")
    )
    row = (many - few) / 56
    benchmarks = json.loads((RESULTS / "against_trl.json").read_text(encoding="utf-8"))
    update = next(b for b in benchmarks if b["row"] == "grpo-60m")
    seconds = sorted(update["tieout_update"])[1] * update["threads"]
    unique = update["prompt"] + update["group_size"] * update["completion"]
    real = next(b for b in benchmarks if b["row"] == "text-grpo-base")
    lengths = [length for step in real["lengths"]["tieout"] for length in step]
    return Phases(few - 8 * row, row, seconds / unique), lengths


def rollout(phases: Phases, lengths: Sequence[int], prompts: float = 0) -> float:
    """Seconds of one worker that computes so many prompts, then decodes all these rows at once, each until it ends."""
    decoding = range(max(lengths, default=0))
    prefill = prompts * PROMPT_TOKENS * phases.token / 3  # a forward is a third of forward and backward
    return prefill + sum(phases.step + phases.row * sum(length > t for length in lengths) for t in decoding)


def dealt(groups: Sequence[Sequence[int]], workers: int) -> list[list[int]]:
    """The rows of each worker: prompts in turn."""
    return [[length for group in groups[i::workers] for length in group] for i in range(workers)]


def update(phases: Phases, groups: Sequence[Sequence[int]], workers: int) -> float:
    """Seconds of the slowest of the workers: the largest group first, each to the one with the least so far."""
    shares = [0.0] * workers
    for tokens in sorted((PROMPT_TOKENS + sum(group) for group in groups), reverse=True):
        shares[shares.index(min(shares))] += tokens * phases.token
    return max(shares)


def step_seconds(
    phases: Phases, groups: Sequence[Sequence[int]], trainers: int, servers: int = 0
) -> tuple[float, float]:
    """(rollouts, update) on so many trainers: they sample too, or as many rollout servers do."""
    parts = dealt(groups, servers or trainers)
    return max(rollout(phases, p, len(p) / GROUP_SIZE) for p in parts), update(phases, groups, trainers)


def served_seconds(phases: Phases, groups: Sequence[Sequence[int]], workers: int) -> tuple[float, float]:
    """(rollouts, update) on a training server of so many workers: rows repeat their prompts, and one more forward."""
    tokens = sum(PROMPT_TOKENS + length for group in groups for length in group)
    sampled = max(rollout(phases, part, len(part)) for part in dealt(groups, workers))
    return sampled + 2 * CALL, tokens * phases.token * 4 / 3 / workers + (CALLS - 2) * CALL


def make_groups(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """A step's completions, of the measured lengths."""
    draw = random.Random(seed)
    return [[draw.choice(lengths) for _ in range(GROUP_SIZE)] for _ in range(PROMPTS)]


def main() -> None:
    """Print the table, and write it."""
    phases, lengths = measured()
    groups = make_groups(lengths)
    alone = sum(step_seconds(phases, groups, 1))
    table = [
        "| workers | accelerate: rollouts + update | faster | half of them vLLM | faster | training server | faster |",
        "|---|---|---|---|---|---|---|",
    ]
    for workers in WORKERS:
        own = step_seconds(phases, groups, workers)
        half = step_seconds(phases, groups, workers - workers // 2, workers // 2) if workers > 1 else own
        served = served_seconds(phases, groups, workers)
        cells = [f"{a:.1f} + {b:.1f} | {alone / (a + b):.1f}" for a, b in (own, half, served)]
        table.append(f"| {workers} | " + " | ".join(cells) + " |")
    text = "\n".join(
        [
            "# A GRPO step on more workers, simulated",
            "",
            f"`python benchmarks/scale.py`: {PROMPTS} prompts of {PROMPT_TOKENS} tokens, {GROUP_SIZE} completions of "
            f"each of {min(lengths)} to {max(lengths)} tokens.",
            f"Phases of one worker: a step of decoding {1000 * phases.step:.1f} ms and {1000 * phases.row:.2f} ms "
            "a row, "
            f"forward and backward {1000 * phases.token:.1f} ms a token",
            "(58M in fp32, AMD EPYC, 2026-11-29; decoder_step.md: one thread; against_trl.json: two threads, their",
            "seconds times two). Seconds; `faster` is one worker's step over this one. Assumed: workers are alike,",
            "and sums of gradients cost nothing. No GPU and no cluster was measured.",
            "",
            *table,
            "",
        ]
    )
    print(text)
    (RESULTS / "scale.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
