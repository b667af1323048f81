"""Pairs by a judge, with the program as a backstop: what the program calls wrong is never chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...rewards import load_reward
from ...rewards.scoring.failures import Failures
from ...rewards.scoring.outcomes import Outcome, reward_range
from ...rewards.scoring.runner import Call, score_groups
from ...types import Reward
from .choose import NEAR, TIED, Choice, Standard, choose
from .making import Making, as_sampled
from .measures import SAME, Candidate, Measures, Scored, able
from .summary import FEW_SCORED, Pair

CONFIRMED = "confirmed: the judge's best is right"
OVERRULED = "overruled: the judge's best is wrong, and another one was chosen"
DROPPED = "dropped: the program lets nothing stand that the judge prefers"
BACKSTOP = "the program lets no preference of the judge stand"
DECIDED = "the judge, confirmed by the program"
REWARD = "the reward"
"""Stands in for the primary metric of a task that has none."""


def judged(making: Making, policy: str) -> None:
    """Pairs of the policy's completions as a judge orders them, where the program does not object."""
    judge = load_reward(making.stage.judge)
    span = reward_range(judge)
    given = making.stage.min_gap
    gap = given if given is not None else (span[1] - span[0]) / 10 if span else 0.0
    making.made.judge_gap, failures = gap, Failures(f"judge {making.stage.judge!r}")
    for sampled, chat in making.batches(policy):
        for group, candidates, scores in _scored_by(making, judge, sampled, failures):
            found, reason, said = _chosen(making, candidates, scores, gap)
            own = [replace(one, score=score) for one, score in zip(candidates, scores, strict=True)]
            pairs = []
            for choice in found:
                good = making.is_good(candidates[choice.chosen])
                pairs.append(Pair.of(group.row, own, choice, "judged", good=good))
                pairs[-1].row["decided_by"] = DECIDED
            making.made.backstop.update([said] if said else [])
            making.record(group, as_sampled(pairs, group, chat), reason)


def _scored_by(
    making: Making, judge: Reward, groups: Sequence[Scored], failures: Failures
) -> list[tuple[Scored, list[Candidate], list[float]]]:
    """The groups with those completions that the judge scored, what the program measures, and the judge's scores."""
    calls = [Call.of_texts(g.texts, [g.prompt] * len(g.texts), g.row, opened=g.opened) for g in groups]
    outcomes = score_groups(judge, calls, able(making.workers, judge))
    found = []
    for said in outcomes:
        failures.count(said)
    failures.check()
    for group, candidates, said in zip(groups, making.candidates(groups), outcomes, strict=True):
        kept = [i for i, outcome in enumerate(said) if outcome.worth is not None]
        if len(kept) < 2:
            making.made.prompts += 1
            making.made.dropped[_unscored(said)] += 1
            continue
        scores = [float(said[i].worth or 0.0) for i in kept]
        found.append((group, [candidates[i] for i in kept], scores))
    return found


def _unscored(said: Sequence[Outcome]) -> str:
    reason = next((outcome.reason for outcome in said if outcome.reason), "")
    return f"{FEW_SCORED} by the judge{f' ({reason:.60})' if reason else ''}"


def _chosen(
    making: Making, candidates: Sequence[Candidate], scores: Sequence[float], gap: float
) -> tuple[list[Choice], str, str]:
    """The pairs that judge and program agree on, why there are none, and what the program said."""
    if max(scores) - min(scores) < max(gap, SAME) - SAME:
        return [], TIED if max(scores) - min(scores) < SAME else NEAR, ""
    right = [i for i, candidate in enumerate(candidates) if making.standard.admits(candidate)]
    measures, own = _with_reward(making.measures, candidates, scores)
    found, _ = choose(own, Standard("", None, gap), measures, making.stage.pairs_per_prompt, right)
    if not found:
        return [], BACKSTOP, DROPPED
    best = max(scores)
    confirmed = any(scores[i] >= best - SAME for i in right)
    return found, "", CONFIRMED if confirmed else OVERRULED


def _with_reward(
    measures: Measures, candidates: Sequence[Candidate], scores: Sequence[float]
) -> tuple[Measures, list[Candidate]]:
    """The candidates with the judge's scores; the reward contradicts them where the task has no primary metric."""
    own = [
        replace(c, score=s, measures={**c.measures, REWARD: c.score})
        for c, s in zip(candidates, scores, strict=True)
    ]
    return (measures if measures.primary else replace(measures, primary=REWARD)), own
