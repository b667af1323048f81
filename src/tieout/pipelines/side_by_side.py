"""Independent jobs in threads, where torch leaves cores idle: samplers spend their time outside Python's lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")

Check = Callable[[], None]
"""To be called now and then: raises where the other jobs have ended badly, or somebody asked to stop."""


def num_jobs(device: str | None) -> int:
    """How many jobs the machine can do at once: one on a GPU; on a CPU one for each of torch's threads that fits."""
    if device not in (None, "cpu") or (device is None and torch.cuda.is_available()):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // torch.get_num_threads()))


def side_by_side(jobs: Sequence[Callable[[Check], T]], count: int) -> list[T]:
    """The results of all jobs, in order, `count` of them at a time. The first exception ends them all."""
    ended = threading.Event()

    def check() -> None:
        if ended.is_set():
            raise RuntimeError("another job has failed, or the run was interrupted")

    if count == 1 or len(jobs) < 2:
        return [job(check) for job in jobs]
    with ThreadPoolExecutor(count) as pool:
        futures: list[Future[T]] = [pool.submit(job, check) for job in jobs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [f for f in futures if f.done() and f.exception() is not None]
            if failed:
                failed[0].result()
            return [future.result() for future in futures]
        finally:  # also where somebody pressed Ctrl-C: the jobs stop where they next look
            ended.set()
            pool.shutdown(cancel_futures=True)
