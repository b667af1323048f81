"""Samplers that go on with old weights are planted, and caught in the first step after the first update."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_groups import make_learner
from tieout.errors import StopTraining
from tieout.learner import AdapterConfig, Learner, load
from tieout.methods import GRPO
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.samplers.staleness import StalenessCheck, measure, pick
from tieout.source import Source
from tieout.training.loop import train
from tieout.training.monitors import stop_on_mismatch
from tieout.training.schedule import Schedule
from tieout.types import Completion, Group
from tiny_task import make_task

ModelFolder = Callable[[str], Path]
METHOD = GRPO(batch_size=4, group_size=4, max_new_tokens=12, learning_rate=1e-4)


class Remote:
    """A sampler with a copy of the model of its own, which takes weights `late` loads after they were given."""

    def __init__(self, folder: Path, late: float = 0, scale: float = 1.0) -> None:
        self.model = load(str(folder), AdapterConfig(rank=4, alpha=8.0))
        self.local, self.late, self.scale = LocalSampler(self.model), late, scale
        self.given: list[dict[str, torch.Tensor]] = []

    @property
    def context(self) -> int:
        return self.local.context

    def load(self, learner: Learner) -> None:
        self.given.append({n: p.detach().clone() for n, p in learner.model.trained().items()})
        which = self.given[max(0, len(self.given) - 1 - int(min(self.late, 1e9)))]
        with torch.no_grad():
            for name, parameter in self.model.trained().items():
                parameter.copy_(which[name])

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        return self.local.sample(prompts, num_completions, params)


class Several:
    """Prompts dealt to several samplers, with the name of who drew what."""

    context = 2048

    def __init__(self, **samplers: Remote) -> None:
        self.samplers = samplers
        self.origins: list[str] = []

    def load(self, learner: Learner) -> None:
        for sampler in self.samplers.values():
            sampler.load(learner)

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        names = list(self.samplers)
        self.origins = [names[i % len(names)] for i in range(len(prompts))]
        return [
            self.samplers[name].sample([prompt], num_completions, params)[0]
            for name, prompt in zip(self.origins, prompts, strict=True)
        ]


def run(sampler: Any, learner: Learner, method: GRPO = METHOD, steps: int = 4, **options: Any) -> list[dict]:
    """Metrics of the steps that were done, as a run logs them, also where it was stopped."""
    watched, told = StalenessCheck(sampler, **options), []
    source = Source(make_task(), learner.model.chat, watched, seed=3)
    try:
        train(
            method,
            source,
            learner,
            steps=steps,
            schedule=Schedule("constant", warmup=0),
            monitors=[watched.monitor],
            on_step=lambda step, metrics: told.append({"step": step, **metrics}),
        )
    except StopTraining as error:
        told[-1]["stopped"] = str(error)
    return told


# ---------------------------------------------------------------- planted


@pytest.mark.parametrize("rate", [1e-5, 1e-3])
@pytest.mark.parametrize("late", [math.inf, 1], ids=["never loads", "one behind"])
def test_old_weights_are_caught_in_the_first_step_after_the_first_update(
    tiny_model: ModelFolder, late: float, rate: float
) -> None:
    """Also where the update is so small that the difference alone would pass."""
    folder = tiny_model("llama")
    told = run(Remote(folder, late), make_learner(folder), GRPO(**{**vars(METHOD), "learning_rate": rate}))
    assert len(told) == 2
    assert "stopped" not in told[0]
    assert told[0]["sampler_mismatch"] < 1e-4
    assert "uses weights older than the ones just loaded: staleness 1.00" in told[1]["stopped"]
    assert told[1]["staleness"] == pytest.approx(1, abs=0.05)
    assert told[1]["sampler_mismatch"] < 0.1


@pytest.mark.parametrize("late", [math.inf, 1], ids=["never loads", "one behind"])
def test_a_large_update_shows_in_the_difference_alone(tiny_model: ModelFolder, late: float) -> None:
    """Without the check, and without an extra forward."""
    folder = tiny_model("llama")
    learner, told = make_learner(folder), []
    source = Source(make_task(), learner.model.chat, Remote(folder, late), seed=3)
    method = GRPO(**{**vars(METHOD), "learning_rate": 3e-2})
    with pytest.raises(StopTraining, match="step 2: the sampler and the learner disagree"):
        train(
            method,
            source,
            learner,
            steps=4,
            schedule=Schedule("constant", warmup=0),
            monitors=[stop_on_mismatch()],
            on_step=lambda step, metrics: told.append(metrics["mismatch"]),
        )
    assert told[0] < 1e-4
    assert told[1] > 0.1


def test_a_sampler_that_gets_stuck_later_is_caught_then(tiny_model: ModelFolder) -> None:
    folder = tiny_model("llama")
    sampler = Remote(folder)
    genuine = sampler.load

    def stuck_after_three(learner: Learner) -> None:
        if len(sampler.given) < 3:
            genuine(learner)

    sampler.load = stuck_after_three  # type: ignore[method-assign]
    told = run(sampler, make_learner(folder), steps=6)
    assert len(told) == 4
    assert "older than the ones just loaded" in told[-1]["stopped"]


def test_of_several_the_stale_one_is_named(tiny_model: ModelFolder) -> None:
    folder = tiny_model("llama")
    told = run(Several(first=Remote(folder), second=Remote(folder, math.inf)), make_learner(folder))
    assert len(told) == 2
    assert "step 2: the sampler at second uses weights older" in told[1]["stopped"]


def test_another_temperature_is_caught_at_once(tiny_model: ModelFolder) -> None:
    folder = tiny_model("llama")
    learner = make_learner(folder)
    learner.temperature = 0.7
    told = run(Remote(folder), learner)
    assert len(told) == 1
    assert "disagree by" in told[0]["stopped"]


@pytest.mark.parametrize("updates", [1, 3])
def test_a_sampler_that_loads_passes_and_learning_is_not_touched(
    tiny_model: ModelFolder, updates: int
) -> None:
    folder = tiny_model("llama")
    method = GRPO(**{**vars(METHOD), "updates_per_batch": updates})
    watched, alone = make_learner(folder), make_learner(folder)
    told = run(Remote(folder), watched, method, steps=6)
    assert len(told) >= 2
    assert not any("stopped" in metrics for metrics in told)
    found = [metrics["staleness"] for metrics in told if "staleness" in metrics]
    assert found
    assert max(map(abs, found)) < 0.3
    source = Source(make_task(), alone.model.chat, LocalSampler(alone.model), seed=3)
    train(method, source, alone, steps=6, schedule=Schedule("constant", warmup=0))
    for a, b in zip(watched.model.trained().values(), alone.model.trained().values(), strict=True):
        assert a.equal(b)  # the earlier weights were put in, and taken out to the bit


def test_the_first_call_after_a_load_is_measured_and_no_other(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("llama")
    learner, watched = make_learner(folder), StalenessCheck(Remote(folder))
    calls: list[int] = []
    genuine = learner.logprobs
    monkeypatch.setattr(learner, "logprobs", lambda groups: calls.append(len(groups)) or genuine(groups))
    watched.sample([[5, 6]], 2, SamplingParams(4))  # nothing was loaded yet
    assert calls == []
    watched.load(learner)
    for _ in range(3):
        watched.sample([[5, 6], [7]], 2, SamplingParams(4))
    assert calls == [2]
    watched.load(learner)  # the same weights: nothing to measure with
    watched.sample([[5, 6], [7]], 2, SamplingParams(4))
    assert calls == [2, 2]


# ---------------------------------------------------------------- the statistic


@settings(max_examples=25, derandomize=True)  # a statistic: wrong once in many examples, by its nature
@given(
    seed=st.integers(0, 2**32),
    moved=st.floats(1e-4, 0.3),
    noise=st.floats(0, 0.1),
    tokens=st.integers(100, 500),
)
def test_staleness_is_right_about_which_weights_are_nearer(
    seed: int, moved: float, noise: float, tokens: int
) -> None:
    """Rounding in every one of the three may be far larger than the update: then it abstains, and is never wrong."""
    rng = random.Random(seed)
    now = [rng.uniform(-5, 0) for _ in range(tokens)]
    before = [x + rng.gauss(0, moved) for x in now]

    def measured(values: list[float], by: float = noise) -> list[float]:
        return [x + rng.gauss(0, by) for x in values]

    fresh = measure(measured(now), measured(now), measured(before))
    assert fresh.staleness is not None
    assert fresh.staleness < 0.5 + 4 * fresh.standard_error
    stale = measure(measured(before), measured(now), measured(before))
    exact = (moved**2 + noise**2) / (moved**2 + 2 * noise**2)
    assert stale.staleness == pytest.approx(exact, abs=6 * stale.standard_error + 0.02)
    if exact - 0.5 > 8 * stale.standard_error:  # else it may abstain
        assert stale.stale
    if moved > noise:
        assert not fresh.stale


def test_without_an_update_there_is_nothing_to_be_stale_against() -> None:
    now = [-1.0, -2.0, -0.5]
    assert measure([-1.1, -2.1, -0.4], now, None).staleness is None
    assert measure([-1.1, -2.1, -0.4], now, now).staleness is None
    assert measure([-1.1, -2.1, -0.4], now, None).mismatch == pytest.approx(0.1)
    assert not measure([-1.1, -2.1, -0.4], now, now).stale


def test_no_number_is_no_agreement() -> None:
    watched = StalenessCheck(None)  # type: ignore[arg-type]
    watched.findings = {"": measure([math.nan, -1.0], [-1.0, -1.0], None)}
    with pytest.raises(StopTraining, match="nan nats"):
        watched.monitor(1, [], {})


# ---------------------------------------------------------------- what is measured


def group(prompt: int, *lengths: int) -> Group:
    return Group([0] * prompt, [Completion([1] * n, [True] * n, [-1.0] * n) for n in lengths])


@given(
    st.lists(
        st.tuples(
            st.integers(1, 50), st.lists(st.integers(1, 60), min_size=1, max_size=5), st.sampled_from("abc")
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 2000),
)
def test_every_server_is_measured_within_the_budget(
    shapes: list[tuple[int, list[int], str]], budget: int
) -> None:
    groups = [group(p, *lengths) for p, lengths, _ in shapes]
    origins = [origin for *_, origin in shapes]
    picked, places = pick(groups, origins, budget)
    assert set(places) == set(origins)
    share = budget // len(set(origins))
    for origin in set(origins):
        mine = [g for g, o in zip(picked, places, strict=True) if o == origin]
        longest = max(g.unique_tokens for g in groups)
        assert sum(g.unique_tokens for g in mine) <= max(share, 0) + longest
    if budget >= 3 * sum(g.unique_tokens for g in groups):
        assert sum(len(g.completions) for g in picked) == sum(len(g.completions) for g in groups)
