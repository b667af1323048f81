"""The mock answers as told, and says so when it cannot."""

from __future__ import annotations

import doctest

import pytest

from tieout.samplers import Sampler, SamplingParams, mock
from tieout.samplers.mock import MockSampler

PARAMS = SamplingParams(temperature=0.0)


def test_a_list_is_served_in_order_over_all_calls() -> None:
    sampler: Sampler = MockSampler(["one", "two", "three"])
    assert sampler.complete(["a"], PARAMS) == ["one"]
    assert sampler.complete(["b", "c"], PARAMS) == ["two", "three"]


def test_a_list_that_runs_out_says_where() -> None:
    sampler = MockSampler(["one", "two"])
    with pytest.raises(LookupError, match="has 2 completions, and prompt number 3 is 'c'"):
        sampler.complete(["a", "b", "c"], PARAMS)


def test_a_mapping_answers_by_text_or_last_turn() -> None:
    sampler = MockSampler({"2 + 2": "4"})
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2"}]
    assert sampler.complete(["2 + 2", messages], PARAMS) == ["4", "4"]
    with pytest.raises(LookupError, match="no completion for the prompt '2 \\+ 3'"):
        sampler.complete(["2 + 3"], PARAMS)


def test_a_function_sees_the_prompt_itself() -> None:
    sampler = MockSampler(lambda prompt: str(len(prompt)))
    assert sampler.complete(["abc", [{"role": "user", "content": "abc"}]], PARAMS) == ["3", "1"]


def test_calls_are_recorded() -> None:
    sampler = MockSampler(["x"] * 3)
    sampler.complete(["a", "b"], PARAMS)
    sampler.complete(["c"], SamplingParams(seed=7))
    assert [prompts for prompts, _ in sampler.calls] == [["a", "b"], ["c"]]
    assert sampler.calls[1][1].seed == 7


def test_a_string_is_no_list_of_completions() -> None:
    with pytest.raises(TypeError, match="expected a list"):
        MockSampler("abc")


def test_the_documentation_runs() -> None:
    assert doctest.testmod(mock, extraglobs={"SamplingParams": SamplingParams}).failed == 0
