"""Staleness of a sampler's weights: after every load, compare its log-probabilities with the learner's.

A sampler that keeps old weights gives plausible completions: nothing fails, and the run learns from a policy of long
ago. While updates are small the mean difference does not show it. The samples do: they agree better with the learner's
weights of one load earlier than with its present ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..errors import StopTraining
from ..learner import Learner
from ..types import Completion, Group
from . import PolicySampler, SamplingParams


@dataclass(frozen=True)
class Staleness:
    """Agreement of one server's samples with the learner."""

    tokens: int
    mismatch: float
    """Nats per token: mean absolute difference between sampler and learner."""
    staleness: float | None
    """0: sampled from the weights just loaded; 1: from those one load earlier; None: nothing to compare."""
    standard_error: float
    """Of the staleness."""

    @property
    def stale(self) -> bool:
        """Whether the samples are nearer to the earlier weights, beyond three standard errors."""
        return self.staleness is not None and self.staleness - 3 * self.standard_error > 0.5


def measure(sampled: Sequence[float], now: Sequence[float], before: Sequence[float] | None) -> Staleness:
    """Compare log-probabilities [T] of samples with the learner's under its present and its previous weights.

    With d = sampled - now and u = before - now, staleness is the least-squares slope of d on u. One half is where
    the samples are as near to the one as to the other; rounding in `now` and `before` pulls towards it from both sides.

    >>> measure([-1.2, -2.1, -0.7], [-1.0, -2.0, -1.0], [-1.2, -2.1, -0.7]).staleness
    1.0
    """
    d = [s - n for s, n in zip(sampled, now, strict=True)]
    mismatch = fmean(map(abs, d)) if d else 0.0
    if before is None or len(d) < 2:
        return Staleness(len(d), mismatch, None, math.inf)
    u = [b - n for b, n in zip(before, now, strict=True)]
    scale = math.fsum(x * x for x in u)
    if not scale > 0:  # the last update changed nothing
        return Staleness(len(d), mismatch, None, math.inf)
    slope = math.fsum(x * y for x, y in zip(d, u, strict=True)) / scale
    left = math.fsum((y - slope * x) ** 2 for x, y in zip(u, d, strict=True))
    return Staleness(len(d), mismatch, slope, math.sqrt(left / (len(d) - 1) / scale))


class StalenessCheck:
    """A PolicySampler that checks another one; `monitor` reports the result, and stops the run.

    It measures the first call after each load: some completions of every server, if the sampler says in `origins`
    which sampled what. That costs two forwards over `num_tokens`, and a copy of what is trained.
    """

    def __init__(self, sampler: PolicySampler, limit: float = 0.1, num_tokens: int = 4096) -> None:
        """
        Args:
            sampler: the one to check.
            limit: nats per token, mean absolute difference of one server, that stops the run.
            num_tokens: measured after each load, shared by the servers.
        """
        self.sampler, self.limit, self.num_tokens = sampler, limit, num_tokens
        self.findings: dict[str, Staleness] = {}
        """Of the last load, by server; the name is empty where the sampler names none."""
        self._learner: Learner | None = None
        self._now: dict[str, Any] = {}
        self._before: dict[str, Any] = {}

    @property
    def context(self) -> int:
        """The sampler's."""
        return self.sampler.context

    def load(self, learner: Learner) -> None:
        """Pass it on, and remember the weights."""
        weights = {name: p.detach().clone() for name, p in learner.model.trained().items()}
        if self._now and any(not weights[n].equal(w) for n, w in self._now.items()):
            self._before, self._now = self._now, weights
        self._now = self._now or weights
        self._learner = learner
        self.findings = {}
        self.sampler.load(learner)

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """The sampler's completions; measured, if nothing was since the last load."""
        drawn = self.sampler.sample(prompts, num_completions, params)
        if self._learner is not None and not self.findings:
            groups = [Group(list(p), list(c)) for p, c in zip(prompts, drawn, strict=True)]
            origins = getattr(self.sampler, "origins", None) or [""] * len(groups)
            self.findings = self._measure(self._learner, groups, origins)
        return drawn

    def close(self) -> None:
        """Pass it on, if the sampler has something to close."""
        getattr(self.sampler, "close", lambda: None)()

    def monitor(self, step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        """Add `sampler_mismatch` and `staleness` of the worst server; StopTraining names it if it is past a limit."""
        if not self.findings:
            return
        found = self.findings.values()
        metrics["sampler_mismatch"] = max(f.mismatch for f in found)
        metrics.setdefault("mismatch", metrics["sampler_mismatch"])
        if measured := [f.staleness for f in found if f.staleness is not None]:
            metrics["staleness"] = max(measured)
        for origin, finding in self.findings.items():
            who = f"the sampler at {origin}" if origin else "the sampler"
            if finding.stale:
                raise StopTraining(
                    f"step {step}: {who} uses weights older than the ones just loaded: staleness "
                    f"{finding.staleness:.2f} +- {finding.standard_error:.2f} over {finding.tokens} tokens (0 is "
                    "current, 1 is one load behind). Its loads have no effect; restart it"
                )
            stop_on_mismatch(step, finding.mismatch, self.limit, who)

    def _measure(
        self, learner: Learner, groups: Sequence[Group], origins: Sequence[str]
    ) -> dict[str, Staleness]:
        picked, places = pick(groups, origins, self.num_tokens)
        sampled = [_flat(group, [c.logprobs or [] for c in group.completions]) for group in picked]
        now = self._logprobs(learner, picked)
        before = None
        if self._before:
            try:
                _put(learner, self._before)
                before = self._logprobs(learner, picked)
            finally:
                _put(learner, self._now)
        findings = {}
        for origin in dict.fromkeys(places):
            mine = [i for i, name in enumerate(places) if name == origin]
            columns = [[x for i in mine for x in side[i]] for side in (sampled, now, before or now)]
            findings[origin] = measure(columns[0], columns[1], columns[2] if before else None)
        return findings

    @staticmethod
    def _logprobs(learner: Learner, groups: Sequence[Group]) -> list[list[float]]:
        return [_flat(g, rows) for g, rows in zip(groups, learner.logprobs(groups), strict=True)]


def stop_on_mismatch(step: int, mismatch: float, limit: float, sampler: str = "the sampler") -> None:
    """StopTraining if sampler and learner differ by more than `limit` nats per token, or by NaN."""
    if not mismatch <= limit:
        raise StopTraining(
            f"step {step}: {sampler} and the learner disagree by {mismatch:.3f} nats per token (limit {limit}); "
            "the sampler may hold old weights, or another temperature or precision"
        )


def pick(groups: Sequence[Group], origins: Sequence[str], num_tokens: int) -> tuple[list[Group], list[str]]:
    """Groups of every server in turn, up to `num_tokens` in all, and at least a completion of each server."""
    queues: dict[str, list[Group]] = {}
    for group, origin in zip(groups, origins, strict=True):
        queues.setdefault(origin, []).append(group)
    share = num_tokens // max(1, len(queues))
    picked, places = list[Group](), list[str]()
    for origin, queue in queues.items():
        left = share
        for group in queue:
            taken: list[Completion] = []
            left -= len(group.prompt)
            for completion in group.completions:
                if left < len(completion.tokens) and (taken or left < share - len(group.prompt)):
                    break
                taken.append(completion)
                left -= len(completion.tokens)
            if taken:
                picked.append(Group(group.prompt, taken))
                places.append(origin)
            if left <= 0:
                break
    return picked, places


def _flat(group: Group, rows: Sequence[Sequence[float]]) -> list[float]:
    """[K][C] -> the values of trained tokens."""
    return [
        x
        for completion, row in zip(group.completions, rows, strict=True)
        for x, trained in zip(row, completion.mask, strict=True)
        if trained
    ]


def _put(learner: Learner, weights: Mapping[str, Any]) -> None:
    """Copy weights into the learner, bit for bit."""
    for name, parameter in learner.model.trained().items():
        parameter.data.copy_(weights[name])
