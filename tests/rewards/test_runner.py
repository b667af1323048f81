"""Whatever a reward does, a completion ends scored, abstained or errored, and an error is never a number."""

from __future__ import annotations

import asyncio
import functools
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards import FACTORIES, REWARDS, load_reward
from tieout.rewards.library.exact import exact
from tieout.rewards.library.format import overlong
from tieout.rewards.scoring.adapt import from_trl
from tieout.rewards.scoring.runner import (
    Call,
    Outcome,
    call_columns,
    check_reward,
    combine,
    reward_name,
    score,
    score_groups,
)
from tieout.types import Completion

ROW = {"prompt": "What?", "answer": "a", "question": "?"}


def scored(reward: Any, completions: list[str], row: dict[str, Any] | None = None) -> list[Outcome]:
    return score(reward, completions, ["What?"] * len(completions), row or ROW)


def returning(value: Any) -> Any:
    def reward(completions: list[str], **_: Any) -> Any:
        return value

    return reward


# ---- the three outcomes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, 0.5),
        (1, 1.0),
        (-3, -3.0),
        (True, 1.0),
        (np.float32(0.25), 0.25),
        (np.int64(2), 2.0),
        (np.bool_(True), 1.0),
        (np.array([0.75]), 0.75),
        (Fraction(1, 4), 0.25),
        (Decimal("0.1"), 0.1),
    ],
)
def test_numbers_of_any_make_are_scores(value: Any, expected: float) -> None:
    (outcome,) = scored(returning([value]), ["x"])
    assert outcome == Outcome("scored", expected)
    assert type(outcome.score) is float


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        np.nan,
        10**400,
        Decimal("NaN"),
        Decimal("sNaN"),
        "1.0",
        b"1",
        [1.0],
        {},
        1j,
        object(),
        np.array([1.0, 2.0]),
        np.float64("inf"),
    ],
)
def test_what_is_no_finite_number_is_an_error_with_a_reason(value: Any) -> None:
    outcomes = scored(returning([0.5, value, None]), ["x", "y", "z"])
    assert [o.status for o in outcomes] == ["scored", "errored", "abstained"]
    assert outcomes[1].score is None
    assert "reward 'reward' returned" in outcomes[1].reason


@pytest.mark.parametrize("returned", [[], [1.0], [1.0, 1.0, 1.0], (), np.zeros(3)])
def test_the_wrong_length_errors_every_completion(returned: Any) -> None:
    outcomes = scored(returning(returned), ["x", "y"])
    assert [o.status for o in outcomes] == ["errored"] * 2
    assert f"returned {len(returned)} values for 2 completions" in outcomes[0].reason


@pytest.mark.parametrize(
    "returned", [None, 1.0, "11", {"x": 1, "y": 1}, {0.0, 1.0}, np.zeros((2, 1)), iter([1])]
)
def test_other_than_a_list_is_an_error(returned: Any) -> None:
    outcomes = scored(returning(returned), ["x", "y"])
    assert [o.status for o in outcomes] == ["errored"] * 2
    assert "expected a list of 2 numbers" in outcomes[0].reason


def test_arrays_and_tuples_are_lists() -> None:
    assert [o.score for o in scored(returning(np.array([0.5, 1.0])), ["x", "y"])] == [0.5, 1.0]
    assert [o.score for o in scored(returning((0.5, None)), ["x", "y"])] == [0.5, None]


@pytest.mark.parametrize(
    "error", [ValueError("bad"), ZeroDivisionError(), AssertionError(), RecursionError()]
)
def test_raising_errors_every_completion(error: Exception) -> None:
    def reward(completions: list[str], **_: Any) -> list[float]:
        raise error

    outcomes = scored(reward, ["x", "y"])
    assert [o.status for o in outcomes] == ["errored"] * 2
    assert f"raised {type(error).__name__}" in outcomes[0].reason


def test_the_user_may_still_interrupt() -> None:
    def reward(completions: list[str], **_: Any) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(reward, ["x"])


def test_a_value_that_cannot_even_be_shown() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    (outcome,) = scored(returning([Hostile()]), ["x"])
    assert outcome.status == "errored"


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.text(), st.booleans()), max_size=6))
def test_a_score_is_always_a_finite_float(values: list[Any]) -> None:
    outcomes = scored(returning(values), ["x"] * len(values))
    assert len(outcomes) == len(values)
    for value, outcome in zip(values, outcomes, strict=True):
        assert (outcome.status == "abstained") == (value is None)
        assert (outcome.score is not None) == (outcome.status == "scored")
        assert outcome.score is None or math.isfinite(outcome.score)
        assert bool(outcome.reason) == (outcome.status == "errored")


# ---- the call


def test_every_column_is_repeated_and_the_prompt_comes_as_prompts() -> None:
    seen: dict[str, Any] = {}

    def reward(**given: Any) -> list[float]:
        seen.update(given)
        return [0.0, 0.0]

    scored(reward, ["x", "y"])
    assert seen == {
        "completions": ["x", "y"],
        "prompts": ["What?", "What?"],
        "answer": ["a", "a"],
        "question": ["?", "?"],
    }
    assert call_columns({"prompt": "p", "table": [1, 2]}, 2) == {"table": [[1, 2], [1, 2]]}


def test_a_reward_without_kwargs_gets_what_it_names() -> None:
    def reward(completions: list[str], answer: list[str], strict: bool = True) -> list[float]:
        return [float(c == a and strict) for c, a in zip(completions, answer, strict=True)]

    assert [o.score for o in scored(reward, ["a", "b"])] == [1.0, 0.0]


def test_as_many_prompts_as_completions() -> None:
    with pytest.raises(ValueError, match="2 completions, but 1 prompts"):
        score(exact, ["x", "y"], ["p"], ROW)


async def _slow(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    await asyncio.sleep(0)
    return [float(c == a) for c, a in zip(completions, answer, strict=True)]


def test_async_rewards_are_awaited() -> None:
    assert [o.score for o in scored(_slow, ["a", "b"])] == [1.0, 0.0]


def test_async_rewards_are_awaited_inside_a_running_loop() -> None:
    async def notebook() -> list[Outcome]:
        return scored(_slow, ["a", "b"])

    assert [o.score for o in asyncio.run(notebook())] == [1.0, 0.0]


def test_an_async_reward_that_gives_up_is_an_error() -> None:
    async def reward(completions: list[str], **_: Any) -> list[float]:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(5)
        raise AssertionError

    async def cancelled(completions: list[str], **_: Any) -> list[float]:
        raise asyncio.CancelledError

    assert "raised TimeoutError" in scored(reward, ["x"])[0].reason
    assert "raised CancelledError" in scored(cancelled, ["x"])[0].reason


def test_a_reward_written_for_messages() -> None:
    def reward(prompts: list[Any], completions: list[Any], answer: list[str]) -> list[float]:
        assert prompts[0][-1]["role"] == "user"
        assert completions[0][0]["role"] == "assistant"
        return [float(c[-1]["content"] == a) for c, a in zip(completions, answer, strict=True)]

    adapted = from_trl(reward)
    messages = [{"role": "user", "content": "What?"}]
    for prompt in ("What?", messages):
        assert [o.score for o in score(adapted, ["a", "b"], [prompt, prompt], ROW)] == [1.0, 0.0]
    assert reward_name(adapted) == "reward"
    with pytest.raises(ValueError, match="reward 'reward' needs column 'answer'; rows have: question"):
        check_reward(adapted, ["prompt", "question"])


# ---- the check at start-up


def test_a_missing_column_is_named_with_those_that_exist() -> None:
    with pytest.raises(
        ValueError, match=r"^reward 'exact' needs column 'answer'; rows have: question, solution$"
    ):
        check_reward(exact, ["prompt", "question", "solution"])


def test_what_is_given_optional_or_present_passes() -> None:
    def reward(
        completions: Any, prompts: Any, answer: Any, tolerance: float = 0.1, *, unit: Any, **_: Any
    ) -> None:
        pass

    check_reward(reward, ["prompt", "answer", "unit"])
    check_reward(functools.partial(reward, unit="USD"), ["answer"])
    with pytest.raises(ValueError, match="needs column 'unit'"):
        check_reward(reward, ["answer"])


def test_methods_and_callables_are_rewards() -> None:
    class Reward:
        def __call__(self, completions: list[str], answer: list[str]) -> list[float]:
            return [1.0 for _ in completions]

    check_reward(Reward(), ["answer"])
    assert reward_name(Reward()) == "Reward"
    assert reward_name(functools.partial(exact)) == "exact"
    assert scored(Reward(), ["x"])[0].score == 1.0


def test_what_cannot_be_called_by_name_is_refused() -> None:
    with pytest.raises(ValueError, match="by position only"):
        check_reward(lambda completions, /: [], ["answer"])
    with pytest.raises(ValueError, match="asks for 'prompt'; it is given as `prompts`"):
        check_reward(lambda completions, prompt: [], ["prompt"])
    with pytest.raises(ValueError, match="column 'completions', which clashes"):
        check_reward(exact, ["completions", "answer"])


# ---- tokens


def tokens_of(completions: list[str], completion_ids: list[list[int]]) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


def test_tokens_are_those_that_the_policy_sampled() -> None:
    episode = Completion([1, 2, 3, 4], [True, False, False, True], text="what it said")
    (outcomes,) = score_groups(tokens_of, [Call([episode], ["p"], {})])
    assert outcomes[0].score == 2.0
    assert score(tokens_of, ["four", ""], ["p"] * 2, {}, encode=lambda t: [0] * len(t))[0].score == 4.0
    combined = combine({tokens_of: 1.0, exact: 1.0})
    (outcomes,) = score_groups(combined, [Call([episode], ["p"], {"answer": "what it said"})])
    assert outcomes[0].score == 3.0
    assert combined(["ab"], completion_ids=[[1, 2]], answer=["ab"]) == [3.0]


def test_a_reward_that_needs_tokens_is_refused_where_there_are_none() -> None:
    check_reward(tokens_of, ["prompt"])
    with pytest.raises(
        ValueError, match=r"asks for tokens \('completion_ids'\), and here completions are texts"
    ):
        check_reward(tokens_of, ["prompt"], tokens=False)
    with pytest.raises(ValueError, match="'completion_ids', which clashes"):
        check_reward(exact, ["prompt", "answer", "completion_ids"])
    check_reward(overlong, ["prompt"], tokens=False)
    (outcome,) = score(tokens_of, ["x"], ["p"], {})
    assert outcome.status == "errored"


def test_overlong_counts_tokens_where_there_are_some_and_four_characters_for_one_elsewhere() -> None:
    reward = functools.partial(overlong, max_tokens=10, buffer_tokens=4)
    sampled = [Completion([1] * n, [True] * n, text="x") for n in (6, 8, 10)]
    (outcomes,) = score_groups(reward, [Call(sampled, ["p"] * 3, {})])
    assert [o.score for o in outcomes] == [0.0, -0.5, -1.0]
    texts = ["x" * 24, "x" * 32, "x" * 40]
    assert [o.score for o in score(reward, texts, ["p"] * 3, {})] == [0.0, -0.5, -1.0]


# ---- loading


def test_registered_names_are_loaded_when_asked_for() -> None:
    assert load_reward("exact") is exact
    assert load_reward("tieout.rewards.library.exact:exact") is exact
    assert set(REWARDS) >= {"exact", "numeric", "finance_statements"}


@pytest.mark.parametrize("name", REWARDS)
def test_every_registered_reward_exists(name: str) -> None:
    assert callable(load_reward(name))


@pytest.mark.parametrize("name", FACTORIES)
def test_every_factory_of_rewards_exists_and_takes_what_follows_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "judge.yaml").write_text("model: api:m\nrubric: '5: good. 1: bad.'\n")
    assert callable(load_reward(f"{name}:{tmp_path / 'judge.yaml' if name == 'judge' else tmp_path}"))


def test_a_reward_in_a_file(tmp_path: Path) -> None:
    for folder, value in (("one", 1.0), ("two", 2.0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "reward.py").write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            f"@dataclass\nclass Options:\n    value: float = {value}\n"
            "def mine(completions, **_):\n    return [Options().value] * len(completions)\n"
        )
    rewards = [load_reward(f"{tmp_path / folder / 'reward.py'}:mine") for folder in ("one", "two")]
    assert [scored(reward, ["x"])[0].score for reward in rewards] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("exakt", "no reward is called 'exakt'; did you mean 'exact'"),
        ("nothing.py:f", "nothing.py does not exist"),
        ("no.such.module:f", "cannot import 'no.such.module'"),
        ("tieout.rewards.library.exact:nearly", "has no 'nearly'; it has: .*exact"),
        ("tieout.rewards:REWARDS", "is a dict; expected a function"),
    ],
)
def test_what_cannot_be_loaded_says_why(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_reward(spec)


# ---- exact


def test_exact_forgives_white_space_and_nothing_else() -> None:
    answers = ["Net income"] * 4
    assert exact(["Net income", " Net\n\tincome ", "net income", ""], answers) == [1.0, 1.0, 0.0, 0.0]
    assert exact(["5", "x"], [5, None]) == [1.0, None]
