"""Alarms of every run: limits watched while it trains, and the action that a breach triggers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from ..learner import Learner
from ..methods import Method
from ..rewards import load_reward
from ..rewards.processes.workers import Workers
from ..source import Source
from ..tasks import Task
from ..tasks.files import check_columns
from ..types import Reward, Row
from . import alarms
from .alarms import Action, Adjustments, Detector
from .alarms.memory import Monitor
from .formats import format_of
from .probe import Probe, probed
from .reward_models import DRIFT


@dataclass(frozen=True)
class Guards:
    """What is watched while a method trains; a limit of 0 leaves it out. `tieout.training.alarms` has more."""

    act: Literal["warn", "stop", "off"] = "warn"
    """What the limits below do: warn, or stop the run; off: no alarms. Three never only warn: a row whose column
    `impossible_row` is true and that is passed ends the run; a run that blows up ends, and goes back to its last good
    checkpoint; gold that falls brings back an earlier checkpoint at half the rate, twice at most."""
    gold: str = ""
    """A reward that is not trained on, by name or as FILE.py:function: its score must not fall while the reward's does
    not, and must rise if that rises. Left out: the task's primary metric, where it has one; none: nothing."""
    kl: float = 15.0
    """Nats per completion from the reference, at most."""
    entropy: float = 0.3
    """Share of its first entropy that the policy must keep."""
    length: float = 2.0
    """How many times longer completions may become, or shorter."""
    repetition: float = 0.2
    """Share of completions that mostly repeat themselves, at most; of empty ones and refusals too."""
    cut_off: float = 0.3
    """Share of completions that end at max_new_tokens, at most."""
    valid: str = ""
    """Gives 1 to a completion in a valid format: a metric of the task, or a reward by name or as FILE.py:function. Left
    out: the format of the task's own answers, where these are JSON or tagged; none: nothing."""
    other_script: float = 0.2
    """By how much the share of completions in another script than their prompt's may rise above its start."""
    hedging: float = 0.3
    """By how many hedges per sentence (English) completions may rise above their start while the score rises."""
    copied: float = 0.25
    """By how much the share of words in runs of eight copied from the prompt may rise above its start while the score
    rises."""
    distinct: float = 0.25
    """Share of their first difference that answers to different prompts must keep; less is mode collapse."""
    reward_drift: float = 0.2
    """Where a reward model scores: share of its scores outside what it gave to its held-out pairs, at most."""
    calibration_steps: int = 25
    """Steps between two calibrations, where the task has a primary metric: the policy is sampled on the same 16
    prompts, and reward and metric are compared; 0 leaves them out."""
    audit_steps: int = 100
    """Where a judge scores: steps between two audit sheets, outputs for a person to fill in; 0 leaves them out."""
    reward_model_override: str = ""
    """The reason to train against a reward model whose verdict is fail; it is recorded. Without one it is refused."""
    held_out_steps: int = 50
    """Steps between measurements of the loss of held-out completions, where there are some; 0: never."""
    probe_steps: int = 10
    """For methods that learn from given pairs or labels: steps between probes, which sample from the policy on eight
    prompts and measure KL, entropy, repetition and length; 0: never."""


NONE = "none"
"""In place of a gold reward: nothing, not even the task's primary metric."""


def check_gold(guards: Guards, rows: Sequence[Row], metrics: Collection[str] = ()) -> None:
    """Refuse, before any work, what is named and does not exist, or asks for columns that the rows do not have.

    `metrics` are the names of the task's own, which need no check.
    """
    for name in (guards.gold, guards.valid):
        if name not in ("", NONE) and rows and name not in metrics:
            check_columns(load_reward(name), rows)


def gold_of(guards: Guards, task: Task) -> Reward | None:
    """The reward that gold comes from: the one that is named, else the task's primary metric if it is another function.

    None too where an environment scores, or where the rows lack what the primary metric reads.
    """
    if guards.gold == NONE:
        return None
    if guards.gold:
        return load_reward(guards.gold)
    if task.primary is None or task.scorer != "reward" or task.metrics[task.primary] is task.reward:
        return None
    primary, rows = task.metrics[task.primary], task.rows("train")
    try:
        check_columns(primary, rows)
    except InputError:  # rows of a file, which were never meant for it
        return None
    return primary


def valid_of(guards: Guards, task: Task) -> Reward | None:
    """What tells a valid format: the one that is named, else the format of the task's own answers, if they have one."""
    if guards.valid in ("", NONE):
        return None if guards.valid else format_of(task)
    return task.metrics[guards.valid] if guards.valid in task.metrics else load_reward(guards.valid)


def watch(
    guards: Guards,
    gold: Reward | None,
    workers: Workers | None,
    adjustments: Adjustments,
    say: Callable[[int, str], None],
    valid: Reward | None = None,
) -> list[Monitor]:
    """The monitors of these guards, for a method that samples.

    Args:
        guards: the limits.
        gold: of `gold_of`.
        workers: processes that call a gold that was named under a deadline; the task's own metric needs none.
        adjustments: turned when weights are brought back; `train` is given the same.
        say: told of every alarm: the step and the reason.
        valid: of `valid_of`.
    """
    if guards.act == "off":
        return []

    limits = said_first(guards, say)
    watched: list[Monitor] = [alarms.texts, alarms.alarm(alarms.impossible_rows(), _said(alarms.stop(), say))]
    if gold is not None:
        detector = alarms.gold_against_proxy(gold, workers=workers if guards.gold else None)
        watched.append(alarms.alarm(detector, _said(alarms.roll_back(adjustments), say)))
        watched.append(alarms.alarm(alarms.rises_alone(), limits))
    if valid is not None:
        watched.append(alarms.alarm(alarms.format_lost(valid), limits))
    watched += _pairs_alarms(say)
    return watched + [alarms.alarm(detector, limits) for detector in _limits(guards)]


def watch_given(
    guards: Guards,
    learner: Learner,
    source: Source,
    method: Method,
    steps: int,
    say: Callable[[int, str], None],
) -> list[Monitor]:
    """The monitors of these guards, for a method that learns from given completions.

    Args:
        guards: the limits.
        learner: is sampled from.
        source: of the method's rows.
        method: of pairs or labels is probed; of whatever rows its loss is watched.
        steps: of the whole run.
        say: told of every alarm: the step and the reason.
    """
    watched: list[Monitor] = []
    if guards.probe_steps and probed(method):
        watched.append(Probe(learner, source, steps, guards.probe_steps))
    if guards.act == "off":
        return watched
    limits = said_first(guards, say)
    watched.append(alarms.alarm(alarms.loss_explosion(), _given_up(LAG, say)))
    watched += [*_pairs_alarms(say), alarms.alarm(alarms.pairs_drift(), limits)]
    if guards.probe_steps:
        watched.append(alarms.alarm(alarms.blown_up(), _given_up(guards.probe_steps, say)))
    return watched + [alarms.alarm(detector, limits) for detector in _probe_limits(guards)]


LAG = 8
"""Steps that the alarms over a run's own losses and margins take to notice, at most."""
ADVICE = (
    "The run has blown up: train again with a lower learning_rate, a tenth to begin with, or a longer warmup"
)


def noticed_within(guards: Guards) -> int:
    """Steps that it may take to notice that a run has blown up."""
    return 2 * max(LAG, guards.probe_steps)


def _pairs_alarms(say: Callable[[int, str], None]) -> list[Monitor]:
    """Over the margin and the accuracy of pairs; methods without them never set these off."""
    detectors = alarms.preference_lost(), alarms.margin_collapse()
    return [alarms.alarm(detector, _given_up(LAG, say)) for detector in detectors]


def _given_up(lag: int, say: Callable[[int, str], None]) -> Action:
    return _said(alarms.give_up(lag, ADVICE), say)


def said_first(guards: Guards, say: Callable[[int, str], None]) -> Action:
    """What a limit does: say why, and stop if the guards do."""
    return _said(alarms.stop(), say) if guards.act == "stop" else say


def _said(action: Action, say: Callable[[int, str], None]) -> Action:
    """The action, once it was said why."""

    @alarms.remembers(alarms.memory_of(action))
    def act(step: int, reason: str) -> None:
        say(step, reason)
        action(step, reason)

    return act


def _probe_limits(guards: Guards) -> Sequence[Detector]:
    found: list[Detector] = []
    if guards.kl:
        found.append(alarms.above("probe/kl", guards.kl, patience=2))
    if guards.entropy:
        found.append(alarms.changed("probe/entropy", falls=guards.entropy, start=1, window=2))
    if guards.length:
        found.append(
            alarms.changed("probe/length", rises=guards.length, falls=1 / guards.length, start=1, window=2)
        )
    if guards.repetition:
        found += [
            alarms.above(f"probe/{name}", guards.repetition, 2) for name in ("repetition", "empty", "refusal")
        ]
    if guards.other_script:
        found.append(alarms.risen("probe/other_script", guards.other_script, start=1, window=2))
    if guards.distinct:
        found.append(alarms.changed("probe/distinct", falls=guards.distinct, start=1, window=2))
    return found


def _limits(guards: Guards) -> Sequence[Detector]:
    found: list[Detector] = [alarms.no_signal()]
    if guards.kl:
        found.append(alarms.kl_per_sequence(guards.kl))
    if guards.entropy:
        found.append(alarms.entropy_collapse(guards.entropy))
    if guards.length:
        found.append(alarms.length_drift(guards.length, 1 / guards.length))
    if guards.repetition:
        found += [alarms.above(name, guards.repetition) for name in ("repetition", "empty", "refusal")]
    if guards.cut_off:
        found.append(alarms.cut_off(guards.cut_off))
    if guards.other_script:
        found.append(alarms.risen("other_script", guards.other_script))
    if guards.hedging:
        found.append(alarms.risen("hedging", guards.hedging, paid=True))
    if guards.copied:
        found.append(alarms.risen("copied", guards.copied, paid=True))
    if guards.distinct:
        found.append(alarms.changed("distinct", falls=guards.distinct))
    if guards.reward_drift:
        found.append(alarms.above(DRIFT, guards.reward_drift))
    return found
