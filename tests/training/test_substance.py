"""A reward that pays for form, completions that are cut off, a format that is lost: told while the run trains."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.methods import GRPO, PPO, Method, OnlineDPO
from tieout.training.alarms import Adjustments
from tieout.training.guards import Guards, check_gold, gold_of
from tieout.training.loop import train
from tieout.training.watching import monitors_of
from tieout.types import Reward
from tiny_task import make_run, make_task

ModelFolder = Callable[[str], Path]


def share_of(wanted: Collection[str]) -> Callable[..., list[float]]:
    def reward(completions: list[str], **_: Any) -> list[float]:
        return [sum(c in wanted for c in text) / max(1, len(text)) for text in completions]

    return reward


digits, more_digits = share_of(string.digits), share_of(string.digits)


def exact(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [float(text == right) for text, right in zip(completions, answer, strict=True)]


def without_digits(completions: list[str], **_: Any) -> list[float]:
    return [float(not set(text) & set(string.digits)) for text in completions]


def with_printable(completions: list[str], **_: Any) -> list[float]:
    return [float(any(c in string.printable for c in text)) for text in completions]


SAMPLED: dict[str, Any] = {"batch_size": 6, "group_size": 6, "max_new_tokens": 10, "learning_rate": 0.02}
ROLLOUTS: dict[str, Method] = {
    "grpo": GRPO(**SAMPLED),
    "ppo": PPO(**SAMPLED, target_kl=0.0, kl_coef=0.0),
    "online_dpo": OnlineDPO(**SAMPLED),
}


def play(
    folder: Path, primary: Reward, valid: Reward, guards: Guards, name: str = "grpo", steps: int = 24
) -> list[str]:
    """The alarms of a run that is paid for digits."""
    metrics = {"right": primary, "well_formed": valid}
    method = ROLLOUTS[name]
    run = make_run("grpo", folder, head=method.needs.head, reward=digits, metrics=metrics, primary="right")
    run.source.seed = 3
    said: list[str] = []
    monitors = monitors_of(
        method,
        run.learner,
        run.source,
        steps,
        guards=guards,
        gold=gold_of(guards, run.source.task),
        adjustments=Adjustments(),
        say=lambda step, reason: said.append(f"{step}: {reason}"),
    )
    scores: list[float] = []
    train(
        method,
        run.source,
        run.learner,
        steps=steps,
        monitors=monitors,
        on_step=lambda step, metrics: scores.append(metrics["score"]),
    )
    assert scores[-1] > scores[0] + 0.1, "it learns what it is paid for"
    return said


ONLY = {
    "kl": 0.0,
    "entropy": 0.0,
    "length": 0.0,
    "repetition": 0.0,
    "other_script": 0.0,
    "hedging": 0.0,
    "copied": 0.0,
}


@pytest.mark.parametrize("name", ROLLOUTS)
def test_a_reward_for_form_a_lost_format_and_cut_off_completions_are_told(
    tiny_model: ModelFolder, name: str
) -> None:
    guards = Guards(**ONLY, valid="well_formed", distinct=0.0)
    said = play(tiny_model("llama"), exact, without_digits, guards, name)
    alone = [s for s in said if "while gold went from 0.000 to 0.000: it pays for something else" in s]
    assert alone, said
    assert [s for s in said if "of the completions are in a valid format, after more before" in s], said
    cut = [s for s in said if "raise max_new_tokens (completions end at 10 tokens)" in s]
    assert cut, said


@pytest.mark.parametrize("name", ROLLOUTS)
def test_a_reward_that_is_the_primary_in_effect_sets_nothing_off(tiny_model: ModelFolder, name: str) -> None:
    guards = Guards(**ONLY, valid="well_formed", distinct=0.0, cut_off=1.0)
    assert play(tiny_model("llama"), more_digits, with_printable, guards, name) == []


def test_completions_that_end_by_themselves_are_not_cut_off() -> None:
    run = make_run("grpo", Path("tieout-base"))
    said: list[str] = []
    guards = Guards(**ONLY, distinct=0.0)
    method = GRPO(batch_size=3, group_size=4, max_new_tokens=96)
    seen: list[float] = []
    train(
        method,
        run.source,
        run.learner,
        steps=3,
        monitors=monitors_of(
            method, run.learner, run.source, 3, guards=guards, say=lambda step, reason: said.append(reason)
        ),
        on_step=lambda step, metrics: seen.append(metrics["cut_off"]),
    )
    assert max(seen) < 0.3
    assert not [s for s in said if "cut_off" in s]


def test_gold_is_the_primary_metric_unless_it_is_named_or_is_the_reward() -> None:
    task = make_task(reward=digits, metrics={"right": exact}, primary="right")
    assert gold_of(Guards(), task) is exact
    assert gold_of(Guards(gold="none"), task) is None
    assert gold_of(Guards(gold="repetition"), task) not in (None, exact)
    assert gold_of(Guards(), make_task(reward=exact, metrics={"right": exact}, primary="right")) is None
    assert gold_of(Guards(), make_task(reward=digits)) is None
    bare = make_task(
        reward=digits, metrics={"right": exact}, primary="right", rows=lambda split: [{"prompt": "p"}]
    )
    assert gold_of(Guards(), bare) is None, "rows of a file, without the columns that it reads"


def test_a_format_that_nothing_is_named_after_is_refused_before_any_work() -> None:
    rows = [{"prompt": "p"}]
    check_gold(Guards(valid="well_formed"), rows, {"well_formed": exact})
    with pytest.raises(InputError, match="well_formed"):
        check_gold(Guards(valid="well_formed"), rows)


RUNS_AWAY = (
    "repetition is 1, above 0.2",
    "distinct went from",
    "entropy went from",
    "no_signal is 1, above 0.9",
    "other_script rose from",
    "completions of a prompt score the same there is nothing to learn",
)
"""What is said of a policy that comes to write the same everywhere, or what nobody asked for. Which of them depends on
the processor: so large a rate enlarges the last bit of the first step."""


@pytest.mark.parametrize(
    "name", ["grpo", *(pytest.param(name, marks=pytest.mark.slow) for name in ROLLOUTS if name != "grpo")]
)
def test_with_every_default_a_sane_rate_is_left_alone_and_a_run_that_runs_away_is_told(name: str) -> None:
    def said(rate: float, steps: int) -> str:
        method = replace(ROLLOUTS[name], max_new_tokens=16, learning_rate=rate)
        run = make_run("grpo", Path("tieout-base"), head=method.needs.head, reward=share_of("."))
        found: list[str] = []
        monitors = monitors_of(
            method, run.learner, run.source, steps, say=lambda step, reason: found.append(reason)
        )
        try:
            train(method, run.source, run.learner, steps=steps, monitors=monitors)
        except InputError as error:
            found.append(str(error))
        return "\n".join(found)

    assert said(1e-3, 9) == ""
    wild = said(0.03, 12)
    assert any(sentence in wild for sentence in RUNS_AWAY), wild
