"""Rewards: plain functions with TRL's signature, one family per file, and the runner that calls them.

def exact(completions, answer, **_):            # names are columns of the row
    return [1.0 if c.strip() == a else 0.0 for c, a in zip(completions, answer)]
"""

from __future__ import annotations

import difflib
import re

from ..config.attribute import load_attribute
from ..config.weights import FORM, weights_of
from ..errors import InputError
from ..types import Reward

REWARDS: dict[str, str] = {
    "calculated": "tieout.rewards.library.calculated:calculated",
    "citation_accuracy": "tieout.rewards.library.rag:citation_accuracy",
    "code": "tieout.rewards.library.code:code",
    "exact": "tieout.rewards.library.exact:exact",
    "faithfulness": "tieout.rewards.library.rag:faithfulness",
    "finance_statements": "tieout.rewards.library.finance_statements:reward",
    "hallucination": "tieout.rewards.library.rag:hallucination",
    "language": "tieout.rewards.library.format:language",
    "length": "tieout.rewards.library.format:length",
    "numeric": "tieout.rewards.library.numeric:numeric",
    "overlong": "tieout.rewards.library.format:overlong",
    "rag": "tieout.rewards.library.rag:rag",
    "reconciled": "tieout.rewards.library.reconcile:reconciled",
    "reconciled_ladder": "tieout.rewards.library.reconcile:ladder",
    "relevance": "tieout.rewards.library.rag:relevance",
    "repetition": "tieout.rewards.library.format:repetition",
    "summary": "tieout.rewards.library.summary:summary",
    "tags": "tieout.rewards.library.format:tags",
}
"""Registered name -> `module:attribute`, imported when it is asked for."""

FACTORIES: dict[str, str] = {
    "judge": "tieout.rewards.library.judge_file:judge",
    "reward_model": "tieout.rewards.library.reward_model:reward_model",
}
"""`NAME:ARGUMENT` calls one of these with the argument."""
_COMBINE = "tieout.rewards.scoring.combine:combine"


def load_reward(spec: str) -> Reward:
    """What `spec` names: registered, `file.py:function`, `package.module:function`, `reward_model:FOLDER`,
    `judge:FILE.yaml`, or the weighted sum of several, `exact=1.0 length=0.2`."""
    if (weights := weights_of(spec)) is not None:
        combined: Reward = load_attribute(_COMBINE)(weights)
        return combined
    named = [name for name in re.split(r"[,\s]+", spec) if name]
    if len(named) > 1 and all(name in REWARDS or re.search(r".:\w+$", name) for name in named):
        equal = " ".join(f"{name}=1.0" for name in named)
        raise InputError(
            f"{len(named)} rewards without weights: {spec}; say how much each counts, such as {equal}"
        )
    factory, _, argument = spec.partition(":")
    if factory in FACTORIES:
        made: Reward = load_attribute(FACTORIES[factory])(argument)
        return made
    if spec not in REWARDS and not all(spec.rpartition(":")[::2]):
        near = difflib.get_close_matches(spec, REWARDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        said = f"no reward is called {spec!r}" if spec else "no reward is given"
        raise InputError(
            f"{said}{hint} Registered: {', '.join(sorted(REWARDS))}. "
            f"Your own: file.py:function, package.module:function, reward_model:FOLDER or judge:FILE.yaml. "
            f"Several: {FORM}"
        )
    reward: Reward = load_attribute(REWARDS.get(spec, spec))
    if not callable(reward):
        raise InputError(f"reward {spec!r} is a {type(reward).__name__}; expected a function")
    return reward
