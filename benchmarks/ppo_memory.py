"""Peak memory of a PPO step against a GRPO step on the same shapes, each in a process of its own.

python benchmarks/ppo_memory.py                       # into benchmarks/results/ppo_memory.{json,md}
python benchmarks/ppo_memory.py --model 3m --prompt 128 --completion 32 --out /tmp/quick

A step is all that follows the rollouts: what `annotate` measures, and one pass of updates over the completions (PPO's
second epoch would take time, not memory). Prompts and completions are random tokens; LoRA of rank 16.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

RESULTS = Path(__file__).parent / "results" / "ppo_memory"
CASES = {
    "grpo": "GRPO, no KL",
    "grpo_kl": "GRPO, beta 0.04",
    "ppo": "PPO, the value on the policy's trunk",
    "ppo_adapter": "PPO, the value on an adapter of its own",
}
LIMIT = 1.5
"""PPO's peak over GRPO's, for the default (the value on the trunk)."""


def measure(case: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Load, take one step to warm up and one that counts; gigabytes."""
    import torch
    from works import build_model

    from tieout.learner import AdapterConfig, Learner, load
    from tieout.methods import GRPO, PPO
    from tieout.training.loop import learn
    from tieout.types import Completion, Group

    method: Any = {
        "grpo": GRPO(),
        "grpo_kl": GRPO(beta=0.04),
        "ppo": PPO(num_ppo_epochs=1, num_mini_batches=1),
        "ppo_adapter": PPO(num_ppo_epochs=1, num_mini_batches=1, value_adapter=True),
    }[case]
    folder = str(build_model(arguments.model, arguments.folder))
    options = {"head": "value", "value_adapter": case == "ppo_adapter"} if case.startswith("ppo") else {}
    model = load(folder, AdapterConfig(rank=16), **options)
    learner = Learner(model, learning_rate=1e-6)
    rng, size = random.Random(0), model.causal.config.vocab_size

    def tokens(length: int) -> list[int]:
        return [rng.randrange(2, size) for _ in range(length)]

    groups = []
    for _ in range(arguments.groups):
        completions = [
            Completion(c := tokens(arguments.completion), [True] * len(c), [-5.0] * len(c))
            for _ in range(arguments.group_size)
        ]
        groups.append(Group(tokens(arguments.prompt), completions, [rng.random() for _ in completions]))
    loaded = gigabytes(model.device)
    for _ in range(2):
        learn(method, method.annotate(groups, learner), learner)
    if model.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"loaded": loaded, "peak": peak}


def gigabytes(device: Any) -> float:
    """Memory in use now: of the device, or resident in this process."""
    import torch

    if device.type == "cuda":
        return torch.cuda.memory_allocated() / 2**30
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**30


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    cases, base = results["cases"], results["cases"]["grpo"]
    lines = [
        "# Memory of a PPO step",
        "",
        f"`{results['command']}` on {results['machine']}: {results['shapes']}.",
        "Peak of the process (on CUDA: of the device), and what the step took above the loaded model.",
        "",
        "| step | loaded GB | peak GB | over GRPO | step GB | over GRPO |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        step, base_step = case["peak"] - case["loaded"], base["peak"] - base["loaded"]
        lines.append(
            f"| {CASES[name]} | {case['loaded']:.2f} | {case['peak']:.2f} | {case['peak'] / base['peak']:.2f} | "
            f"{step:.2f} | {step / base_step:.2f} |"
        )
    ratio = cases["ppo"]["peak"] / base["peak"] if "ppo" in cases else float("nan")
    lines += ["", f"PPO over GRPO: {ratio:.2f}; the limit is {LIMIT}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="60m", choices=["60m", "3m"])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--completion", type=int, default=128)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="without suffix")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tieout-ppo-memory")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case, arguments)))
        return
    cases = {}
    for case in CASES:
        command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{case} failed:\n{done.stderr[-3000:]}")
        cases[case] = json.loads(done.stdout.splitlines()[-1])
        print(case, {k: round(v, 2) for k, v in cases[case].items()}, flush=True)
    a = arguments
    shapes = (
        f"{a.model} Llama, {a.groups} x {a.prompt} prompt tokens, {a.group_size} x {a.completion} tokens each"
    )
    results = {
        "command": " ".join(["python", "benchmarks/ppo_memory.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores ({platform.machine()})",
        "shapes": shapes,
        "cases": cases,
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
