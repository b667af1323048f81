from __future__ import annotations

import threading
import time

import pytest

from tieout.pipelines.side_by_side import Check, side_by_side


def test_results_come_in_the_order_of_the_jobs() -> None:
    def job(number: int) -> int:
        time.sleep(0.02 * (3 - number))
        return number

    assert side_by_side([lambda check, n=n: job(n) for n in range(3)], 3) == [0, 1, 2]
    assert side_by_side([lambda check, n=n: job(n) for n in range(3)], 1) == [0, 1, 2]


def test_two_jobs_are_under_way_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=5)  # broken, and an error, if the one waited for the other to end
    side_by_side([lambda check: both.wait(), lambda check: both.wait()], 2)


def test_the_first_failure_ends_the_others_where_they_look() -> None:
    seen: list[int] = []

    def long(check: Check) -> None:
        for i in range(500):
            check()
            seen.append(i)
            time.sleep(0.01)

    def bad(check: Check) -> None:
        time.sleep(0.05)
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        side_by_side([long, bad], 2)
    assert len(seen) < 200
