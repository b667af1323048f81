"""The memory of reward workers: one that takes too much is killed, one that keeps too much is replaced, no other is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import scripted_rewards as scripted
from tieout.rewards import load_reward
from tieout.rewards.processes import handle
from tieout.rewards.processes.workers import Workers
from tieout.rewards.scoring.runner import Call, Limits, score_groups

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process holds")
MIB = 1 << 20


def calls(*texts: str) -> list[Call]:
    return [Call.of_texts([text], ["p"], {"prompt": "p"}) for text in texts]


def test_what_a_rewards_file_reads_once_for_all_workers_is_not_theirs(tmp_path: Path) -> None:
    file = tmp_path / "table.py"
    file.write_text(
        "import time\nTABLE = bytearray(b'x') * (200 << 20)\n"
        "def f(completions, **_):\n    time.sleep(0.3)\n    return [float(TABLE[0])] * len(completions)\n"
    )
    with Workers(1) as workers:
        workers._most_bytes = 100 * MIB
        ((outcome,),) = score_groups(load_reward(f"{file}:f"), calls("a"), workers)
    assert (outcome.status, outcome.score) == ("scored", 120.0)


@pytest.mark.parametrize(("text", "same"), [("borrow", True), ("keep", False)])
def test_a_worker_is_replaced_for_what_it_has_kept_not_for_what_it_took(
    monkeypatch: pytest.MonkeyPatch, text: str, same: bool
) -> None:
    monkeypatch.setattr(handle, "KEPT_BYTES", 50 * MIB)
    with Workers(1) as workers:
        told = score_groups(scripted.takes, calls("", "", text), workers)
        ((after,),) = score_groups(scripted.takes, calls(""), workers)
    assert (after.score == told[-1][0].score) is same


def test_an_async_call_that_takes_too_much_is_killed_and_the_others_are_made() -> None:
    with Workers(2, Limits(deadline_seconds=4)) as workers:
        workers._most_bytes = 100 * MIB
        found = score_groups(scripted.takes_async, calls("a", "keep"), workers)
    assert [outcomes[0].score for outcomes in found] == [1.0, None]
    assert "of memory" in found[1][0].reason
