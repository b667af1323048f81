"""Memory of a training command over 2,000 steps: of the trainer, of its workers, and of open files.

python benchmarks/memory.py                       # into benchmarks/results/memory.{json,md}
python benchmarks/memory.py --methods grpo --steps 200 --out /tmp/quick

500 rows, again and again: what is kept of a row, such as DPO's reference log-probabilities, is there after the first
quarter. Prompts of 5 to 60 tokens and completions of up to 16 on tieout-base, with held-out evaluations, checkpoints
and, for GRPO, a reward in two workers.
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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from tieout.storage.machine import environment

RESULTS = Path(__file__).parent / "results" / "memory"
ROWS = 500
QUARTERS = ("first", "second", "third", "last")
SHOWN = {"trainer": "trainer, MiB", "workers": "workers, MiB", "files": "open files", "threads": "threads"}
LIMIT = 0.01
"""Of the trainer's memory, and of the workers': what the last quarter may hold more than the second."""
WRITTEN = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
"""Of a process's memory, by the kernel's names."""
REWARD = """def digits(completions, **_):
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in completions]
"""


def write_rows(folder: Path, method: str) -> None:
    """Sums of 1 to 12 numbers, in the columns that the method reads."""
    columns = {"sft": ("completion",), "dpo": ("chosen", "rejected"), "grpo": ()}[method]
    rng = random.Random(0)
    for name, rows in (("train", ROWS), ("held", 16)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(rows):
                numbers = [rng.randrange(1000) for _ in range(rng.randrange(1, 13))]
                right, prompt = str(sum(numbers)), f"{' + '.join(map(str, numbers))} = "
                row = {"completion": right, "chosen": right, "rejected": str(sum(numbers) + 1)}
                file.write(json.dumps({"prompt": prompt, **{key: row[key] for key in columns}}) + "\n")


def command(method: str, folder: Path, steps: int, batch: int) -> list[str]:
    own = {"sft": (), "dpo": (), "grpo": ("--group-size", "4", "--max-new-tokens", "16")}[method]
    reward = ("--reward", f"{folder / 'mine.py'}:digits") if method == "grpo" else ()
    given = {"--model": "tieout-base", "--data": folder / "train.jsonl", "--held-out": folder / "held.jsonl"}
    given |= {"--out": folder / method, "--batch-size": batch, "--eval-steps": 100, "--save-steps": 50}
    given |= {"--epochs": steps * batch / ROWS}
    words = [str(word) for pair in given.items() for word in pair]
    return [sys.executable, "-m", "tieout", "train", method, *words, *own, *reward]


def descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield int(child)
                yield from descendants(int(child))


def resident(pid: int) -> float:
    """MiB that a process has written, each shared page divided among those that share it.

    Pages of files, such as torch's libraries, are left out: how many are resident, and how many programs share them, is
    up to the machine.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(WRITTEN)) / 1024


def look(pid: int) -> dict[str, float]:
    workers = 0.0
    for child in descendants(pid):
        with suppress(OSError):  # it has just ended
            workers += resident(child)
    found = {"trainer": resident(pid), "workers": workers}
    found["files"] = len(os.listdir(f"/proc/{pid}/fd"))
    return found | {"threads": len(os.listdir(f"/proc/{pid}/task"))}


def measure(method: str, steps: int, batch: int) -> dict[str, Any]:
    """Run the command, look twice a second, and take the median of each quarter of the steps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, method)
        (folder / "mine.py").write_text(REWARD)
        log, seen = folder / method / method / "metrics.jsonl", list[dict[str, float]]()
        begun = time.monotonic()
        with (folder / "log").open("w") as said:
            process = subprocess.Popen(
                command(method, folder, steps, batch), stdout=said, stderr=subprocess.STDOUT
            )
            while process.poll() is None:
                time.sleep(0.5)
                with suppress(OSError):  # before the first step, and at the end
                    step = log.read_bytes().count(b"\n")
                    seen.append({"step": step, **look(process.pid)})
        if process.returncode or log.read_bytes().count(b"\n") != steps:
            sys.exit(f"{method} failed:\n{(folder / 'log').read_text()[-3000:]}")
        kept = sum(f.stat().st_size for f in (folder / method).rglob("*") if f.is_file()) / 2**20
    result: dict[str, Any] = {"steps": steps, "seconds": time.monotonic() - begun, "folder": kept}
    for place, quarter in enumerate(QUARTERS):
        own = [one for one in seen if place * steps / 4 < one["step"] <= (place + 1) * steps / 4]
        result[quarter] = {key: median(one[key] for one in own) for key in SHOWN}
    result["peak"] = {key: max(one[key] for one in seen) for key in SHOWN}
    return result


def growth(case: dict[str, Any], key: str) -> float:
    """Of the last quarter over the second: in the first, caches fill."""
    return float(case["last"][key] - case["second"][key])


def grew(case: dict[str, Any]) -> list[str]:
    """What grew: memory by more than the limit, or any open file or thread."""
    limits = dict.fromkeys(("trainer", "workers"), LIMIT * case["second"]["trainer"])
    return [key for key in SHOWN if growth(case, key) > limits.get(key, 0)]


def where(results: dict[str, Any]) -> list[str]:
    """Each machine with its day, and the methods that were measured there."""
    machines: dict[str, list[str]] = {}
    for method, case in results["cases"].items():
        machines.setdefault(case["machine"], []).append(method)
    return [f"{' and '.join(methods)}: {machine}" for machine, methods in machines.items()]


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Memory over many steps",
        "",
        f"`{results['command']}`, tieout-base, fp32. {'; '.join(where(results))}.",
        "Medians of each quarter of the steps. Memory is what a process has written; what several share is divided.",
        "",
        f"| method | steps | | {' | '.join(QUARTERS)} | peak | last - second |",
        "|---|---|---|" + "---|" * (len(QUARTERS) + 2),
    ]
    for method, case in results["cases"].items():
        for key, title in SHOWN.items():
            if case["peak"][key]:
                cells = [f"{case[part][key]:.{1 if 'MiB' in title else 0}f}" for part in (*QUARTERS, "peak")]
                lines.append(
                    f"| {method} | {case['steps']} | {title} | {' | '.join(cells)} | {growth(case, key):+.1f} |"
                )
    bad = [f"{method}: {key}" for method, case in results["cases"].items() for key in grew(case)]
    said = f"grew: {', '.join(bad)}" if bad else "nothing grew"
    lines += ["", f"At most {LIMIT:.0%} of the trainer's memory, and no file and no thread: {said}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=["sft", "dpo", "grpo"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=2, help="prompts of a step")
    parser.add_argument("--out", type=Path, default=RESULTS, help="without suffix")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "command": f"python benchmarks/memory.py --methods METHOD --steps STEPS --batch {arguments.batch}",
        "cases": {},
    }
    file = arguments.out.with_suffix(".json")
    if file.exists():  # those of other methods stay
        results["cases"] = json.loads(file.read_text())["cases"]
    for method in arguments.methods:
        place = f"{len(os.sched_getaffinity(0))} core(s) of {environment()['processor']}"
        case = {"machine": f"{place}, {time.strftime('%Y-%m-%d')}"}
        results["cases"][method] = case | measure(method, arguments.steps, arguments.batch)
        file.write_text(json.dumps(results, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(table(results))
    print(table(results))
    if any(grew(case) for case in results["cases"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
