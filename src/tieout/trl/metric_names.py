"""Name what was measured as TRL does (`metrics.yaml`), and derive what else TRL logs. Others keep our names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from statistics import fmean
from typing import Any

from ..advantages import sample_std
from ..config.yaml_file import read_yaml
from ..methods import CPO, DPO, GRPO, KTO, ORPO, Method
from ..types import Group

NAMES: dict[str, dict[str, str]] = read_yaml(Path(__file__).with_name("metrics.yaml"))
"""Class of a method -> our name -> TRL's."""


def by_trl_names(
    metrics: Mapping[str, float], groups: Sequence[Group], method: Method, reward_name: str | None = None
) -> dict[str, float]:
    """The metrics by TRL's names, and those of TRL's that follow from them or from the groups.

    Args:
        metrics: of a step or an evaluation, by our names.
        groups: of the same, annotated.
        method: what measured them.
        reward_name: of the reward function, where there is one; of several the groups hold the parts.
    """
    named = {_name(name, method): value for name, value in metrics.items()}
    if isinstance(method, ORPO) and method.beta and "loss" in named:  # the loss is nll_loss - beta * this
        named["log_odds_ratio"] = (named["nll_loss"] - named["loss"]) / method.beta
    if (desirable := named.get("desirable")) is not None:  # a class of which the step had none has no mean
        for side, share in (("chosen", desirable), ("rejected", 1 - desirable)):
            if share < 1e-6:
                del named[f"rewards/{side}"]
    if isinstance(method, DPO | KTO | CPO | ORPO):
        named |= _of_rewards(named, groups, method)
    if sampled := [g for g in groups if g.completions[0].logprobs is not None]:
        named |= _lengths(sampled) | _scores(sampled, reward_name)
        if "collect_seconds" in metrics:
            named["step_time"] = metrics["collect_seconds"] + metrics["update_seconds"]
    if "sampling_entropy" in named:  # an evaluation has no other
        named.setdefault("entropy", named["sampling_entropy"])
    return named


def _name(metric: str, method: Any) -> str:
    """TRL's name of one metric of a method."""
    if metric.startswith("reward/"):
        return f"rewards/{metric.removeprefix('reward/')}/mean"
    if metric == "clipped" and isinstance(method, GRPO) and method.policy_loss == "cispo":
        return "cispo_clip_ratio"
    own = next((NAMES[kind.__name__] for kind in type(method).__mro__ if kind.__name__ in NAMES), {})
    return own.get(metric) or NAMES["any"].get(metric, metric)


def fed_tokens(groups: Sequence[Group]) -> int:
    """Tokens of whole sequences, each with its prompt: how TRL counts `num_tokens`."""
    return sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions)


def _of_rewards(
    named: Mapping[str, float], groups: Sequence[Group], method: DPO | KTO | CPO | ORPO
) -> dict[str, float]:
    """The margin, and the log-probabilities: a reward is beta times that, less the reference's where there is one."""
    found = {side: named[f"rewards/{side}"] for side in ("chosen", "rejected") if f"rewards/{side}" in named}
    result = {"rewards/margins": found["chosen"] - found["rejected"]} if len(found) == 2 else {}
    if not method.beta or (isinstance(method, DPO) and method.ld_alpha != 1):
        return result
    for side, reward in found.items():
        reference = _reference(groups, side == "chosen") if isinstance(method, DPO | KTO) else 0.0
        result[f"logps/{side}"] = reward / method.beta + reference
    return result


def _reference(groups: Sequence[Group], chosen: bool) -> float:
    """Mean log-probability of the chosen (or the rejected) completions under the reference."""
    return fmean(
        sum(compress(logprobs, completion.mask))
        for g in groups
        for completion, score, logprobs in zip(
            g.completions, g.scores or [], g.columns["reference_logprobs"], strict=True
        )
        if (score > 0.5) == chosen
    )


def _lengths(groups: Sequence[Group]) -> dict[str, float]:
    completions = [c for g in groups for c in g.completions]
    lengths = [len(c.tokens) for c in completions]
    ended = [len(c.tokens) for c in completions if c.finish_reason != "length"] or [0]
    found: dict[str, float] = {"min_length": min(lengths), "max_length": max(lengths)}
    for name, of in (("mean", fmean), ("min", min), ("max", max)):
        found[f"{name}_terminated_length"] = of(ended)
    return {f"completions/{name}": float(value) for name, value in found.items()}


def _scores(groups: Sequence[Group], reward_name: str | None) -> dict[str, float]:
    """Spread of the scores and of each reward function over all completions; of a lone function the mean, too."""
    scores = [s for g in groups for s in g.scores or []]
    if not scores:
        return {}
    names = dict.fromkeys(name for g in groups for name in g.columns if name.startswith("reward/"))
    values: dict[str, list[float]] = {
        name.removeprefix("reward/"): [s for g in groups for s in g.columns.get(name, []) if s is not None]
        for name in names
    }
    result = {}
    if not values and reward_name is not None:
        values = {reward_name: scores}
        result[f"rewards/{reward_name}/mean"] = fmean(scores)
    result |= {f"rewards/{n}/std": sample_std(v) for n, v in values.items() if len(v) > 1}
    return result | ({"reward_std": sample_std(scores)} if len(scores) > 1 else {})
