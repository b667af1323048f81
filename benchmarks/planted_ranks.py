"""Faults that `faults.py` plants among processes: two ranks of one training, and many that share one cache."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from planted import Fault

from tieout.cli.train import main as train
from tieout.errors import TieoutError
from tieout.learner import Learner
from tieout.learner.models import gguf_files
from tieout.learner.parallel.processes import join
from tieout.methods import SFT
from tieout.samplers.api import Budget, Ledger
from tieout.samplers.api.reply import Reply
from tieout.storage.atomic import appearing, verifies
from tieout.storage.jsonl import read_log

KILLED = -signal.SIGKILL


def forked(functions: Sequence[Callable[[], None]], log: Path) -> list[int]:
    """Call each in a process of its own, all at once; how they ended: 0, 1 for an error in words, 70 for any other."""
    sys.stdout.flush()
    pids = []
    for number, function in enumerate(functions):
        if pid := os.fork():
            pids.append(pid)
            continue
        status = 70
        try:
            said = os.open(f"{log}-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            for stream in (1, 2):
                os.dup2(said, stream)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            torch.set_num_threads(1)  # the parent's threads are not in this process
            function()
            status = 0
        except (TieoutError, SystemExit) as error:
            print(error)
            status = 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def rows_in(folder: Path) -> Path:
    """Eight demonstrations."""
    rows = [{"prompt": f"{i} + {i} = ", "completion": str(2 * i)} for i in range(8)]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def training(rows: Path, out: Path) -> list[str]:
    """Four steps of SFT, saved after every second."""
    given = ["--data", str(rows), "--out", str(out), "--batch-size", "2", "--save-steps", "2"]
    return ["sft", "--model", "tieout-base", "--adapter.rank", "2", *given]


def two_ranks(folder: Path, disturb: Callable[[], Any], other: Path | None = None) -> list[int]:
    """Train on two ranks, the second one under `disturb` and, if given, on the rows of another file; how both ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = training(rows_in(folder), folder / "run")

    def rank(number: int) -> None:
        from accelerate import PartialState

        PartialState._reset_state()
        join.cache_clear()
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"}
        if number:
            disturb()
        train(training(other, folder / "run") if number and other else command)

    return forked([partial(rank, 0), partial(rank, 1)], folder / "log")


def at_call(number: int, owner: type, name: str, instead: Callable[[Any], Any]) -> Callable[[], Any]:
    """Give the result of the `number`th call of a method to `instead`."""

    def disturb() -> None:
        real, calls = getattr(owner, name), []

        def called(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            calls.append(result)
            return instead(result) if len(calls) == number else result

        mock.patch.object(owner, name, called).start()

    return disturb


def nan_on_one(folder: Path) -> str:
    """A gradient that is NaN on one rank is applied on none, and both continue."""
    ended = two_ranks(folder, at_call(3, SFT, "loss", lambda result: (result[0] * math.nan, result[1])))
    steps = read_log(folder / "run" / "sft" / "metrics.jsonl")
    skipped = [row["skipped_updates"] for row in steps]
    return "survived" if ended == [0, 0] and skipped == [0.0, 0.0, 1.0, 1.0] else "lost"


def other_rows(folder: Path) -> str:
    """The second node has a copy of the rows in which one answer differs: both end before anything is trained."""
    other = folder / "node 1"
    other.mkdir()
    rows = rows_in(other)
    rows.write_text(rows.read_text().replace('"2"', '"3"'))
    ended, said = two_ranks(folder, lambda: None, rows), (folder / "log-0").read_text()
    refused = (
        ended == [1, 1] and "rank 1 would train something else than rank 0" in said and "data.sha256" in said
    )
    return "refused" if refused else "silent"


def one_killed(folder: Path) -> str:
    """The other one ends with words, and the run resumes from the checkpoint that stands, here with one process."""
    ended = two_ranks(folder, at_call(3, Learner, "update", lambda _: os.kill(os.getpid(), signal.SIGKILL)))
    said = (folder / "log-0").read_text()
    if ended != [1, KILLED] or "connection to another rank is gone" not in said:
        return "silent" if ended[0] == 0 else "lost"
    again = forked([partial(train, training(folder / "rows.jsonl", folder / "run"))], folder / "log")
    steps = [row["step"] for row in read_log(folder / "run" / "sft" / "metrics.jsonl")]
    resumed = "resumed at step 2 of 4" in (folder / "log-0").read_text()
    return "survived" if again == [0] and steps == [1, 2, 3, 4] and resumed else "lost"


def fifty(folder: Path) -> str:
    """50 processes ask for the same ten replies: each is paid for once by whoever is first, and the budget holds."""
    budget = Budget(max_calls=60)

    def ask() -> None:
        ledger = Ledger(folder / "calls", budget)
        for key in map(str, range(10)):
            if ledger.known(key) is None and (name := ledger.send(key, "m", 3, 3)):
                ledger.settle(name, Reply("text", "stop", 2, 1))

    ended = forked([ask] * 50, folder / "log")
    ledger = Ledger(folder / "calls", budget)
    whole = all(ledger.known(str(key)) for key in range(10))
    lines = (folder / "calls" / "calls.jsonl").read_text().splitlines()
    spent = ledger.spent
    counted = spent.calls == sum("sent" in json.loads(line) for line in lines) <= 60
    return "survived" if set(ended) <= {0, 1} and whole and counted and not spent.unknown else "lost"


def fifty_converting(folder: Path) -> str:
    """50 processes ask for one GGUF file: it is converted once, and no one gets a part of it."""
    (folder / "model.gguf").write_bytes(b"GGUF")

    def convert(file: Path, place: Path) -> None:
        with appearing(place) as aside:
            (aside / "config.json").write_text("{}")
            with (folder / "made").open("a") as made:
                made.write("x")

    def ask() -> None:
        with (
            mock.patch.object(gguf_files, "_convert", convert),
            mock.patch.dict(os.environ, {"TIEOUT_CACHE": str(folder / "cache")}),
        ):
            place = gguf_files.converted(folder / "model.gguf")
            if not verifies(place):
                raise AssertionError("a part of a model")

    ended = forked([ask] * 50, folder / "log")
    return "survived" if set(ended) == {0} and (folder / "made").read_text() == "x" else "lost"


def ranks() -> list[Fault]:
    return [
        Fault("ranks", "a gradient is NaN on one of two", nan_on_one),
        Fault("ranks", "one of two is killed", one_killed),
        Fault("ranks", "one of two reads other rows", other_rows),
        Fault("processes", "50 share one ledger of calls", fifty),
        Fault("processes", "50 ask for one GGUF file, which none has converted", fifty_converting),
    ]
