"""Evaluation on held-out rows while a run trains: metrics, the best step so far, and early stopping."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import InputError, TooManyErrors
from ..learner import Learner
from ..learner.logprob_cache import LogprobCache
from ..learner.memory import apart
from ..learner.parallel import randomness
from ..methods import Method
from ..rows import check_rows
from ..rows.spread import spread
from ..samplers import SamplingParams
from ..source import Source
from ..tasks import Task
from ..types import Group, Row
from .alarms.memory import Memory
from .monitors import lengths, scores
from .spec import EvalPolicy

SPLITS = ("validation", "test")
"""Where a task's held-out rows are looked for, in this order."""
SMALLER_IS_BETTER = ("loss", "error", "kl")


def held_out_rows(task: Task, method: Method, policy: EvalPolicy) -> tuple[str, list[Row]]:
    """The split of the task that is evaluated, and its rows. InputError: it has none that suit the method."""
    for split in SPLITS:
        try:
            rows = task.rows(split)
        except InputError:  # a task may refuse the names of splits that it does not have
            continue
        if rows:
            where = f"held-out rows ({split} of {task.name})"
            return split, spread(check_rows(list(rows), method.needs.rows, where), policy.max_rows)
    raise InputError(
        f"eval_steps is {policy.eval_steps}, and {task.name!r} has no held-out rows: give a file of them as held_out, "
        "or leave eval_steps out"
    )


def all_groups(method: Method, source: Source, count: int) -> list[Group]:
    """The groups of the first `count` rows of a source."""
    batches, groups = method.collect(source), list[Group]()
    while len(groups) < count:
        groups += next(batches)
    return groups[:count]  # the last batch may have begun the rows again


class Evaluation:
    """Measures the policy on held-out rows every so many steps; the training is the same with and without it."""

    def __init__(self, policy: EvalPolicy, source: Source, rows: Sequence[Row], samples: bool) -> None:
        """
        Args:
            policy: how often, by which metric, and what follows.
            source: of the training: its tokenizer, sampler and reward are used, its position stays.
            rows: held out.
            samples: whether completions are sampled and scored; else the method's loss is computed.
        """
        self.policy, self.rows, self._source, self._samples = policy, list(rows), source, samples
        self.metric = f"eval/{policy.metric.removeprefix('eval/') or ('score' if samples else 'loss')}"
        greater = policy.greater_is_better
        if greater is None:
            greater = not any(word in self.metric for word in SMALLER_IS_BETTER)
        self._sign = 1.0 if greater else -1.0
        self._cache = LogprobCache()
        self.memory: Memory = {"best": None, "best_step": 0, "not_better": 0}
        """Value and step of the best evaluation, and how many there were since; saved with the weights."""

    @property
    def best_step(self) -> int:
        """After which step the best evaluation was; 0 before the first one."""
        return int(self.memory["best_step"])

    @property
    def stopped(self) -> bool:
        """Whether `patience` evaluations in a row were not better."""
        return 0 < self.policy.patience <= self.memory["not_better"]

    def due(self, step: int, steps: int) -> bool:
        """Whether this step is evaluated."""
        return step % self.policy.eval_steps == 0 or step >= steps

    def check(self, method: Method, learner: Learner) -> None:
        """Evaluate two rows. InputError: they cannot be, or do not give the metric that the best is judged by."""
        found = self.measure(method, learner, self.rows[:2])
        if self.policy.metric and self.metric not in found:
            known = ", ".join(name.removeprefix("eval/") for name in found if name.startswith("eval/"))
            raise InputError(f"metric is {self.policy.metric!r}; an evaluation of this method gives: {known}")

    def measure(
        self, method: Method, learner: Learner, rows: Sequence[Row] | None = None
    ) -> dict[str, float]:
        """The metrics, named `eval/...`: loss and metrics of the method, or the scores of what it samples.

        `rows`: others than the held-out ones. Nothing is kept of these: the last bits of a log-probability depend on
        what was measured with it, and a resumed run does not look at them again.
        """
        started = time.perf_counter()
        cache = self._cache if rows is None else LogprobCache()
        rows = self.rows if rows is None else rows
        source = self._source.over(rows)
        with self._undisturbed(learner, cache), apart(learner.model.device):
            try:
                if self._samples:
                    found = self._sampled(method, learner, source, rows)
                else:
                    found = self._given(method, learner, source, len(rows))
            except TooManyErrors as error:
                warnings.warn(f"step {learner.step} could not be evaluated: {error}", stacklevel=2)
                found = {}
            except InputError as error:
                raise InputError(f"evaluation on held-out rows: {error}") from error
        named = {f"eval/{name}": value for name, value in found.items()}
        return {**named, "eval_seconds": time.perf_counter() - started}

    def judge(self, step: int, metrics: dict[str, float]) -> bool:
        """Whether this evaluation is the best so far. One without the metric, whose reward failed, does not count."""
        value = metrics.get(self.metric)
        if value is None:
            return False
        best = self.memory["best"]
        if math.isfinite(value) and (best is None or self._sign * value > self._sign * best):
            self.memory.update(best=value, best_step=step, not_better=0)
            return True
        self.memory["not_better"] += 1
        return False

    def _given(self, method: Method, learner: Learner, source: Source, count: int) -> dict[str, float]:
        if source.sampler is not None:
            source.sampler.load(learner)
        groups = method.annotate(all_groups(method, source, count), learner)
        return learner.assess(groups, method.loss, method.counts(groups))

    def _sampled(
        self, method: Method, learner: Learner, source: Source, rows: Sequence[Row]
    ) -> dict[str, float]:
        needs, count = method.needs, self.policy.num_completions
        assert source.sampler is not None
        source.sampler.load(learner)
        params = SamplingParams(
            needs.max_new_tokens, needs.temperature if count > 1 else 0.0, seed=source.seed
        )
        groups = source.rollout(rows, count, params)
        found: dict[str, float] = {}
        if groups:
            scores(learner.step, groups, found)
            lengths(learner.step, groups, found)
        failed = {name: float(source.counts[name]) for name in ("errored", "crashed") if source.counts[name]}
        return found | failed

    @contextmanager
    def _undisturbed(self, learner: Learner, cache: LogprobCache) -> Iterator[None]:
        """Put back the random streams, what the method remembers, and the cache of log-probabilities, here another."""
        drawn, memory = randomness.state(learner.model.device), dict(learner.memory)
        kept, folder = learner.logprob_cache, learner.reference_folder
        learner.logprob_cache, learner.reference_folder = cache, None
        try:
            yield
        finally:
            learner.logprob_cache, learner.reference_folder, learner.memory = kept, folder, memory
            randomness.restore(drawn, learner.model.device)
