"""Rollouts with and without drafts, alternating in one run: steps saved, and tokens per second.

python benchmarks/drafts.py --policy SFT=runs/reason/sft/adapter       # into benchmarks/results/drafts.{json,md}
python benchmarks/drafts.py --rounds 3 --works 1x8 --temperatures 1 --cpu-time
python benchmarks/drafts.py --model smollm2-135m --dtype bf16 --works 1x8 --max-new-tokens 128

A model, and further policies on it that are named, on `finance_statements`, with the stop tokens of its template. Every
round takes other prompts. Tokens are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "drafts.json"
MODES = ("off", "on")
WORKS = ("1x8", "8x8", "24x1")
"""prompts x completions of each"""


def measure(
    model: Any, work: str, temperature: float, rounds: int, max_new_tokens: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Seconds and forwards of each mode in each round."""
    from tieout.samplers import SamplingParams
    from tieout.samplers.local.decoding.kv_cache import KVCache
    from tieout.samplers.local.sampler import LocalSampler
    from tieout.tasks import load_task

    samplers = {mode: LocalSampler(model, drafts=mode == "on") for mode in MODES}
    drafts = samplers["on"].drafts
    assert drafts is not None
    rows = list(load_task("finance_statements").rows("train"))
    prompts = [model.chat.prompt(row["prompt"]) for row in rows]
    count, group = map(int, work.split("x"))
    begin, forwards = KVCache.begin, 0

    def counted(self: KVCache, *given: Any) -> None:
        nonlocal forwards
        forwards += 1
        begin(self, *given)

    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    steps: dict[str, list[int]] = {mode: [] for mode in MODES}
    tokens, unlike, far = 0, 0, 0.0
    KVCache.begin = counted  # type: ignore[method-assign, assignment]
    try:
        for number in range(-1, rounds):  # the first is not counted
            part = prompts[(number + 1) * count : (number + 2) * count]
            order = MODES if number % 2 else MODES[::-1]
            found: dict[str, list[Any]] = {}
            params = SamplingParams(max_new_tokens, temperature, seed=number + 1)
            for mode in order:
                forwards, started = 0, clock()
                drawn = samplers[mode].sample(part, group, params)
                if number >= 0:
                    seconds[mode].append(round(clock() - started, 4))
                    steps[mode].append(forwards)
                found[mode] = [c for completions in drawn for c in completions]
            tokens += sum(len(c.tokens) for c in found["off"]) if number >= 0 else 0
            for a, b in zip(found["on"], found["off"], strict=True):
                unlike += a.tokens != b.tokens
                if a.tokens == b.tokens:
                    far = max(far, *(abs(x - y) for x, y in zip(a.logprobs, b.logprobs, strict=True)))
    finally:
        KVCache.begin = begin  # type: ignore[method-assign]
    return {
        "work": work,
        "temperature": temperature,
        "tokens": tokens,
        "seconds": seconds,
        "steps": steps,
        "tokens_per_step": round(drafts.counts.tokens_per_step, 2),
        "completions_unlike": unlike,
        "largest_logprob_difference": far,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Rollouts with drafts",
        "",
        f"`python benchmarks/drafts.py` on {os.cpu_count()} cores ({platform.machine()}), `finance_statements`.",
        "Work is prompts x completions. A ratio is without drafts over with them, median [smallest, largest] over the",
        "rounds; with and without alternate within a round. Unlike: completions with other tokens than without.",
        "",
        "| model | dtype | policy | work | temperature | limit | threads, clock | tokens per row and step | steps, "
        "ratio | time, ratio | completions | unlike | log-prob difference | measured |",
        "|" + "---|" * 14,
    ]
    for run in runs:
        steps, seconds = (_ratio(run[what]["off"], run[what]["on"]) for what in ("steps", "seconds"))
        count, group = map(int, run["work"].split("x"))
        completions = count * group * (1 + len(run["steps"]["on"]))
        lines.append(
            f"| {run['model']} | {run['dtype']} | {run['policy']} | {run['work']} | {run['temperature']:g} | "
            f"{run['limit']} | {run['threads']}, {run['clock']} | {run['tokens_per_step']} | {steps} | {seconds} | "
            f"{completions} | {run['completions_unlike']} | {run['largest_logprob_difference']:.0e} | {run['date']} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(off: list[float], on: list[float]) -> str:
    ratios = sorted(a / b for a, b in zip(off, on, strict=True))
    return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tieout-base")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--policy", nargs="*", default=[], help="NAME=FOLDER of an adapter on the model")
    parser.add_argument("--no-base", action="store_true", help="only these policies")
    parser.add_argument("--works", nargs="+", default=WORKS)
    parser.add_argument("--temperatures", nargs="+", type=float, default=[1.0, 0.6, 0.0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds: for a machine that others use too"
    )
    arguments = parser.parse_args()
    import torch

    from tieout.learner import load

    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    runs: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    named: list[tuple[str, Path | None]] = [] if arguments.no_base else [("base", None)]
    named += [(name, Path(folder)) for name, folder in (p.split("=", 1) for p in arguments.policy)]
    dtype = torch.bfloat16 if arguments.dtype == "bf16" else torch.float32
    for name, folder in named:
        model = load(arguments.model, start=folder, dtype=dtype)
        for work in arguments.works:
            for temperature in arguments.temperatures:
                limit = arguments.max_new_tokens
                run = {"model": arguments.model, "dtype": arguments.dtype, "policy": name, "limit": limit}
                run |= {"threads": arguments.threads, "date": time.strftime("%Y-%m-%d")}
                run["clock"] = "cpu" if arguments.cpu_time else "wall"
                run |= measure(model, work, temperature, arguments.rounds, limit, clock)
                key = ("model", "dtype", "policy", "work", "temperature", "threads", "clock")
                runs = [r for r in runs if any(r[k] != run[k] for k in key)] + [run]
                runs.sort(key=lambda r: (r["model"] != "tieout-base", *(r[k] for k in key)))
                RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
                RESULTS.with_suffix(".md").write_text(table(runs))
                print(table([run]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
