"""tieout on one CUDA GPU: first whether its attention is right there, then its step against the plain one and TRL's.

python benchmarks/gpu.py                           # under ten minutes, into benchmarks/results/gpu.{json,md}
python benchmarks/gpu.py --rows grpo-500m --out /tmp/gpu
python benchmarks/gpu.py --device cpu --rows tiny --out /tmp/gpu      # the same path without a GPU

Needs torch, transformers and PEFT; TRL is measured too if it can be imported. `plain` is a padded step as transformers
and PEFT give it (plain_peer.py), `repeated` is tieout without its packed rows. Sides alternate within a round; each
has the GPU's peak memory of its own update. A row is written as soon as it is measured, and rows that no time is left
for are named. Nothing is timed if the attention is not right.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from attention_parity import parity, parity_table
from ours import Ours, counted_flops
from plain_peer import Plain
from works import SHAPES, DecodeJob, build_model, flat, sequences

RESULTS = Path(__file__).parent / "results" / "gpu"
SHAPES["tiny"] = {**SHAPES["3m"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SHAPES["tiny"] |= {"num_attention_heads": 4}
WORKS = {
    "dpo-500m": DecodeJob("dpo", "500m", 1024, 128, 2, 8, 5, 0.1),
    "grpo-500m": DecodeJob("grpo", "500m", 1024, 256, 8, 4, 5),
    "grpo-500m-kl": DecodeJob("grpo", "500m", 1024, 256, 8, 4, 5, 0.04),
    "grpo-500m-long": DecodeJob("grpo", "500m", 64, 1024, 8, 4, 3),
    "tiny": DecodeJob("grpo", "tiny", 160, 8, 4, 2, 2, 0.04),
}
DEFAULT = [name for name in WORKS if name != "tiny"]
Side = Ours | Plain


def synchronised(function: Callable[[], Any], device: str) -> tuple[Any, float]:
    """What it returns, and its seconds until the device has done it."""
    wait(device)
    started = time.perf_counter()
    result = function()
    wait(device)
    return result, time.perf_counter() - started


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_of(function: Callable[[], Any], device: str) -> float:
    """GB of the GPU's memory that it takes at its peak beyond what is loaded before it; 0 without a GPU."""
    if device != "cuda":
        function()
        return 0.0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def measure(work: DecodeJob, folder: Path, device: str) -> dict[str, Any]:
    """All sides of a row on the same tokens: seconds of updates and of rollouts, memory, and how far they are apart."""
    model = build_model(work.model, folder)
    ours = Ours(work, model, device)
    sides: dict[str, Side] = {
        "tieout": ours,
        "repeated": Ours(work, model, device, "repeated"),
        "plain": Plain(work, model, device),
    }
    rollouts = work.method == "grpo"
    groups = ours.groups(ours.sample() if rollouts else sequences(work), logprobs=rollouts)
    result: dict[str, Any] = {
        "update": {},
        "sample": {},
        "gigabytes": {},
        "path": ours.learner.forward.attention_backend,
    }
    metrics: dict[str, float] = {}
    for name, side in sides.items():
        result["gigabytes"][name] = round(peak_of(lambda side=side: side.update(groups), device), 3)  # type: ignore[misc]
    for _ in range(work.rounds):
        for name, side in sides.items():
            found, seconds = synchronised(lambda side=side: side.update(groups), device)  # type: ignore[misc]
            result["update"].setdefault(name, []).append(seconds)
            metrics = found if name == "tieout" and isinstance(found, dict) else metrics
        for name, side in sides.items():
            if rollouts and name != "repeated":
                _, seconds = synchronised(side.sample, device)
                result["sample"].setdefault(name, []).append(seconds)
    with counted_flops() as count:
        ours.update(groups)
    exact = sides["repeated"].logprobs(groups)
    plain = sides["plain"]
    assert isinstance(plain, Plain)
    mine, theirs = flat(ours.learner.model.trained()), flat(plain.parameters)
    tokens = sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions)
    result |= {name: metrics[name] for name in ("shared_prefix", "token_ratio")}
    result |= {"tokens": tokens, "flops": count(), "matmul_peak": matmul_peak(device)}
    return result | {
        "logprob_difference": (ours.logprobs(groups) - exact).abs().max().item(),
        "logprob_noise": (plain.logprobs(groups) - exact).abs().max().item(),
        "gradient_cosine": (mine @ theirs / (mine.norm() * theirs.norm())).item(),
        "sampling_backend": ours.sampler.choice.backend if ours.sampler.choice else "",
    }


def matmul_peak(device: str) -> float:
    """FLOP/s of a matrix product in the dtype that is trained in, best of five."""
    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    seconds = [synchronised(lambda: a @ a, device)[1] for _ in range(6)]
    return 2 * size**3 / min(seconds[1:])


def trl_seconds(work: DecodeJob, folder: Path, device: str) -> dict[str, Any]:
    """TRL's own step, in a run after the others: it cannot give way to them within one `train()` here."""
    from peer_trl import spy, trl_trainer
    from transformers import TrainerCallback

    update, sample, seen = [], [], {"started": 0.0}

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            trainer.generation_seconds = 0.0
            wait(device)
            seen["started"] = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wait(device)
            whole = time.perf_counter() - seen["started"]
            sample.append(trainer.generation_seconds)
            update.append(whole - trainer.generation_seconds)

    model = build_model(work.model, folder)
    trainer = trl_trainer(work, model, folder / "trl", work.rounds + 1, True, [Clock()], device)
    spy(trainer, time.perf_counter)
    memory = peak_of(trainer.train, device)
    return {"update": update[1:], "sample": sample[1:], "gigabytes": round(memory, 3)}


def table(
    results: list[dict[str, Any]], checks: list[dict[str, Any]], left: list[str], seconds: float
) -> str:
    """Markdown."""
    lines = [
        "# On a GPU"
        if results and results[0]["device"] != "cpu"
        else "# The GPU benchmark, run without a GPU",
        "",
        f"`python benchmarks/gpu.py` on {device_name(results)}, {versions()}, {seconds:.0f} s in all. Rows not run for",
        f"want of time: {', '.join(left) or 'none'}.",
        "",
        *parity_table(checks),
        "",
        "## The step",
        "",
        "Seconds are medians of the rounds; a ratio is the side's seconds over tieout's in the same round, median",
        "(smallest to largest). Memory is the peak of an update beyond the loaded model. The difference of",
        "log-probabilities is from tieout's plain layout, and so is the noise, which is the padded step's; the cosine",
        "is between tieout's gradient and the padded step's.",
        "",
        "| work | P, R, G x prompts | beta | side | update s | ratio | rollouts s | ratio | GB | tokens/s |",
        "|" + "---|" * 10,
    ]
    for r in results:
        for side, values in r["update"].items():
            shape = f"{r['prompt']}, {r['completion']}, {r['group_size']} x {r['groups']}"
            cells = [r["row"], shape, f"{r['beta']:g}", side, f"{median(values):.3f}"]
            cells.append(_ratio(values, r["update"]["tieout"]))
            sampled = r["sample"].get(side)
            cells += (
                [f"{median(sampled):.2f}", _ratio(sampled, r["sample"]["tieout"])] if sampled else ["", ""]
            )
            cells += [f"{r['gigabytes'][side]:.2f}", f"{r['tokens'] / median(values):.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    columns = ["attention", "sampler", "token ratio", "log-prob difference", "noise", "gradient cosine"]
    lines += ["", f"| work | {' | '.join(columns)} | of matmul peak |", "|" + "---|" * (2 + len(columns))]
    for r in results:
        share = r["flops"] / median(r["update"]["tieout"]) / r["matmul_peak"]
        lines.append(
            f"| {r['row']} | {r['path']} | {r['sampling_backend']} | {r['token_ratio']:.2f} | "
            f"{r['logprob_difference']:.1e} | {r['logprob_noise']:.1e} | {r['gradient_cosine']:.6f} | {share:.0%} |"
        )
    return "\n".join([*lines, ""])


def _ratio(values: list[float], ours: list[float]) -> str:
    found = sorted(a / b for a, b in zip(values, ours, strict=True))
    return f"{median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def device_name(results: list[dict[str, Any]]) -> str:
    """Of what it ran on."""
    cpu = not results or results[0]["device"] == "cpu"
    return platform.machine() if cpu else torch.cuda.get_device_name()


def versions() -> str:
    """Of the libraries that are there."""
    from importlib.metadata import version

    names = ["torch", "transformers", "peft", *(["trl"] if importlib.util.find_spec("trl") else [])]
    return ", ".join(f"{name} {version(name)}" for name in names)


def main() -> None:
    started = time.perf_counter()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=DEFAULT, choices=list(WORKS))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="of the results, without ending")
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu"), help="of models and scratch")
    parser.add_argument("--minutes", type=float, default=9.0, help="no row is begun after two thirds of them")
    parser.add_argument("--rounds", type=int, help="of each row; its own number if not given")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "gpu.py: no CUDA device was found; --device cpu --rows tiny runs the same path without one"
        )
    checks = parity(arguments.device)
    print("\n".join(parity_table(checks)), flush=True)
    if not all(check["right"] for check in checks):
        raise SystemExit("gpu.py: the attention is not right here (see above): nothing was timed")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    left = list(arguments.rows)
    for name in arguments.rows:
        if time.perf_counter() - started > 40 * arguments.minutes:
            break
        left.remove(name)
        work = replace(WORKS[name], rounds=arguments.rounds or WORKS[name].rounds)
        row = {"row": name, "device": arguments.device, **asdict(work)}
        row |= measure(work, arguments.folder, arguments.device)
        if arguments.device == "cuda" and importlib.util.find_spec("trl"):
            for part, value in trl_seconds(work, arguments.folder, arguments.device).items():
                row[part]["trl"] = value
            row["sample"] = {side: values for side, values in row["sample"].items() if any(values)}
        results.append(row)
        arguments.out.with_suffix(".json").write_text(
            json.dumps({"parity": checks, "rows": results}, indent=1)
        )
        text = table(results, checks, left, time.perf_counter() - started)
        arguments.out.with_suffix(".md").write_text(text)
    print(table(results, checks, left, time.perf_counter() - started))


if __name__ == "__main__":
    main()
