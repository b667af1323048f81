"""Source: a task seen through a tokenizer and, to train online, a sampler. It yields batches of Groups.

Its whole state is `position`, the number of rows consumed: which rows come next, and every random draw of a rollout,
follow from (seed, position). A run resumed at the same position sees the same data.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .chat.reader import GENERAL, TOKENS
from .chat.template import Chat
from .chat.tokens import Tokens
from .episodes import demonstrated, judge, token_episodes
from .errors import InputError, TooManyErrors
from .learner.parallel.processes import Processes, join
from .rewards.processes.workers import Workers
from .rewards.scoring.failures import ERROR_LIMIT
from .rewards.scoring.runner import Call, Outcome, score_groups
from .rewards.text.thinking import knowing
from .rows.checks import with_prompts
from .rows.messages import only_reply, text_of
from .samplers import PolicySampler, SamplingParams
from .tasks import Task
from .types import Completion, Group, Row


@dataclass
class Source:
    """Batches of groups from a task's rows."""

    task: Task
    chat: Chat
    sampler: PolicySampler | None = None
    """Needed for rollouts only."""
    seed: int = 0
    split: str = "train"
    error_limit: float = ERROR_LIMIT
    """Share of completions whose reward may fail within one batch before the run stops."""
    position: int = 0
    """Rows consumed so far."""
    counts: Counter[str] = field(default_factory=Counter)
    """Of the last batch: completions, scored, errored, abstained; groups dropped for too few scores, or not kept."""
    sampled_scores: list[float] = field(default_factory=list)
    """Of the last batch: the scores of all that was sampled, also of groups that were not kept."""
    processes: Processes = field(default_factory=join)
    """The ranks that share rollouts: each plays and scores a stretch of the rows, and all get all groups."""
    workers: Workers | None = None
    """Processes that call the reward under a deadline; None: this one calls it, and nothing can stop it."""

    shuffle: bool = True
    """Every pass over the rows has an order of its own; False: the order of the rows."""
    pass_size: int = 0
    """Rows of a pass: others are left out of it, and a batch of given rows ends where a pass ends. 0: all rows, and a
    batch is filled from the next pass."""
    missing_eos_penalty: float = 0.0
    """Taken off the score of a sampled completion that was cut off."""

    def __post_init__(self) -> None:
        self._reason = ""
        self._before = Counter[str]()  # of some batches before this: a small one alone says little
        self._held_out: Sequence[Row] | None = None
        self._cached: tuple[int, list[int]] | None = None
        self.rows = with_prompts(self.task.rows(self.split))
        if not self.rows:
            raise InputError(f"task {self.task.name!r} has no rows in split {self.split!r}")

    def demonstrations(self, batch_size: int) -> Iterator[list[Group]]:
        """K = 1, no scores: rows with prompt and completion."""
        while True:
            yield [self.given(row, [row["completion"]], None) for row in self.take(batch_size)]

    def preferences(self, batch_size: int) -> Iterator[list[Group]]:
        """K = 2, scores 1 and 0: rows with prompt, chosen and rejected."""
        while True:
            yield [self.preference(row) for row in self.take(batch_size)]

    def labels(self, batch_size: int) -> Iterator[list[Group]]:
        """K = 1, score 1 or 0: rows with prompt, completion and label."""
        while True:
            yield [
                self.given(row, [row["completion"]], [float(row["label"])]) for row in self.take(batch_size)
            ]

    def rankings(self, batch_size: int) -> Iterator[list[Group]]:
        """K >= 2 in an order: rows with prompt, completions and scores, or pairs with chosen and rejected."""
        while True:
            yield [self.ranking(row) for row in self.take(batch_size)]

    def rollouts(
        self,
        batch_size: int,
        group_size: int,
        temperature: float = 1.0,
        max_new_tokens: int = 256,
        keep: Callable[[Group], bool] = lambda group: True,
    ) -> Iterator[list[Group]]:
        """Groups sampled now, with the sampler's current weights; those not kept are replaced by later rows.

        A batch may be smaller where a pass over all rows did not fill it.
        """
        while True:
            batch: list[Group] = []
            self._before = self.counts + (self._before if self._before["completions"] < 64 else Counter())
            self.counts, self.sampled_scores = Counter(), []
            last = self.position + max(len(self.rows), batch_size)
            while len(batch) < batch_size and self.position < last:
                params = SamplingParams(
                    max_new_tokens, temperature, seed=self.seed * 1_000_003 + self.position
                )
                rows = self.take(min(batch_size - len(batch), last - self.position))
                sampled = self.rollout(rows, group_size, params)
                self.sampled_scores += [s for group in sampled for s in group.scores or []]
                kept = list(filter(keep, sampled))
                self.counts["unkept_groups"] += len(sampled) - len(kept)
                batch += kept
            if not batch:
                if (abstained := self.counts["abstained"]) and abstained == self.counts["completions"]:
                    raise InputError(
                        f"task {self.task.name!r}: the reward abstained (it gave None) on all {abstained} completions "
                        "of a pass over all rows, so there is nothing to learn from: let it score what it can judge"
                    )
                scores = self.sampled_scores
                span = (
                    f", of {len(scores)} completions that score {min(scores):g} to {max(scores):g}"
                    if scores
                    else ""
                )
                raise InputError(
                    f"task {self.task.name!r}: a pass over all rows gave no group worth keeping{span}. Where all "
                    "completions of a prompt score the same there is nothing to learn: the task is solved or out of "
                    "reach, or the policy writes one thing only"
                )
            yield batch

    def continuations(
        self, batch_size: int, group_size: int, temperature: float = 1.0, max_new_tokens: int = 256
    ) -> Iterator[list[Group]]:
        """Groups sampled now, with the sampler's current weights, and not scored: no reward is called."""
        while True:
            self.counts = Counter()
            params = SamplingParams(max_new_tokens, temperature, seed=self.seed * 1_000_003 + self.position)
            yield self.rollout(self.take(batch_size), group_size, params, scored=False)

    def over(self, held_out: Sequence[Row]) -> Source:
        """A source that gives held-out rows, in their order, and leaves this one as it is.

        Its `rows` are still the training rows: what a method counts in them, such as the weights of classes, is the
        same in an evaluation.
        """
        other = copy.copy(self)
        other._held_out, other.shuffle, other.position, other.pass_size = with_prompts(held_out), False, 0, 0
        other.counts, other.sampled_scores, other._before, other._reason = Counter(), [], Counter(), ""
        other._cached = None
        return other

    def take(self, count: int) -> list[Row]:
        """The next rows; fewer where `pass_size` is given and the pass ends."""
        rows = self.rows if self._held_out is None else self._held_out
        size, result = self.pass_size or len(rows), list[Row]()
        if self.pass_size:
            count = min(count, size - self.position % size)
        for _ in range(count):
            epoch, index = divmod(self.position, size)
            result.append(rows[self._order(epoch, len(rows))[index]])
            self.position += 1
        return result

    def _order(self, epoch: int, count: int) -> list[int]:
        if self._cached is None or self._cached[0] != epoch:
            order = list(range(count))
            if self.shuffle:
                random.Random(f"{self.seed}/{epoch}").shuffle(order)
            self._cached = (epoch, order)
        return self._cached[1]

    def given(self, row: Row, said: Sequence[Any], scores: list[float] | None) -> Group:
        """A group of completions that the data holds: text, messages, or the tokens of `chat.reader`.

        With an environment, a completion of several messages is an episode, whose replies are not trained.
        """
        if TOKENS in row:
            tokens = Tokens(**row[TOKENS])
            texts = [""] * len(tokens.completions)
        elif self.task.environment is not None and len(said) == 1 and only_reply(said[0]) is None:
            tokens, texts = demonstrated(self.chat, row["prompt"], said[0]), [text_of(said[0])]
        else:
            tokens, texts = self.chat.given(row["prompt"], said), list(map(text_of, said))
        parts = zip(tokens.completions, tokens.masks, texts, strict=True)
        return Group(tokens.prompt, [Completion(t, m, text=x) for t, m, x in parts], scores, row)

    def preference(self, row: Row) -> Group:
        """The group of a row with chosen and rejected; of a general row, in which they are equal, neither is better."""
        general = row.get(GENERAL, False) if TOKENS in row else row["chosen"] == row["rejected"]
        return self.given(row, [row["chosen"], row["rejected"]], [1.0, float(general)])

    def ranking(self, row: Row) -> Group:
        """The whole conversations of a row with completions and scores, or of a preference, for a reward model."""
        if TOKENS in row:
            return self.preference(row)
        if "completions" in row:
            texts, scores = row["completions"], [float(score) for score in row["scores"]]
        else:
            texts, scores = [row["chosen"], row["rejected"]], [1.0, float(row["chosen"] == row["rejected"])]
        made = Tokens.wholes([self.chat.whole(row["prompt"], text, rendered=True) for text in texts])
        said = zip(made.completions, made.masks, texts, strict=True)
        return Group(made.prompt, [Completion(t, m, text=text_of(one)) for t, m, one in said], scores, row)

    def rollout(
        self, rows: Sequence[Row], group_size: int, params: SamplingParams, scored: bool = True
    ) -> list[Group]:
        """Sample `group_size` completions of each row, and score them, unless not `scored`.

        Completions whose reward failed leave their group; groups with fewer than two left are dropped.
        """
        counted, self.counts = self.counts, Counter()
        start, end = self.processes.stretch(len(rows))
        own = replace(params, streams=range(start, end))

        def sample() -> list[Any]:
            groups = self._sampled_groups(rows[start:end], group_size, own, scored)
            if self.processes.alone:
                return [groups, self.counts, self._reason]
            place = {id(row): i for i, row in enumerate(rows)}
            return [[_to_plain(g, place[id(g.row)]) for g in groups], self.counts, self._reason]

        parts = self.processes.together(sample)
        self.counts = sum((Counter(part[1]) for part in parts), counted)
        self._reason = next((part[2] for part in parts if part[2]), "")
        self._refuse_errors()
        if self.processes.alone:
            return parts[0][0]
        return [_from_plain(plain, rows) for groups, _, _ in parts for plain in groups]

    def _sampled_groups(
        self, rows: Sequence[Row], group_size: int, params: SamplingParams, scored: bool
    ) -> list[Group]:
        """The groups of these rows; what was counted is in `counts`."""
        if self.sampler is None:
            raise InputError("rollouts need a sampler")
        if not rows:
            return []
        if not scored:
            return self._unscored_groups(rows, group_size, params)
        if self.task.scorer is None:
            raise InputError(f"task {self.task.name!r} has neither a reward nor an environment that scores")
        if self.task.environment is not None:
            episodes = token_episodes(self.task, self.chat, rows, group_size, self.sampler, params)
            prompts = [next((e.prompt for e in group if e.opened), []) for group in episodes]
            sampled = [[episode.completion() for episode in group] for group in episodes]
            outcomes = judge(self.task, episodes, self.workers, self.chat.encode)
        else:
            assert self.task.reward is not None
            prompts, sampled = self._continued(rows, group_size, params)
            calls = [
                Call(said, [row["prompt"]] * len(said), row, self.chat.encode)
                for row, said in zip(rows, sampled, strict=True)
            ]
            outcomes = score_groups(self.task.reward, calls, self.workers)
        groups = []
        for row, prompt, completions, said in zip(rows, prompts, sampled, outcomes, strict=True):
            groups += self._scored(prompt, completions, said, row)
        return groups

    def _continued(
        self, rows: Sequence[Row], group_size: int, params: SamplingParams
    ) -> tuple[list[list[int]], list[list[Completion]]]:
        """The prompts of these rows, and their completions."""
        assert self.sampler is not None
        prompts = [self.chat.prompt(row["prompt"]) for row in rows]
        given = self.sampler.sample(prompts, group_size, params)
        return prompts, [knowing(own, p, self.chat.text) for own, p in zip(given, prompts, strict=True)]

    def _unscored_groups(self, rows: Sequence[Row], group_size: int, params: SamplingParams) -> list[Group]:
        if self.task.environment is not None:
            raise InputError(
                f"task {self.task.name!r} is played in turns, and a teacher is asked about single completions: take a "
                "task with prompts, or train with its reward"
            )
        prompts, sampled = self._continued(rows, group_size, params)
        self.counts["completions"] += sum(map(len, sampled))
        return [Group(p, c, None, row) for p, c, row in zip(prompts, sampled, rows, strict=True)]

    def _scored(
        self, prompt: list[int], completions: Sequence[Completion], outcomes: Sequence[Outcome], row: Row
    ) -> list[Group]:
        """The group of the completions that have a score; none if fewer than two have (of one: if it has none).

        One that made the reward fail (counted as `crashed`) is a wrong answer; where the reward failed, it leaves.
        """
        self.counts.update("crashed" if o.cause == "completion" else o.status for o in outcomes)
        self.counts["completions"] += len(outcomes)
        errors = [o.reason for o in outcomes if o.status == "errored" and o.cause != "completion"]
        self._reason = errors[0] if errors else self._reason
        judged = [(c, o) for c, o in zip(completions, outcomes, strict=True) if o.worth is not None]
        kept = [(c, o.worth) for c, o in judged if o.worth is not None]
        if len(kept) < min(2, len(completions)):
            self.counts["dropped_groups"] += 1
            return []
        parts = {f"reward/{name}": [o.parts.get(name) for _, o in judged] for name in judged[0][1].parts}
        scores = [s - self.missing_eos_penalty * (c.finish_reason == "length") for c, s in kept]
        return [Group(prompt, [c for c, _ in kept], scores, row, parts)]

    def _refuse_errors(self) -> None:
        """Stop where the share of failures is past the limit, judged once enough completions were seen."""
        seen, errored = ((self.counts + self._before)[name] for name in ("completions", "errored"))
        if seen >= 16 and errored > self.error_limit * seen:
            raise TooManyErrors(
                f"the reward of task {self.task.name!r} failed on {errored} of {seen} completions; "
                f"the limit is {self.error_limit:.0%}. Last: {self._reason}. The run pauses: fix the reward, or "
                "what it needs, and repeat the command to resume"
            )


def _to_plain(group: Group, place: int) -> list[Any]:
    return [place, group.prompt, [asdict(c) for c in group.completions], group.scores, dict(group.columns)]


def _from_plain(plain: Sequence[Any], rows: Sequence[Row]) -> Group:
    place, prompt, completions, scores, columns = plain
    return Group(prompt, [Completion(**c) for c in completions], scores, rows[place], columns)
