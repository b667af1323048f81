"""Against a real server on this machine that answers, fails, babbles and counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from openai_server import MISBEHAVIOUR, OpenAIServer, asked
from tieout.errors import InputError
from tieout.samplers import Sampler, SamplingParams
from tieout.samplers.api import APISampler, Budget, IncompleteError, Ledger
from tieout.samplers.api.ledger import FILE
from tieout.samplers.api.opening import APIOptions, open_api
from tieout.types import Answer

PARAMS = SamplingParams(max_new_tokens=8, temperature=0.0)
SAMPLED = SamplingParams(max_new_tokens=8, temperature=1.0)
KEY = "sk-canary-5f2e9a"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def sampler(server: OpenAIServer, **options: Any) -> APISampler:
    given = {"max_retries": 3, "timeout_seconds": 5, "api_key": KEY, **options}
    return APISampler("some-model", server.url, **given)


def test_text_and_messages_go_to_their_endpoints_in_order(server: OpenAIServer) -> None:
    client: Sampler = sampler(server)
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    answers = client.complete(["one", chat, "two"], SamplingParams(7, 0.5, seed=11))
    assert [answer.split()[0] for answer in answers] == ["ONE", "HELLO", "TWO"]
    used = [answer.usage for answer in answers if isinstance(answer, Answer)]
    assert [(one["prompt_tokens"], one["tokens"]) for one in used] == [(3, 2)] * 3
    assert all(one["seconds"] > 0 for one in used)
    assert [answer.finish_reason for answer in answers if isinstance(answer, Answer)] == ["stop"] * 3
    sent = {b.get("prompt", "chat"): b for b in server.bodies}
    assert sent["chat"]["messages"] == chat
    assert len({body["seed"] for body in server.bodies}) == 3
    assert sent["one"]["max_tokens"] == 7
    assert sent["one"]["temperature"] == 0.5


def test_replies_of_two_versions_of_a_model_are_said_once(server: OpenAIServer) -> None:
    client = sampler(server)
    client.complete(["one"], PARAMS)
    server.version = "2027"
    with pytest.warns(UserWarning, match="answered by some-model-2026 and some-model-2027: .* no one model"):
        client.complete(["one", "two"], PARAMS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.complete(["one", "two", "three"], PARAMS)


def test_outages_are_retried_and_each_attempt_is_a_call(server: OpenAIServer) -> None:
    client = sampler(server)
    assert client.complete(["500 429 hi"], PARAMS) == ["500 429 HI"]
    assert len(server.bodies) == client.ledger.spent.calls == 3
    assert (client.ledger.spent.prompt_tokens, client.ledger.spent.tokens) == (3, 2)


def test_the_pause_that_the_server_asks_for_is_kept(server: OpenAIServer) -> None:
    server.retry_after = {"retry-after": "1"}
    assert sampler(server).complete(["429 hi"], PARAMS) == ["429 HI"]
    assert server.times[1] - server.times[0] >= 1.0
    server.retry_after = {"retry-after": "3600"}
    with pytest.raises(IncompleteError, match=r"status 429: planned.*asks to wait 3600 seconds"):
        sampler(server).complete(["429 longer"], PARAMS)


@pytest.mark.parametrize("word", sorted({*MISBEHAVIOUR, "html", "cut"} - {"miscounted", "uncounted"}))
def test_a_reply_of_another_shape_is_never_a_completion(server: OpenAIServer, word: str) -> None:
    client = sampler(server, max_retries=0)
    with pytest.raises(IncompleteError, match="1 of 2 requests failed") as caught:
        client.complete([word, "fine"], PARAMS)
    assert caught.value.completions == [None, "FINE"]
    assert client.ledger.spent.unknown == 1, "it may be charged, so it counts at its most"


def test_a_server_that_hangs_or_drips_is_left(server: OpenAIServer) -> None:
    started = time.monotonic()
    with pytest.raises(IncompleteError, match=r"2 of 3 .*no whole reply within 0.7 seconds"):
        sampler(server, max_retries=0, timeout_seconds=0.7).complete(["hang", "drip", "fine"], PARAMS)
    assert time.monotonic() - started < 5


def test_usage_that_cannot_be_read_is_no_usage_and_counts_at_its_most(server: OpenAIServer) -> None:
    client = sampler(server)
    answers = client.complete(["miscounted", "uncounted"], PARAMS)
    assert answers == ["MISCOUNTED", "UNCOUNTED"]
    assert [answer.usage for answer in answers if isinstance(answer, Answer)] == [{}, {}]
    spent = client.ledger.spent
    assert (spent.unknown, spent.tokens) == (2, 16)
    assert spent.prompt_tokens > len("miscounteduncounted")


def test_what_fails_for_good_does_not_lose_what_arrived(server: OpenAIServer) -> None:
    with pytest.raises(
        IncompleteError, match=r"2 of 4 requests failed; the first: some-model: status 400"
    ) as c:
        sampler(server, max_retries=0).complete(["a", "400 b", "nothing", "d"], PARAMS)
    assert c.value.completions == ["A", None, None, "D"]
    assert set(c.value.reasons) == {1, 2}
    assert "no text" in c.value.reasons[2]


def test_a_wrong_key_is_said_once_and_not_tried_on_every_row(server: OpenAIServer) -> None:
    prompts = [f"401 {'401 ' * n}" for n in range(20)]
    with pytest.raises(IncompleteError, match="20 of 20 requests failed; the first: some-model: status 401"):
        sampler(server, num_workers=2).complete(prompts, PARAMS)
    assert len(server.bodies) <= 3
    with OpenAIServer() as other, pytest.raises(IncompleteError, match="12 of 12"):
        sampler(other, num_workers=1, max_retries=0).complete(
            [f"503 {'503 ' * n}" for n in range(12)], PARAMS
        )
    assert len(other.bodies) == 8, "after eight in a row the server is not asked again"


def test_nobody_there_is_said_and_charged_nothing() -> None:
    client = APISampler("m", "http://127.0.0.1:9/v1", max_retries=0, timeout_seconds=2)
    with pytest.raises(IncompleteError, match="APIConnectionError"):
        client.complete(["a"], PARAMS)
    assert (client.ledger.spent.calls, client.ledger.spent.tokens) == (1, 0)


def test_models_that_know_the_newer_name_of_a_limit_are_asked_under_it(server: OpenAIServer) -> None:
    chat = [{"role": "user", "content": "renamed a"}]
    assert sampler(server).complete([chat], PARAMS) == ["RENAMED A"]
    assert [("max_tokens" in b, b.get("max_completion_tokens")) for b in server.bodies] == [
        (True, None),
        (False, 8),
    ]


@pytest.mark.parametrize("workers", [1, 4])
def test_so_many_calls_are_under_way_and_never_more(workers: int) -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def slow(body: dict[str, Any]) -> tuple[str, str, int, int]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1
        return asked(body), "stop", 3, 2

    with OpenAIServer(slow) as server:
        given = [f"p{n}" for n in range(16)]
        assert sampler(server, num_workers=workers).complete(given, PARAMS) == given
    assert most == workers


# ---------------------------------------------------------------- budget


def test_a_budget_of_calls_is_never_passed(server: OpenAIServer, tmp_path: Path) -> None:
    budget = Budget(max_calls=3)
    with pytest.raises(IncompleteError, match="all 3 calls of the budget are used") as caught:
        sampler(server, ledger=Ledger(tmp_path, budget)).complete([*"abcdef"], PARAMS)
    assert len(server.bodies) == 3
    assert sum(text is not None for text in caught.value.completions) == 3
    with pytest.raises(IncompleteError, match="3 of 6"):  # of all commands together
        sampler(server, ledger=Ledger(tmp_path, budget)).complete([*"abcdef"], PARAMS)
    assert len(server.bodies) == 3
    more = sampler(server, ledger=Ledger(tmp_path, Budget(max_calls=6)))
    assert more.complete([*"abcdef"], PARAMS) == [*"ABCDEF"]
    assert len(server.bodies) == 6


@pytest.mark.parametrize("workers", [1, 8])
def test_budgets_of_tokens_and_money_hold_whatever_is_under_way(server: OpenAIServer, workers: int) -> None:
    """A call is sent when its most fits, so those at the same time cannot pass the limit together."""
    prompts = [f"p{n}" for n in range(30)]
    for budget in (Budget(max_tokens=60), Budget(max_cost=60e-6)):
        ledger = Ledger(None, budget, {"some-model": "1,1"})
        with pytest.raises(IncompleteError, match="of a budget of") as caught:
            sampler(server, ledger=ledger, num_workers=workers).complete(prompts, PARAMS)
        spent = ledger.spent
        assert spent.prompt_tokens + spent.tokens <= 60
        assert spent.cost <= 60e-6 + 1e-12
        most = len(json.dumps({"prompt": "p29"})) + 8
        assert spent.prompt_tokens + spent.tokens > 60 - most, "what is left was too little for one more"
        assert sum(text is not None for text in caught.value.completions) == spent.calls


def test_a_budget_of_money_needs_every_price(server: OpenAIServer, tmp_path: Path) -> None:
    sampler(server, ledger=Ledger(tmp_path)).complete(["a"], PARAMS)
    with pytest.raises(InputError, match="some-model: give --price api:some-model="):
        sampler(server, ledger=Ledger(tmp_path, Budget(max_cost=1.0))).complete(["b"], PARAMS)
    priced = Ledger(tmp_path, Budget(max_cost=1.0), {"some-model": "100,1000"})
    sampler(server, ledger=priced).complete(["b"], PARAMS)
    assert priced.spent.cost == pytest.approx(2 * (3 * 100 + 2 * 1000) / 1e6)
    without = Ledger(tmp_path).spent  # of the two calls one has a price on record
    assert (without.calls, without.unpriced, without.cost) == (
        2,
        1,
        pytest.approx((3 * 100 + 2 * 1000) / 1e6),
    )
    dearer = Ledger(tmp_path, prices={"some-model": "999,999"})
    assert dearer.spent.cost == pytest.approx((3 * 100 + 2 * 1000 + 5 * 999) / 1e6), (
        "it was sent under a price"
    )
    with pytest.raises(InputError, match="paid by tokens"):
        Ledger(None, prices={"some-model": "2.5/h"})


# ---------------------------------------------------------------- cache and resume


def test_nothing_is_asked_twice_also_after_a_failure_and_a_torn_write(
    server: OpenAIServer, tmp_path: Path
) -> None:
    client = sampler(server, ledger=Ledger(tmp_path))
    with pytest.raises(IncompleteError, match="Repeat the command") as caught:
        client.complete(["a", "400 b", "a"], PARAMS)
    assert caught.value.completions == ["A", None, "A"]
    assert len(server.bodies) == 2
    with open(tmp_path / FILE, "a") as file:
        file.write('{"sent": "torn')
    again = sampler(server, ledger=Ledger(tmp_path))
    assert again.complete(["a", "c"], PARAMS) == ["A", "C"]
    assert (again.hits, again.misses) == (1, 1)
    assert sampler(server, ledger=Ledger(tmp_path)).complete(["c", "a"], PARAMS) == ["C", "A"]
    assert len(server.bodies) == 3


def test_everything_that_matters_is_another_question(server: OpenAIServer, tmp_path: Path) -> None:
    def ask(client: APISampler, prompt: Any = "a", params: SamplingParams = SAMPLED) -> str:
        return client.complete([prompt], params)[0]

    first = ask(sampler(server, ledger=Ledger(tmp_path)))
    assert ask(sampler(server, ledger=Ledger(tmp_path))) == first
    assert len(server.bodies) == 1
    client = sampler(server, ledger=Ledger(tmp_path))
    message = [{"role": "user", "content": "a"}]
    others = [
        ask(client, params=replace(SAMPLED, seed=1)),
        ask(client, params=replace(SAMPLED, temperature=0.5)),
        ask(client, params=replace(SAMPLED, top_p=0.5)),
        ask(client, params=replace(SAMPLED, max_new_tokens=9)),
        ask(client, message),
        ask(client, [{"role": "system", "content": "s"}, *message]),
    ]
    assert len(server.bodies) == 7
    assert len({first, *others}) == 7
    with OpenAIServer() as elsewhere:
        ask(sampler(elsewhere, ledger=Ledger(tmp_path)))
        assert len(elsewhere.bodies) == 1
    APISampler("other", server.url, ledger=Ledger(tmp_path)).complete(["a"], SAMPLED)
    assert len(server.bodies) == 8


def test_samples_of_one_prompt_differ_and_more_of_them_begin_with_the_fewer(
    server: OpenAIServer, tmp_path: Path
) -> None:
    client = sampler(server, ledger=Ledger(tmp_path))
    two = client.complete(["a", "b", "a"], SAMPLED)
    assert two[0] != two[2]
    four = client.complete(["a", "a", "a", "a", "b"], SAMPLED)
    assert four[:2] == [two[0], two[2]]
    assert four[4] == two[1]
    assert len(set(four)) == 5
    assert len(server.bodies) == 5


def test_a_server_that_does_not_sample_is_said_once(server: OpenAIServer) -> None:
    """`transformers serve` is greedy at any temperature, unless the model's own settings say that it samples."""
    server.answerer = lambda body: (asked(body), "stop", 3, 2)
    client = sampler(server)
    with pytest.warns(
        UserWarning, match="all samples of each of 2 prompts are the same text.*does not sample"
    ):
        client.complete(["a"] * 4 + ["b"] * 4, SAMPLED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.complete(["c"] * 8, SAMPLED)
        sampler(server).complete(["a"] * 3 + ["b"] * 4, SAMPLED)  # too few to tell
        sampler(server).complete(["a"] * 8, PARAMS)  # greedy
        server.answerer = lambda body: (str(body["seed"]), "stop", 3, 2)
        sampler(server).complete(["d"] * 8, SAMPLED)


KILLED = """
import sys
from tieout.samplers import SamplingParams
from tieout.samplers.api import APISampler, Ledger
from pathlib import Path
client = APISampler("m", sys.argv[1], num_workers=3, ledger=Ledger(Path(sys.argv[2])))
print(client.complete([f"p{n}" for n in range(40)], SamplingParams(8, 1.0)), flush=True)
"""


def test_killed_anywhere_no_reply_is_paid_for_twice(tmp_path: Path) -> None:
    """Of every request that the server answered in full before the kill, there is a reply or a call under way."""

    def slow(body: dict[str, Any]) -> tuple[str, str, int, int]:
        time.sleep(0.05)
        return f"{asked(body)} {body['seed']}", "stop", 3, 2

    command = [sys.executable, "-c", KILLED]
    with OpenAIServer(slow) as server:
        given = [*command, server.url, str(tmp_path)]
        for after in (3, 11, 22):
            process = subprocess.Popen(given, stdout=subprocess.DEVNULL)
            while len(server.bodies) < after:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
        sent = {line["sent"]: line["key"] for line in lines if "sent" in line}
        came = {sent[line["came"]] for line in lines if "reply" in line}
        assert len(sent) - len(came) <= 9, "three workers, killed three times"
        before = len(server.bodies)
        assert len(sent) >= before, "each was on record before it was sent"
        done = subprocess.run(given, capture_output=True, text=True, check=True)
        assert done.stdout.count("p") == 40
        assert len(server.bodies) - before == 40 - len(came)
        again = subprocess.run(given, capture_output=True, text=True, check=True)
        assert again.stdout == done.stdout
        assert len(server.bodies) == before + 40 - len(came)


def test_processes_share_one_budget(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        code = KILLED.replace("Ledger(Path(sys.argv[2]))", "Ledger(Path(sys.argv[2]), Budget(max_calls=20))")
        code = code.replace("import APISampler", "import APISampler, Budget").replace(
            'f"p{n}"', 'f"{sys.argv[3]}{n}"'
        )
        given = [sys.executable, "-c", code, server.url, str(tmp_path)]
        running = [subprocess.Popen([*given, name], stderr=subprocess.PIPE, text=True) for name in "ab"]
        said = [process.communicate()[1] for process in running]
        assert all("all 20 calls of the budget are used" in text for text in said)
        assert len(server.bodies) == 20


def test_a_ledger_that_was_edited_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"came": "x", "reply": {}}\n')
    with pytest.raises(InputError, match="not a ledger of calls"):
        Ledger(tmp_path)
    (tmp_path / FILE).write_text("hello\n")
    with pytest.raises(InputError, match=r"line 1 .*not JSON"):
        Ledger(tmp_path)


# ---------------------------------------------------------------- keys and addresses


def test_no_key_stands_in_a_file_or_an_error(server: OpenAIServer, tmp_path: Path) -> None:
    client = sampler(server, ledger=Ledger(tmp_path), max_retries=0)
    with pytest.raises(IncompleteError) as caught:
        client.complete(["a", "500 b", "400 c", "echo", "sorry"], PARAMS)
    text = str(caught.value) + str(caught.value.reasons) + (tmp_path / FILE).read_text() + repr(client)
    assert "planned, for Bearer [key]" in text
    assert KEY not in text
    assert "canary" not in text


def test_addresses_and_names_are_checked_before_a_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for url in ("http://me:secret@host/v1", "https://host/v1?api-key=secret"):
        with pytest.raises(InputError, match="holds a name, a password or a query") as caught:
            APISampler("m", url)
        assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="expected http"):
        APISampler("m", "localhost:8000")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    options = APIOptions(calls=tmp_path)
    with pytest.raises(InputError, match="set OPENAI_API_KEY"):
        open_api("api:m", options)
    for name in ("api:", "m"):
        with pytest.raises(InputError, match="expected api:NAME"):
            open_api(name, options)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1/")
    assert open_api("api:m", options).url == "http://127.0.0.1:9/v1"
    with pytest.raises(InputError, match="max_cost is -1"):
        APIOptions(max_cost=-1)


def test_it_runs_inside_a_loop_of_a_notebook(server: OpenAIServer) -> None:
    import asyncio

    async def cell() -> list[str]:
        return sampler(server).complete(["a"], PARAMS)

    assert asyncio.run(cell()) == ["A"]


def test_an_interrupt_stops_sending(tmp_path: Path) -> None:
    def slow(body: dict[str, Any]) -> tuple[str, str, int, int]:
        time.sleep(0.2)
        return "x", "stop", 3, 2

    with OpenAIServer(slow) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, server.url, str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        while len(server.bodies) < 4:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
        assert len(server.bodies) < 20
        assert Ledger(tmp_path).left_over <= 3
