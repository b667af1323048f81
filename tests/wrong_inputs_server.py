"""A program that runs commands in forks of itself, in which torch cannot be imported. A JSON line each way.

A job: `argv` and `folder`. The answer: `status`, `said` (both streams), and `torch`: whether something asked for it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.abc import MetaPathFinder
from typing import Any

ASKED = "torch was asked for"


class NoTorch(MetaPathFinder):
    """Refuses torch and what loads it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate"):
            raise RuntimeError(f"{ASKED}: {name}")


def child(job: dict[str, Any], out: int) -> None:
    """Become the command line. Never returns."""
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(job["folder"])
    status: object = 0
    try:
        from tieout.cli import main

        sys.argv = ["tieout", *job["argv"]]
        main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, and read what was said."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            child(job, file.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        file.seek(0)
        said = file.read().decode()
    return {"status": status, "said": said, "torch": ASKED in said}


def main() -> None:
    """Import what commands parse with, then serve until the input ends."""
    sys.meta_path.insert(0, NoTorch())
    import tieout.cli.options
    import tieout.cli.train
    import tieout.rewards
    import tieout.tasks  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
