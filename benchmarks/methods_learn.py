"""Every method from one SFT adapter: what each gains in the primary metric and the reward, with paired intervals.

python benchmarks/methods_learn.py            # three seeds of benchmarks/every_method.yaml
python benchmarks/methods_learn.py --seeds 0

A run that was interrupted resumes. Report and cases of every seed are kept in benchmarks/results/methods_learn/, where
`tieout verify` recomputes them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo_seeds import keep, machines

from tieout.methods import METHODS
from tieout.storage.jsonl import read_json

RECIPE = Path(__file__).with_name("every_method.yaml")
RESULTS = Path(__file__).parent / "results" / "methods_learn"


def run(seed: int, folder: Path) -> None:
    """One seed in a process of its own; its evidence is kept. Raises CalledProcessError if it fails."""
    out = folder / f"seed-{seed}"
    subprocess.run(
        [sys.executable, "-m", "tieout", "run", str(RECIPE), "--out", str(out), "--seed", str(seed)],
        check=True,
    )
    keep(out / "evidence", RESULTS / out.name)
    shutil.copyfile(out / "reward_model" / "calibration.json", RESULTS / out.name / "reward_model.json")


def table() -> str:
    """Markdown, from the reports that are kept."""
    seeds = {path.parent.name: read_json(path) for path in sorted(RESULTS.glob("seed-*/report.json"))}
    made = [{"environment": report["metadata"]["environment"]} for report in seeds.values()]
    lines = [
        "# What every method gains",
        "",
        f"`python benchmarks/methods_learn.py`, fp32, {machines(made)}.",
        "Each method trains from its seed's SFT adapter (SFT from `tieout-base`) on `finance_statements`, by",
        "`every_method.yaml`; 400 test rows, greedy. `exact` is the share of answers in which every figure is right",
        "and cited, the gain a paired difference with its 95% interval.",
        "`tieout verify benchmarks/results/methods_learn/NAME` recomputes a seed.",
        "",
        "| method | seed | exact | gain in exact | gain in reward |",
        "|---|---|---|---|---|",
    ]
    clear: dict[str, list[bool]] = {}
    for name in METHODS:
        for seed, report in seeds.items():
            if (gained := gains(report, name)) is None:
                continue
            after = report["models"][name]["programmatic"]["slices"]["test"]["metrics"]["exact"]["mean"]
            cells = [f"{d:+.3f} [{low:+.3f}, {high:+.3f}]" for d, low, high in gained]
            clear.setdefault(name, []).append(gained[0][1] > 0)
            lines.append(f"| {' | '.join([name, seed.removeprefix('seed-'), f'{after:.3f}', *cells])} |")
    always = [name for name, above in clear.items() if all(above)]
    lines += [
        "",
        f"The interval of the gain in exact lies above 0 with every seed: {', '.join(always) or 'none'}.",
    ]
    for seed in seeds:
        agreed = read_json(RESULTS / seed / "reward_model.json")["agreement"]
        share = f"{agreed['value']:.3f} [{agreed['low']:.3f}, {agreed['high']:.3f}]"
        lines += ["", f"The reward model of {seed} orders {share} of {agreed['n']} held-out pairs right."]
    return "\n".join([*lines, ""])


def gains(report: dict[str, Any], method: str) -> list[list[float]] | None:
    """[difference, low, high] of `exact` and of the reward against the adapter that it started from."""
    start = "base" if method == "sft" else "sft"
    for comparison in report["comparisons"]:
        if (comparison["candidate"], comparison["baseline"]) == (method, start):
            test = comparison["tracks"]["programmatic"]["slices"]["test"]
            return [
                [f[key] for key in ("difference", "low", "high")] for f in (test["metrics"]["exact"], test)
            ]
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/methods_learn"))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        run(seed, arguments.folder)
        RESULTS.with_suffix(".md").write_text(table())


if __name__ == "__main__":
    main()
