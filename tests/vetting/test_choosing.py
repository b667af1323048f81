"""Which method is advised: by what the rows are, and by what samples scored."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tieout.rows import Kind
from tieout.vetting.choosing import Found, Samples, advise, is_json

RIGHT_AT_TIMES = [[1.0, 0.0, 0.0, 0.0]] * 4 + [[0.0] * 4] * 4
NEVER = [[0.0] * 4] * 8
ALWAYS = [[1.0] * 16] * 16


def sampled(scores: Sequence[Sequence[float | None]], gold: float | None = 1.0, cut_off: int = 0) -> Samples:
    return Samples(scores, [gold] * len(scores), cut_off, 20.0)


def of(kind: Kind, rows: int = 1000, **more: object) -> dict[str, str]:
    found = Found(kind, rows, rows, **{"reward": "numeric", **more})  # type: ignore[arg-type]
    return {one.method: one.verdict for one in advise(found)}


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("demonstration", "sft"),
        ("preference", "dpo"),
        ("ranking", "dpo"),
        ("label", "kto"),
        ("prompt", "grpo"),
    ],
)
def test_rows_decide_what_comes_first(kind: Kind, taken: str) -> None:
    said = of(kind, liked=500)
    assert [method for method, verdict in said.items() if verdict == "take"] == [taken]


def test_prompts_without_a_reward_are_no_training() -> None:
    assert of("prompt", reward="") == {"grpo": "not", "no training": "take"}


def test_rollouts_are_advised_where_samples_differ_and_not_where_all_are_alike() -> None:
    assert of("prompt", samples=sampled(RIGHT_AT_TIMES))["grpo"] == "take"
    assert of("demonstration", samples=sampled(RIGHT_AT_TIMES))["grpo"] == "then"
    for alike in (NEVER, ALWAYS):
        said = of("prompt", samples=sampled(alike))
        assert said["grpo"] == "not"
        assert said["no training"] == "take"


def test_a_model_that_is_right_already_is_evaluated_before_it_is_trained() -> None:
    said = advise(Found("demonstration", 1000, 1000, 0, "numeric", samples=sampled([[1.0] * 4] * 8)))
    assert (said[0].method, said[0].verdict) == ("evaluate", "first")
    assert re.search(r"100% \[6.%, 100%\]", said[0].why), (
        "eight prompts are eight, however often each is sampled"
    )
    assert "evaluate" not in of("demonstration", samples=sampled(RIGHT_AT_TIMES))


def test_samples_of_one_prompt_are_not_counted_as_if_they_were_of_many() -> None:
    """Four prompts always right and four never: 32 samples say no more than eight prompts do."""
    right = sampled([[1.0] * 4] * 4 + [[0.0] * 4] * 4).right()
    assert right is not None
    assert right.value == 0.5
    assert right.low is not None
    assert right.low < 0.3


def test_a_sample_without_a_score_is_neither_right_nor_wrong() -> None:
    found = sampled([[1.0, None, None, None]] * 4 + [[None] * 4] * 4)
    right, reached, spread = found.right(), found.reached(), found.spread()
    assert right is not None
    assert (right.value, right.n) == (1.0, 4)
    assert reached is not None
    assert (reached.value, reached.n) == (1.0, 4)
    assert (spread.value, spread.n) == (None, 0)
    assert of("prompt", samples=sampled([[None] * 4] * 8))["grpo"] == "not"


def test_gold_that_the_reward_pays_nothing_makes_no_sample_right() -> None:
    """Every sample scores as much as gold does: not because the model is right."""
    assert sampled(NEVER, gold=0.0).right() is None
    assert "evaluate" not in of("demonstration", samples=sampled(NEVER, gold=0.0))
    penalty = Samples([[-1.0, 0.0]] * 8, [0.0] * 8, 0, 20.0, lowest=-1.0)
    right = penalty.right()
    assert right is not None
    assert right.value == 0.5


def test_copies_of_a_row_do_not_make_few_rows_enough() -> None:
    (first, *_) = advise(Found("demonstration", 1000, 3))
    assert "rules of thumb ask for 500" in first.why
    (first, *_) = advise(Found("label", 2600, 650, 1000))
    assert first.why == "2,600 labelled answers, 1,000 of them good"


def test_what_must_be_mended_comes_first() -> None:
    said = advise(
        Found("demonstration", 1000, 1000, 0, "mine", ["empty: '' gets 1.0", "constant: 'ok' gets 1.0"])
    )
    assert (said[0].method, said[0].verdict) == ("mend the reward", "first")
    assert "empty: '' gets 1.0, and 1 more" in said[0].why
    assert of("demonstration", samples=sampled(NEVER, cut_off=9))["more room"] == "first"
    assert "more room" not in of("demonstration", samples=sampled(NEVER, cut_off=3))
    assert of("demonstration", samples=sampled([[None] * 4] * 8))["mend the reward"] == "first"
    gold = Samples(NEVER, [1.0] * 4 + [0.5] * 4, 0, 20.0)
    assert of("demonstration", samples=gold)["look at the rows"] == "first"


def test_many_pairs_could_measure_a_reward_model() -> None:
    assert "reward_model" not in of("preference", 1999)
    assert of("preference", 2000)["reward_model"] == "instead"


def test_form_comes_first_where_the_rows_have_one_and_samples_do_not() -> None:
    def methods(formed: int | None) -> list[str]:
        samples = Samples(RIGHT_AT_TIMES, [1.0] * 8, 0, 20.0, formed=formed)
        found = Found("demonstration", 600, 600, reward="mine", samples=samples)
        return [one.method for one in advise(found)]

    count = sum(map(len, RIGHT_AT_TIMES))
    assert "teach the form" in methods(count // 2)
    assert "teach the form" not in methods(count)
    assert "teach the form" not in methods(None)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": NaN}', '{"a": 1, "a": 2}', "7", "Total: {7}", ""])
def test_what_a_reward_would_not_read_is_no_json(text: str) -> None:
    assert not is_json(text)


def test_json_in_a_fence_is_json() -> None:
    assert is_json('```json\n{"total": 7}\n```')
