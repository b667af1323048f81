"""Sampling on the server that trains: what it draws can be trained on, and comes from the newest weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fake_tinker import FakeTinker
from tieout.errors import InputError, StopTraining
from tieout.learner.tinker.connection import Connection, ServerLost
from tieout.learner.tinker.learner import TinkerLearner
from tieout.learner.tinker.reduction import Reduction
from tieout.learner.tinker.served_model import served_model
from tieout.learner.tinker.start_check import Adapter
from tieout.samplers import SamplingParams
from tieout.samplers.tinker.sampler import ServedStaleness, TinkerSampler
from tieout.types import Group

pytest.importorskip("tinker", reason="the client of training servers: pip install -e '.[dev]'")
PROMPTS = [[7, 8, 9], [10, 11], [12]]


def make(folder: Path) -> tuple[FakeTinker, TinkerLearner]:
    server = FakeTinker(folder)
    connection, model = Connection("http://127.0.0.1:1", server, seconds=20.0), served_model(str(folder))
    adapter = Adapter(str(folder), 4, 32.0, 0)
    return server, TinkerLearner(
        connection, model, adapter, Reduction("mean of row means"), learning_rate=1e-2
    )


def test_samples_carry_the_learners_own_log_probabilities_after_every_load(
    tiny_model: Callable[[str], Path],
) -> None:
    server, learner = make(tiny_model("llama"))
    sampler = TinkerSampler(learner)
    for first in ([], [None]):
        server.first = first  # type: ignore[assignment]
        sampler.load(learner)
        drawn = sampler.sample(PROMPTS, 2, SamplingParams(6, seed=3))
        groups = [Group(p, c) for p, c in zip(PROMPTS, drawn, strict=True)]
        own = [x for g in learner.logprobs(groups) for row in g for x in row]
        theirs = [x for g in groups for c in g.completions for x in c.logprobs or []]
        assert max(abs(a - b) for a, b in zip(own, theirs, strict=True)) < 1e-5
        assert sampler.logprobs(groups) == pytest.approx(own, abs=1e-5)
        learner.update(groups, lambda outputs, batch: (outputs.logprobs.sum(), {}))
    again = sampler.sample(PROMPTS, 2, SamplingParams(6, seed=3))
    assert [[c.tokens for c in g] for g in again] == [[c.tokens for c in g] for g in drawn]
    part = sampler.sample(PROMPTS[1:], 2, SamplingParams(6, seed=3, streams=[1, 2]))
    assert [[c.tokens for c in g] for g in part] == [[c.tokens for c in g] for g in drawn[1:]]
    assert sum("/weights/" not in path for path in server.disk) == 1, "what was sampled before is deleted"
    sampler.close()
    assert not server.disk
    assert sampler.complete(["a"], SamplingParams(3, temperature=0.0))[0] is not None


def test_stale_weights_stop_the_run(tiny_model: Callable[[str], Path]) -> None:
    """The samples of two loads: the server answers the second from the weights of the first."""
    server, learner = make(tiny_model("llama"))
    check = ServedStaleness(TinkerSampler(learner))
    metrics: list[dict[str, float]] = []
    learner.learning_rate = 1e-4
    learner.drop = lambda path: None  # type: ignore[method-assign]  # what the server may answer from
    for step in range(1, 4):
        server.stale = step == 3
        check.load(learner)
        drawn = check.sample(PROMPTS, 4, SamplingParams(6, seed=step))
        learner.update([Group(p, c) for p, c in zip(PROMPTS, drawn, strict=True)], up)
        found: dict[str, float] = {}
        if step < 3:
            check.monitor(step, [], found)
        metrics.append(found)
    assert metrics[0] == {}, "there is nothing to compare yet"
    assert abs(metrics[1]["staleness"]) < 0.05
    assert metrics[1]["sampler_mismatch"] < 1e-5
    with pytest.raises(StopTraining, match="uses weights older than the ones just loaded: staleness 1"):
        check.monitor(3, [], {})


def up(outputs: Any, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return -outputs.logprobs.sum(), {}


def test_what_could_not_be_learned_from_is_refused(tiny_model: Callable[[str], Path]) -> None:
    server, learner = make(tiny_model("llama"))
    sampler = TinkerSampler(learner)
    given: dict[str, tuple[list[list[int]], SamplingParams]] = {
        "temperature is 0.7": (PROMPTS, SamplingParams(4, temperature=0.7)),
        "top_p is 0.9": (PROMPTS, SamplingParams(4, top_p=0.9)),
        "a prompt has no tokens": ([[]], SamplingParams(4)),
        "exceed the model's context of 2048": ([[5] * 2047], SamplingParams(4)),
    }
    for said, (prompts, params) in given.items():
        with pytest.raises(InputError, match=said.replace(".", r"\.")):
            sampler.sample(prompts, 1, params)
    with pytest.raises(InputError, match="reads the weights of the learner it was made with"):
        sampler.load(make(tiny_model("llama"))[1])
    for spoil in (lambda x: [math.nan, *x[1:]], lambda x: x[1:]):
        server.spoil = spoil
        with pytest.raises(ServerLost, match="each must be a finite number"):
            sampler.sample(PROMPTS, 1, SamplingParams(4))
    stop = learner.model.chat.stop_tokens[0]

    def reply(tokens: list[int]) -> Any:
        return SimpleNamespace(sequences=[SimpleNamespace(tokens=tokens, logprobs=[-1.0] * len(tokens))])

    assert sampler._completions(reply([9, stop]), 1, 4)[0].finish_reason == "stop"
    assert sampler._completions(reply([9] * 4), 1, 4)[0].finish_reason == "length"
    with pytest.raises(ServerLost, match="does not end with a stop token"):
        sampler._completions(reply([9, 9]), 1, 4)
    with pytest.raises(ServerLost, match="asked for 2 completions, and gave 1"):
        sampler._completions(reply([9, stop]), 2, 4)
