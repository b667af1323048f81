"""Parts of a call decoded in threads: the same completions, and one failure ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import random_groups
from tieout.learner import load
from tieout.samplers import SamplingParams
from tieout.samplers.local.cpu import threads
from tieout.samplers.local.cpu.threads import in_parts
from tieout.samplers.local.decoding.decode_job import DecodeJob
from tieout.samplers.local.decoding.sampling import Request
from tieout.samplers.local.sampler import LocalSampler

ModelFolder = Callable[[str], Path]
PROMPTS = [g.prompt for g in random_groups([(n, [1]) for n in (23, 3, 40, 17, 9)], seed=9)]
PARAMS = SamplingParams(max_new_tokens=20, seed=2)


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network(tiny_model: ModelFolder) -> Any:
    return load(str(tiny_model("llama"))).network


def a_work(rows: int = threads.LEAST_ROWS) -> DecodeJob:
    requests = [[Request.make(PARAMS, rows * i + k) for k in range(rows)] for i in range(len(PROMPTS))]
    return DecodeJob(PROMPTS, requests, PARAMS, range(8), max_rows=1000)


def test_what_is_drawn_does_not_depend_on_the_threads(tiny_model: ModelFolder) -> None:
    model = load(str(tiny_model("llama")))
    told: list[int] = []
    sampler = LocalSampler(model, progress=told.append)
    together = sampler.sample(PROMPTS, threads.LEAST_ROWS, PARAMS)
    assert sum(told) == len(PROMPTS) * threads.LEAST_ROWS
    torch.set_num_threads(1)
    alone = sampler.sample(PROMPTS, threads.LEAST_ROWS, PARAMS)
    for a, b in zip(chain(*together), chain(*alone), strict=True):
        assert a.tokens == b.tokens
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_parts_run_at_the_same_time_and_share_all_prompts(network: Any) -> None:
    barrier = threading.Barrier(3, timeout=20)  # broken, and an error, if one waited for another to end
    parts: list[DecodeJob] = []

    def decode(part: DecodeJob) -> None:
        parts.append(part)
        barrier.wait()

    in_parts(network, a_work(), decode)
    assert sorted(p for part in parts for p in part.prompts) == sorted(PROMPTS)
    assert sum(part.max_rows for part in parts) <= 1000
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_are_decoded_by_one_thread(network: Any, rows: int) -> None:
    seen: list[tuple[int, int]] = []

    def decode(part: DecodeJob) -> None:
        seen.append((len(part.prompts), torch.get_num_threads()))

    in_parts(network, a_work(rows), decode)
    assert seen == [(len(PROMPTS), 1)]


def test_wide_matrices_are_left_to_torch(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WIDE", 1)
    seen: list[int] = []
    in_parts(network, a_work(1), lambda part: seen.append(torch.get_num_threads()))
    assert seen == [3]


def test_the_first_failure_ends_the_others_at_their_next_completion(network: Any) -> None:
    failed, ended = threading.Event(), [0]

    def decode(part: DecodeJob) -> None:
        if PROMPTS[2] in part.prompts:  # the longest: in the first part
            failed.set()
            raise ValueError("planted")
        assert failed.wait(20)
        for _ in range(10_000):
            part.ended(1)
            threading.Event().wait(0.002)

    def count(completions: int) -> None:
        ended[0] += completions

    with pytest.raises(ValueError, match="planted"):
        in_parts(network, replace(a_work(), ended=count), decode)
    assert ended[0] < 2000
    assert torch.get_num_threads() == 3
