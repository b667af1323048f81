"""Episodes again from what was recorded of them: the environment, answered by the recorded turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..episodes import Episode
from ..tasks import Environment, Task
from ..types import Row
from .evaluate import Case


def replayed(environment: Environment, row: Row, turns: Sequence[str]) -> Episode:
    """The episode of a row in which the policy says these turns, or as many as the environment takes."""
    episode = Episode(environment, row)
    for turn in turns:
        if episode.ended:
            break
        episode.take(turn)
    return episode


def replayable(
    task: Task, rows: Sequence[Row], cases: Sequence[Case]
) -> tuple[set[str], dict[str, str], dict[str, str]]:
    """Names of the cases whose turns determine their score; why others do not; what contradicts others' turns.

    Each is replayed twice. If one ends otherwise the second time, the environment depends on more than row and turns,
    and none of its scores can be computed again.
    """
    assert task.environment is not None
    kept, left, wrong = set[str](), dict[str, str](), dict[str, str]()
    for row, case in zip(rows, cases, strict=True):
        if case.completion and not case.turns:
            left[case.id] = "its turns were not kept (made before they were)"
            continue
        one, other = (replayed(task.environment, row, case.turns) for _ in range(2))
        if _seen(one) != _seen(other):
            why = f"the environment does not follow from an episode's turns: two replays of {case.id} differ"
            return set(), {own.id: why for own in cases}, {}
        took, count, failed, now = len(one.said), len(case.turns), case.errors.get("score"), one.outcome()
        if one.failed and not failed:
            left[case.id] = f"{now.reason}, which it did not when it was evaluated"
        elif one.ended and failed and task.scorer == "environment" and now.status != "errored":
            left[case.id] = f"{failed}, which it does not do again"
        elif not one.ended and failed:
            left[case.id] = failed
        elif not one.ended:
            wrong[case.id] = f"the environment has not ended after its {count} turns"
        elif took < count:
            wrong[case.id] = f"the environment ended after {took} of its {count} turns"
        else:
            kept.add(case.id)
    return kept, left, wrong


def _seen(episode: Episode) -> tuple[Any, ...]:
    outcome = episode.outcome()
    return list(episode.messages), episode.ended, outcome.status, outcome.worth
