"""How long a process takes to start: what needs no torch imports none, and each is started several times, in turn.

python benchmarks/startup.py    # -> benchmarks/results/startup.md
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tieout.storage.machine import processor

RESULTS = Path(__file__).parent / "results" / "startup.md"
REPEATS = 9
STARTED = {
    "report and verify": "from tieout.evidence import claims, report, verify",
    "the label page's server": "import tieout.labelling.server",
    "the page that people read": "import tieout.review.document",
    "tieout --help": "tieout --help",
    "a wrong option: tieout train dop": "tieout train dop",
    "import torch, for comparison": "import torch",
}


def started(what: str, folder: str) -> tuple[float, float, bool]:
    """Seconds on the clock and of the processor that a process takes, and whether it has imported torch."""
    if what.startswith("tieout"):
        code = f"import sys; sys.argv = {what.split()!r}\nfrom tieout.cli import main\ntry: main()\n"
        code += "except SystemExit: pass"
    else:
        code = what
    code += "\nimport os, sys; os.write(2, b'torch' if 'torch' in sys.modules else b'none')"
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=True)
    seconds, after = time.perf_counter() - begun, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, spent, done.stderr.endswith(b"torch")


def main() -> None:
    """Measure, and write the table."""
    found: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in STARTED}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS + 1):
            for name, what in STARTED.items():
                found[name].append(started(what, folder))
    lines = [
        "# Start of a process",
        "",
        f"`python benchmarks/startup.py`, {time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} CPUs;",
        f"median (least, most) of {REPEATS} starts in turn, after one that is not counted.",
        "",
        "| what | seconds | seconds of the processor | torch |",
        "|---|---|---|---|",
    ]
    for name, runs in found.items():
        cells = []
        for times in list(zip(*runs[1:], strict=True))[:2]:
            cells.append(f"{statistics.median(times):.2f} ({min(times):.2f}, {max(times):.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} | {'imported' if runs[0][2] else 'not imported'} |")
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
