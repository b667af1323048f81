"""What bf16 costs in score: the same short SFT in fp32 and in bf16, on several seeds, judged on the same rows.

taskset -c 0 python benchmarks/precision_score.py            # smollm2-135m, three seeds: an hour or two on one core
taskset -c 0 python benchmarks/precision_score.py --seeds 0 --steps 2 --rows 4

Seeds go in order, and each training is written down as soon as it is done: run again, the command does what is
missing, and the table says how many seeds there are. A seed decides the adapter's first weights and the order of the
rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from tieout.evidence.evaluate import evaluate
from tieout.evidence.stats import difference
from tieout.learner.config import LearnerConfig
from tieout.learner.learner import Learner
from tieout.learner.models.adapters import AdapterConfig
from tieout.learner.models.loading import load
from tieout.methods import SFT
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.storage.atomic import write_json
from tieout.storage.machine import environment
from tieout.tasks import Task, load_task
from tieout.training.loop import train

RESULTS = Path(__file__).parent / "results"
DTYPES = ("fp32", "bf16")
BATCH, RATE = 8, 1e-3


def trained(task: Task, model_name: str, dtype: str, seed: int, steps: int, rows: int) -> dict[str, Any]:
    """One training: its losses, and what it does on each of the test rows."""
    started = time.process_time()
    model = load(model_name, AdapterConfig(), dtype=dtype, seed=seed, device="cpu")
    learner = Learner(model, RATE, LearnerConfig(micro_batch_tokens=512, activation_checkpointing=False))
    source = Source(task, model.chat, seed=seed)
    losses: list[float] = []

    def note(step: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["loss"])
        print(f"{dtype}, seed {seed}, step {step}: {metrics['loss']:.4f}", flush=True)

    train(SFT(learning_rate=RATE, batch_size=BATCH), source, learner, steps=steps, on_step=note)
    test = list(task.rows("test"))[:rows]
    given = learner.logprobs([source.given(row, [row["completion"]], None) for row in test])
    params = SamplingParams(192, temperature=0.0)
    cases = evaluate(task, test, LocalSampler(model), params, batch_size=25)
    assert task.primary is not None
    return {
        "losses": losses,
        "test_loss": [-sum(own) / len(own) for (own,) in given],
        "exact": [case.metrics[task.primary] for case in cases],
        "reward": [case.score for case in cases],
        "cpu_seconds": round(time.process_time() - started),
    }


def rendered(kept: dict[str, Any], command: str) -> list[str]:
    """The tables of all seeds for which both trainings are done."""
    runs, about = kept["runs"], kept["about"]
    seeds = sorted({int(key.split("-")[1]) for key in runs})
    seeds = [s for s in seeds if all(f"{d}-{s}" in runs for d in DTYPES)]
    lines = [
        "# What bf16 costs in score",
        "",
        f"`{command}`, {datetime.now(UTC).date()}, {about['processor']}, threads: {about['threads']}, torch "
        f"{about['torch']}. SFT on `finance_statements`: {about['steps']} steps of {BATCH} rows, learning rate "
        f"{RATE:g}; {about['rows']} test rows, greedy. Seeds: {len(seeds)}.",
        "",
        "Differences are bf16 minus fp32 over the same rows, with 95% intervals; of all seeds, clustered by row.",
        "",
        "| seed | everything right: fp32, bf16 | difference | test loss: fp32, bf16 | difference |"
        " CPU seconds: fp32, bf16 |",
        "|---|---|---|---|---|---|",
    ]
    for chosen in [[s] for s in seeds] + ([seeds] if len(seeds) > 1 else []):
        cells = [str(chosen[0]) if len(chosen) == 1 else "all"]
        clusters = [row for _ in chosen for row in range(about["rows"])]
        for what in ("exact", "test_loss"):
            both = [[x for s in chosen for x in runs[f"{d}-{s}"][what]] for d in DTYPES]
            cells.append(", ".join(f"{fmean(one):.4f}" for one in both))
            cells.append(_score(both, clusters) if what == "exact" else _loss(both, about["rows"]))
        seconds = [sum(runs[f"{d}-{s}"]["cpu_seconds"] for s in chosen) for d in DTYPES]
        lines.append(f"| {' | '.join(cells)} | {seconds[0]}, {seconds[1]} |")
    return lines


def _score(both: list[list[float]], clusters: list[int]) -> str:
    found = difference(both[1], both[0], clusters)
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _loss(both: list[list[float]], rows: int) -> str:
    """Normal interval of the mean over rows; a row's value is its mean over the seeds."""
    apart = [b - a for a, b in zip(*both, strict=True)]
    own = [fmean(apart[row::rows]) for row in range(rows)]
    middle, half = fmean(own), 1.96 * stdev(own) / rows**0.5
    return f"{middle:+.4f} [{middle - half:+.4f}, {middle + half:+.4f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    path, machine = given.folder / "precision_score.json", environment()
    asked = {"model": given.model, "steps": given.steps, "rows": given.rows}
    about = asked | {
        "processor": machine["processor"],
        "threads": torch.get_num_threads(),
        "torch": machine["versions"]["torch"],
    }
    kept = json.loads(path.read_text()) if path.exists() else {"about": about, "runs": {}}
    if kept["about"] != about:
        raise SystemExit(f"{path} is of {kept['about']}, and this would be of {about}: move it away first")
    task = load_task("finance_statements")
    for seed in given.seeds:
        for dtype in DTYPES:
            if f"{dtype}-{seed}" not in kept["runs"]:
                kept["runs"][f"{dtype}-{seed}"] = trained(
                    task, given.model, dtype, seed, given.steps, given.rows
                )
                write_json(path, kept)
    options = " ".join(f"--{name} {value}" for name, value in asked.items())
    lines = rendered(kept, f"python benchmarks/precision_score.py {options}")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
