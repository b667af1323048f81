"""Keep a reward model honest while a policy trains on it: sample, label, retrain, continue.

`refreshing` is a monitor. Every so many steps, or as soon as the policy's samples leave the range of scores that the
reward model gave to its own training data, it samples the policy, has the samples labelled, trains the reward model on
all labels, and puts the new adapter in the old one's place. What it wrote into its folder is taken up by a later run.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError, StopTraining
from ..learner import AdapterConfig, Learner, load
from ..learner.checkpoint import save_adapter
from ..methods import RewardModel
from ..rewards.scoring.failures import Failures
from ..rewards.scoring.runner import Encode, score
from ..rows import check_rows, read_rows
from ..samplers import SamplingParams
from ..source import Source
from ..storage.jsonl import write_jsonl
from ..tasks import Task
from ..types import Group, Reward, Row
from .alarms.memory import Memory, Monitor, remembers
from .loop import train
from .reward_models import DRIFT, outside, percentiles

Label = Callable[[Sequence[Row], int], list[Row]]
"""(rows with prompt and completions, step) -> those of them that got `scores`, one per completion."""


@dataclass(frozen=True)
class Refresh:
    """Settings of the refresh of a reward model: when, on what rows, for how long."""

    folder: Path
    """Where labels and reward models are kept, one of each a refresh."""
    label: Label
    """`by_reward` (a program or a judge), `by_file` (human labels), or your own."""
    every: int = 50
    """Steps of the policy between refreshes; 0: only when the alarm asks."""
    limit: float = 0.2
    """The alarm asks when more than this share of a step's scores lies outside what the training data's got, from their
    1st to their 99th percentile (two in a hundred always do); 1 never asks."""
    num_prompts: int = 32
    """Prompts sampled for labels."""
    group_size: int = 4
    """Completions of each."""
    max_new_tokens: int = 256
    """Of those samples."""
    steps: int = 50
    """Optimizer steps of the reward model in each refresh."""
    method: RewardModel = field(default_factory=RewardModel)
    """How it is trained."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """The reward adapter's shape: that of the one it continues."""


def refreshing(
    refresh: Refresh, reward_model: Path, rows: Sequence[Row], source: Source, learner: Learner
) -> Monitor:
    """A monitor that refreshes the reward model next to the learner's policy.

    Args:
        refresh: when and how.
        reward_model: the adapter to begin with, of the learner's base.
        rows: what it was trained on, as pairs or rankings: further training never forgets them.
        source: of the rollouts; its task's reward is a `SharedReward` over this learner.
        learner: of the policy.

    Raises:
        ValueError: there are several processes; each would ask for labels of its own.
    """
    if not learner.processes.alone:
        raise InputError("a reward model is refreshed in one process; start the run without torchrun")
    labelled = [row for path in sorted(refresh.folder.glob("labels-*.jsonl")) for row in read_rows(path)]
    known = [*rows, *labelled]
    adapter = max(refresh.folder.glob("reward-*"), default=reward_model)
    learner.model.add_reward(adapter)
    low, high = score_range(learner, source, known)
    asked = bool(waiting(refresh.folder))
    memory: Memory = {"since": 0}

    @remembers(memory)
    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        nonlocal adapter, low, high, asked
        seen = [s for group in groups for s in group.scores or []]
        metrics[DRIFT] = drift = outside(seen, low, high)
        memory["since"] += 1
        due = asked or (refresh.every and memory["since"] >= refresh.every)
        if not due and drift <= refresh.limit:
            return
        known.extend(_labels(refresh, source, step))
        adapter = _retrain(refresh, adapter, known, source, learner, step)
        learner.model.add_reward(adapter)
        low, high = score_range(learner, source, known)
        memory["since"], asked, metrics["reward_refreshed"] = 0, False, 1.0

    return monitor


def score_range(
    learner: Learner, source: Source, rows: Sequence[Row], limit: int = 256
) -> tuple[float, float]:
    """1st and 99th percentile of what the reward model says of (the newest of) its own training data."""
    groups = [source.ranking(row) for row in rows[-limit:]]
    return percentiles(s for group in learner.scores(groups) for s in group)


def by_reward(reward: Reward, encode: Encode | None = None) -> Label:
    """Labels by a program or a judge; a group in which it failed or abstained, or found all alike, is left out.

    TooManyErrors: it failed on more than a fifth of the completions.

    `encode` makes the tokens for a reward that asks for them: `chat.encode`.
    """

    def label(rows: Sequence[Row], step: int) -> list[Row]:
        found, failures = list[Row](), Failures("what labels the samples")
        for row in rows:
            prompts = [row["prompt"]] * len(row["completions"])
            outcomes = score(reward, row["completions"], prompts, row, encode=encode)
            failures.count(outcomes)
            failures.check()
            scores = [outcome.worth for outcome in outcomes]
            if None not in scores and len(set(scores)) > 1:
                found.append({**row, "scores": scores})
        return found

    return label


def by_file(folder: Path) -> Label:
    """Human labels: samples are written into the refresh's folder, and the run stops until their scores lie there.

    Started again, it takes them up at its first step.
    """

    def label(rows: Sequence[Row], step: int) -> list[Row]:
        asked = next(iter(waiting(folder)), None)
        if asked is None:
            folder.mkdir(parents=True, exist_ok=True)
            asked = folder / f"samples-{step:06d}.jsonl"
            write_jsonl(asked, rows)
        answered = asked.with_name(asked.name.replace("samples", "scored"))
        if not answered.exists():
            raise StopTraining(
                f"step {step}: samples wait for labels in {asked}; write them to {answered.name} next to it, the same "
                "rows with `scores` (one per completion, higher is better), and start again"
            )
        rows = check_rows(read_rows(answered), "ranking", str(answered))
        found: list[Row] = [row for row in rows if len(set(row["scores"])) > 1]
        asked.unlink()
        answered.rename(answered.with_name(answered.name.replace("scored", "used")))
        return found

    return label


def waiting(folder: Path) -> list[Path]:
    """Samples that wait for human labels, and that no reward model was trained on yet."""
    return sorted(folder.glob("samples-*.jsonl"))


def _labels(refresh: Refresh, source: Source, step: int) -> list[Row]:
    """Sample the policy of now, on prompts of its own order, and have the samples labelled."""
    drawn = replace(source, seed=source.seed + 1, position=step * refresh.num_prompts)
    params = SamplingParams(refresh.max_new_tokens, seed=step)
    groups = drawn.rollout(drawn.take(refresh.num_prompts), refresh.group_size, params)
    rows = [{**g.row, "completions": [c.text for c in g.completions]} for g in groups]
    found = refresh.label(rows, step)
    refresh.folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(refresh.folder / f"labels-{step:06d}.jsonl", found)
    return found


def _retrain(
    refresh: Refresh, adapter: Path, rows: Sequence[Row], source: Source, learner: Learner, step: int
) -> Path:
    """Train the reward model further, in a model of its own (a second base for as long as it takes)."""
    model = load(
        learner.model.name,
        refresh.adapter,
        start=adapter,
        dtype=learner.model.causal.dtype,
        device=str(learner.model.device),
        head="score",
    )
    given = Source(Task("labels", lambda split: rows), source.chat, seed=step)
    judge = Learner(model, refresh.method.learning_rate)
    train(refresh.method, given, judge, steps=refresh.steps)
    folder = refresh.folder / f"reward-{step:06d}"
    save_adapter(judge, folder)
    return folder
