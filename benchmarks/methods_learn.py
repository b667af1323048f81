"""Every method on the embedded base and `finance_statements`: score at the start and at the end, several seeds.

python benchmarks/methods_learn.py                         # into benchmarks/results/methods_learn.{json,md}
python benchmarks/methods_learn.py --methods ppo --seeds 0 # these anew; repeated without --again it goes on

Each seed has one start: `tieout-base` after a short SFT, with pairs that this start wrote itself (best and worst by the
task's reward); SFT itself starts from the base. Scores are of the same held-out rows, greedy and drawn at temperature 1
(which is what methods that sample maximise), and the gain is a paired difference, of a row's mean over the seeds; a
reward model's score is its accuracy on held-out pairs, where guessing gives a half.
Rates are those of so small a model, a hundred times those that suit large ones, and the same for all seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tieout.evidence import stats
from tieout.evidence.evaluate import evaluate
from tieout.groups import best_and_worst, decided
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.methods import METHODS
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.tasks import Task, load_task
from tieout.training.build import prepare
from tieout.training.loop import train
from tieout.training.schedule import Schedule
from tieout.training.spec import Placement, TrainSpec
from tieout.types import Row

Scores = dict[str, list[float]]
"""How completions were written ("greedy" or "drawn", or "pairs" of a reward model) -> the score of every row."""

RESULTS = Path(__file__).parent / "results" / "methods_learn.json"
MODEL, TASK, MAX_NEW_TOKENS = "tieout-base", "finance_statements", 320


@dataclass(frozen=True)
class Setting:
    """What a method learns from, and for how long."""

    rows: str
    """demonstrations, pairs, labels or prompts."""
    steps: int
    options: dict[str, Any] = field(default_factory=dict)


def online(steps: int = 14, **options: Any) -> Setting:
    """A method that samples: 8 prompts of 8 completions a step."""
    defaults = {"learning_rate": 1e-3, "batch_size": 8, "group_size": 8, "max_new_tokens": 280}
    return Setting("prompts", steps, {**defaults, **options})


def pairs(learning_rate: float, steps: int = 16, **options: Any) -> Setting:
    return Setting("pairs", steps, {"learning_rate": learning_rate, "batch_size": 16, **options})


SETTINGS: dict[str, Setting] = {
    "sft": Setting("demonstrations", 30, {"learning_rate": 1e-3, "batch_size": 16}),
    "rejection_sampling": online(28, batch_size=16),  # one of eight completions is trained on: more of them
    "reward_model": pairs(1e-3, 32),
    "dpo": pairs(5e-4),
    "online_dpo": online(learning_rate=5e-4),
    "kto": Setting("labels", 16, {"learning_rate": 5e-4, "batch_size": 32}),
    "orpo": pairs(1e-3),
    "cpo": pairs(5e-4),
    "simpo": pairs(3e-4),
    "grpo": online(),
    "dr_grpo": online(),
    "dapo": online(),
    "gspo": online(),
    "cispo": online(),
    "rloo": online(),
    # PPO has no baseline from other completions of a prompt: many prompts, and a value that does not pull at the policy
    "ppo": online(
        24,
        batch_size=32,
        group_size=4,
        num_ppo_epochs=1,
        num_mini_batches=1,
        lam=1.0,
        kl_coef=0.01,
        value_coef=0.01,
    ),
}


@dataclass
class Start:
    """Of one seed: the adapter after a short SFT, its pairs, and its scores on the held-out rows."""

    adapter: Path
    pairs: list[Row]
    scores: Scores


def held_out(count: int) -> list[Row]:
    return list(load_task(TASK).rows("test")[:count])


def scores_of(model: Any, rows: Sequence[Row]) -> Scores:
    """Of every row, greedy and drawn with the same random numbers every time."""
    task, found = load_task(TASK), {}
    for name, temperature in (("greedy", 0.0), ("drawn", 1.0)):
        params = SamplingParams(MAX_NEW_TOKENS, temperature)
        cases = evaluate(task, rows, LocalSampler(model), params, batch_size=len(rows))
        found[name] = [case.score for case in cases if case.score is not None]
        assert len(found[name]) == len(rows)  # an error of the reward would be an error of this script
    return found


def start_of(seed: int, folder: Path, count: int, prompts: int) -> Start:
    """Made once a seed, and kept: the adapter first, then what it wrote."""
    path, rows, task = folder / f"seed-{seed}", held_out(count), load_task(TASK)
    known = path / "start.json"
    if not (path / "start").exists():
        fit = TrainSpec(
            METHODS["sft"](learning_rate=1e-3, batch_size=16), MODEL, seed=seed, placement=Placement("cpu")
        )
        learner, source = prepare(fit, task)
        train(fit.method, source, learner, steps=30, schedule=fit.schedule)
        path.mkdir(parents=True, exist_ok=True)
        save_adapter(learner, path / "start")
    if not known.exists():
        sampler = LocalSampler(load(MODEL, start=path / "start", device="cpu"))
        drawn = Source(task, sampler.chat, sampler, seed=1000 + seed)
        found = []
        for chunk in range(0, prompts, 24):
            params = SamplingParams(MAX_NEW_TOKENS, 0.7, seed=chunk)
            for group in filter(decided, drawn.rollout(drawn.take(min(24, prompts - chunk)), 6, params)):
                chosen, rejected = best_and_worst(group).completions
                found.append(
                    {"prompt": group.row["prompt"], "chosen": chosen.text, "rejected": rejected.text}
                )
        known.write_text(json.dumps({"pairs": found, "scores": scores_of(sampler.model, rows)}))
    state = json.loads(known.read_text())
    if (made := len(state["scores"]["greedy"])) != count:
        raise SystemExit(f"{known} is of {made} held-out rows, not {count}: delete it")
    return Start(path / "start", state["pairs"], state["scores"])


def rows_for(setting: Setting, start: Start) -> Task:
    task = load_task(TASK)
    rows: Sequence[Row] = start.pairs[: len(start.pairs) * 4 // 5]
    if setting.rows in ("demonstrations", "prompts"):
        return task
    if setting.rows == "labels":
        rows = [
            {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
            for row in rows
            for side in ("chosen", "rejected")
        ]
    return Task(TASK, lambda split: rows, task.reward)


def run(name: str, start: Start, seed: int, count: int, steps: int | None) -> dict[str, Any]:
    """Train one method from the seed's start; scores before and after, and seconds of training."""
    setting = SETTINGS[name]
    method: Any = METHODS[name](**setting.options)
    scored = name != "reward_model"
    begin = None if name in ("sft", "reward_model") else start.adapter
    fit = TrainSpec(
        method,
        MODEL,
        begin,
        AdapterConfig(),
        seed=seed,
        placement=Placement("cpu"),
        schedule=Schedule("constant"),
    )
    learner, source = prepare(fit, rows_for(setting, start))
    before = scores_of(learner.model, held_out(count)) if name == "sft" else start.scores
    if not scored:
        before = right_pairs(learner, source, start)
    started, used = time.perf_counter(), time.process_time()
    train(method, source, learner, steps=steps or setting.steps, schedule=fit.schedule)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
    after = scores_of(learner.model, held_out(count)) if scored else right_pairs(learner, source, start)
    return {
        "method": name,
        "seed": seed,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "steps": steps or setting.steps,
        "options": setting.options,
        "start": {kind: round(fmean(values), 4) for kind, values in before.items()},
        "end": {kind: round(fmean(values), 4) for kind, values in after.items()},
        "gains": {
            kind: [round(b - a, 4) for a, b in zip(before[kind], after[kind], strict=True)] for kind in before
        },
    }


def right_pairs(learner: Learner, source: Source, start: Start) -> Scores:
    """1 where the better completion of a held-out pair has the higher score."""
    rows = start.pairs[len(start.pairs) * 4 // 5 :]
    found = learner.scores([source.given(row, [row["chosen"], row["rejected"]], None) for row in rows])
    return {"pairs": [float(a > b) for a, b in found]}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Every method learns",
        "",
        f"`python benchmarks/methods_learn.py`, one thread of {os.cpu_count()} cores ({platform.machine()}).",
        f"`{MODEL}` on held-out rows of `{TASK}`, greedy and drawn at temperature 1: means over the seeds, and the",
        "paired gain with its 95% interval over rows (a row's gain is its mean over the seeds), with each seed's. A",
        "reward model: accuracy on held-out pairs, which differ from seed to seed. Seconds are of one seed's training",
        "alone, by the clock and of CPU, while another process used the other core.",
        "",
        "| method | steps | seeds | scores | start | end | gain | n | by seed | s | CPU s |",
        "|" + "---|" * 11,
    ]
    clear: dict[str, list[str]] = {}
    for name in SETTINGS:
        own = [r for r in runs if r["method"] == name]
        for kind in own[0]["start"] if own else ():
            gain = pooled([r["gains"][kind] for r in own], same_rows=kind != "pairs")
            if gain.low is not None and gain.low > 0:
                clear.setdefault(kind, []).append(name)
            cells = [name, str(own[0]["steps"]), ", ".join(str(r["seed"]) for r in own), kind]
            cells += [f"{fmean(r[key][kind] for r in own):.3f}" for key in ("start", "end")]
            cells += [f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]", str(gain.n)]
            cells.append(", ".join(f"{fmean(r['gains'][kind]):+.3f}" for r in own))
            cells += [f"{fmean(r[key] for r in own):.0f}" for key in ("seconds", "cpu_seconds")]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for kind, names in clear.items():
        lines.append(f"The gain is above 0 with all of its interval, {kind}: {', '.join(names)}.")
    return "\n".join([*lines, ""])


def pooled(differences: Sequence[Sequence[float]], same_rows: bool) -> stats.Estimate:
    """The gain over all seeds: of each row its mean, or of all rows together where every seed has its own."""
    if not same_rows:
        return stats.mean([d for own in differences for d in own], bounds=(-1.0, 1.0))
    return stats.mean([fmean(row) for row in zip(*differences, strict=True)], bounds=(-1.0, 1.0))


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=200, help="held-out rows")
    parser.add_argument("--prompts", type=int, default=288, help="prompts sampled by each start for pairs")
    parser.add_argument("--steps", type=int, default=None, help="instead of each method's own")
    parser.add_argument("--again", action="store_true", help="repeat what was measured")
    parser.add_argument("--folder", type=Path, default=Path("runs/methods_learn"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if missing := [name for name in METHODS if name not in SETTINGS]:
        raise SystemExit(f"no setting for {', '.join(missing)}: add them to SETTINGS")
    torch.set_num_threads(1)
    runs = json.loads(arguments.results.read_text()) if arguments.results.exists() else []
    order = list(METHODS)
    for seed in arguments.seeds:
        for name in arguments.methods:
            if not arguments.again and any((r["method"], r["seed"]) == (name, seed) for r in runs):
                continue
            start = start_of(seed, arguments.folder, arguments.count, arguments.prompts)
            done = run(name, start, seed, arguments.count, arguments.steps)
            runs = [r for r in runs if (r["method"], r["seed"]) != (name, seed)] + [done]
            runs.sort(key=lambda r: (order.index(r["method"]), r["seed"]))
            lines = ",\n".join(json.dumps(r) for r in runs)
            arguments.results.write_text(f"[\n{lines}\n]\n")
            arguments.results.with_suffix(".md").write_text(table(runs))
            figures = ", ".join(f"{k} {v:.3f} -> {done['end'][k]:.3f}" for k, v in done["start"].items())
            print(f"{name} seed {seed}: {figures} ({done['seconds']} s)", flush=True)


if __name__ == "__main__":
    main()
