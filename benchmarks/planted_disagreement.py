"""Faults of `faults.py` in which two things that claim to be one differ: names and contents, rows, hosts, tokens."""

from __future__ import annotations

import decimal
import errno
import json
import shutil
import threading
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from planted import Fault, model_in
from rich.console import Console

from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import Checkpoints, save_adapter
from tieout.pipelines.reading import make_recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.execute import work
from tieout.rewards.scoring.runner import Call, score_groups
from tieout.rows import read_rows
from tieout.samplers.vllm.server import Server
from tieout.storage import atomic
from tieout.storage.runfolder import RunFolder


def small(folder: Path) -> tuple[Checkpoints, Learner]:
    """A learner with a checkpoint of step 2."""
    learner, kept = (
        Learner(load("tieout-base", AdapterConfig(rank=2), dtype="fp32"), 1e-3),
        Checkpoints(folder),
    )
    learner.step = 2
    kept.save(learner, {"position": 0})
    return kept, learner


def copied(name: str) -> Callable[[Path], str]:
    """A copy of a checkpoint under another name, as somebody would make who wants to keep it."""

    def plant(folder: Path) -> str:
        kept, learner = small(folder)
        shutil.copytree(folder / "step-000002", folder / name)
        learner.step = 3
        kept.save(learner, {"position": 1})
        state = kept.restore(learner)
        return "survived" if state and state["position"] == 1 and (folder / name).exists() else "lost"

    return plant


def a_million(folder: Path) -> str:
    """Names of seven digits come after those of six."""
    kept, learner = small(folder)
    for learner.step in (999_999, 1_000_000, 1_000_001):
        kept.save(learner, {"position": learner.step})
    state = kept.restore(learner)
    return "survived" if state and state["position"] == 1_000_001 else "lost"


def read_only(folder: Path) -> str:
    """A disk that forbids writing once a run has begun, as a faulty one does: what is there stays, and is named."""
    kept, learner = small(folder)
    learner.step = 3
    forbidden = OSError(errno.EROFS, "Read-only file system")
    with mock.patch.object(atomic.os, "fsync", side_effect=forbidden):
        try:
            kept.save(learner, {"position": 1})
        except OSError as error:
            said = str(error)
    state = kept.restore(learner)
    return "survived" if state and state["step"] == 2 and str(folder) in said else "lost"


def endless(folder: Path) -> str:
    (folder / "rows.jsonl").write_text('{"prompt": "a", "score": 1e999}\n')
    read_rows(folder / "rows.jsonl")
    return "silent"


def later(name: str) -> Callable[[Path], str]:
    """A file that a stage reads is another one when its turn comes, and not what was checked at the start."""

    def plant(folder: Path) -> str:
        rows = "".join(
            json.dumps({"prompt": f"{i} = ", "completion": str(i), "answer": str(i)}) + "\n" for i in range(8)
        )
        for own in ("train", "test", "own", "held"):
            (folder / f"{own}.jsonl").write_text(rows.replace(" = ", f" {own} "))
        (folder / "reward.py").write_text("def one(completions, **_):\n    return [1.0] * len(completions)\n")
        given = {
            "model": "tieout-base",
            "data": {own: str(folder / f"{own}.jsonl") for own in ("train", "test")},
        }
        files = {key: str(folder / f"{key[:4]}.jsonl") for key in ("held_out", "own")}
        stage = {"train": "sft", "data": files["own"], "held_out": files["held_out"]}
        known: dict[str, Any] = {**given, "reward": f"{folder / 'reward.py'}:one", "max_new_tokens": 4}
        known |= {"stages": [{**stage, "evaluation": {"eval_steps": 1}}]}
        recipe = make_recipe({**known, "accept_leakage": "of no account here"}, "r.yaml")
        with RunFolder(folder / "run") as run_folder:
            run = Run(recipe, run_folder, Console(quiet=True))
            changed = folder / name
            changed.write_text(changed.read_text().replace("1", "2"))
            work(run, recipe.trained("sft"))
        return "silent"

    return plant


def changing(folder: Path) -> str:
    """A reward takes apart what it is given: the next completion, and the next epoch, get the whole of it."""

    def pops(completions: list[str], prompts: Any, answer: list[list[int]], **_: Any) -> list[float]:
        return [
            float(own.pop() + 10 * len(asked.pop()["content"]))
            for own, asked in zip(answer, prompts, strict=True)
        ]

    row = {"prompt": [{"role": "user", "content": "?"}], "answer": [1, 2]}
    call = Call.of_texts(["x", "y"], [row["prompt"]] * 2, row)
    found = [[o.score for o in score_groups(pops, [call])[0]] for _ in range(2)]
    return "survived" if found == [[12.0, 12.0]] * 2 else "silent"


def odd_numbers(folder: Path) -> str:
    """Numbers of other kinds count as they are; what is no number is an error, and never a score."""
    right = [(True, 1.0), (np.bool_(True), 1.0), (np.float32(0.5), 0.5), (np.array(2), 2.0)]
    right += [(decimal.Decimal("0.25"), 0.25), (Fraction(1, 2), 0.5), (10**18, 1e18)]
    wrong = [
        10**400,
        1 + 0j,
        "1",
        b"1",
        [1.0],
        decimal.Decimal("sNaN"),
        np.array([1, 2]),
        np.datetime64("2026-01-01"),
    ]
    call = Call.of_texts(["x"], ["p"], {"prompt": "p"})

    def score(value: Any) -> float | None:
        (outcome,) = score_groups(lambda completions, **_: [value], [call])[0]
        return outcome.score

    known = all(score(value) == number for value, number in right)
    return "survived" if known and all(score(value) is None for value in wrong) else "silent"


def redirected(folder: Path) -> str:
    """A server that sends its client on to another host, which would get the key."""
    keys: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Sends(Elsewhere):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{other.server_port}/")
            self.end_headers()

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as other,
        ThreadingHTTPServer(("127.0.0.1", 0), Sends) as first,
    ):
        for server in (other, first):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            Server(f"http://127.0.0.1:{first.server_port}", api_key="key").ask("/v1/completions", {"n": 1})
        finally:
            for server in (other, first):
                server.shutdown()
            if keys:
                raise AssertionError("the key went to another host")
    return "silent"


def other_vocabulary(folder: Path) -> str:
    """The tokenizer of a base has two tokens exchanged after an adapter was trained on it."""
    base, _ = model_in(folder, "base")
    save_adapter(Learner(load(str(base), AdapterConfig(rank=2), dtype="fp32"), 1e-3), folder / "adapter")
    place, text = base / "tokenizer.json", "a rare banana"
    before, on_base = (load(str(name), dtype="fp32").chat.encode(text) for name in (folder / "adapter", base))
    stored = json.loads(place.read_text())
    vocabulary = stored["model"]["vocab"]
    vocabulary["a"], vocabulary["r"] = vocabulary["r"], vocabulary["a"]
    place.write_text(json.dumps(stored))
    after, changed = (load(str(name), dtype="fp32").chat.encode(text) for name in (folder / "adapter", base))
    if changed == on_base:
        raise AssertionError("nothing was exchanged")
    return "survived" if after == before else "silent"


def disagreement() -> list[Fault]:
    return [
        Fault("files", "checkpoint: a copy under the name of a later step", copied("step-000009")),
        Fault("files", "checkpoint: a copy under a name of its own", copied("step-000002-mine")),
        Fault("files", "checkpoint: more than a million steps", a_million),
        Fault("files", "checkpoint: a disk that has become read-only", read_only),
        Fault("files", "rows: a number that is too large", endless),
        Fault("resuming", "a stage's file changes before its turn", later("own.jsonl")),
        Fault("resuming", "a stage's held-out rows change before its turn", later("held.jsonl")),
        Fault("resuming", "the reward changes before a stage's turn", later("reward.py")),
        Fault("resuming", "the tokenizer of an adapter's base has other ids", other_vocabulary),
        Fault("reward", "a reward changes what it is given", changing),
        Fault("reward", "numbers of other kinds", odd_numbers),
        Fault("vLLM", "a redirection to another host", redirected),
    ]
