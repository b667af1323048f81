"""Combine several rewards into a weighted sum, with each part kept.

reward = combine({accuracy: 1.0, concise: 0.2})
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from math import fsum, isfinite
from typing import Any, Literal

from ...errors import InputError
from ...types import Completion, Reward
from .. import load_reward
from .call import Call
from .outcomes import (
    ABSTAINED,
    Outcome,
    RewardError,
    attempt,
    is_judge,
    parameters,
    reward_name,
    reward_range,
)

Missing = Literal["abstain", "rescale", "leave_out"]


class Combined:
    """A weighted sum of rewards; itself a reward. The runner calls, times and judges each part on its own."""

    def __init__(self, parts: Mapping[str, Reward], weights: Mapping[str, float], missing: Missing) -> None:
        self.parts, self.weights, self.missing = dict(parts), dict(weights), missing
        self.__name__ = "+".join(self.parts)
        if missing == "abstain" and all(map(reward_range, self.parts.values())):
            low, high = self.usual_range  # a hair wider than the sum, which is rounded
            self.__reward_range__ = (low - 1e-9, high + 1e-9)

    @property
    def usual_range(self) -> tuple[float, float]:
        """The range of the sum if a part that declares none gives 0 to 1."""
        ends = [
            sorted(self.weights[name] * end for end in reward_range(part) or (0.0, 1.0))
            for name, part in self.parts.items()
        ]
        return fsum(end[0] for end in ends), fsum(end[1] for end in ends)

    @property
    def is_judge(self) -> bool:
        """Whether no part of it is programmatic."""
        return all(is_judge(part) for part in self.parts.values())

    @property
    def __signature__(self) -> inspect.Signature:
        """What all parts ask for; a column is optional only where it is for each part that names it."""
        asked: dict[str, inspect.Parameter] = {}
        for part in self.parts.values():
            for p in parameters(part):
                if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                    continue
                known = asked.get(p.name)
                if known is None or p.default is p.empty:
                    asked[p.name] = p.replace(kind=p.KEYWORD_ONLY)
        rest = inspect.Parameter("columns", inspect.Parameter.VAR_KEYWORD)
        return inspect.Signature([*asked.values(), rest])

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """[K] sums, without a runner. RewardError: a part failed."""
        ids = columns.pop("completion_ids", None) or [[]] * len(completions)
        turns = columns.pop("completion_turns", None) or [[]] * len(completions)
        prompts = columns.pop("prompts", None) or [""] * len(completions)
        given = [
            Completion(i, [True] * len(i), text=text, turns=own)
            for i, text, own in zip(ids, completions, turns, strict=True)
        ]
        call = Call(given, prompts, {name: values[0] for name, values in columns.items() if values})
        said = {name: attempt(part, call) for name, part in self.parts.items()}
        merged = [self.merge({n: said[n][i] for n in said}) for i in range(len(completions))]
        if failed := next((o for o in merged if o.status == "errored"), None):
            raise RewardError(failed.reason)
        return [o.score for o in merged]

    def merge(self, said: Mapping[str, Outcome]) -> Outcome:
        """The outcome of one completion from those of its parts.

        A part that failed makes the sum fail. A part that abstained makes it abstain, or with `missing="rescale"`
        is left out, and the others are weighed up to the full weight; it never counts as 0.
        """
        parts = {name: outcome.score for name, outcome in said.items()}
        failed = {name: o for name, o in said.items() if o.status == "errored"}
        if failed:
            worths = {name: outcome.worth for name, outcome in said.items()}
            first = next((o for o in failed.values() if o.as_wrong is None), next(iter(failed.values())))
            return Outcome("errored", None, first.reason, first.cause, self._sum(worths), parts)
        total = self._sum(parts)
        if total is None:
            return Outcome(ABSTAINED.status, parts=parts)
        return Outcome("scored", total, parts=parts)

    def points(self, scores: Mapping[str, float | None]) -> dict[str, float]:
        """What each part gave of the sum; they add up to it. Empty if the sum abstains."""
        given = {name: score for name, score in scores.items() if score is not None}
        if self._sum(scores) is None:
            return {}
        full = fsum(map(abs, self.weights.values())) / fsum(abs(self.weights[name]) for name in given)
        scale = full if self.missing == "rescale" else 1.0
        return {name: scale * self.weights[name] * score for name, score in given.items()}

    def _sum(self, scores: Mapping[str, float | None]) -> float | None:
        given = {name: score for name, score in scores.items() if score is not None}
        if len(given) < len(scores) and (self.missing == "abstain" or not given):
            return None
        total = fsum(self.weights[name] * score for name, score in given.items())
        if len(given) < len(scores) and self.missing == "rescale":
            total *= fsum(map(abs, self.weights.values())) / fsum(abs(self.weights[name]) for name in given)
        return total


def combine(
    weights: Mapping[Reward | str, float], missing: Missing = "abstain", *, allow_judges_to_lead: bool = False
) -> Combined:
    """The weighted sum of rewards, given as functions or by name; each part is logged by its name.

    Args:
        weights: reward -> weight: finite, not 0, negative for a penalty.
        missing: where a part abstains, the sum `abstain`s, or the others are `rescale`d to the full weight, or
            summed as they are (`leave_out`, as in TRL: rows where a part abstains then score less).
        allow_judges_to_lead: a judge can be persuaded, so all judges together must weigh less than the other
            parts; say yes to allow more.

    Raises:
        InputError: no parts, two parts of one name, a weight of 0 or that is not finite, or judges that weigh as much
            as the other parts.
    """
    parts: dict[str, Reward] = {}
    given: dict[str, float] = {}
    for key, weight in weights.items():
        part = load_reward(key) if isinstance(key, str) else key
        name = reward_name(part)
        if name in parts:
            raise InputError(f"two parts are called {name!r}; rename one: its score is logged under its name")
        if not isfinite(weight) or weight == 0:
            raise InputError(f"part {name!r} has weight {weight}; expected a finite number other than 0")
        parts[name], given[name] = part, float(weight)
    if not parts:
        raise InputError("nothing to combine: give at least one reward with its weight")
    if not allow_judges_to_lead:
        _refuse_leading_judges(parts, given)
    return Combined(parts, given, missing)


def _refuse_leading_judges(parts: Mapping[str, Reward], weights: Mapping[str, float]) -> None:
    judges = {name: abs(weights[name]) for name, part in parts.items() if is_judge(part)}
    rest = {name: abs(weight) for name, weight in weights.items() if name not in judges}
    if judges and fsum(judges.values()) >= fsum(rest.values()):

        def shown(some: Mapping[str, float]) -> str:
            each = ", ".join(f"{name} {weight:g}" for name, weight in some.items())
            return f"{fsum(some.values()):g} ({each or 'none'})"

        raise InputError(
            f"judges weigh {shown(judges)}, the programmatic parts {shown(rest)}: a judge can be persuaded, so it must "
            "weigh less; lower its weight, or say allow_judges_to_lead=True"
        )
