"""Each alarm: a planted run sets it off, and a healthy run does not."""

from __future__ import annotations

import doctest
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.errors import StopTraining
from tieout.training import alarms
from tieout.training.alarms import text_metrics as wording
from tieout.types import Completion, Group

Run = Callable[[int], Mapping[str, float]]
"""Step -> metrics."""


def steps_to_alarm(detector: alarms.Detector, run: Run, steps: int = 60) -> int | None:
    """The first step at which the detector is alarmed."""
    return next((step for step in range(1, steps + 1) if detector(step, [], dict(run(step)))), None)


def test_a_skipped_update_is_said_and_eight_steps_of_them_end_the_run() -> None:
    once, always = alarms.skipped()
    said, stopped, count = [], [], 0.0
    for step in range(1, 14):
        count += step == 2 or step >= 5
        metrics = {"skipped_updates": count}
        said += [step] if once(step, [], metrics) else []
        stopped += [step] if always(step, [], metrics) else []
    assert said == [2, *range(5, 14)]
    assert stopped == [12]


def noisy(name: str, value: Callable[[int], float], spread: float = 0.1, seed: int = 0) -> Run:
    rng = random.Random(seed)
    return lambda step: {name: value(step) * (1 + spread * rng.uniform(-1, 1))}


@pytest.mark.parametrize(
    ("detector", "healthy", "planted", "within"),
    [
        (
            alarms.entropy_collapse,
            noisy("entropy", lambda t: 0.8 - 0.005 * t),
            noisy("entropy", lambda t: 0.8 * 0.9**t),
            20,
        ),
        (
            alarms.length_drift,
            noisy("length", lambda t: 100 + t),
            noisy("length", lambda t: 100 + 10 * t),
            25,
        ),
        (
            alarms.length_drift,
            noisy("length", lambda t: 100 - 0.5 * t),
            noisy("length", lambda t: max(1, 100 - 5 * t)),
            25,
        ),
        (
            alarms.no_signal,
            noisy("no_signal", lambda t: 0.6),
            lambda t: {"no_signal": min(1.0, 0.5 + t / 20)},
            16,
        ),
        (
            alarms.kl_per_sequence,
            lambda t: {"kl": 0.001 * t, "length": 100},
            lambda t: {"kl": 0.01 * t, "length": 100},
            20,
        ),
        (
            lambda: alarms.above("repetition", 0.2),
            noisy("repetition", lambda t: 0.05),
            lambda t: {"repetition": t / 40},
            12,
        ),
        (
            lambda: alarms.above("errored", 0.1),
            lambda t: {"errored": 0.2 * (t % 3 == 0)},
            lambda t: {"errored": 0.2},
            3,
        ),
        (
            lambda: alarms.below("valid", 0.8),
            noisy("valid", lambda t: 0.95, 0.05),
            lambda t: {"valid": 1 - t / 40},
            12,
        ),
        (
            lambda: alarms.above("mismatch", 0.1),
            lambda t: {"mismatch": 1e-5},
            lambda t: {"mismatch": float("nan")},
            3,
        ),
    ],
)
def test_planted_runs_alarm_and_healthy_ones_do_not(
    detector: Callable[[], alarms.Detector], healthy: Run, planted: Run, within: int
) -> None:
    assert steps_to_alarm(detector(), healthy) is None
    found = steps_to_alarm(detector(), planted)
    assert found is not None
    assert found <= within


def test_a_metric_that_is_measured_now_and_then_counts_only_where_it_is() -> None:
    detector = alarms.above("kl", 1.0, patience=2)
    run = {1: {"kl": 2.0}, 2: {}, 3: {}, 4: {"kl": 2.0}}
    assert steps_to_alarm(detector, lambda t: run[t], 4) == 4


def rollouts(scores: list[float], texts: list[str], prompt: str = "p", **row: Any) -> Group:
    completions = [Completion([1], [True], [0.0], text) for text in texts]
    return Group([0], completions, scores, {"prompt": prompt, **row})


def test_an_impossible_row_that_is_passed_is_a_hack_at_once() -> None:
    detect = alarms.impossible_rows()
    possible, impossible = (
        rollouts([0.0, 1.0], ["x", "y"]),
        rollouts([0.1, 0.0], ["x", "y"], impossible_row=True),
    )
    assert detect(1, [possible, impossible], {}) is None
    passed = rollouts([0.0, 0.9], ["x", "the trick"], impossible_row=True)
    assert "'the trick'" in (detect(2, [possible, passed], {}) or "")


def two_parts(right: float, form: float | None) -> Group:
    group = rollouts([right, 0.0], ["x", "y"])
    group.columns.update({"reward/right": [right, 0.0], "reward/form": [form, form]})
    return group


def test_one_part_that_is_nearly_all_of_the_reward_alarms() -> None:
    def first(run: Callable[[int], Group], **options: Any) -> int | None:
        detect = alarms.dominant_part(**options)
        return next((t for t in range(1, 41) if detect(t, [run(t)], {})), None)

    # Form is learnt while answers are forgotten: 0.9 of the total from step 18 on, and five steps of it.
    assert first(lambda t: two_parts(max(0.0, 1 - t / 20), 0.5)) == 22
    assert first(lambda t: two_parts(min(1.0, 0.2 + t / 40), 0.5)) is None
    assert first(lambda t: two_parts(0.0 if t % 4 else 1.0, 0.5)) is None  # not five steps in a row
    # The same scores, weighed: a part with a tenth of the weight is not what is paid for.
    assert first(lambda t: two_parts(0.5, 0.5), weights={"right": 1.0, "form": 0.02}) == 5
    assert first(lambda t: two_parts(0.5, 0.5), weights={"right": 1.0, "form": -0.5}) is None
    # A part that only abstains has no size, and there is no other to be larger than.
    assert first(lambda t: two_parts(0.5, None)) is None
    assert first(lambda t: rollouts([1.0], ["x"])) is None


def gold(completions: list[str], **_: Any) -> list[float | None]:
    return [float(text) for text in completions]


def falling(step: int, rng: random.Random, gold_slope: float, proxy_slope: float) -> list[Group]:
    """Eight groups of four whose gold and proxy scores move by so much a step, around noise of 0.3."""
    groups = []
    for _ in range(8):
        golds = [min(1.0, max(0.0, 0.6 + gold_slope * step + rng.gauss(0, 0.3))) for _ in range(4)]
        proxies = [min(1.0, max(0.0, 0.5 + proxy_slope * step + rng.gauss(0, 0.3))) for _ in range(4)]
        groups.append(rollouts(proxies, [str(g) for g in golds]))
    return groups


def gold_alarm(seed: int, gold_slope: float, proxy_slope: float, steps: int = 40) -> int | None:
    detector, rng = alarms.gold_against_proxy(gold), random.Random(seed)
    return next(
        (t for t in range(1, steps + 1) if detector(t, falling(t, rng, gold_slope, proxy_slope), {})), None
    )


def test_gold_that_falls_while_the_reward_rises_alarms_and_hardly_ever_otherwise() -> None:
    parted = [gold_alarm(seed, -0.01, 0.01) for seed in range(20)]
    assert all(step is not None and step <= 30 for step in parted)
    for slopes in ((0.01, 0.01), (0.0, 0.0), (0.0, 0.01)):
        assert sum(gold_alarm(seed, *slopes) is not None for seed in range(20)) <= 1
    # Both fall: something is wrong, but it is not the reward that pays for something else.
    assert sum(gold_alarm(seed, -0.01, -0.01) is not None for seed in range(20)) <= 1


def test_the_gold_mean_is_added_where_gold_can_tell() -> None:
    def broken(completions: list[str], **_: Any) -> list[float]:
        raise KeyError("a column that no row has")

    def added(verifier: Any, *texts: str) -> dict[str, float]:
        metrics: dict[str, float] = {}
        alarms.gold_against_proxy(verifier)(1, [rollouts([1.0] * len(texts), list(texts))], metrics)
        return metrics

    assert added(gold, "0.25", "0.75") == {"gold": 0.5}
    assert added(gold, "0.25", "no number") == {"gold": 0.125}  # it made gold fail: wrong, as in training
    assert added(broken, "0.25", "0.75") == {}  # gold's own fault says nothing of the policy


def test_actions_do_what_they_say() -> None:
    def always(step: int, groups: Any, metrics: Any) -> str:
        return "planted"

    adjustments, metrics = alarms.Adjustments(), dict[str, float]()
    with pytest.warns(UserWarning, match="step 3: planted; the learning rate is now 0.5"):
        alarms.alarm(always, alarms.lower_rate(adjustments))(3, [], metrics)
    with pytest.warns(UserWarning, match="2 times its own"):
        alarms.alarm(always, alarms.raise_beta(adjustments))(4, [], metrics)
    assert (adjustments.rate, adjustments.beta, metrics["alarms"]) == (0.5, 2.0, 2.0)
    with pytest.raises(StopTraining, match="step 5: planted"):
        alarms.alarm(always, alarms.stop())(5, [], metrics)
    back = alarms.alarm(always, alarms.roll_back(adjustments, lag=4, times=1))
    with pytest.raises(alarms.RollBack) as caught:
        back(20, [], metrics)
    assert (caught.value.before, adjustments.rate) == (16, 0.25)
    with pytest.raises(StopTraining, match="again after 1 returns"):
        back(30, [], metrics)


def test_texts_are_told_apart() -> None:
    row = "Summarise the statement of cash flows."
    good = (
        "Cash fell by 12 million, since inventories grew faster than payables and a loan was repaid in March."
    )
    samples = {
        "repetition": "and so on and so forth " * 12,
        "refusal": "I'm sorry, but I can't help with that.",
        "empty": "  \n",
        "other_script": "现金减少了一千二百万因为库存增长更快",
    }
    for name, text in samples.items():
        metrics: dict[str, float] = {}
        alarms.texts(1, [rollouts([0.0, 1.0], [text, good], prompt=row)], metrics)
        assert {n: metrics[n] for n in samples} == {n: 0.5 * (n == name) for n in samples}, name
    for text, prompt in (
        ("现金减少了", "用中文回答"),
        ("<think>四加八</think><answer>十二</answer>", "四加八"),  # letters of tags are nobody's words
        (
            "<think>4 + 8</think><answer>twelve</answer>",
            "4 + 8 = ?",
        ),  # a prompt without letters is of any script
    ):
        metrics = {}
        alarms.texts(1, [rollouts([0.0], [text], prompt=prompt)], metrics)
        assert metrics["other_script"] == 0.0, text
    given_rows = Group([0], [Completion([1], [True], None, "x")], None, {"prompt": row})
    metrics = {}
    alarms.texts(1, [given_rows], metrics)
    assert metrics == {}


def test_validity_is_a_share_of_what_was_sampled() -> None:
    metrics: dict[str, float] = {}
    alarms.validity(str.isdigit)(1, [rollouts([0.0, 1.0], ["12", "x"])], metrics)
    assert metrics == {"valid": 0.5}


@given(st.text(max_size=400))
def test_repetition_is_a_share_and_more_of_the_same_is_more(text: str) -> None:
    assert 0 <= wording.repeats(text) < 1
    doubled = f"{text} {text}"
    assert wording.repeats(f"{doubled} {doubled}") >= wording.repeats(doubled) - 0.2


@pytest.mark.parametrize(
    ("chosen", "entropy", "said"),
    [
        (
            [-0.5 * i for i in range(25)],
            [0.7] * 25,
            "the chosen became unlikely: reward_chosen went from -1 to",
        ),
        ([0.0] * 25, [0.6 + 0.05 * i for i in range(25)], "the entropy on the pairs went from 0.7 to"),
        ([-0.1 * i for i in range(25)], [0.7 - 0.01 * i for i in range(25)], ""),  # as of a run that learns
        ([0.0] * 25, [0.05 + 0.01 * i for i in range(25)], ""),  # six times as much, of next to nothing
    ],
)
def test_pairs_that_break_the_policy_alarm_though_they_are_in_order(
    chosen: list[float], entropy: list[float], said: str
) -> None:
    detect = alarms.pairs_drift()
    both = enumerate(zip(chosen, entropy, strict=True))
    found = [detect(i, [], {"reward_chosen": c, "margin": 3.0, "entropy": e}) for i, (c, e) in both]
    told = [one for one in found if one]
    assert bool(told) == bool(said)
    assert not told or told[0].startswith(said)


def test_doctests() -> None:
    assert doctest.testmod(wording).failed == 0
