"""Throughput of every reward family, and what worker processes cost. Writes results/rewards.json and rewards.md.

    python benchmarks/rewards.py [--seconds 1.0]

Each family is measured in this process, per second of its CPU time (so that other programs do not count), and in two
worker processes, per second of the clock (where they do), on groups of eight completions: gold, flawed and empty ones.
A call scores one group; completions a second are eight times that. The last lines are the targets: 200 rewards of 5 ms
on two workers, and a reward that hangs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tieout.rewards import load_reward
from tieout.rewards.processes.workers import Workers
from tieout.rewards.scoring.runner import Call, Limits, score_groups
from tieout.tasks import Task, load_task

RESULTS = Path(__file__).parent / "results"
GROUP = 8
SLOW = """
import time
def slow(completions, **_):
    time.sleep(0.005 * len(completions))
    return [1.0] * len(completions)
def hangs(completions, **_):
    while True:
        pass
"""


def groups_of(task: Task, count: int = 24) -> list[Call]:
    """Groups as a policy in training writes them: right, flawed, cut off, empty."""
    rng, calls = random.Random(0), []
    assert task.gold is not None
    for row in task.rows("test")[:count]:
        gold = task.gold(row)
        flawed = [task.corrupt(row, rng) if task.corrupt else gold[::-1] for _ in range(GROUP - 4)]
        texts = [gold, *flawed, gold[: len(gold) // 2], f"{gold} {gold}", ""]
        calls.append(Call.of_texts(texts, [row["prompt"]] * len(texts), row))
    return calls


def numeric_groups() -> list[Call]:
    """Figures in every style."""
    golds = ["(5,062)", "$1,496.5", "36%", "25 bps", "$(9.8) million", "€1.3 billion"]
    wrong = ["5,062", "Answer: 36%", "41, 42", "NaN", "", "<think>a</think>12.5%"]
    return [
        Call.of_texts([gold, *wrong, f"#### {gold}"], ["?"] * 8, {"prompt": "?", "answer": gold})
        for gold in golds
    ]


def form_groups() -> list[Call]:
    """Texts of a few hundred words, in tags."""
    words = " ".join(f"step{i} follows from what was said before" for i in range(40))
    texts = [f"<think>{words}</think><answer>{i}</answer>" for i in range(GROUP)]
    return [Call.of_texts(texts, ["?"] * GROUP, {"prompt": "?"}) for _ in range(8)]


def reconcile_groups() -> list[Call]:
    """A balance sheet with citations."""
    figures = {
        "Assets": 100_000,
        "Liabilities": 60_000,
        "StockholdersEquity": 37_000,
        "MinorityInterest": 3_000,
    }
    lines = {name: f"{name} | {value:,}" for name, value in figures.items()}
    gold = json.dumps({"figures": figures, "citations": lines})
    row = {"prompt": "?", "figures": figures, "source": "\n".join(lines.values()), "evidence": lines}
    return [Call.of_texts([gold, gold.replace("3", "4"), gold[:-1], "{}"] * 2, ["?"] * GROUP, row)] * 8


def exact_groups() -> list[Call]:
    """Short texts."""
    return [
        Call.of_texts(
            ["Net income"] * 4 + ["net loss"] * 4, ["?"] * GROUP, {"prompt": "?", "answer": "Net income"}
        )
    ] * 8


FAMILIES: dict[str, Callable[[], list[Call]]] = {
    "exact": exact_groups,
    "numeric": numeric_groups,
    "finance_statements": lambda: groups_of(load_task("finance_statements")),
    "reconciled": reconcile_groups,
    "tags": form_groups,
    "language": form_groups,
    "length": form_groups,
    "repetition": form_groups,
    "overlong": form_groups,
    "rag": lambda: groups_of(load_task("rag")),
    "summary": lambda: groups_of(load_task("summaries")),
}


def rate(reward: Any, calls: list[Call], seconds: float, workers: Workers | None) -> float:
    """Groups a second: of CPU time in this process, of the clock in workers."""
    score_groups(reward, calls[:2], workers)
    clock = time.perf_counter if workers else time.process_time
    done, started = 0, clock()
    while (elapsed := clock() - started) < seconds:
        score_groups(reward, calls, workers)
        done += len(calls)
    return done / elapsed


def targets(workers: Workers) -> dict[str, float]:
    """Seconds for 200 rewards of 5 ms, and for a reward that hangs under a deadline of one second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slow.py"
        path.write_text(SLOW)
        slow, hangs = load_reward(f"{path}:slow"), load_reward(f"{path}:hangs")
        calls = [Call.of_texts(["x"], ["?"], {"prompt": "?"})] * 200
        score_groups(slow, calls[:4], workers)
        workers.load(hangs)
        started = time.perf_counter()
        score_groups(slow, calls, workers)
        many = time.perf_counter() - started
        started = time.perf_counter()
        score_groups(hangs, [Call.of_texts(["x"] * GROUP, ["?"] * GROUP, {"prompt": "?"})], workers)
        return {
            "200_rewards_of_5_ms": many,
            "a_reward_that_hangs_deadline_1_s": time.perf_counter() - started,
        }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each family and way")
    seconds = parser.parse_args().seconds
    rates: dict[str, dict[str, float]] = {}
    load = os.getloadavg()[0]
    with Workers(2, Limits(deadline_seconds=1.0)) as workers:
        for name, make in FAMILIES.items():
            reward, calls = load_reward(name), make()
            one, two = (rate(reward, calls, seconds, where) for where in (None, workers))
            rates[name] = {"groups_per_cpu_second": one, "groups_on_two_workers": two}
            print(f"{name:20}{one:10.0f}{two:10.0f} groups a second")
        reached = targets(workers)
    for name, value in reached.items():
        print(f"{name:40}{value:8.3f} s")
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load_average_before": load}
    found = {"command": f"python benchmarks/rewards.py --seconds {seconds:g}", **machine, "group_size": GROUP}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rewards.json").write_text(
        json.dumps({**found, "rates": rates, "seconds": reached}, indent=2) + "\n"
    )
    lines = [
        "# Throughput of the reward library",
        "",
        f"`{found['command']}` on {machine['cpus']} cores, load average {load:.1f} at the start, groups of {GROUP}.",
        "A call scores one group. The first column does not depend on the load, the others do.",
        "",
        "| reward | calls a CPU second, in process | calls a second, two workers | completions a second, two workers |",
        "|---|---|---|---|",
        *(
            f"| {name} | {r['groups_per_cpu_second']:.0f} | {r['groups_on_two_workers']:.0f} | "
            f"{GROUP * r['groups_on_two_workers']:.0f} |"
            for name, r in rates.items()
        ),
        "",
        "| target | seconds |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {value:.3f} |" for name, value in reached.items()),
        "",
    ]
    (RESULTS / "rewards.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
