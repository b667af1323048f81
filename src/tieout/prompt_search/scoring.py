"""Score candidates on rows: ask what the journal does not know, and keep it before it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ..chat.template import Chat
from ..episodes import KnowsContext
from ..errors import InputError
from ..evidence.evaluate import Case, evaluate
from ..rewards.processes.workers import Workers
from ..rewards.scoring.outcomes import reward_range
from ..samplers import Sampler, SamplingParams
from ..samplers.prompted import Prompted
from ..tasks import Task
from ..types import Row
from .candidates import Candidate
from .feedback import feedback_of
from .journal import Journal, Scored

LONGEST = 20_000
"""Characters of a system prompt beyond which it is not tried: a server says only after the call that it is too long."""


@dataclass(frozen=True)
class Named:
    """A row with the name that it has in the journal."""

    name: str
    row: Row


def named(split: str, rows: Sequence[Row]) -> list[Named]:
    """Rows by split and place."""
    return [Named(f"{split}/{i}", row) for i, row in enumerate(rows)]


class Scorer:
    """Scores candidates with one policy and one reward, greedily."""

    def __init__(
        self,
        task: Task,
        sampler: Sampler,
        journal: Journal,
        max_new_tokens: int,
        batch_size: int = 64,
        workers: Workers | None = None,
        progress: Callable[[int], None] | None = None,
        later: Sequence[Row] = (),
        rooms: Sequence[tuple[Chat, int]] = (),
    ) -> None:
        """
        Args:
            task: of the reward, its parts and the metrics.
            sampler: the policy.
            journal: what is known.
            max_new_tokens: where completions are cut off.
            batch_size: rows that are asked together; what they gave is kept then.
            workers: processes that call the reward under a deadline.
            progress: called with the number of completions in all that the search has used so far.
            later: rows that are asked with the prompt that is found, and that chose nothing: it has to leave room for
                them.
            rooms: tokenizer and context, in tokens, of further models that are asked with the prompt that is found.
        """
        self.task, self.sampler, self.journal, self.workers = task, sampler, journal, workers
        self.params, self.batch_size = SamplingParams(max_new_tokens, temperature=0.0), batch_size
        self.progress, self.later = progress, later
        self.rooms = [
            *([(sampler.chat, sampler.context)] if isinstance(sampler, KnowsContext) else []),
            *rooms,
        ]
        bounds = reward_range(task.reward) if task.reward is not None else None
        self.best = bounds[1] if bounds else None
        self.used = set[tuple[str, str]]()
        """(candidate, row) of which this search has used the score, from the journal or not."""

    def __call__(self, candidate: Candidate, rows: Sequence[Named]) -> list[Scored]:
        """The candidate on each of the rows.

        InputError: a completion has no score. Candidates are compared on the same rows, so that leaving it out would
        favour what makes the reward fail, and a number in its place would be made up.
        """
        unknown = {one.name: one for one in rows if self.journal.scored(candidate.key, one.name) is None}
        missing = list(unknown.values())  # GEPA fills up a minibatch with rows that it has already
        for start in range(0, len(missing), self.batch_size):
            part = missing[start : start + self.batch_size]
            cases = self.cases(candidate, [one.row for one in part], [one.name for one in part])
            self.journal.add([self._scored(candidate, case) for case in cases])
        self.used |= {(candidate.key, one.name) for one in rows}
        if self.progress:
            self.progress(len(self.used))
        found = [self.journal.scored(candidate.key, one.name) for one in rows]
        return [one for one in found if one is not None]

    def mean(self, candidate: Candidate, rows: Sequence[Named]) -> float:
        """The mean score."""
        return fmean(one.score for one in self(candidate, rows))

    def cases(
        self, candidate: Candidate, rows: Sequence[Row], ids: Sequence[str], slice: str = "search"
    ) -> list[Case]:
        """What the policy writes after the candidate's prompt, and its scores; the journal is not looked into."""
        asked = Prompted(self.sampler, candidate.prefix)
        return evaluate(
            self.task,
            rows,
            asked,
            self.params,
            slice=slice,
            ids=ids,
            workers=self.workers,
            batch_size=self.batch_size,
        )

    def unfit(self, candidate: Candidate, rows: Sequence[Named]) -> str:
        """Why the prompt cannot be tried: it is too long for a model that is asked with it. Empty if it can."""
        size = len(candidate.prefix.system)
        if size > LONGEST:
            return f"{size} characters, more than {LONGEST}"
        for (chat, context), later in zip(self.rooms, self._longest_later, strict=True):
            asked = [*(one.row for one in rows), *later]
            longest = max(len(chat.prompt(candidate.prefix(row["prompt"]))) for row in asked)
            room = context - self.params.max_new_tokens
            if longest > room:
                return f"{longest} tokens with the longest row, and a model that is asked with it has room for {room}"
        return ""

    @cached_property
    def _longest_later(self) -> list[list[Row]]:
        """For each of `rooms` the one of `later` with the longest prompt."""
        return [
            sorted(self.later, key=lambda row, chat=chat: len(chat.prompt(row["prompt"])))[-1:]  # type: ignore[misc]
            for chat, _ in self.rooms
        ]

    def _scored(self, candidate: Candidate, case: Case) -> Scored:
        if case.score is None:
            reason = case.errors.get("score", "the reward abstained")
            raise InputError(
                f"row {case.id}: a completion has no score ({reason}). A search compares prompts on the same rows: "
                "repeat the command if a service was down; else give a reward that scores every completion, or leave "
                "out rows to which it does not apply"
            )
        text = feedback_of(case, self.best, self.params.max_new_tokens)
        return Scored(candidate.key, case.id, case.completion, case.score, text)
