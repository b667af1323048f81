"""Rewards in other processes, under a deadline that kills (SIGKILL; no alarm and no thread can stop a hung regex).

    with Workers(num_workers=2) as workers:
        outcomes = score_groups(reward, calls, workers)

A fork server, started once and without torch, imports the rewards and forks the workers. What goes between is JSON
over sockets: a reward is sent as the name to import it by, never as code.
"""

from __future__ import annotations

import inspect
import selectors
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...config.plain import to_plain
from ...errors import InputError, TieoutError
from ...types import Reward
from ..scoring.attribution import Attribution, Limits, attribute
from ..scoring.call import Call
from ..scoring.combine import Combined
from ..scoring.outcomes import (
    Outcome,
    WorkerLost,
    errored,
    late,
    reward_name,
    reward_range,
    tokens_and_turns,
)
from .fork_server import ForkServer
from .handle import Worker
from .importable import Reference, refer
from .memory import LOOK_SECONDS, most_bytes, resident_bytes

SHORT_SECONDS = 0.05
"""Calls that take less are handed out ahead."""
BLOCKED_SECONDS = 1.0
"""Past the deadline of calls that wait at the same time: one of them blocks the others."""


class Workers:
    """A few warm processes that call rewards. Start one per run; `close` it, or leave its `with` block."""

    def __init__(self, num_workers: int = 2, limits: Limits | None = None) -> None:
        if num_workers < 1:
            raise InputError(f"num_workers is {num_workers}; it must be at least 1")
        self.num_workers, self.limits = num_workers, limits or Limits()
        self._server: ForkServer | None = None
        self._idle: list[Worker] = []
        self._took, self._looked = SHORT_SECONDS, 0.0
        self._most_bytes = most_bytes()
        self._references: dict[int, tuple[Reward, Reference]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for worker in self._idle:
            worker.line.close()
        self._idle = []
        if self._server:
            self._server.close()
            self._server = None

    def load(self, reward: Reward) -> Reference:
        """Have the fork server import the reward. ValueError: it cannot be imported there, and why."""
        known = self._references.get(id(reward))
        if known is not None and known[0] is reward and self._server:
            return known[1]
        reference = refer(reward)
        if self._server is None:
            self._server = ForkServer()
        try:
            answer = self._server.ask({"load": reference})
        except TieoutError:  # it has ended, or hangs in an import
            self.close()
            raise
        if "error" in answer:
            raise InputError(
                f"reward {reward_name(reward)!r} cannot be loaded in a worker: {answer['error']}"
            )
        for worker in self._idle:  # forked before: they would import it within the deadline of a call
            self._server.kill(worker)
        self._idle = []
        self._references[id(reward)] = (reward, reference)
        return reference

    def run(self, reward: Reward, calls: Sequence[Call]) -> list[list[Outcome]]:
        """[call][K] outcomes, `num_workers` calls at a time. ValueError: a row has what JSON cannot say."""
        reference = self.load(reward)
        groups = [_Group(attribute(call, self.limits, reward_range(reward))) for call in calls]
        todo: deque[_Job] = deque()
        for group in groups:
            group.advance(None, todo)
        with selectors.DefaultSelector() as selector:
            busy: dict[Worker, deque[_Job]] = {}
            while todo or busy:
                self._hand_out(reward, reference, todo, busy, selector)
                for key, _ in selector.select(min(LOOK_SECONDS, _patience(todo, busy, self.num_workers))):
                    worker: Worker = key.data
                    answers = worker.receive()
                    for said in answers or []:
                        self._answered(worker, said, busy, todo)
                    if answers is None:
                        reason = (
                            f"reward {reward_name(reward)!r} ended its worker process, or wrote in its place"
                        )
                        self._lose(worker, errored(reason), busy, todo, selector)
                    elif not busy[worker]:
                        selector.unregister(worker.line)
                        del busy[worker]
                        self._keep(worker)
                now = time.monotonic()
                if now > self._looked + LOOK_SECONDS:
                    self._looked = now
                    for worker in [worker for worker in busy if worker.measure() > self._most_bytes]:
                        why = (
                            f"reward {reward_name(reward)!r} took more than {self._most_bytes / 2**30:.1f} GiB of "
                            "memory, a quarter of this machine's"
                        )
                        self._lose(worker, errored(why), busy, todo, selector)
                for worker in [worker for worker, jobs in busy.items() if now >= jobs[0].ends]:
                    self._lose(worker, late(reward, busy[worker][0].seconds), busy, todo, selector)
        return [group.outcomes for group in groups]

    def _hand_out(
        self,
        reward: Reward,
        reference: Reference,
        todo: deque[_Job],
        busy: dict[Worker, deque[_Job]],
        selector: selectors.DefaultSelector,
    ) -> None:
        """Give the calls that are due to workers that are free, forking as many as are missing.

        Where calls are short, a worker has the next one at hand while it does one: it need not wait to be given it.
        """
        for _ in range(len(todo)):
            short = self._took < SHORT_SECONDS
            ahead = [w for w, jobs in busy.items() if len(jobs) < 2 and not w.spent] if short else []
            if len(busy) >= self.num_workers and not ahead:
                return
            job = todo.popleft()
            now = time.monotonic()
            if now < job.starts:
                todo.append(job)
                continue
            if len(busy) < self.num_workers:
                worker = self._idle.pop() if self._idle else self._fork()
                selector.register(worker.line, selectors.EVENT_READ, worker)
                busy[worker] = deque()
                job.begin(now, self.limits.deadline_seconds, self.num_workers)
            else:
                worker = ahead[0]
            busy[worker].append(job)
            worker.send(_message(reward, reference, job.call))

    def _answered(
        self, worker: Worker, said: list[Outcome], busy: dict[Worker, deque[_Job]], todo: deque[_Job]
    ) -> None:
        """A worker is done with its call, and has begun the next one, if it has one."""
        job, now = busy[worker].popleft(), time.monotonic()
        self._took = now - job.began
        if busy[worker]:
            busy[worker][0].begin(now, self.limits.deadline_seconds, self.num_workers)
        job.done(said, todo)

    def _lose(
        self,
        worker: Worker,
        why: Outcome,
        busy: dict[Worker, deque[_Job]],
        todo: deque[_Job],
        selector: selectors.DefaultSelector,
    ) -> None:
        """A worker is dead, or is killed now; the call it had not begun goes to another one."""
        selector.unregister(worker.line)
        job, *waiting = busy.pop(worker)
        assert self._server is not None
        self._server.kill(worker)
        self._took = SHORT_SECONDS
        todo.extendleft(waiting)
        job.done([why] * len(job.call.completions), todo)

    def imports(self, reward: Reward) -> bool:
        """Whether the workers can import the reward."""
        try:
            self.load(reward)
        except InputError:
            return False
        return True

    def together(self, reward: Reward, calls: Sequence[Call], limits: Limits) -> list[list[Outcome]]:
        """[call][K] outcomes of calls of an `async def` that one worker makes at the same time.

        WorkerLost: one of them blocked, ended its process, or took too much memory.
        """
        reference = self.load(reward)
        asked = [_message(reward, None, call) for call in calls]
        worker = self._idle.pop() if self._idle else self._fork()
        message = {"reward": reference, "calls": asked, "limits": to_plain(limits)}
        try:
            said = iter(worker.ask(message, limits.deadline_seconds + BLOCKED_SECONDS, self._most_bytes))
        except (EOFError, MemoryError, TimeoutError):
            assert self._server is not None
            self._server.kill(worker)
            raise WorkerLost(
                f"a call of reward {reward_name(reward)!r} blocked, ended its process, or took too much memory"
            ) from None
        worker.measure()
        self._keep(worker)
        return [[next(said) for _ in call.completions] for call in calls]

    def _keep(self, worker: Worker) -> None:
        """Have a worker at hand for the next call, unless it has kept too much memory of the ones before."""
        if worker.spent:  # in a call: what that gave back is not kept
            worker.measure()
        if not worker.spent:
            self._idle.append(worker)
        elif self._server is not None:
            self._server.kill(worker)

    def _fork(self) -> Worker:
        assert self._server is not None
        worker = self._server.fork()
        worker.shared = resident_bytes(worker.pid)
        return worker


def start_workers(reward: Reward, num_workers: int = 2, limits: Limits | None = None) -> Workers | None:
    """Warm workers that have the reward loaded; None for no workers, or where no part of it would run there.

    Raises:
        ValueError: another process cannot import the reward, and what to do.
    """
    parts = list(reward.parts.values()) if isinstance(reward, Combined) else [reward]
    if not num_workers:
        return None
    workers, found = Workers(num_workers, limits), False
    try:
        for part in parts:
            if inspect.iscoroutinefunction(part):  # one that cannot be imported waits in this process
                found = workers.imports(part) or found
            else:
                workers.load(part)
                found = True
    except ValueError:
        workers.close()
        raise
    return workers if found else None


@dataclass
class _Group:
    """One group in progress: the calls that its attribution asked for, and when its time is up."""

    attribution: Attribution
    outcomes: list[Outcome] = field(default_factory=list)
    ends: float | None = None
    """Its whole time counts from when a worker first has it, not from when it was queued."""
    said: list[list[Outcome] | None] = field(default_factory=list)

    def advance(self, tried: list[list[Outcome]] | None, todo: deque[_Job]) -> None:
        try:
            tries = next(self.attribution) if tried is None else self.attribution.send(tried)
        except StopIteration as stop:
            self.outcomes = stop.value
            return
        self.said = [None] * len(tries.calls)
        starts = time.monotonic() + tries.wait_seconds
        jobs = [_Job(self, i, call, tries.share, starts) for i, call in enumerate(tries.calls)]
        if tried:  # to the front: a group that has begun is finished first, since its time is running
            todo.extendleft(reversed(jobs))
        else:
            todo.extend(jobs)


@dataclass(eq=False)
class _Job:
    group: _Group
    index: int
    call: Call
    share: float
    starts: float
    began: float = 0.0
    ends: float = 0.0
    seconds: float = 0.0

    def begin(self, now: float, deadline: float, num_workers: int) -> None:
        if self.group.ends is None:
            self.group.ends = now + deadline
        waiting = sum(said is None for said in self.group.said)
        rounds = -(-waiting // num_workers)
        self.seconds = max(0.0, self.group.ends - now) * self.share / rounds
        self.began, self.ends = now, now + self.seconds

    def done(self, said: list[Outcome], todo: deque[_Job]) -> None:
        self.group.said[self.index] = said
        if all(one is not None for one in self.group.said):
            self.group.advance([one for one in self.group.said if one is not None], todo)


def _patience(todo: deque[_Job], busy: dict[Worker, deque[_Job]], num_workers: int) -> float:
    """Seconds until a deadline, or until a call that waits may start."""
    moments = [jobs[0].ends for jobs in busy.values()]
    if len(busy) < num_workers:
        moments += [job.starts for job in todo]
    return max(0.0, min(moments) - time.monotonic())


def _message(reward: Reward, reference: Reference | None, call: Call) -> dict[str, Any]:
    row = {}
    for column, value in call.row.items():
        try:
            row[column] = to_plain(value)
        except TypeError as error:
            raise InputError(
                f"reward {reward_name(reward)!r} runs in a worker process, and column {column!r} has what JSON "
                f"cannot say: {error}"
            ) from None
    prompts = [p if isinstance(p, str) else [dict(m) for m in p] for p in call.prompts]
    message: dict[str, Any] = {
        "reward": reference,
        "completions": call.texts,
        "prompts": prompts,
        "row": row,
    }
    return message | tokens_and_turns(reward, call)
