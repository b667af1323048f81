"""False alarms on healthy runs, and planted ones that must be found: GRPO on the embedded base, short runs.

python benchmarks/alarms.py                  # 20 healthy and 6 planted runs -> benchmarks/results/alarms.{json,md}
python benchmarks/alarms.py --healthy 2 --planted 1 --steps 24

Healthy: the task's own reward, as gold and as proxy. Planted: a proxy with a hole, which pays for the shortest
completion, or for a word that is always there. Runs that are in the results are not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from tieout.evidence.stats import proportion
from tieout.learner import AdapterConfig, Learner, load
from tieout.methods import GRPO
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.tasks import Task, load_task
from tieout.training import alarms
from tieout.training.loop import train
from tieout.training.monitors import DEFAULT
from tieout.types import Group

RESULTS = Path(__file__).parent / "results" / "alarms.json"


def detectors(gold: Callable[..., Any]) -> dict[str, alarms.Detector]:
    """Every alarm with its default limits."""
    return {
        "gold against proxy": alarms.gold_against_proxy(gold),
        "impossible rows": alarms.impossible_rows(),
        "sampler mismatch": alarms.above("mismatch", 0.1, patience=1),
        "KL a completion": alarms.kl_per_sequence(),
        "entropy collapse": alarms.entropy_collapse(),
        "length drift": alarms.length_drift(),
        "no signal": alarms.no_signal(),
        "one part dominates": alarms.dominant_part(),
        "repetition": alarms.above("repetition", 0.2),
        "refusals": alarms.above("refusal", 0.2),
        "empty": alarms.above("empty", 0.2),
        "other script": alarms.risen("other_script", 0.2),
        "hedging": alarms.risen("hedging", 0.3, paid=True),
        "alike answers": alarms.changed("distinct", falls=0.25),
        "reward errors": alarms.above("error_share", 0.1),
    }


def shortest(completions: Sequence[str], **_: Any) -> list[float]:
    """The hole: the fewer characters the better."""
    return [1.0 / (1.0 + len(text) / 20) for text in completions]


def opening(completions: Sequence[str], **_: Any) -> list[float]:
    """Another hole: it pays for braces and brackets."""
    return [min(1.0, sum(c in "{}[]" for c in text) / 40) for text in completions]


HOLES = {"pays for shortness": shortest, "pays for brackets": opening}


def run(task: Task, proxy: Callable[..., Any], seed: int, steps: int) -> dict[str, Any]:
    """One run; alarms are noted and do nothing."""
    assert task.reward is not None
    model = load("tieout-base", AdapterConfig(rank=16), seed=seed)
    source = Source(
        Task(task.name, task.rows, proxy, max_new_tokens=task.max_new_tokens), model.chat, LocalSampler(model)
    )
    source.seed = seed
    method = GRPO(
        batch_size=6, group_size=6, max_new_tokens=min(task.max_new_tokens, 220), learning_rate=1e-3
    )
    learner = Learner(model, method.learning_rate)
    found: dict[str, int] = {}
    golds: list[float] = []
    named = detectors(task.reward)

    def watch(step: int, groups: Sequence[Group], metrics: Any) -> None:
        alarms.texts(step, groups, metrics)
        metrics["error_share"] = metrics.get("errored", 0.0) / max(1.0, metrics.get("completions", 1.0))
        if step % 4 == 1:
            reference = learner.reference_logprobs(groups)
            metrics["kl"] = k3(groups, reference)
        for name, detector in named.items():
            if detector(step, groups, metrics) is not None:
                found.setdefault(name, step)
        golds.append(metrics.get("gold", float("nan")))

    started = time.perf_counter()
    train(method, source, learner, steps=steps, monitors=[*DEFAULT, watch])
    return {"task": task.name, "seed": seed, "steps": steps, "watched": list(named), "alarms": found, "gold": golds,
            "seconds": round(time.perf_counter() - started, 1)}  # fmt: skip


def k3(groups: Sequence[Group], reference: Sequence[Sequence[Sequence[float]]]) -> float:
    """Nats a token, sampled (k3)."""
    import math

    ratios = [
        q - p
        for g, rows in zip(groups, reference, strict=True)
        for c, row in zip(g.completions, rows, strict=True)
        for p, q in zip(c.logprobs or [], row, strict=True)
    ]
    return fmean(math.expm1(r) - r for r in ratios)


def table(results: Mapping[str, Any]) -> str:
    """Markdown."""
    healthy = [r for r in results.values() if r["kind"] == "healthy"]
    planted = [r for r in results.values() if r["kind"] != "healthy"]
    lines = ["# Alarms", "", "`python benchmarks/alarms.py`: GRPO on tieout-base, one thread.", ""]
    if healthy:
        steps = sorted({r["steps"] for r in healthy})
        named = f"{len(healthy)} healthy runs of {', '.join(map(str, steps))} steps"
        lines += [f"False alarms in {named}, with 95% intervals:", "",
                  "| alarm | runs with a false alarm | rate |", "|---|---|---|"]  # fmt: skip
        for name in detectors(shortest):
            watched = [r for r in healthy if name in r["watched"]]
            if not watched:  # an alarm newer than these runs
                continue
            count = sum(name in r["alarms"] for r in watched)
            share = proportion(count, len(watched))
            lines.append(f"| {name} | {count} | {share.value:.2f} [{share.low:.2f}, {share.high:.2f}] |")
        lines.append("")
    if planted:
        lines += [
            "Planted holes: the step of the gold alarm, and how far gold had fallen from its best six steps by then",
            "and by the end of the run, which went on.",
            "",
            "| hole | task | seed | alarm at step | gold lost by then | gold lost by the end |",
            "|---|---|---|---|---|---|",
        ]
        for r in planted:
            at = r["alarms"].get("gold against proxy")
            by_then = f"{lost(r['gold'][:at]):.3f}" if at else "-"
            end = lost(r["gold"])
            lines.append(
                f"| {r['kind']} | {r['task']} | {r['seed']} | {at or 'none'} | {by_then} | {end:.3f} |"
            )
        lines.append("")
    return "\n".join(lines)


def lost(golds: Sequence[float], window: int = 6) -> float:
    """Best mean of six steps minus that of the last six."""
    means = [fmean(golds[i : i + window]) for i in range(max(1, len(golds) - window + 1))]
    return max(means) - means[-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--healthy", type=int, default=20)
    parser.add_argument("--planted", type=int, default=3, help="runs of each hole")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    tasks = [load_task("controls"), load_task("finance_statements")]
    controls = tasks[0].rows("test")  # they have test rows only; for a run these are as good as any
    tasks[0] = replace(tasks[0], rows=lambda split: controls)
    wanted = [("healthy", tasks[i % 2], None, i) for i in range(arguments.healthy)]
    wanted += [(name, tasks[1], hole, i) for name, hole in HOLES.items() for i in range(arguments.planted)]
    for kind, task, hole, seed in wanted:
        key = f"{kind}/{task.name}/{seed}/{arguments.steps}"
        if key in results:
            continue
        assert task.reward is not None
        results[key] = {"kind": kind, **run(task, hole or task.reward, seed, arguments.steps)}
        print(key, results[key]["seconds"], results[key]["alarms"], flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(table(results))


if __name__ == "__main__":
    main()
