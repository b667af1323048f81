"""Rewards in other processes, under a deadline that kills (SIGKILL; no alarm and no thread can stop a hung regex).

    with Workers(num_workers=2) as workers:
        outcomes = score_groups(reward, calls, workers)

A nursery process, started once and without torch, imports the rewards and forks the workers. What goes between is
JSON over sockets: a reward is sent as the name to import it by, never as code.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..plain import to_plain
from . import Reward
from .blame import Call, Limits, Settling, settle
from .outcomes import Outcome, errored, late, reward_name, reward_range
from .reference import Reference, refer

START_SECONDS = 60.0
"""For the nursery to start, and for a reward's imports."""


class Workers:
    """A few warm processes that call rewards. Start one per run; `close` it, or leave its `with` block."""

    def __init__(self, num_workers: int = 2, limits: Limits | None = None) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}; it must be at least 1")
        self.num_workers, self.limits = num_workers, limits or Limits()
        self.kills = 0
        """Workers killed so far for taking too long."""
        self._nursery: _Nursery | None = None
        self._idle: list[_Worker] = []
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
        if self._nursery:
            self._nursery.close()
            self._nursery = None

    def load(self, reward: Reward) -> Reference:
        """Have the nursery import the reward. ValueError: it cannot be imported there, and why."""
        known = self._references.get(id(reward))
        if known is not None and known[0] is reward and self._nursery:
            return known[1]
        reference = refer(reward)
        if self._nursery is None:
            self._nursery = _Nursery()
        answer = self._nursery.ask({"load": reference})
        if "error" in answer:
            raise ValueError(
                f"reward {reward_name(reward)!r} cannot be loaded in a worker: {answer['error']}"
            )
        for worker in self._idle:  # forked before: they would import it within somebody's deadline
            self._nursery.kill(worker)
        self._idle = []
        self._references[id(reward)] = (reward, reference)
        return reference

    def run(self, reward: Reward, calls: Sequence[Call]) -> list[list[Outcome]]:
        """[call][K] outcomes, `num_workers` calls at a time. ValueError: a row has what JSON cannot say."""
        reference = self.load(reward)
        groups = [_Group(settle(call, self.limits, reward_range(reward))) for call in calls]
        todo: deque[_Job] = deque()
        for group in groups:
            group.go_on(None, todo)
        with selectors.DefaultSelector() as selector:
            busy: dict[_Worker, _Job] = {}
            while todo or busy:
                self._hand_out(reward, reference, todo, busy, selector)
                ready = selector.select(_patience(todo, busy, self.num_workers))
                for key, _ in ready:
                    worker: _Worker = key.data
                    said = worker.receive(len(busy[worker].call.completions))
                    if said is not None:
                        selector.unregister(worker.line)
                        job = busy.pop(worker)
                        if isinstance(said, str):
                            self._bury(worker)
                            reason = f"reward {reward_name(reward)!r} ended its worker process: {said}"
                            said = [errored(reason)] * len(job.call.completions)
                        else:
                            self._idle.append(worker)
                        job.done(said, todo)
                now = time.monotonic()
                for worker in [worker for worker, job in busy.items() if now >= job.ends]:
                    selector.unregister(worker.line)
                    job = busy.pop(worker)
                    self._bury(worker)
                    self.kills += 1
                    job.done([late(reward, job.seconds)] * len(job.call.completions), todo)
        return [group.outcomes for group in groups]

    def _hand_out(
        self,
        reward: Reward,
        reference: Reference,
        todo: deque[_Job],
        busy: dict[_Worker, _Job],
        selector: selectors.DefaultSelector,
    ) -> None:
        """Give the calls that are due to workers that are free, forking as many as are missing."""
        for _ in range(len(todo)):
            if len(busy) >= self.num_workers:
                return
            job = todo.popleft()
            now = time.monotonic()
            if now < job.starts:
                todo.append(job)
                continue
            worker = self._idle.pop() if self._idle else self._fork()
            job.begin(now, self.limits.deadline_seconds, self.num_workers)
            busy[worker] = job
            selector.register(worker.line, selectors.EVENT_READ, worker)
            worker.send(_message(reward, reference, job.call))

    def _fork(self) -> _Worker:
        assert self._nursery is not None
        return self._nursery.fork()

    def _bury(self, worker: _Worker) -> None:
        assert self._nursery is not None
        self._nursery.kill(worker)


@dataclass
class _Group:
    """One call on its way: the calls that its settling asked for, and when its time is up."""

    settling: Settling
    outcomes: list[Outcome] = field(default_factory=list)
    ends: float | None = None
    """Its whole time counts from when a worker first has it, not from when it was queued."""
    said: list[list[Outcome] | None] = field(default_factory=list)

    def go_on(self, tried: list[list[Outcome]] | None, todo: deque[_Job]) -> None:
        try:
            tries = next(self.settling) if tried is None else self.settling.send(tried)
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
    ends: float = 0.0
    seconds: float = 0.0

    def begin(self, now: float, deadline: float, num_workers: int) -> None:
        if self.group.ends is None:
            self.group.ends = now + deadline
        waiting = sum(said is None for said in self.group.said)
        rounds = -(-waiting // num_workers)
        self.seconds = max(0.0, self.group.ends - now) * self.share / rounds
        self.ends = now + self.seconds

    def done(self, said: list[Outcome], todo: deque[_Job]) -> None:
        self.group.said[self.index] = said
        if all(one is not None for one in self.group.said):
            self.group.go_on([one for one in self.group.said if one is not None], todo)


@dataclass(eq=False)
class _Worker:
    pid: int
    line: socket.socket
    data: bytearray = field(default_factory=bytearray)

    def send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it is gone: reading tells
            self.line.sendall(message)

    def receive(self, count: int) -> list[Outcome] | str | None:
        """What it answered; None: not yet all; a string: nothing will come, and why."""
        try:
            data = self.line.recv(1 << 20)
        except OSError as error:
            return str(error)
        if not data:
            return "it was killed or it exited"
        self.data += data
        if not self.data.endswith(b"\n"):
            return None
        said = json.loads(self.data)
        self.data.clear()
        outcomes = [Outcome(*one) for one in said]
        return outcomes if len(outcomes) == count else f"{len(outcomes)} outcomes for {count} completions"


class _Nursery:
    """The process that forks; it answers in the order of the questions."""

    def __init__(self) -> None:
        self.line, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", f"{__package__}.worker", str(other.fileno())]
            self.process = subprocess.Popen(
                command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.line.settimeout(START_SECONDS)
        self._finalizer = weakref.finalize(self, _end, self.line, self.process)

    def close(self) -> None:
        self._finalizer()

    def fork(self) -> _Worker:
        own, other = socket.socketpair()
        with other:
            socket.send_fds(self.line, [b'{"fork": true}\n'], [other.fileno()])
        return _Worker(self._answer()["pid"], own)

    def kill(self, worker: _Worker) -> None:
        worker.line.close()
        self.ask({"kill": worker.pid})

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.line.sendall(json.dumps(message).encode() + b"\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        data = b""
        try:
            while not data.endswith(b"\n"):
                part = self.line.recv(1 << 16)
                if not part:
                    raise RuntimeError(f"the reward workers ended (exit status {self.process.wait()})")
                data += part
        except TimeoutError:
            self.close()
            raise ValueError(
                f"the reward's file took more than {START_SECONDS:g} seconds to import"
            ) from None
        answer: dict[str, Any] = json.loads(data)
        return answer


def _end(line: socket.socket, process: subprocess.Popen[bytes]) -> None:
    line.close()  # at which the nursery kills its workers and ends
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _patience(todo: deque[_Job], busy: dict[_Worker, _Job], num_workers: int) -> float:
    """Seconds until a deadline, or until a call that waits may start."""
    moments = [job.ends for job in busy.values()]
    if len(busy) < num_workers:
        moments += [job.starts for job in todo]
    return max(0.0, min(moments) - time.monotonic())


def _message(reward: Reward, reference: Reference, call: Call) -> bytes:
    row = {}
    for column, value in call.row.items():
        try:
            row[column] = to_plain(value)
        except TypeError as error:
            raise ValueError(
                f"reward {reward_name(reward)!r} runs in a worker process, and column {column!r} has what JSON "
                f"cannot say: {error}"
            ) from None
    prompts = [p if isinstance(p, str) else [dict(m) for m in p] for p in call.prompts]
    message = {"reward": reference, "completions": list(call.completions), "prompts": prompts, "row": row}
    return json.dumps(message).encode() + b"\n"
