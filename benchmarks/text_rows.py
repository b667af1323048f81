"""Rows of against_trl.py on real text: two processes, one step at a time, and a table of what they took."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from text_side import WORKS

SIDES = ("trl", "tieout")
TOLERANCES = {"fp32": 1e-2, "bf16": 0.2}
"""Share of the gradient's norm by which the two sides may differ at their first step. bf16 has three digits."""
PARTS = ("rollouts", "reward", "reference", "forward", "backward", "optimizer")


class Worker:
    """One side's process."""

    def __init__(self, options: Sequence[str], threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, str(Path(__file__).with_name("text_side.py")), *options]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self, wanted: str) -> dict[str, Any]:
        """The next thing it says, which has to be this."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {}
        if wanted not in said:
            raise RuntimeError(f"a side ended, or said {said}, where {wanted!r} was expected")
        return said

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(120)


def measure(
    name: str, dtype: str, plain: bool, cpu_time: bool, threads: int, rounds: int | None, folder: Path
) -> dict[str, Any]:
    """One row: steps in turn, the first one left out, and a comparison of that first one."""
    import torch

    work = replace(WORKS[name], rounds=rounds or WORKS[name].rounds)
    began, seen = time.perf_counter(), {side: list[dict[str, Any]]() for side in SIDES}
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    workers: dict[str, Worker] = {}
    try:
        for side in SIDES:  # in turn: neither loads while the other does
            settings = (
                "plain" if plain else "default",
                "cpu" if cpu_time else "wall",
                str(threads),
                str(place),
            )
            workers[side] = Worker([side, name, str(work.rounds), dtype, *settings], threads)
            workers[side].hear("ready")
        for step in range(work.rounds + 1):
            for side in SIDES:
                workers[side].tell("go")
                seen[side].append(workers[side].hear("seconds"))
                if step < work.rounds:
                    workers[side].hear("ready")
                print(f"  {name} {dtype} step {step} {side}: {seen[side][-1]}", flush=True)
        workers["trl"].hear("done")
        if work.method == "grpo":
            workers["tieout"].hear("ready")
            workers["tieout"].tell(str(place / "trl.json"))
        workers["tieout"].hear("done")
    finally:
        for worker in workers.values():
            worker.end()
    trl, ours = (json.loads((place / f"{side}.json").read_text()) for side in SIDES)
    theirs, mine = (torch.load(place / f"{side}.gradient.pt") for side in SIDES)
    found = {
        "gradient_error": ((mine - theirs).norm() / theirs.norm()).item(),
        "losses": [trl["loss"], ours.get("repeated_loss", ours["loss"])],
    }
    if work.method == "grpo":
        pairs = zip(trl["advantages"], ours["advantages"], strict=True)
        found["advantage_error"] = max(abs(a - b) for a, b in pairs)
    errors = [found[key] for key in ("gradient_error", "advantage_error") if key in found]
    if not max(errors) < TOLERANCES[dtype]:  # also where there is no gradient: then nothing was compared
        raise RuntimeError(f"the two sides do not compute the same ({found}): their times mean nothing")
    return {
        "row": name,
        "text": True,
        "dtype": dtype,
        "plain": plain,
        "cpu_time": cpu_time,
        **asdict(work),
        **found,
        "steps": {side: seen[side][1:] for side in SIDES},
        "peak": {"trl": trl["peak"], "tieout": ours["peak"]},
        "loaded": {"trl": trl["loaded"], "tieout": ours["loaded"]},
        "lengths": {"trl": trl.get("lengths"), "tieout": ours.get("lengths")},
        "rewards": {"trl": trl["rewards"], "tieout": ours["rewards"]},
        "threads": threads,
        "date": time.strftime("%Y-%m-%d"),
        "machine": _machine(),
        "cores": len(os.sched_getaffinity(0)),
        "command": _command(name, dtype, threads, plain, cpu_time)
        + (f" --rounds {rounds}" if rounds else ""),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _command(name: str, dtype: str, threads: int, plain: bool, cpu_time: bool) -> str:
    more = " --plain" * plain + " --cpu-time" * cpu_time
    return f"python benchmarks/against_trl.py --only {name} --dtype {dtype} --threads {threads}{more}"


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return names[0] if names else platform.machine()


def ratio(result: dict[str, Any]) -> tuple[float, float, float]:
    """TRL's seconds over ours, step by step: (median, smallest, largest)."""
    steps = zip(*(result["steps"][side] for side in SIDES), strict=True)
    found = sorted(a["seconds"] / b["seconds"] for a, b in steps)
    return median(found), found[0], found[-1]


def table(results: list[dict[str, Any]]) -> list[str]:
    """Markdown, its lines."""
    if not results:
        return []
    lines = [
        "",
        "## On real text",
        "",
        "The same program on both sides, with `trl` or with `tieout.trl`: rows of `finance_statements` (for SmolLM2's",
        "rollouts after a solved example), its reward, stop tokens, LoRA rank 16 on every linear layer with B = 0,",
        "learning rate zero, new rows in every step. Each side has a process of its own and its own rollouts (TRL:",
        "transformers' `generate`); the processes take turns, a step each, and the first step of each is not timed.",
        "Before a row is written, the gradient of TRL's first step is compared with ours on the same tokens and, for",
        "GRPO, the advantages: largest differences in the table. Times are of whole steps: median (smallest to",
        "largest ratio), of CPU time where it says so: on a machine that others use. Memory is the peak of the",
        "process. TRL runs as it comes, with gradient checkpointing; `plain` is without it. Not in these steps is what",
        "tieout measures in the first and every tenth: the KL of rollouts, or a probe of what the policy writes.",
        "",
        "| row | dtype | prompts, G | tokens of a completion TRL, tieout | step s TRL, tieout | TRL / tieout | goal |"
        " memory GB TRL, tieout | tieout / TRL | loss TRL, tieout | gradient error | measured |",
        "|" + "---|" * 12,
    ]
    for r in results:
        middle, low, high = ratio(r)
        seconds = [median(s["seconds"] for s in r["steps"][side]) for side in SIDES]
        peaks = [r["peak"][side] for side in SIDES]
        written = [r["lengths"][side] for side in SIDES]
        mean = ", ".join(f"{_mean(w):.0f}" for w in written) if all(written) else f"{_mean(written[1]):.0f}"
        cells = [
            _name(r),
            r["dtype"],
            f"{r['groups']}, {r['group_size']}",
            mean,
            ", ".join(f"{s:.2f}" for s in seconds),
            f"{middle:.1f} ({low:.1f} to {high:.1f})",
            f"{r['goal']:g}",
            ", ".join(f"{p:.2f}" for p in peaks),
            f"{peaks[1] / peaks[0]:.2f}",
            ", ".join(f"{x:.4g}" for x in r["losses"]),
            f"{r['gradient_error']:.1e}",
            f"{r['date']}, {_machine_of(r)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Where a step goes, seconds (medians of the steps; what is left of TRL's is its update):",
        "",
        f"| row | dtype | TRL: rollouts | reward | rest | tieout: {' | '.join(PARTS)} | rest |",
        "|" + "---|" * (6 + len(PARTS)),
    ]
    for r in results:
        cells = [_name(r), r["dtype"]]
        for side, parts in (("trl", PARTS[:2]), ("tieout", PARTS)):
            spent = [median(s["parts"].get(part, 0.0) for s in r["steps"][side]) for part in parts]
            whole = median(s["seconds"] for s in r["steps"][side])
            cells += [f"{x:.2f}" if x else "" for x in spent] + [f"{whole - sum(spent):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    commands = dict.fromkeys(r["command"].split(" --only")[0] for r in results)
    return [
        *lines,
        "",
        f"Each row by `{next(iter(commands))} --only ROW --dtype DTYPE --threads THREADS`.",
        "",
    ]


def _machine_of(result: dict[str, Any]) -> str:
    threads, cores = result["threads"], result["cores"]
    return f"{threads} thread{'s' * (threads > 1)} on {cores} core{'s' * (cores > 1)}, {result['machine']}"


def _name(result: dict[str, Any]) -> str:
    return result["row"] + " plain" * result["plain"] + " (CPU time)" * result["cpu_time"]


def _mean(lengths: list[list[int]]) -> float:
    every = [n for step in lengths for n in step]
    return sum(every) / len(every)
