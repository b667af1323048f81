"""Processes that are killed on purpose: the server that starts them, and what a stage ended with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """Starts command lines in processes of their own, quickly."""

    process: subprocess.Popen[str]

    def run(self, argv: list[Any], log: Path, **fate: Any) -> dict[str, int]:
        """`status` (negative: killed by that signal) and `events`. An option that is given again replaces the first."""
        job = {"argv": _once(argv), "log": str(log), **fate}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer


def _once(argv: list[Any]) -> list[str]:
    words: list[str] = []
    options: dict[str, list[str]] = {}
    place = words
    for word in map(str, argv):
        if word.startswith("--"):
            place = options[word] = []
        else:
            place.append(word)
    return [*words, *(word for name, values in options.items() for word in (name, *values))]


@contextmanager
def serving(**variables: str) -> Iterator[Server]:
    """A server for the length of a block, with these variables in its environment."""
    program = Path(__file__).with_name("fork_server.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


def ending(out: Path, stage: str) -> dict[str, Any]:
    """What a stage ended with: the adapter's bytes, and its logs without times."""
    folder = out / stage
    result: dict[str, Any] = {
        path.name: path.read_bytes() for path in sorted((folder / "adapter").glob("*.safetensors"))
    }
    for name in ("metrics.jsonl", "groups.jsonl"):
        if (folder / name).exists():
            rows = [json.loads(line) for line in (folder / name).read_text().split("\n")[:-1]]
            result[name] = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]
    return result
