"""Decode a call's prompts in threads, one part each.

A decoding step is many small operations, which two of torch's own threads do slower than one. But they release
Python's lock: several decoders of one thread each use the cores, once each has rows enough.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ....learner.models.architecture import decoder_of
from ..decoding.decode_job import DecodeJob

MOST = 4
"""Parts at the same time, at most: above that Python's lock is what they wait for."""
LEAST_ROWS = 32
"""Completions of a part, at least: with fewer a step is all overhead, which threads do not share."""
WIDE = 1 << 19
"""Numbers in a matrix from which torch's own threads read it faster than one."""


def in_parts(network: Any, job: DecodeJob, decode: Callable[[DecodeJob], None]) -> None:
    """Call `decode` with the job, or in threads with parts of it, as many as torch has threads for them.

    Samples do not depend on it: every request has a random stream of its own. The first exception ends all parts, as
    does Ctrl-C: they check whenever a completion ends.
    """
    if network.device.type != "cpu":
        return decode(job)
    threads = torch.get_num_threads()
    rows = min(job.max_rows, sum(map(len, job.requests)))
    count = max(1, min(MOST, threads, len(job.prompts), rows // LEAST_ROWS))
    widest = max(
        p.numel() for p in decoder_of(network).parameters() if p is not network.get_input_embeddings().weight
    )
    own = max(1, threads // count) if widest >= WIDE else 1
    with _threads(own):
        if count == 1:
            return decode(job)
        return _together(_cut(job, count), decode, own)


def _cut(job: DecodeJob, count: int) -> list[DecodeJob]:
    """Parts of about the same length: the longest prompts are dealt out first."""
    order = sorted(range(len(job.prompts)), key=lambda i: -len(job.prompts[i]))
    return [
        replace(
            job,
            prompts=[job.prompts[i] for i in part],
            requests=[job.requests[i] for i in part],
            max_rows=job.max_rows // count,
            cache_bytes=job.cache_bytes / count,
        )
        for part in (order[number::count] for number in range(count))
    ]


def _together(parts: list[DecodeJob], decode: Callable[[DecodeJob], None], threads: int) -> None:
    stop, telling = threading.Event(), threading.Lock()

    def run(part: DecodeJob) -> None:
        def ended(completions: int) -> None:
            if stop.is_set():
                raise RuntimeError("another part of these prompts has failed, or the run was interrupted")
            with telling:
                part.ended(completions)

        with _threads(threads):  # torch counts them for each thread of Python's
            decode(replace(part, ended=ended))

    with ThreadPoolExecutor(len(parts)) as pool:
        running = [pool.submit(run, part) for part in parts]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            for one in done:
                one.result()
        finally:
            stop.set()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
