"""tieout's training step against TRL's: same model, data, LoRA, batch and dtype, alternating in one process.

python benchmarks/against_trl.py                       # every row, into benchmarks/results/against_trl.{json,md}
python benchmarks/against_trl.py --only dpo-60m-512    # these rows again; the others stay as measured
python benchmarks/against_trl.py --only text-grpo-base --dtype bf16
python benchmarks/against_trl.py --plain               # TRL without gradient checkpointing (its default is with)
python benchmarks/against_trl.py --memory              # only peak memory anew: the machine need not be quiet for it

A row is measured in three processes: one in which TRL trains and, after each of its steps, tieout does the same step
(times, and how far log-probabilities and gradients are apart), and one for each side alone (peak memory). TRL runs its
own `train()`; the timed part is what lies between its callbacks `on_step_begin` and `on_step_end`. The learning rate is
zero, so that every round does the same work from the same weights. A row is written as soon as it is measured.
Rows on real text (`text-...`) are measured by `text_rows.py`: two processes that take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import text_rows
from ours import Ours, counted_flops
from peer_trl import rows_of, spy, trl_logprobs, trl_trainer
from works import DecodeJob, build_model, flat, sequences, stir

RESULTS = Path(__file__).parent / "results" / "against_trl.json"
SIDES = ("trl", "tieout")
TOLERANCE = 1e-2
"""Nats of log-probability, and share of the gradient's norm, that the two sides may differ by."""


WORKS = {
    "dpo-60m-512": DecodeJob("dpo", "60m", 512, 128, 2, 4, 3, 0.1, update=3.5),
    "dpo-60m-1024": DecodeJob("dpo", "60m", 1024, 64, 2, 4, 2, 0.1, update=3.5),
    "grpo-60m": DecodeJob("grpo", "60m", 512, 128, 8, 1, 3, update=4, whole=4),
    "grpo-60m-kl": DecodeJob("grpo", "60m", 512, 128, 8, 1, 2, 0.04, update=4, whole=4),
    "grpo-3m": DecodeJob("grpo", "3m", 512, 128, 8, 2, 5, update=3, whole=6),
    "grpo-3m-kl": DecodeJob("grpo", "3m", 512, 128, 8, 2, 5, 0.04, update=3, whole=6),
    "grpo-3m-1024": DecodeJob("grpo", "3m", 1024, 256, 8, 1, 5, update=3, whole=5),
    "grpo-3m-long": DecodeJob("grpo", "3m", 64, 512, 8, 1, 5, update=1.1, whole=3),
    "sft-60m": DecodeJob("sft", "60m", 50, 800, 1, 10, 3, update=1.3),
}
clock: Callable[[], float] = time.perf_counter


# ---------------------------------------------------------------- one process


def alternate(work: DecodeJob, folder: Path, plain: bool) -> dict[str, Any]:
    """TRL's step, then ours on the same tokens, `rounds` times: seconds of each, and how far they are apart."""
    from transformers import TrainerCallback

    model = build_model(work.model, folder)
    ours = Ours(work, model)
    times: dict[str, list[float]] = {f"{side}_{part}": [] for side in SIDES for part in ("update", "sample")}
    result: dict[str, Any] = {}
    seen: dict[str, Any] = {}

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            trainer.generation_seconds = 0.0
            seen["started"] = clock()

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            if "gradient" not in seen:
                seen["gradient"] = flat(
                    {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
                )

        def on_step_end(self, *_: Any, **__: Any) -> None:
            whole = clock() - seen["started"]
            times["trl_sample"].append(trainer.generation_seconds)
            times["trl_update"].append(whole - trainer.generation_seconds)
            groups = ours.groups(rows_of(work, trainer), logprobs=work.method == "grpo")
            started = clock()
            if work.method == "grpo":
                ours.sample()
            sampled = clock()
            metrics = ours.update(groups)
            times["tieout_update"].append(clock() - sampled)
            times["tieout_sample"].append(sampled - started)
            if not result:
                result.update(compare(groups, metrics))
            print(
                f"  {work.method} {work.model}: { ({k: round(v[-1], 2) for k, v in times.items()}) }",
                flush=True,
            )

    def compare(groups: list[Any], metrics: dict[str, float]) -> dict[str, Any]:
        gradient, theirs = flat(ours.learner.model.trained()), seen["gradient"]
        errors = {
            "logprob_error": (ours.logprobs(groups) - trl_logprobs(trainer, groups)).abs().max().item(),
            "gradient_error": ((gradient - theirs).norm() / theirs.norm()).item(),
        }
        if not max(errors.values()) < TOLERANCE:
            raise RuntimeError(f"the two sides do not compute the same ({errors}): their times mean nothing")
        return errors | {
            "shared_prefix": metrics["shared_prefix"],
            "token_ratio": metrics["token_ratio"],
            "tokens": sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions),
        }

    trainer = trl_trainer(work, model, folder / "trl", work.rounds, plain, [Clock()])
    spy(trainer, clock)
    stir({n: p for n, p in trainer.model.named_parameters() if p.requires_grad})
    peak = matmul_peak()
    trainer.train()
    return {**result, "matmul_peak": max(peak, matmul_peak()), **times}


def alone(work: DecodeJob, folder: Path, side: str, plain: bool) -> dict[str, Any]:
    """One step of one side, for its peak memory; of ours, how much arithmetic its update is."""
    model = build_model(work.model, folder)
    if side == "trl":
        trainer = trl_trainer(work, model, folder / "trl", 1, plain, [])
        loaded = peak_gigabytes()
        trainer.train()
        return {"trl_loaded": loaded}
    ours = Ours(work, model)
    loaded = peak_gigabytes()
    groups = ours.sampled() if work.method == "grpo" else ours.groups(sequences(work), logprobs=False)
    with counted_flops() as count:
        ours.update(groups)
    return {"tieout_flops": count(), "tieout_loaded": loaded}


def peak_gigabytes() -> float:
    """Of this process until now: at the start of a step, its program and what it has loaded."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def matmul_peak() -> float:
    """FLOP/s of an fp32 matrix product, best of five."""
    import torch

    a = torch.randn(2048, 2048)
    seconds = []
    for _ in range(6):
        started = clock()
        a @ a
        seconds.append(clock() - started)
    return 2 * 2048**3 / min(seconds[1:])


# ---------------------------------------------------------------- all processes


def in_process(task: str, name: str, arguments: argparse.Namespace) -> float:
    """Run one task in a process of its own; its peak memory in GB. Raises CalledProcessError if it fails."""
    command = [sys.executable, __file__, "--task", task, "--rows", name, "--folder", str(arguments.folder)]
    command += ["--threads", str(arguments.threads), *(["--plain"] if arguments.plain else [])]
    command += ["--rounds", str(arguments.rounds)] if arguments.rounds else []
    command += ["--cpu-time"] if arguments.cpu_time else []
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(status, command)
    return usage.ru_maxrss / 2**20


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All processes of one row that were asked for."""
    started = time.perf_counter()
    tasks = SIDES if arguments.memory else ("times", *SIDES)
    peaks = {task: round(in_process(task, name, arguments), 2) for task in tasks}
    found = {
        key: value
        for task in peaks
        for key, value in json.loads((arguments.folder / f"{name}.{task}.json").read_text()).items()
    }
    found |= {f"{side}_gigabytes": peaks[side] for side in SIDES}
    if arguments.memory:
        return found
    return {
        "row": name,
        "plain": arguments.plain,
        "cpu_time": arguments.cpu_time,
        **asdict(WORKS[name]),
        **found,
        "threads": arguments.threads,
        "seconds": round(time.perf_counter() - started, 1),
    }


def ratios(result: dict[str, Any], whole: bool) -> tuple[float, float, float]:
    """TRL's seconds over ours: (median, smallest, largest) over the rounds."""
    parts = ("update", "sample") if whole else ("update",)
    per_round = [
        [sum(values) for values in zip(*(result[f"{side}_{part}"] for part in parts), strict=True)]
        for side in SIDES
    ]
    found = sorted(a / b for a, b in zip(*per_round, strict=True))
    return median(found), found[0], found[-1]


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    versions, every = results[0]["versions"], results
    results = [r for r in every if not r.get("text")]
    lines = [
        "# tieout against TRL",
        "",
        f"`python benchmarks/against_trl.py` on {os.cpu_count()} cores ({platform.machine()}), fp32, LoRA rank 16 on",
        f"every linear layer, {', '.join(f'{k} {v}' for k, v in versions.items())}.",
        "",
        "Ratios are TRL's time over tieout's in the same round: median (smallest to largest). `update` is the step",
        "without its rollouts, with the reference where there is one: both sides compute it in every step. Seconds",
        "are medians; tokens are those of the plain layout. Errors: largest difference of log-probabilities (nats),",
        "and norm of the difference of gradients as a share of the gradient's. TRL runs as it comes, with gradient",
        "checkpointing; rows marked `plain` are without it.",
        "",
        "| work | P, R, G | beta | update | goal | whole step | goal | update s TRL, tieout | rollouts s TRL, tieout |"
        " tokens/s TRL, tieout | of matmul peak | log-prob error | gradient error |",
        "|" + "---|" * 13,
    ]
    for r in results:
        cells = []
        for whole, goal in ((False, r["update"]), (True, r["whole"])):
            if whole and r["method"] != "grpo":
                cells += ["", ""]
                continue
            middle, low, high = ratios(r, whole)
            cells += [f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{goal:g}"]
        seconds = [median(r[f"{side}_update"]) for side in SIDES]
        cells.append(f"{seconds[0]:.2f}, {seconds[1]:.2f}")
        sampled = ", ".join(f"{median(r[f'{side}_sample']):.2f}" for side in SIDES)
        cells.append(sampled if r["method"] == "grpo" else "")
        cells.append(", ".join(f"{r['tokens'] / s:.0f}" for s in seconds))
        cells.append(f"{r['tieout_flops'] / seconds[1] / r['matmul_peak']:.0%}")
        cells += [f"{r['logprob_error']:.1e}", f"{r['gradient_error']:.1e}"]
        shape = (
            "50 to 800" if r["method"] == "sft" else f"{r['prompt']}, {r['completion']}, {r['group_size']}"
        )
        lines.append(f"| {name_of(r)} | {shape} | {r['beta']:g} | {' | '.join(cells)} |")
    lines += [
        "",
        "Peak memory of a step, each side in a process of its own. `loaded` is what the process had taken before the",
        "step: Python, its libraries and the model. The last column leaves that out.",
        "",
        "| work | TRL GB | tieout GB | tieout / TRL | TRL loaded | tieout loaded | tieout / TRL beyond it |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        theirs, ours = (r[f"{side}_gigabytes"] for side in SIDES)
        loaded = [r[f"{side}_loaded"] for side in SIDES]
        cells = [f"{theirs:.2f}", f"{ours:.2f}", f"{ours / theirs:.2f}", *(f"{x:.2f}" for x in loaded)]
        cells.append(f"{(ours - loaded[1]) / (theirs - loaded[0]):.2f}")
        lines.append(f"| {name_of(r)} | {' | '.join(cells)} |")
    return "\n".join([*lines, *text_rows.table([r for r in every if r.get("text")]), ""])


def name_of(result: dict[str, Any]) -> str:
    """Of a row, with how it was measured."""
    return result["row"] + " plain" * result["plain"] + " (CPU time)" * result["cpu_time"]


def versions() -> dict[str, str]:
    """Of what was measured."""
    from importlib.metadata import version

    return {name: version(name) for name in ("trl", "torch", "transformers", "peft")}


def main() -> None:
    global clock
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*WORKS, *text_rows.WORKS]
    parser.add_argument("--only", "--rows", dest="rows", nargs="+", default=every, choices=every)
    parser.add_argument(
        "--dtype", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"], help="of text rows"
    )
    parser.add_argument("--plain", action="store_true", help="TRL without gradient checkpointing")
    parser.add_argument("--memory", action="store_true", help="only peak memory; times stay as measured")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path("runs/against_trl"), help="of models and scratch")
    parser.add_argument("--task", choices=["times", *SIDES], help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help="steps of each side; a row's own number if not given")
    parser.add_argument(
        "--cpu-time", action="store_true", help="seconds of CPU, of all threads: on a busy machine"
    )
    arguments = parser.parse_args()
    if arguments.cpu_time:
        clock = time.process_time
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.task:
        import torch

        torch.set_num_threads(arguments.threads)
        name = arguments.rows[0]
        if arguments.task == "times":
            work = WORKS[name]
            work = replace(work, rounds=arguments.rounds or work.rounds)
            found = alternate(work, arguments.folder, arguments.plain)
        else:
            found = alone(WORKS[name], arguments.folder, arguments.task, arguments.plain)
        (arguments.folder / f"{name}.{arguments.task}.json").write_text(json.dumps(found))
        return
    RESULTS.parent.mkdir(exist_ok=True)
    for name in arguments.rows:
        for dtype in arguments.dtype if name in text_rows.WORKS else [None]:
            keep(name, dtype, arguments)


def keep(name: str, dtype: str | None, arguments: argparse.Namespace) -> None:
    """Measure one row and put it among the results, in the place of an earlier measurement."""
    key = (name, arguments.plain, dtype)
    known = [r for r in read_results() if key_of(r) == key]
    if dtype is not None:
        done = text_rows.measure(
            name,
            dtype,
            arguments.plain,
            arguments.cpu_time,
            arguments.threads,
            arguments.rounds,
            arguments.folder,
        )
    elif arguments.memory and not known:
        raise SystemExit(f"{name} has not been measured yet: run it without --memory first")
    else:
        done = (known[0] if arguments.memory else {}) | measure(name, arguments)
    done["versions"] = versions()
    results = [r for r in read_results() if key_of(r) != key] + [
        done
    ]  # others may have been written meanwhile
    order = [*WORKS, *text_rows.WORKS]
    results.sort(key=lambda r: (r["plain"], order.index(r["row"]), r.get("dtype") == "bf16"))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(table(results))
    print("\n".join(line for line in table([done]).splitlines() if line.startswith(f"| {name} ")), flush=True)


def read_results() -> list[dict[str, Any]]:
    """What was measured so far."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return found


def key_of(result: dict[str, Any]) -> tuple[str, bool, str | None]:
    """What makes a row another row."""
    return result["row"], result["plain"], result.get("dtype")


if __name__ == "__main__":
    main()
