"""A program that imports everything once and then forks: each child is a process of its own, as a user would start.

Reads jobs as JSON lines, answers each with a JSON line. A job: `argv` of the command line, `log` (a file for what it
prints), and what befalls it: `die_at` (SIGKILL at its nth event), `die_in` [stage, number] (SIGKILL at the nth event of
a recipe's stage), `signal_in` [name, number, signal] (at the nth event of this name), `seconds` (SIGKILL after so
long), `file_limit` (bytes: a larger file cannot be written). The answer: `status` (negative: the signal it died of),
`events` (how many it lived to see). A job may name a file as `tally`: it gets the number of events in each stage.

Events are what a crash may fall between: every change of the file system, every update, every rollout,
every evaluation.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

EVENTS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "chmod", "open")
"""Functions of `os`; `open` is what `shutil.rmtree` and folder syncs use."""


def watch(job: dict[str, Any], counter: int) -> None:
    """Count events into a file descriptor, and die or be signalled at the one that the job names."""
    import tieout.learner.checkpoint
    import tieout.pipelines.stages.challengers
    import tieout.pipelines.stages.execute
    from tieout.learner import Learner
    from tieout.samplers.local.sampler import LocalSampler

    seen: Counter[str] = Counter()
    in_stage: Counter[str] = Counter()
    current = ""

    def event(name: str) -> None:
        seen[name] += 1
        in_stage[current] += 1
        if [current, in_stage[current]] == job.get("die_in"):
            os.kill(os.getpid(), signal.SIGKILL)
        os.pwrite(counter, struct.pack("q", seen.total()), 0)
        if seen.total() == job.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if [name, seen[name]] == job.get("signal_in", [])[:2]:
            os.kill(os.getpid(), job["signal_in"][2])

    def count(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def function(*arguments: Any, **options: Any) -> Any:
            event(name)
            return real(*arguments, **options)

        setattr(owner, name, function)

    work = tieout.pipelines.stages.execute.work

    def noted(run: Any, stage: Any) -> Any:
        nonlocal current
        current = stage.name
        result = work(run, stage)
        if "tally" in job:
            Path(job["tally"]).write_text(json.dumps(in_stage))
        return result

    setattr(tieout.pipelines.stages.execute, "work", noted)  # noqa: B010
    for name in EVENTS:
        count(os, name)
    for owner, name in (
        (Path, "rename"),
        (Path, "chmod"),
        (Learner, "update"),
        (Learner, "assess"),
        (LocalSampler, "sample"),
        (tieout.learner.checkpoint, "save_file"),
        (tieout.pipelines.stages.challengers, "evaluate_model"),
    ):
        count(owner, name)


def child(job: dict[str, Any], counter: int) -> None:
    """Become the command line. Never returns."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        warnings.simplefilter("ignore", FutureWarning)
        if "file_limit" in job:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"], resource.RLIM_INFINITY))
        from tieout.cli import main

        watch(job, counter)
        sys.argv = ["tieout", *job["argv"]]
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(job: dict[str, Any]) -> dict[str, int]:
    """Fork, perhaps kill, and wait."""
    counter = os.memfd_create("events")
    os.pwrite(counter, struct.pack("q", 0), 0)
    pid = os.fork()
    if pid == 0:
        child(job, counter)
    if "seconds" in job:
        time.sleep(job["seconds"])
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    (events,) = struct.unpack("q", os.pread(counter, 8, 0))
    os.close(counter)
    return {"status": status, "events": events}


def main() -> None:
    """Import, then serve until the input ends."""
    import torch

    torch.set_num_threads(1)
    import peft  # noqa: F401
    import scipy.stats  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import tieout.cli.train
    import tieout.pipelines.stages.execute
    import tieout.training.fit

    observe = (
        tieout.training.fit.observe
    )  # what a random model writes never ends: 16 tokens show as much as 256
    setattr(tieout.training.fit, "observe", lambda *given: observe(*given[:3], min(given[3], 16)))  # noqa: B010
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
