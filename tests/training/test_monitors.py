from __future__ import annotations

from typing import Any

import pytest

from tieout.errors import StopTraining
from tieout.training import monitors
from tieout.types import Completion, Group


def group(*scores: float, lengths: tuple[int, ...] = (), reason: str = "stop", sampled: bool = True) -> Group:
    completions = [
        Completion([1] * n, [True] * n, [0.0] * n if sampled else None, finish_reason=reason)
        for n in lengths or [1] * len(scores)
    ]
    return Group([0], completions, list(scores) or None)


def told(monitor: Any, groups: list[Group], **metrics: float) -> dict[str, float]:
    monitor(1, groups, metrics)
    return metrics


def test_groups_without_signal_are_split_into_solved_and_unsolved() -> None:
    groups = [group(1.0, 1.0), group(0.2, 0.2), group(0.0, 0.0), group(1.0, 0.0)]
    found = told(monitors.scores, groups)
    assert found == pytest.approx(
        {"score": 3.4 / 8, "no_signal": 0.75, "no_signal_right": 0.25, "no_signal_wrong": 0.5}
    )


def test_given_rows_have_no_score() -> None:
    assert told(monitors.scores, [group(lengths=(3,), sampled=False)]) == {}
    assert told(monitors.scores, [group(1.0, 0.0, sampled=False)]) == {}  # a pair: its 1 and 0 are an order


def test_lengths_are_per_completion_not_per_group() -> None:
    groups = [group(lengths=(2, 4, 6)), group(lengths=(20,), reason="length")]
    five = {"length_min": 2.0, "length_q1": 3.5, "length_median": 5.0, "length_q3": 9.5, "length_max": 20.0}
    assert told(monitors.lengths, groups) == {"length": 8.0, "cut_off": 0.25, **five}


def test_only_what_was_sampled_can_be_cut_off() -> None:
    assert told(monitors.lengths, [group(lengths=(3,), sampled=False)]) == {"length": 3.0}
    both = [group(lengths=(3,), reason="length"), group(lengths=(3,), sampled=False)]
    assert told(monitors.lengths, both)["cut_off"] == 1.0


def test_the_entropy_of_sampling_is_a_mean_over_tokens_where_a_sampler_told() -> None:
    silent, told_it = (
        Completion([1, 2], [True] * 2),
        Completion([1, 2, 3], [True] * 3, entropies=[1.0, 2.0, 6.0]),
    )
    assert told(monitors.lengths, [Group([0], [silent, told_it])])["sampling_entropy"] == pytest.approx(3.0)
    assert "sampling_entropy" not in told(monitors.lengths, [Group([0], [silent])])


def test_a_mismatch_above_the_limit_or_no_number_stops() -> None:
    stop = monitors.stop_on_mismatch(0.5)
    told(stop, [])  # a method that does not measure it
    told(stop, [], mismatch=0.5)
    for bad in (0.51, float("nan"), float("inf")):
        with pytest.raises(StopTraining, match="step 1"):
            told(stop, [], mismatch=bad)


def test_divergence_stops_after_bad_steps_in_a_row_only() -> None:
    stop, nan = monitors.stop_on_divergence(patience=3), float("nan")
    for norm in (nan, nan, 1.0, nan, float("inf"), 2.0):
        told(stop, [], grad_norm=norm)
    told(stop, [], grad_norm=nan)
    told(stop, [], grad_norm=nan)
    with pytest.raises(StopTraining, match=r"not finite 3 times in a row; lower the learning rate"):
        told(stop, [], grad_norm=nan)


class FixedReference:
    """A learner whose reference says the same of every token."""

    def __init__(self, logprob: float) -> None:
        self.logprob, self.asked = logprob, 0

    def reference_logprobs(self, groups: list[Group]) -> list[list[list[float]]]:
        self.asked += 1
        return [[[self.logprob] * len(c.tokens) for c in g.completions] for g in groups]


def sampled(*logprobs: float, mask: tuple[bool, ...] | None = None) -> Group:
    tokens = [1] * len(logprobs)
    return Group([0], [Completion(tokens, list(mask or [True] * len(logprobs)), list(logprobs))])


def test_kl_is_measured_every_so_many_steps_on_trained_tokens() -> None:
    """k3 of two tokens by hand: e^r - 1 - r with r = ln 2 and r = 0; the third is a tool's."""
    learner: Any = FixedReference(-1.0)
    monitor = monitors.kl_to_reference(learner, every=4)
    groups = [sampled(-1.6931471805599454, -1.0, 0.0, mask=(True, True, False))]
    seen = {}
    for step in range(1, 10):
        metrics: dict[str, float] = {}
        monitor(step, groups, metrics)
        if "kl" in metrics:
            seen[step] = metrics["kl"]
    assert seen.keys() == {1, 5, 9}
    assert list(seen.values()) == pytest.approx([(2 - 1 - 0.6931471805599453) / 2] * 3)
    asked = learner.asked
    assert told(monitor, groups, kl=0.3) == {"kl": 0.3}  # the method's own is kept, and costs nothing
    assert learner.asked == asked
