"""Bounds of time and memory on what a model's files make this process do."""

from __future__ import annotations

import re
import resource
import signal
import sys
import time
from collections.abc import Callable

import pytest

from tieout.errors import InputError
from tieout.sandbox import bounds


def endless() -> None:
    while True:
        pass


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
