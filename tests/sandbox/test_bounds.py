"""Bounds of time and memory on what a model's files make this process do."""

from __future__ import annotations

import mmap
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tieout.errors import InputError
from tieout.sandbox import bounds


def endless() -> None:
    while True:
        pass


def asleep_then_endless() -> None:
    time.sleep(0.2)
    endless()


def catastrophic() -> None:
    re.fullmatch(r"(a+)+$", "a" * 60 + "b")


@pytest.mark.parametrize("work", [endless, catastrophic])
def test_what_does_not_end_is_ended_and_the_timer_of_others_runs_on(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]
) -> None:
    monkeypatch.setattr(bounds, "SECONDS", 0.1)
    before = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 50)
    try:
        said = r"the pattern did not end within 0\.1 seconds"
        with pytest.raises(InputError, match=said), bounds.bounded("the pattern"):
            work()
        assert signal.getsignal(signal.SIGALRM) == before[0]
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before[1])


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of data is Linux's")
def test_what_asks_for_too_much_memory_is_refused_at_once() -> None:
    before, begun = resource.getrlimit(resource.RLIMIT_DATA), time.monotonic()
    with pytest.raises(InputError, match="it asks for more than 2 GiB"), bounds.bounded("it"):
        _ = "a" * 10**11
    assert time.monotonic() - begun < 5
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_machine_that_makes_it_wait_is_not_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asleep, as while a machine swaps, it computes nothing; and after that the time is bounded as before."""
    monkeypatch.setattr(bounds, "SECONDS", 0.05)
    with bounds.bounded("it"):
        time.sleep(0.2)
    with pytest.raises(InputError, match="it did not end"), bounds.bounded("it"):
        asleep_then_endless()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of data is Linux's")
def test_what_the_process_has_taken_since_counts_for_what_it_holds() -> None:
    """A model that was loaded a moment ago, between two blocks."""
    with bounds.bounded("it"):
        pass
    with (
        mmap.mmap(-1, bounds.MOST_BYTES + (1 << 30), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
        bounds.bounded("it"),
    ):
        assert len(bytearray(16 << 20)) == 16 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of data is Linux's")
def test_blocks_of_threads_that_overlap_leave_no_limit_behind() -> None:
    before, inside, done = resource.getrlimit(resource.RLIMIT_DATA), threading.Barrier(2), threading.Event()

    def first() -> None:
        with bounds.bounded("it"):
            inside.wait(5)
            inside.wait(5)

    def second() -> None:
        inside.wait(5)
        with bounds.bounded("it"):
            inside.wait(5)
            done.wait(5)

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    threads[0].join()
    done.set()
    threads[1].join()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
