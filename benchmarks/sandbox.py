"""Short programs a second in the sandbox, for each backend that works here: python benchmarks/sandbox.py"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

from tieout.sandbox.choose import available
from tieout.sandbox.pool import Sandbox

PROGRAM = ("def add(a, b):\n    return a + b\n", "add", [((1, 2), {})])


def main() -> None:
    """Measure, print, write benchmarks/results/sandbox.{json,md}."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=300)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = []
    for found in available():
        if not found.works:
            rows.append({"backend": found.backend, "reason": found.reason})
            continue
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with Sandbox(found.backend, size=2) as sandbox:
            sandbox.map([PROGRAM] * 4)  # starts the zygotes
            began, spent = time.monotonic(), time.process_time()
            ran = sandbox.map([PROGRAM] * options.programs)
            seconds, own = time.monotonic() - began, time.process_time() - spent
        assert all(r.answers[0].value == 3 for r in ran)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = own + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rows.append(
            {
                "backend": found.backend,
                "programs_a_second": round(options.programs / seconds, 1),
                "cpu_ms_a_program": round(1000 * cpu / options.programs, 2),
            }
        )
    results = Path(__file__).parent / "results"
    head = {
        "programs": options.programs,
        "workers": 2,
        "cores": os.cpu_count(),
        "load_at_start": round(load, 1),
    }
    (results / "sandbox.json").write_text(json.dumps({**head, "backends": rows}, indent=2) + "\n")
    lines = [
        "# Short programs in the sandbox\n",
        f"`python benchmarks/sandbox.py --programs {options.programs}`, two workers on {os.cpu_count()} cores, load "
        f"average {load:.1f} at the start.\nEach program is loaded and its function called once. CPU time is that "
        "of all processes together, their start included.\n",
        "| backend | programs a second | CPU ms a program |",
        "|---|---|---|",
        *(
            f"| {r['backend']} | {r.get('programs_a_second', '-')} | {r.get('cpu_ms_a_program', r.get('reason'))} |"
            for r in rows
        ),
    ]
    text = "\n".join(lines) + "\n"
    (results / "sandbox.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
