"""Rewards in worker processes: a deadline that kills, and nothing that one call does reaches another."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import pytest

import scripted_rewards as scripted
from tieout.evidence.evaluate import evaluate
from tieout.rewards import load_reward
from tieout.rewards.library.exact import exact
from tieout.rewards.library.numeric import numeric
from tieout.rewards.processes.importable import refer, resolve
from tieout.rewards.processes.workers import Workers, start_workers
from tieout.rewards.scoring.adapt import from_trl
from tieout.rewards.scoring.runner import Call, Limits, check_call, combine, score, score_groups
from tieout.samplers.mock import MockSampler
from tieout.tasks import Task, finance_statements
from tieout.types import Completion
from tieout.vetting.check import prove

DEADLINE = 1.2
SLACK = 2.5
"""Seconds that a busy machine may add."""


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(2, Limits(deadline_seconds=DEADLINE, backoff_seconds=0.01)) as pool:
        yield pool


def calls(texts: list[str], **row: Any) -> list[Call]:
    return [Call.of_texts([text], ["p"], {"prompt": "p", **row}) for text in texts]


def alive(parent: int) -> list[int]:
    """The processes whose parent is `parent`, those that have ended left out."""
    lines = subprocess.run(["ps", "-eo", "pid,ppid,stat"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in lines.splitlines()[1:]]
    return [int(pid) for pid, ppid, state in rows if int(ppid) == parent and state[0] != "Z"]


def test_the_outcomes_are_those_of_a_call_in_this_process(workers: Workers) -> None:
    row = {"prompt": "?", "answer": "(5,062)", "scale": ""}
    call = Call.of_texts(["-5062", "5062", "", "\ud800"], ["?"] * 4, row)
    assert score_groups(numeric, [call], workers) == score_groups(numeric, [call])


def test_a_reward_gets_the_tokens_it_names_also_in_a_worker(workers: Workers) -> None:
    sampled = [Completion([7] * n, [True] * n, text="a" * n) for n in (3, 5)]
    broken = Completion([7], [True], text="raise")
    group = Call([*sampled, broken], ["p"] * 3, {"prompt": "p"}, encode=lambda text: list(text.encode()))
    for pool in (None, workers):
        (outcomes,) = score_groups(scripted.counts_tokens, [group], pool)
        assert [o.score for o in outcomes] == [3.0, 5.0, None]
        assert outcomes[2].cause == "completion"  # the controls have tokens too, and pass


def test_two_hundred_rewards_of_five_milliseconds_take_half_a_second(workers: Workers) -> None:
    texts = ["x" * i for i in range(200)]
    score_groups(scripted.slow, calls(texts[:4]), workers)
    started = time.perf_counter()
    outcomes = score_groups(scripted.slow, calls(texts), workers)
    # 0.7 s where nothing else runs (benchmarks/rewards.py); one process would need a whole second for the naps alone.
    assert time.perf_counter() - started < 0.7 + SLACK
    assert [o.score for (o,) in outcomes] == [float(i) for i in range(200)]


def test_a_reward_that_hangs_costs_its_deadline_and_nothing_else(workers: Workers) -> None:
    workers.load(scripted.hangs)
    started = time.perf_counter()
    outcomes = score(scripted.hangs, ["a", "b"], ["p", "p"], {}, workers)
    assert DEADLINE * 0.9 < time.perf_counter() - started < DEADLINE + SLACK
    assert [(o.status, o.score, o.cause, o.worth) for o in outcomes] == [
        ("errored", None, "reward", None)
    ] * 2
    assert "gave nothing within" in outcomes[0].reason
    started = time.perf_counter()
    assert score(scripted.obedient, ["a"], ["p"], {}, workers)[0].score == 1.0
    assert time.perf_counter() - started < SLACK


def test_one_hanging_completion_does_not_hold_its_group_or_others(workers: Workers) -> None:
    group = Call.of_texts(["right", "hang", "wrong"], ["p"] * 3, {})
    started = time.perf_counter()
    hung, *others = score_groups(scripted.obedient, [group, *calls(["right"] * 20)], workers)
    assert time.perf_counter() - started < DEADLINE + SLACK
    assert [o.score for o in hung] == [1.0, None, 0.0]
    assert (hung[1].status, hung[1].cause, hung[1].worth) == ("errored", "completion", 0.0)
    assert all(o.score == 1.0 for (o,) in others)


@pytest.mark.parametrize("bad", ["raise", "exit", "kill"])
def test_a_completion_that_breaks_the_reward_is_a_wrong_answer_and_its_group_goes_on(
    workers: Workers, bad: str
) -> None:
    outcomes = score(scripted.obedient, ["right", bad, "wrong"], ["p"] * 3, {}, workers)
    assert [o.score for o in outcomes] == [1.0, None, 0.0]
    assert (outcomes[1].status, outcomes[1].cause, outcomes[1].worth) == ("errored", "completion", 0.0)


def test_what_a_reward_prints_is_no_answer(workers: Workers) -> None:
    assert score(scripted.obedient, ["print"], ["p"], {}, workers)[0].score == 1.0


def test_a_reward_that_forks_and_returns_in_the_child_shifts_no_answer(workers: Workers) -> None:
    calls = [Call.of_texts([str(i)], ["p"], {"prompt": "p"}) for i in range(40)]
    for _ in range(2):
        found = [outcomes[0].score for outcomes in workers.run(scripted.forks, calls)]
        assert found == [float(i) for i in range(40)]
    assert [o.score for o in score(scripted.forks, ["7"], ["p"], {"prompt": "p"})] == [
        7.0
    ]  # in this process, once


@pytest.mark.parametrize("bad", ["exit", "die"])
def test_an_async_reward_that_ends_its_process_ends_one_call(workers: Workers, bad: str) -> None:
    assert [o.score for (o,) in score_groups(scripted.blocks, calls(["right"] * 3), workers)] == [1.0] * 3
    outcomes = [o for (o,) in score_groups(scripted.blocks, calls(["right", bad, "right"]), workers)]
    assert [(o.score, o.cause) for o in outcomes] == [(1.0, ""), (None, "completion"), (1.0, "")]


def test_a_reward_that_exits_in_this_process_ends_one_call() -> None:
    for reward in (scripted.blocks, scripted.exits):
        outcomes = [o for (o,) in score_groups(reward, calls(["right", "exit"]))]
        assert [(o.score, o.cause) for o in outcomes] == [(1.0, ""), (None, "completion")]
        assert "SystemExit" in outcomes[1].reason


@pytest.mark.parametrize("inside", [True, False])
def test_an_async_group_that_hangs_takes_no_time_from_another(inside: bool) -> None:
    """The other is asked again, and answers in time: it is right, and not at fault."""
    scripted._ASKED.clear()
    limits = Limits(deadline_seconds=2, backoff_seconds=0.01)
    with Workers(2, limits) as pool:
        found = score_groups(scripted.recovers, calls(["hang", "answer"]), pool if inside else None, limits)
    assert [outcomes[0].score for outcomes in found] == [None, 1.0]


def test_a_worker_that_writes_in_anothers_place_is_replaced(workers: Workers) -> None:
    calls = [Call.of_texts([text], ["p"], {"prompt": "p"}) for text in ("1", "forge", "3", "4", "5", "6")]
    found = [outcomes[0] for outcomes in workers.run(scripted.forges, calls)]
    assert [o.score for o in found if o.status == "scored"] == [1.0, 3.0, 4.0, 5.0, 6.0]
    assert found[1].status == "errored"
    assert [outcomes[0].score for outcomes in workers.run(scripted.forks, calls[2:])] == [3.0, 4.0, 5.0, 6.0]


def test_what_a_killed_reward_has_started_is_killed_with_it(workers: Workers) -> None:
    score(scripted.obedient, ["fork"], ["p"], {}, workers)
    assert workers._server is not None
    server = workers._server.process.pid
    inside = [child for worker in alive(server) for child in alive(worker)]
    assert not inside
    assert len(alive(server)) <= 2


FAULTS = ["raises", "hangs", "not_a_number", "infinite", "strings", "one_too_few", "nothing", "down", "never"]


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_becomes_a_number(workers: Workers, name: str) -> None:
    outcomes = score(getattr(scripted, name), ["a", "b"], ["p", "p"], {"prompt": "p"}, workers)
    assert [(o.status, o.score, o.worth) for o in outcomes] == [("errored", None, None)] * 2
    assert all(o.reason and name in o.reason for o in outcomes)
    assert {o.cause for o in outcomes} <= {"reward", "infrastructure"}
    with pytest.raises(ValueError, match=rf"reward '{name}' .*rows have: answer"):
        check_call(getattr(scripted, name), [{"prompt": "p", "answer": "a"}], workers)


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_becomes_a_number_in_an_evaluation_or_a_proof(workers: Workers, name: str) -> None:
    reward, row = getattr(scripted, name), {"prompt": "p", "completion": "a"}
    task = Task("t", lambda split: [row], reward, metrics={"same": reward})
    (case,) = evaluate(task, [row], MockSampler(["a"]), workers=workers)
    assert (case.status, case.score, case.metrics) == ("errored", None, {})
    assert set(case.errors) == {"score", "same"}
    if name not in ("hangs", "never"):  # each of a proof's tries would take its deadline
        proof = prove(reward, [row], workers)
        assert not proof.holds
        assert proof.checks[0].passed == 0


def test_a_fault_in_one_part_is_a_fault_of_the_sum(workers: Workers) -> None:
    for name in FAULTS:
        reward = combine({exact: 1.0, getattr(scripted, name): 0.1})
        (outcome,) = score(reward, ["a"], ["p"], {"prompt": "p", "answer": "a"}, workers)
        assert (outcome.status, outcome.score, outcome.worth) == ("errored", None, None), name
        assert outcome.parts == {"exact": 1.0, name: None}


def test_a_row_that_json_cannot_say_is_refused(workers: Workers) -> None:
    with pytest.raises(ValueError, match=r"reward 'exact' .* column 'answer' has what JSON cannot say"):
        score(exact, ["a"], ["p"], {"prompt": "p", "answer": object()}, workers)
    row = {"prompt": "p", "answer": np.float64(5.0)}
    assert score(exact, ["5.0"], ["p"], row, workers)[0].score == 1.0


def test_closing_ends_every_process() -> None:
    pool = Workers(2)
    score(exact, ["a"], ["p"], {"answer": "a"}, pool)
    assert pool._server is not None
    server = pool._server.process
    assert alive(server.pid)
    pool.close()
    assert server.poll() is not None
    assert not alive(server.pid)
    assert score(exact, ["a"], ["p"], {"answer": "a"}, pool)[0].score == 1.0  # and it starts again when asked
    pool.close()


def test_the_fork_server_needs_no_torch() -> None:
    code = "import sys; import tieout.rewards.processes.fork_server_main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- what another process can import


def test_a_reward_of_a_file_with_options_in_messages(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def longest(completions, most=3, **_):\n    return [float(len(c) <= most) for c in completions]\n"
    )
    plain = load_reward(f"{file}:longest")
    load_reward(f"{file}:longest")  # a file that is loaded again is still the same reward
    fixed = functools.partial(plain, most=1)
    with start_workers(plain) or Workers() as pool:
        assert [o.score for o in score(plain, ["abc", "abcd"], ["p"] * 2, {}, pool)] == [1.0, 0.0]
        assert [o.score for o in score(fixed, ["a", "abc"], ["p"] * 2, {}, pool)] == [1.0, 0.0]
    adapted = from_trl(scripted.by_message)
    assert refer(adapted)["messages"]
    assert resolve(refer(adapted))(["a"], prompts=["p"], answer=["a"]) == [1.0]
    assert resolve(refer(functools.partial(scripted.scaled, factor=2.0)))(["abc"]) == [6.0]


@pytest.mark.parametrize("credit", ["figures", "ladder"])
def test_every_function_of_a_task_runs_in_a_worker(credit: Literal["figures", "ladder"]) -> None:
    task = finance_statements.make(credit=credit)
    row = task.rows("test")[0]
    text, columns = finance_statements.corrupt(row, Random(0)), {key: [value] for key, value in row.items()}
    del columns["completion"]
    for function in (task.reward, *task.metrics.values(), *task.parts.values()):
        assert function is not None
        reference = json.loads(json.dumps(refer(function)))
        assert resolve(reference)([text], **columns) == function([text], **columns)


@pytest.mark.parametrize(
    ("reward", "why"),
    [
        (lambda completions, **_: [], "not a function at the top of a module"),
        (functools.partial(scripted.scaled, factor=object()), "not plain values"),
        (functools.partial(scripted.scaled, ["a"]), "by position"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_what_to_do(reward: Any, why: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot run in a worker process: .*{why}.* Put it into a file"):
        start_workers(reward)


def test_a_file_that_breaks_in_the_worker_is_named(tmp_path: Path) -> None:
    file = tmp_path / "breaks.py"
    file.write_text("def f(completions, **_):\n    return [1.0]\n")
    reward = load_reward(f"{file}:f")
    file.write_text("raise RuntimeError('broken since')\n")
    with pytest.raises(
        ValueError,
        match=r"reward 'f' cannot be loaded in a worker: file .*breaks.py .*RuntimeError: broken since",
    ):
        start_workers(reward)


def test_a_file_is_imported_once_for_all_workers_and_those_that_replace_them(tmp_path: Path) -> None:
    """A slow import takes nothing from the deadline of a call."""
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "with pathlib.Path(__file__).with_name('imports').open('a') as file:\n"
        "    file.write('.')\n\n\n"
        "def f(completions, **_):\n"
        "    time.sleep(60 * (completions == ['hang']))\n"
        "    return [1.0] * len(completions)\n"
    )
    reward = load_reward(f"{tmp_path / 'slow.py'}:f")
    with Workers(2, Limits(deadline_seconds=DEADLINE, backoff_seconds=0.01)) as pool:
        found = score_groups(reward, calls(["a", "hang", "b", "c"]), pool)
        found += score_groups(reward, calls(["a", "b"]), pool)
    assert [o.score for (o,) in found] == [1.0, None, 1.0, 1.0, 1.0, 1.0]
    assert (tmp_path / "imports").read_text() == "..", "here, and in the process that workers are forked from"


def test_no_workers_are_started_where_none_would_run() -> None:
    async def here(completions: list[str], **_: Any) -> list[float]:
        return [1.0] * len(completions)

    assert start_workers(here) is None  # another process cannot import it
    assert start_workers(exact, num_workers=0) is None
    with pytest.raises(ValueError, match="num_workers is 0"):
        Workers(0)
    with pytest.raises(ValueError, match="deadline_seconds is 0"):
        Limits(deadline_seconds=0)
