"""Plans against the runs they were made for: peak of memory and time of six trainings, each side in a fresh process.

python benchmarks/plan.py --cpu-time --beside "a training on the other core"   # into benchmarks/results/plan.{json,md}
python benchmarks/plan.py --only base-sft --rounds 1

A plan is asked for as many steps as the run takes, and the two alternate. Pairs that are in the results are only read.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results" / "plan.json"
GOALS = {"memory": 0.10, "seconds": 0.25}
ROWS = 1000


@dataclass(frozen=True)
class Job:
    """One training on `finance_statements`."""

    model: str
    method: str
    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the method."""


_GRPO = {"batch_size": 8, "group_size": 8, "temperature": 0.6, "max_new_tokens": 320}
JOBS = {
    "base-sft": Job("tieout-base", "sft", 25, {"batch_size": 16}),
    "base-dpo": Job("tieout-base", "dpo", 25, {"batch_size": 8}),
    "base-grpo": Job("tieout-base", "grpo", 8, _GRPO),
    "smollm2-sft": Job("smollm2-135m", "sft", 4, {"batch_size": 8}),
    "smollm2-dpo": Job("smollm2-135m", "dpo", 4, {"batch_size": 4}),
    "smollm2-grpo": Job("smollm2-135m", "grpo", 3, {**_GRPO, "batch_size": 2, "max_new_tokens": 64}),
}


def side(name: str, which: str) -> dict[str, Any]:
    """Plan a job, or run it, in this process."""
    import torch
    from rich.console import Console

    from tieout.learner.memory import peak_bytes, reset_peak
    from tieout.learner.models.loading import device_of, precision_of
    from tieout.methods import load_method
    from tieout.pipelines.planning.runs import measure_alone
    from tieout.pipelines.planning.work import work_alone
    from tieout.pipelines.training_rows import with_rows
    from tieout.storage.machine import environment
    from tieout.storage.runfolder import RunFolder
    from tieout.tasks import load_task
    from tieout.training.fit import fit
    from tieout.training.spec import TrainSpec

    started, job = time.perf_counter(), JOBS[name]
    size = job.options["batch_size"]
    method = load_method(job.method)(
        **job.options, learning_rate=1e-4, epochs=(job.steps - 0.5) * size / ROWS
    )
    spec = TrainSpec(method, job.model, dtype=precision_of(job.model, "auto").name)
    task, rng = load_task("finance_statements"), random.Random(0)
    rows = list(task.rows("train"))[:ROWS]
    if job.method == "dpo":
        assert task.corrupt is not None
        rows = [
            {"prompt": r["prompt"], "chosen": r["completion"], "rejected": task.corrupt(r, rng)} for r in rows
        ]
    task = with_rows(task, {"train": rows})
    about = {"dtype": spec.dtype, "threads": torch.get_num_threads(), "machine": environment()["processor"]}
    if which == "plan":
        planned = measure_alone(work_alone(name, spec, task))
        assert planned.steps == job.steps
        found = {"memory": planned.memory, "seconds": planned.seconds, "assumed": planned.assumed}
        return {**found, **about, "took": time.perf_counter() - started}
    device = torch.device(device_of(None))
    with tempfile.TemporaryDirectory() as place, RunFolder(Path(place)) as folder:
        reset_peak(device)
        fit(folder, name, spec, task, Console(quiet=True))
        memory = peak_bytes(device)
        steps = [json.loads(line) for line in (Path(place) / name / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == job.steps
    collected, updated = (sum(s[f"{part}_seconds"] for s in steps) for part in ("collect", "update"))
    return {"memory": memory, "seconds": collected + updated, "collected": collected}


def alone(name: str, which: str, cpu_time: bool) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--side", which, "--only", name, *["--cpu-time"] * cpu_time]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    said: dict[str, Any] = json.loads(found.splitlines()[-1])
    return said


def ratio(run: Mapping[str, Any], what: str) -> list[float]:
    """Planned over measured, of each pair, from the smallest."""
    return sorted(pair["plan"][what] / pair["run"][what] for pair in run["pairs"] if "run" in pair)


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Plans against runs",
        "",
        "Each training of `finance_statements` is planned and then run, in two fresh processes, by the command in its",
        "row. Medians over the pairs; a ratio is planned over measured [smallest, largest]. Goals:",
        f"memory within {GOALS['memory']:.0%}, time within {GOALS['seconds']:.0%}. Memory is the peak of the process.",
        "Time is of steps: saving, probes and evaluation come on top. In CPU time a reward, which runs in another",
        "process, is not counted; nor is what the machine does for others.",
        "",
        "| training | dtype | steps | memory GiB planned, measured | ratio | time s planned, measured | ratio | goals |"
        " the plan took | measured |",
        "|" + "---|" * 10,
    ]
    for run in runs:
        job, about = JOBS[run["name"]], run["pairs"][-1]["plan"]
        cells = [f"{run['name']}: {_settings(job)}", about["dtype"], str(job.steps)]
        for what, unit, digits in (("memory", 2**30, 2), ("seconds", 1, 1)):
            sides = [
                median(pair[s][what] for pair in run["pairs"] if s in pair) / unit for s in ("plan", "run")
            ]
            ratios = ratio(run, what)
            cells.append(", ".join(f"{x:.{digits}f}" for x in sides))
            cells.append(f"{median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]")
        missed = [what for what, goal in GOALS.items() if abs(median(ratio(run, what)) - 1) > goal]
        took = median(pair["plan"]["took"] for pair in run["pairs"])
        threads = f"{about['threads']} thread{'s' * (about['threads'] > 1)}"
        where = f"{run['date']}, {threads}, {about['machine']}, next to: {run['beside']}; `{run['command']}`"
        cells += ["missed: " + ", ".join(missed) if missed else "met", f"{took:.0f} s", where]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {r['name']}: {'; '.join(said)}" for r in runs if (said := r["pairs"][-1]["plan"]["assumed"])]
    return "\n".join([*lines, "", "What the plans assumed:", "", *notes, ""])


def _settings(job: Job) -> str:
    said = ", ".join(f"{key} {value}" for key, value in job.options.items())
    return f"{job.method} of {job.model}, {said}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list(JOBS), choices=JOBS)
    parser.add_argument("--rounds", type=int, default=2, help="pairs of a plan and a run")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds: on a machine that others use too"
    )
    parser.add_argument("--beside", default="nothing that was noted", help="what else the machine was doing")
    parser.add_argument("--side", choices=["plan", "run"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cpu_time:
        time.perf_counter = time.process_time  # before anything is imported that times itself
    if arguments.side:
        print(json.dumps(side(arguments.only[0], arguments.side)))
        return
    for name in arguments.only:
        run = next((r for r in kept() if r["name"] == name), None)
        if run is None:
            command = f"python benchmarks/plan.py --only {name} --rounds {arguments.rounds}"
            command = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} {command}"
            run = {"name": name, "command": command + " --cpu-time" * arguments.cpu_time, "pairs": []}
            run |= {"date": time.strftime("%Y-%m-%d"), "beside": arguments.beside}
        for number in range(arguments.rounds):
            run["pairs"] += [{}] if number == len(run["pairs"]) else []
            pair = run["pairs"][number]
            for which in ("plan", "run"):
                if which not in pair:
                    pair[which] = alone(name, which, arguments.cpu_time)
                    print(f"{name}: {which} {pair[which]}", flush=True)
                    keep(run)
    RESULTS.with_suffix(".md").write_text(table([r for r in kept() if "run" in r["pairs"][0]]))


def kept() -> list[dict[str, Any]]:
    """Rows measured so far, also by another process that measures other trainings."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return found


def keep(run: dict[str, Any]) -> None:
    """Write a row, in place of what was measured of it before."""
    runs = sorted(
        [r for r in kept() if r["name"] != run["name"]] + [run], key=lambda r: list(JOBS).index(r["name"])
    )
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
