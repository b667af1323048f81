"""A plan's measurement keeps to its time: it takes part of what is too large, and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from random_groups import make_learner
from tieout.pipelines.planning import contention, sampled
from tieout.pipelines.planning import meter as module
from tieout.pipelines.planning.contention import Waited
from tieout.pipelines.planning.meter import FEW, Meter, cut
from tieout.samplers import SamplingParams
from tieout.types import Completion, Group


def group(prompt: int, *lengths: int) -> Group:
    return Group([1] * prompt, [Completion([2] * n, [True] * n) for n in lengths], [0.0] * len(lengths))


def lengths(groups: list[Group]) -> list[list[int]]:
    return [[len(c.tokens) for c in g.completions] for g in groups]


def test_a_part_has_as_many_completions_as_there_are_tokens_for() -> None:
    groups = [group(10, 80, 80, 80), group(10, 80), group(10, 500)]
    assert lengths(cut(groups, 10_000)) == lengths(groups)
    assert lengths(cut(groups, 180)) == [[80, 80]]
    assert lengths(cut(groups, 340)) == [[80, 80, 80], [80]]
    assert lengths(cut(groups, 1)) == [[FEW]]
    assert lengths(cut([group(10, 500, 500)], 300)) == [[290]]


def test_a_micro_batch_is_measured_whole_if_there_is_time(tiny_model: Callable[[str], Path]) -> None:
    learner, part = make_learner(tiny_model("llama")), [group(8, *[100] * 4)]
    fed = learner.micro_batches.layout(part).fed
    meter = Meter(learner, part)
    meter.first = 1.0
    assert meter.update_within((part, fed), 75.0)
    assert FEW < meter.largest <= 150 < fed
    taken = meter.memory(meter.largest)
    assert taken is None or (meter.memory(fed) or 0) >= taken
    assert not meter.update_within((part, fed), fed / 2)
    assert meter.largest == fed


def test_waiting_for_a_processor_is_what_the_system_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled = tmp_path / "schedstat"
    scheduled.write_text("100 50 3\n")
    monkeypatch.setattr(contention, "SCHEDULED", scheduled)
    waited = Waited()
    assert waited.times == 1.0
    scheduled.write_text("300 350 9\n")
    assert waited.times == 2.5
    scheduled.unlink()
    assert waited.times == 1.0


def test_what_is_kept_of_smaller_micro_batches_comes_on_top(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, large, small = make_learner(tiny_model("llama")), [group(8, 60, 60)], [group(8, 20)]
    meter = Meter(learner, small)
    meter.resident, peaks = 500, iter([600, 700, 650])
    monkeypatch.setattr(module, "peak_bytes", lambda device: next(peaks))
    for part, fed in ((large, 128), (small, 28), (large, 128)):
        meter.update((part, fed))
    assert meter.memory(128) == 700
    assert meter.memory(64) == 600


class Sampler:
    """Four prompts at a time, a hundredth of a second a step; every fourth answer has 100 tokens, the others 10."""

    batch_size = 4
    model = SimpleNamespace(device=torch.device("cpu"))
    chat = SimpleNamespace(prompt=lambda prompt: int(prompt))

    def __init__(self) -> None:
        self.clock = 0.0

    def sample(self, prompts: list[int], count: int, params: SamplingParams) -> list[list[Completion]]:
        lengths = [min(params.max_new_tokens, 100 if i % 4 == 3 else 10) for i in prompts]
        self.clock += 0.01 * max(lengths)
        return [[Completion([0] * length, [True] * length)] for length in lengths]


@pytest.mark.parametrize(("count", "seconds"), [(40, 3.25), (4, 1.0)])
def test_the_longest_answer_is_waited_for_only_where_no_other_prompt_takes_the_rows(
    monkeypatch: pytest.MonkeyPatch, count: int, seconds: float
) -> None:
    """Of 40 prompts the plan is that of decoding steps: ten times those of four at their mean of 32.5 tokens."""
    sampler: Any = Sampler()
    monkeypatch.setattr(sampled, "perf_counter", lambda: sampler.clock)
    monkeypatch.setattr(sampled, "spread", lambda prompts, size: prompts[:size])
    asked = sampled.Asked((("base", True),), [str(i) for i in range(count)], 1, 0.0, 384)
    (line,) = sampled._plan(sampler, asked, 60.0, 0)
    assert line.seconds == pytest.approx(seconds)
    assert line.tokens == 32.5 * count
