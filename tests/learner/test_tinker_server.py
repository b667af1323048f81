"""Against a real training server, SkyRL's on JAX: `make test-tinker` builds its environment, and runs this."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.checkpoint import Checkpoints
from tieout.learner.tinker.connection import ServerLost
from tieout.learner.tinker.reduction import Reduction
from tieout.methods import Method
from tieout.source import Source
from tieout.training.build import prepare
from tieout.training.loop import train
from tieout.training.schedule import Schedule
from tieout.training.spec import Placement, TrainSpec
from tiny_task import METHODS, make_task

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-tinker" / "bin" / "python"
PLAIN = LearnerConfig(max_grad_norm=0)
CONSTANT = Schedule("constant", 0.0)
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("TIEOUT_TEST_TINKER") != "1" or not PYTHON.exists(),
        reason="starts a real training server, which takes minutes: `make test-tinker` builds its environment, runs it",
    ),
]


def scripts_serve() -> Any:
    spec = importlib.util.spec_from_file_location("serve_tinker", ROOT / "scripts" / "serve_tinker.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """A server on one model and one disk, which can be killed and started again."""

    def __init__(self, model: Path, disk: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.disk, self.url = model, disk, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        serve, log = scripts_serve(), self.disk.parent / "server.log"
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                serve.command(PYTHON, str(self.model), self.port, self.disk),
                env=serve.environment(),
                start_new_session=True,
                stdout=output,
                stderr=output,
            )
        try:
            serve.wait_until_healthy(self.process, self.url, 600)
        except RuntimeError as error:
            pytest.fail(f"{error}\n{log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """At once, with its engine: they share its process group."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tiny_model("llama"), tmp_path_factory.mktemp("tinker") / "disk")
    try:
        made.start()
        yield made
    finally:
        made.kill()


def spec_for(server: Server, method: Method) -> TrainSpec:
    place = Placement(engine_url=server.url)
    adapter = AdapterConfig(rank=8)
    given: dict[str, Any] = {"adapter": adapter, "learner": PLAIN, "seed": 3, "placement": place}
    return TrainSpec(method, str(server.model), engine="tinker", **given)


def logprobs(learner: Learner) -> list[float]:
    source = Source(make_task(), learner.model.chat)
    groups = [source.preference(row) for row in source.rows[:3]]
    return [x for group in learner.logprobs(groups) for row in group for x in row]


class Replay:
    """Gives what another sampler has drawn."""

    context = 2048

    def __init__(self, drawn: list[Any]) -> None:
        self.drawn = iter(drawn)

    def load(self, learner: Learner) -> None: ...

    def sample(self, *given: Any) -> Any:
        return next(self.drawn)


@pytest.mark.parametrize("name", ["dpo", "grpo"])
def test_it_trains_to_the_numbers_of_the_learner_in_process(
    server: Server, tmp_path: Path, name: str
) -> None:
    """From the adapter that the server began with; of GRPO both learn from what the server sampled."""
    method: Any = replace(METHODS[name], learning_rate=1e-3)  # type: ignore[type-var]
    remote, source = prepare(spec_for(server, method), make_task())
    assert remote.reduction == Reduction("mean of row means")  # type: ignore[attr-defined]
    assert remote.apart < 1e-4  # type: ignore[attr-defined]
    remote.export(tmp_path)
    local = Learner(load(str(server.model), AdapterConfig(), start=tmp_path), method.learning_rate, PLAIN)
    drawn: list[Any] = []
    if source.sampler is not None:
        sample = source.sampler.sample
        source.sampler.sample = lambda *given: drawn.append(sample(*given)) or drawn[-1]  # type: ignore[method-assign,func-returns-value]
    told: list[list[dict[str, float]]] = [[], []]
    before = logprobs(remote)
    replay: Any = Replay(drawn) if name == "grpo" else None
    for learner, own, log in (
        (remote, source, told[0]),
        (local, Source(make_task(), local.model.chat, replay, seed=3), told[1]),
    ):
        train(
            method, own, learner, steps=3, schedule=CONSTANT, on_step=lambda step, m, log=log: log.append(m)
        )
    for one, other in zip(*told, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=2e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    after, there = logprobs(local), logprobs(remote)
    apart = max(abs(a - b) for a, b in zip(there, after, strict=True))
    moved = max(abs(a - b) for a, b in zip(there, before, strict=True))
    print(f"{name}: {apart:.1e} nats from the learner in process, moved {moved:.2f}; {told[0]}")
    assert apart < 5e-5 < 0.02 < moved
    if name == "grpo":
        found = source.sampler.findings[""]  # type: ignore[union-attr]
        assert found.mismatch < 1e-4
        assert abs(found.staleness or 0.0) < 0.2


def test_a_server_that_is_killed_loses_one_step_and_resumes_to_the_bit(
    server: Server, tmp_path: Path
) -> None:
    method: Any = replace(METHODS["dpo"], learning_rate=1e-3)  # type: ignore[type-var]

    def go(steps: int, folder: str, kill_at: int = 0) -> Learner:
        learner, source = prepare(spec_for(server, method), make_task())
        learner.connection.seconds = 15.0 if kill_at else 600.0  # type: ignore[attr-defined]

        def on_step(step: int, metrics: dict[str, float]) -> None:
            if step == kill_at:
                server.kill()

        given: dict[str, Any] = {
            "steps": steps,
            "checkpoints": Checkpoints(tmp_path / folder),
            "save_steps": 1,
        }
        train(method, source, learner, schedule=CONSTANT, on_step=on_step, **given)
        return learner

    unbroken = logprobs(go(3, "unbroken"))
    with pytest.raises(ServerLost, match="repeat the command to resume"):
        go(3, "killed", kill_at=2)
    server.start()
    assert logprobs(go(3, "killed")) == unbroken
