"""Against a real vLLM server on the CPU: `make test-vllm` builds its environment, and runs this."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tieout.learner import AdapterConfig, Learner, load
from tieout.methods import GRPO
from tieout.samplers import SamplingParams
from tieout.samplers.staleness import StalenessCheck
from tieout.samplers.vllm.dispatch import NoServerLeft
from tieout.samplers.vllm.sampler import VLLMSampler
from tieout.source import Source
from tieout.tasks import Task
from tieout.training.loop import train
from tieout.training.monitors import scores, stop_on_mismatch
from tieout.training.schedule import Schedule
from tieout.types import Completion, Group

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
TEMPERATURE = 1.3
"""Not 1: there, log-probabilities from before the temperature would look right."""
TEXTS = ["Revenue rose", "The company reported", "Net income was", "Total assets", "In 2023 the", "Cash and"]
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("TIEOUT_TEST_VLLM") != "1" or not PYTHON.exists(),
        reason="starts a real vLLM server, which takes minutes: `make test-vllm` builds its environment and runs this",
    ),
]


def scripts_serve() -> Any:
    spec = importlib.util.spec_from_file_location("serve_vllm", ROOT / "scripts" / "serve_vllm.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """(address, process) of a server on tieout-base."""
    serve = scripts_serve()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--dtype", "float32", "--max-model-len", "512"]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            serve.command(PYTHON, "tieout-base", port, options=options),
            env=serve.environment(),
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        try:
            serve.wait_until_healthy(process, url, 900)
        except RuntimeError as error:
            pytest.fail(f"{error}\n{log.read_text(errors='replace')[-3000:]}")
        yield url, process
    finally:
        serve.stop(process)


@pytest.fixture(scope="module")
def url(server: tuple[str, subprocess.Popen[bytes]]) -> str:
    return server[0]


def make_learner(rank: int = 8) -> Learner:
    return Learner(load("tieout-base", AdapterConfig(rank=rank)), temperature=TEMPERATURE)


def move(learner: Learner, scale: float) -> None:
    """Change all that is trained, as a large update would."""
    import torch

    with torch.no_grad():
        for parameter in learner.model.trained().values():
            parameter += scale * torch.randn_like(parameter)


def mismatch(learner: Learner, prompts: list[list[int]], drawn: list[list[Completion]]) -> float:
    """Largest difference of a log-probability, in nats."""
    groups = [Group(p, c) for p, c in zip(prompts, drawn, strict=True)]
    own = learner.logprobs(groups)
    return max(
        abs(a - b)
        for group, rows in zip(groups, own, strict=True)
        for c, row in zip(group.completions, rows, strict=True)
        for a, b in zip(c.logprobs or [], row, strict=True)
    )


def test_draws_are_the_learners_own_also_after_the_weights_moved(url: str) -> None:
    """The same prompts each time: nothing of what the server keeps of them may outlive a load."""
    learner = make_learner()
    sampler = VLLMSampler(url, learner.model.chat)
    prompts = [
        learner.model.chat.prompt(f"{text} in the year that ended on 31 December 2024") for text in TEXTS
    ]
    params = SamplingParams(max_new_tokens=24, temperature=TEMPERATURE, seed=1)
    seen = []
    for scale in (0.0, 0.05, 0.05):
        move(learner, scale)
        sampler.load(learner)
        drawn = sampler.sample(prompts, 4, params)
        assert mismatch(learner, prompts, drawn) < 1e-3
        seen.append([[c.tokens for c in group] for group in drawn])
        for c in (c for group in drawn for c in group):
            assert (c.finish_reason == "stop") == (c.tokens[-1] in learner.model.chat.stop_tokens)
            assert c.finish_reason == "stop" or len(c.tokens) == 24
            assert c.text == learner.model.chat.text(c.tokens)
    assert seen[0] != seen[1] != seen[2]
    sampler.close()


def test_draws_do_not_depend_on_what_is_drawn_beside_them(url: str) -> None:
    learner = make_learner()
    sampler = VLLMSampler(url, learner.model.chat)
    prompts = [learner.model.chat.prompt(text) for text in [*TEXTS, TEXTS[0]]]
    params = SamplingParams(max_new_tokens=16, temperature=TEMPERATURE, seed=2)
    together = sampler.sample(prompts, 3, params)
    assert [c.tokens for c in together[0]] != [c.tokens for c in together[-1]]
    for i in (0, 4):
        alone = sampler.sample(prompts[: i + 1], 3, params)
        assert [c.tokens for c in alone[i]] == [c.tokens for c in together[i]]


def digits(completions: list[str], **_: Any) -> list[float]:
    """The share of a completion that is digits."""
    return [sum(map(str.isdigit, text)) / max(1, len(text)) for text in completions]


def test_grpo_learns_on_it(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    learner = make_learner()
    watched = StalenessCheck(VLLMSampler(url, learner.model.chat))
    task = Task("digits", lambda split: [{"prompt": text} for text in TEXTS], digits)
    method = GRPO(5e-3, batch_size=6, group_size=8, max_new_tokens=24, temperature=TEMPERATURE)
    told: list[dict[str, float]] = []
    with capsys.disabled():
        print("\nstep  score  mismatch  staleness  collect s  update s")
        train(
            method,
            Source(task, learner.model.chat, watched, seed=1),
            learner,
            steps=10,
            schedule=Schedule("constant", warmup=0),
            monitors=[scores, watched.monitor, stop_on_mismatch(1e-3)],
            on_step=lambda step, m: (
                told.append(dict(m)),
                print(
                    f"{step:4}  {m['score']:.3f}  {m['mismatch']:8.1e}  {m.get('staleness', float('nan')):9.1e}  "
                    f"{m['collect_seconds']:9.2f}  {m['update_seconds']:8.2f}"
                ),
            )[0],
        )
    watched.close()
    rewards = [metrics["score"] for metrics in told]
    assert fmean(rewards[-3:]) > fmean(rewards[:3]) + 0.1
    assert max(metrics["mismatch"] for metrics in told) < 1e-4
    assert max(abs(metrics["staleness"]) for metrics in told[1:]) < 0.1


def test_when_it_dies_the_error_says_so(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    """The last test: the server is gone after it."""
    url, process = server
    learner = make_learner()
    sampler = VLLMSampler(url, learner.model.chat, max_retries=1)
    scripts_serve().stop(process)
    with pytest.raises(NoServerLeft, match=url):
        sampler.sample([[5, 6]], 2, SamplingParams(4))
