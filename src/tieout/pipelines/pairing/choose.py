"""Choose the pairs of one prompt: a chosen that is good in itself, a large enough gap, and substance before form."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...groups import spread
from ...rewards.scoring.outcomes import reward_range
from ...tasks import Task
from .measures import SAME, Candidate, Decision, Measures

NOT_GOOD = "no completion is good enough"
TIED = "completions tie"
NEAR = "the gap is too small"


@dataclass(frozen=True)
class Standard:
    """What a pair must meet."""

    metric: str
    """The metric that `min_chosen` is on; empty: the reward."""
    min_chosen: float | None
    """None: any completion may be chosen."""
    min_gap: float
    said: str = ""
    """The bound on chosen in words, where the others do not tell it."""

    @classmethod
    def of(cls, task: Task, min_chosen: float | None, min_gap: float | None) -> Standard:
        """The given bounds, on the reward's scale; where they are left out, those that the task implies.

        `min_chosen`: the primary metric is 1, or without one the reward is at the top of its declared range.
        `min_gap`: a tenth of that range.
        """
        bounds = reward_range(task.reward) if task.reward is not None else None
        gap = min_gap if min_gap is not None else (bounds[1] - bounds[0]) / 10 if bounds else 0.0
        if min_chosen is not None:
            return cls("", min_chosen, gap)
        if task.primary is not None:
            return cls(task.primary, 1.0, gap)
        return cls("", bounds[1] if bounds else None, gap)

    @property
    def words(self) -> str:
        """The bound on chosen, in words."""
        if self.said:
            return self.said
        if self.min_chosen is None:
            return "any (the reward declares no range, and min_chosen is left out)"
        return f"{self.metric or 'the reward'} is at least {self.min_chosen:g}"

    def admits(self, candidate: Candidate) -> bool:
        """Whether a completion may be chosen."""
        if self.min_chosen is None:
            return True
        value = candidate.measures.get(self.metric) if self.metric else candidate.score
        return value is not None and value >= self.min_chosen - 1e-6  # a combined range is a hair wider

    def parts(self, chosen: Candidate, rejected: Candidate) -> bool:
        """Whether the scores of two completions lie far enough apart."""
        gap = chosen.score - rejected.score
        return gap > 0 and gap >= self.min_gap - SAME


@dataclass(frozen=True)
class Choice:
    """A pair of places among the candidates of a prompt."""

    chosen: int
    rejected: int
    decision: Decision
    gap: float


def choose(
    candidates: Sequence[Candidate],
    standard: Standard,
    measures: Measures,
    most: int = 1,
    better: Collection[int] | None = None,
) -> tuple[list[Choice], str]:
    """The pairs of one prompt, best first, and the reason where there is none.

    Substance comes before form: a pair that form alone decides is taken only after every other. Of the rest, those
    whose form is the same come first, so that what differs is the substance; then those with the larger gap. Where
    several are asked for, each completion is used once before any is used twice.

    Args:
        candidates: of one prompt.
        standard: what a pair must meet.
        measures: of the task.
        most: pairs that one prompt may give.
        better: places that may be chosen; None: all.
    """
    places = _distinct(candidates)
    good = [i for i in places if (better is None or i in better) and standard.admits(candidates[i])]
    if not good:
        return [], NOT_GOOD
    apart = [
        (i, j)
        for i in good
        for j in places
        if standard.parts(candidates[i], candidates[j])
        and not measures.contradict(candidates[i], candidates[j])
    ]
    if not apart:
        tied = all(candidates[i].score <= candidates[j].score for i in good for j in places)
        return [], TIED if tied else NEAR
    found = {(i, j): measures.decision(candidates[i], candidates[j]) for i, j in apart}
    gaps = {(i, j): candidates[i].score - candidates[j].score for i, j in apart}
    apart.sort(key=lambda pair: (not found[pair].same_form, -gaps[pair]))
    taken = spread([pair for pair in apart if not found[pair].form_alone], most)
    taken += spread([pair for pair in apart if found[pair].form_alone], most - len(taken))
    return [Choice(i, j, found[i, j], gaps[i, j]) for i, j in taken], ""


def _distinct(candidates: Sequence[Candidate]) -> list[int]:
    """Places without those that repeat a text, or have none: no file of pairs may hold an empty completion."""
    seen: dict[str, int] = {}
    for place, candidate in enumerate(candidates):
        seen.setdefault(candidate.text.strip(), place)
    return [place for text, place in seen.items() if text]
