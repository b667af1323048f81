"""Monitors: functions called after every step. They may add metrics, or stop the run."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping, Sequence
from statistics import fmean, quantiles
from typing import TYPE_CHECKING, Any

from ..errors import StopTraining
from ..samplers import staleness
from ..types import Group
from .alarms.memory import Memory, Monitor, remembers

if TYPE_CHECKING:
    from ..learner import Learner


def scores(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
    """Add score, and the share of groups that teach nothing because all their scores are equal.

    `score` is of all that was sampled, where the source tells (some methods train on a part of it).
    `no_signal_right` and `no_signal_wrong` split that share at the score 1: solved, or not solved yet. Of rollouts
    only: the scores of given pairs and labels say which is better, not how good.
    """
    scored = [g.scores for g in groups if g.scores and g.completions[0].logprobs is not None]
    if not scored:
        return
    metrics.setdefault("score", fmean(s for group in scored for s in group))
    for name in {name for g in groups for name in g.columns if name.startswith("reward/")}:
        parts = [s for g in groups for s in g.columns.get(name, []) if s is not None]
        if parts:  # a part of a combined reward; where it abstained it has no score, not 0
            metrics[name] = fmean(parts)
    if not (compared := [group for group in scored if len(group) > 1]):
        return
    flat = [group for group in compared if max(group) == min(group)]
    right = sum(group[0] >= 1 for group in flat)
    metrics["no_signal"] = len(flat) / len(compared)
    metrics["no_signal_right"] = right / len(compared)
    metrics["no_signal_wrong"] = (len(flat) - right) / len(compared)


def lengths(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
    """Add the mean length of completions in tokens.

    Of sampled ones also the share that was cut off, `cut_off`; least, quartiles and most, as `length_min`, `length_q1`,
    `length_median`, `length_q3` and `length_max`; and `sampling_entropy`, nats per token when it was sampled, if the
    sampler reports it.
    """
    completions = [c for g in groups for c in g.completions]
    metrics["length"] = fmean(len(c.tokens) for c in completions)
    if sampled := [len(c.tokens) for c in completions if c.logprobs is not None]:
        q1, median, q3 = quantiles(sampled, n=4, method="inclusive") if len(sampled) > 1 else sampled * 3
        five = {"min": min(sampled), "q1": q1, "median": median, "q3": q3, "max": max(sampled)}
        metrics.update({f"length_{name}": float(value) for name, value in five.items()})
        metrics["cut_off"] = fmean(c.finish_reason == "length" for c in completions if c.logprobs is not None)
    if entropies := [e for c in completions for e in c.entropies or []]:
        metrics["sampling_entropy"] = fmean(entropies)


def margins(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
    """Add `margin`, the reward of the chosen less that of the rejected, to the steps of methods that have both."""
    for better, worse in (("reward_chosen", "reward_rejected"), ("reward_desirable", "reward_undesirable")):
        if better in metrics and worse in metrics and 0 < metrics.get("desirable", 0.5) < 1:
            metrics["margin"] = metrics[better] - metrics[worse]


def sequence_kl(groups: Sequence[Group], reference: Sequence[Sequence[Sequence[float]]]) -> float:
    """KL(policy || reference) in nats per completion: the mean over what was just sampled of log p - log q."""
    return fmean(
        sum(p - q for p, q, trained in zip(c.logprobs or [], logprobs, c.mask, strict=True) if trained)
        for group, rows in zip(groups, reference, strict=True)
        for c, logprobs in zip(group.completions, rows, strict=True)
    )


def sampled_rows(step: int, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What a log keeps of rollouts, a row a group; none of given completions, which are in the data.

    `turns`, of episodes alone: per completion, what the policy said and what the environment replied.
    """
    return [
        {
            "step": step,
            "prompt": group.row.get("prompt"),
            "completions": [c.text for c in group.completions],
            "scores": group.scores,
            **({"turns": [list(c.turns) for c in group.completions]} if group.completions[0].turns else {}),
        }
        for group in groups
        if group.completions[0].logprobs is not None
    ]


def kl_to_reference(learner: Learner, every: int = 10) -> Monitor:
    """Add `kl`, in nats a trained token, to every so many steps of a method that does not compute it itself.

    The k3 estimate, on completions that were just sampled: it is one step late, and needs the reference.
    """

    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        if "kl" in metrics or (step - 1) % every:
            return
        pairs = zip(groups, learner.reference_logprobs(groups), strict=True)
        estimates = [
            math.expm1(q - p) - (q - p)
            for group, reference in pairs
            for completion, logprobs in zip(group.completions, reference, strict=True)
            for p, q, trained in zip(completion.logprobs or [], logprobs, completion.mask, strict=True)
            if trained
        ]
        if estimates:  # none where every completion was cut off and is not trained
            metrics["kl"] = fmean(estimates)

    return monitor


def stop_on_mismatch(limit: float = 0.1) -> Monitor:
    """Stop when the sampler's log-probabilities leave the learner's: it serves other weights, or computes otherwise.

    Args:
        limit: nats per token, mean absolute difference on the tokens just sampled.
    """

    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        staleness.stop_on_mismatch(step, metrics.get("mismatch", 0.0), limit)

    return monitor


def stop_on_divergence(
    patience: int = 3, lag: int = 8, last: int = 0, say: Callable[[int, str], None] | None = None
) -> Monitor:
    """Stop after `patience` steps in a row whose gradient was not finite.

    Such steps are never applied: the weights that they were computed with are what is wrong. The run goes back to a
    checkpoint at least `lag` steps older, because weights are on their way there for some steps. A run that ends before
    there are so many keeps its weights: at its `last` step, `say` is told.
    """
    memory: Memory = {"bad": 0}

    @remembers(memory)
    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        memory["bad"] = 0 if math.isfinite(metrics.get("grad_norm", 0.0)) else memory["bad"] + 1
        if memory["bad"] >= patience:
            raise StopTraining(
                f"step {step}: the gradient was not finite {memory['bad']} times in a row; lower the learning rate",
                step - memory["bad"] - lag + 1,
            )
        if say and memory["bad"] and step == last:
            say(
                step,
                f"the gradient was not finite in the last {memory['bad']} of the run's steps, which are not applied: "
                "the weights that gave it are kept. Evaluate them before you use them, or train again with a lower "
                "learning_rate",
            )

    return monitor


DEFAULT: tuple[Monitor, ...] = (scores, lengths, margins)
"""What every run adds to its metrics."""
