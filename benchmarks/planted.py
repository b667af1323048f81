"""The faults that `faults.py` plants in what is loaded, resumed and served; `planted_files.py` has those of files."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file

from tieout import embedded
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.methods import SFT
from tieout.rewards import load_reward
from tieout.rewards.library.judge import Judge
from tieout.rewards.processes import handle, workers
from tieout.rewards.processes.workers import Workers
from tieout.rewards.scoring.attribution import Limits
from tieout.rewards.scoring.runner import Call, score_groups
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.samplers.vllm.server import Server
from tieout.samplers.vllm.wire import Asked, completions_of
from tieout.storage.atomic import MANIFEST, seal
from tieout.storage.identity import differences, refuse_changes
from tieout.training.spec import TrainSpec, identity

Tensors = dict[str, torch.Tensor]
BASE, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault; `plant` gets an empty folder, returns survived, lost or silent, or raises what refuses it."""

    area: str
    name: str
    plant: Callable[[Path], str]


# --- weights and settings that are loaded ----------------------------------------------------------------------


def drop(tensors: Tensors) -> Tensors:
    return dict(sorted(tensors.items())[1:])


def rename(tensors: Tensors) -> Tensors:
    first, *rest = sorted(tensors)
    return {f"{first}_old": tensors[first], **{name: tensors[name] for name in rest}}


def cut(tensors: Tensors) -> Tensors:
    first = sorted(tensors)[0]
    return {**tensors, first: tensors[first][:-1].clone()}


def put(value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[sorted(tensors)[0]].view(-1)[0] = value
        return tensors

    return change


def on_tensors(kind: str, change: Callable[[Tensors], Tensors]) -> Callable[[Path], str]:
    """Save other weights, as a program would that is wrong; sampling from them is silent."""

    def plant(folder: Path) -> str:
        place, file = model_in(folder, kind)
        save_file(change(load_file(place / file)), place / file, {"format": "pt"})
        if (place / MANIFEST).exists():
            seal(place)
        return sampled(place)

    return plant


def on_file(kind: str, change: Callable[[Path, str], None]) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        place, file = model_in(folder, kind)
        change(place, file)
        return sampled(place)

    return plant


def model_in(folder: Path, kind: str) -> tuple[Path, str]:
    """A copy of the embedded base, or an adapter on it, and the name of its weights."""
    if kind == "base":
        return Path(shutil.copytree(embedded.path(), folder / "base")), BASE
    learner = Learner(load("tieout-base", AdapterConfig(rank=2), dtype="fp32"), 1e-3)
    save_adapter(learner, folder / "adapter")
    return folder / "adapter", ADAPTER


def sampled(place: Path) -> str:
    LocalSampler(load(str(place), dtype="fp32")).sample([[5, 6]], 1, SamplingParams(2, temperature=0.0))
    return "silent"


def flip(place: Path, file: str) -> None:
    data = bytearray((place / file).read_bytes())
    data[-9] ^= 4
    (place / file).write_bytes(data)
    if not (place / MANIFEST).exists():
        raise AssertionError("a folder without a manifest cannot notice it")


def truncate(place: Path, file: str) -> None:
    (place / file).write_bytes((place / file).read_bytes()[:-50])


def empty_manifest(place: Path, file: str) -> None:
    (place / MANIFEST).write_text("{}")


def broken(name: str) -> Callable[[Path, str], None]:
    def plant(place: Path, file: str) -> None:
        (place / name).write_text('{"a": 1 "b"}')

    return plant


def layers(change: int) -> Callable[[Path, str], None]:
    def plant(place: Path, file: str) -> None:
        config = json.loads((place / "config.json").read_text())
        config["num_hidden_layers"] += change
        config.pop("layer_types", None)
        (place / "config.json").write_text(json.dumps(config))

    return plant


def other_base(folder: Path) -> str:
    """An adapter put onto another base of the same shapes, as somebody would who moves folders by hand."""
    place, _ = model_in(folder, "adapter")
    base, file = model_in(folder, "base")
    tensors = load_file(base / file)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, base / file, {"format": "pt"})
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    (place / MANIFEST).unlink()
    return sampled(place)


def loading() -> list[Fault]:
    found = []
    for kind in ("base", "adapter"):
        tensors = {"missing": drop, "renamed": rename, "of another shape": cut}
        tensors |= {"NaN": put(float("nan")), "infinite": put(float("inf"))}
        found += [
            Fault("loading", f"{kind}: a weight is {n}", on_tensors(kind, c)) for n, c in tensors.items()
        ]
        found.append(Fault("loading", f"{kind}: a truncated file", on_file(kind, truncate)))
    found += [
        Fault("loading", f"base: config.json asks for {n:+d} layer", on_file("base", layers(n)))
        for n in (-1, 1)
    ]
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        found.append(Fault("loading", f"base: {name} is no JSON", on_file("base", broken(name))))
    found.append(Fault("loading", "adapter: no weights at all", on_tensors("adapter", lambda _: {})))
    found.append(Fault("loading", "adapter: a flipped bit", on_file("adapter", flip)))
    found.append(Fault("loading", "adapter: on another base of the same shapes", other_base))
    return [*found, Fault("loading", "adapter: an empty manifest", on_file("adapter", empty_manifest))]


# --- what changes between two halves of a run -------------------------------------------------------------------


def resumed(change: Callable[[Path, Path], None]) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        base, reward = model_in(folder, "base")[0], folder / "mine.py"
        reward.write_text("def close(completions, **_):\n    return [1.0 for _ in completions]\n")

        def known() -> Any:
            return identity({"spec": TrainSpec(SFT(), str(base)), "reward": f"{reward}:close"}) | identity(
                TrainSpec(SFT(), str(base))
            )

        was = known()
        change(base, reward)
        lines = differences(was, known())
        refuse_changes(lines, folder / "run.json")
        return "silent"

    return plant


def other_weights(base: Path, reward: Path) -> None:
    save_file(put(0.5)(load_file(base / BASE)), base / BASE, {"format": "pt"})


def other_text(name: str) -> Callable[[Path, Path], None]:
    def change(base: Path, reward: Path) -> None:
        place = reward if name == "mine.py" else base / name
        place.write_text(
            place.read_text().replace("1.0", "0.5") if place == reward else place.read_text() + "\n "
        )

    return change


def moved(folder: Path) -> str:
    base, _ = model_in(folder, "base")
    was = identity(TrainSpec(SFT(), str(base)))
    now = identity(TrainSpec(SFT(), str(base.rename(folder / "elsewhere"))))
    return "lost" if differences(was, now) else "survived"


def resuming() -> list[Fault]:
    changes = {"base weights": other_weights} | {
        name: other_text(name)
        for name in ("config.json", "chat_template.jinja", "tokenizer_config.json", "mine.py")
    }
    found = [Fault("resuming", f"{name} changed", resumed(change)) for name, change in changes.items()]
    return [*found, Fault("resuming", "a moved folder", moved)]


# --- rewards and servers ----------------------------------------------------------------------------------------


class Odd:
    """A judge's client that gives what it is told to."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    def complete(self, prompts: Sequence[Any], params: SamplingParams) -> Any:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def judged(reply: Any) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        call = Call.of_texts(["x"], ["Why?"], {})
        (outcome,) = score_groups(Judge(Odd(reply), "Brief?"), [call], limits=Limits(retries=0))[0]
        return "silent" if outcome.worth is not None else "refused"

    return plant


REWARDS = """import os, subprocess, sys, time

KEPT = []

def forks(completions, **_):
    os.fork()
    return [float(c) for c in completions]

def exits(completions, **_):
    if completions == ["3"]:
        os._exit(1)
    return [float(c) for c in completions]

def hangs(completions, **_):
    if completions == ["3"]:
        time.sleep(60)
    return [float(c) for c in completions]

async def blocks(completions, **_):
    return hangs(completions)

async def quits(completions, **_):
    if completions == ["3"]:
        sys.exit(1)
    return [float(c) for c in completions]

def takes(completions, **_):
    while completions == ["3"]:
        KEPT.append(b"x" * (32 << 20))
    return [float(c) for c in completions]

def leaks(completions, **_):
    KEPT.append(b"x" * (32 << 20))
    return [float(len(KEPT))]

def closes(completions, **_):
    os.closerange(0, 256)
    return [float(c) for c in completions]

def detaches(completions, **_):
    command = "setsid sleep 300 >/dev/null 2>&1 & echo $!"
    started = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True)
    if completions == ["3"]:
        os._exit(1)
    return [float(started.stdout)]
"""


def called(folder: Path, name: str, count: int = 8, seconds: float = 1.0) -> list[float | None]:
    """The scores of calls with completion 0, 1, 2 and so on, by two workers that may take 200 MB each."""
    (folder / "r.py").write_text(REWARDS)
    calls = [Call.of_texts([str(i)], ["p"], {"prompt": "p"}) for i in range(count)]
    limits = Limits(deadline_seconds=seconds, retries=0)
    with (
        mock.patch.object(workers, "most_bytes", return_value=200 << 20),
        mock.patch.object(handle, "KEPT_BYTES", 64 << 20),
        mock.patch.object(workers, "LOOK_SECONDS", 0.0),
        Workers(2, limits) as pool,
    ):
        reward = load_reward(f"{folder / 'r.py'}:{name}")
        return [o.score for (o,) in score_groups(reward, calls, pool)]


def rewarded(name: str, seconds: float = 20.0) -> Callable[[Path], str]:
    """One call fails, and no other. A missing answer, as of a machine too busy for the deadline, is no wrong one."""

    def plant(folder: Path) -> str:
        right = [float(i) if name == "forks" or i != 3 else None for i in range(8)]
        found = called(folder, name, seconds=seconds)
        if any(score not in (None, float(i)) for i, score in enumerate(found)):
            return "silent"
        return "survived" if found == right else "lost"

    return plant


def leaking(folder: Path) -> str:
    kept = called(folder, "leaks", count=12, seconds=20.0)
    return "survived" if max(float(k or 99) for k in kept) <= 5 else "lost"


def closing(folder: Path) -> str:
    """Each call fails, as none can be answered, or is answered rightly: no answer goes to another call."""
    found = called(folder, "closes", count=4)
    return "survived" if all(score in (None, float(i)) for i, score in enumerate(found)) else "silent"


def detached(folder: Path) -> str:
    """The processes that a reward put into sessions of their own, some by a worker that ended, end with the workers."""
    pids = [int(score) for score in called(folder, "detaches", seconds=20.0) if score]
    states = [Path(f"/proc/{pid}/stat") for pid in pids]
    alive = [one for one in states if one.exists() and one.read_text().rpartition(")")[2].split()[0] != "Z"]
    return "survived" if len(pids) == 7 and not alive else "lost"


def served(tokens: list[Any], reason: str, logprobs: list[Any] | None = None) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        given = {"token_logprobs": logprobs or [-1.0] * len(tokens)}
        reply = {"choices": [{"token_ids": tokens, "finish_reason": reason, "logprobs": given}]}
        completions_of(reply, Asked(1, 4, (1,), 100), lambda tokens: "")
        return "silent"

    return plant


def password(folder: Path) -> str:
    Server("http://me:secret@127.0.0.1:1")
    return "silent"


def serving() -> list[Fault]:
    replies = {
        "null": None,
        "none for a question": [],
        "a null reply": [None],
        "a number": [5],
        "no verdict": ["fine"],
        "a reply to another question": ['{"mark": "0123456789abcdef", "score": 5}'],
    }
    replies |= {"an unknown shape": AttributeError("'NoneType' object has no attribute 'content'")}
    found = [Fault("judge", name, judged(reply)) for name, reply in replies.items()]
    found += [Fault("reward", f"a reward {name}", rewarded(name)) for name in ("forks", "exits")]
    found += [
        Fault("reward", "a reward hangs", rewarded("hangs", 5.0)),
        Fault("reward", "a reward closes every file", closing),
        Fault("reward", "an async reward blocks", rewarded("blocks", 5.0)),
        Fault("reward", "an async reward calls sys.exit", rewarded("quits")),
        Fault("reward", "a reward takes memory without end", rewarded("takes")),
        Fault("reward", "a reward keeps memory of every call", leaking),
        Fault("reward", "a reward leaves processes in sessions of their own", detached),
    ]
    odd: dict[str, Callable[[Path], str]] = {
        "more tokens than asked": served([2] * 5, "length"),
        "`stop` without a stop token": served([2, 3], "stop"),
        "`length` with two tokens": served([2, 3], "length"),
        "True as a token": served([True, 1], "stop"),
        "a token outside the vocabulary": served([10**6, 1], "stop"),
        "fewer log-probabilities than tokens": served([2, 1], "stop", [-1.0]),
        "NaN as a log-probability": served([2, 1], "stop", [float("nan"), -1.0]),
        "a password in the address": password,
    }
    return found + [Fault("vLLM", name, plant) for name, plant in odd.items()]
