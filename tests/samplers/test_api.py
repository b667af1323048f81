"""Against a real server on this machine that answers, fails, babbles and counts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from tieout.samplers import Sampler, SamplingParams
from tieout.samplers.api import APISampler, Budget, IncompleteError
from tieout.samplers.cached import CachedSampler
from tieout.samplers.mock import MockSampler
from tieout.types import Answer

PARAMS = SamplingParams(max_new_tokens=8, temperature=0.0)


class FakeServer(ThreadingHTTPServer):
    """Answers the prompt in capitals. A prompt `500 500 hi` fails twice with that status first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.failed: dict[str, int] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        with self.server.lock:
            self.server.bodies.append(body)
            failed = self.server.failed.get(prompt, 0)
            self.server.failed[prompt] = failed + 1
        planned = [word for word in prompt.split() if word.isdigit()]
        if failed < len(planned):
            return self.reply(int(planned[failed]), {"error": {"message": "planned"}})
        text = None if "nothing" in prompt else prompt.upper()
        content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": "stop", **content}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        head = {"id": "x", "object": "x", "created": 0, "model": body["model"]}
        return self.reply(200, {**head, "choices": [choice], "usage": usage})

    def reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    threading.Thread(target=fake.serve_forever, daemon=True).start()
    yield fake
    fake.shutdown()
    fake.server_close()


def sampler(server: FakeServer, **options: Any) -> APISampler:
    return APISampler("some-model", server.url, max_retries=3, timeout_seconds=5, **options)


def test_text_and_messages_go_to_their_endpoints_in_order(server: FakeServer) -> None:
    client: Sampler = sampler(server)
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    answers = client.complete(["one", chat, "two"], SamplingParams(7, 0.5, seed=11))
    assert answers == ["ONE", "HELLO", "TWO"]
    used = [answer.usage for answer in answers if isinstance(answer, Answer)]
    assert [(one["prompt_tokens"], one["tokens"]) for one in used] == [(3, 2)] * 3
    assert all(one["seconds"] > 0 for one in used)
    sent = {b.get("prompt", "chat"): b for b in server.bodies}
    assert sent["chat"]["messages"] == chat
    assert [sent[k]["seed"] for k in ("one", "chat", "two")] == [11, 12, 13]
    assert sent["one"]["max_tokens"] == 7
    assert sent["one"]["temperature"] == 0.5


def test_outages_are_retried(server: FakeServer) -> None:
    assert sampler(server).complete(["500 429 hi"], PARAMS) == ["500 429 HI"]
    assert len(server.bodies) == 3


def test_what_fails_for_good_does_not_lose_what_arrived(server: FakeServer) -> None:
    with pytest.raises(
        IncompleteError, match=r"2 of 4 requests failed; the first: BadRequestError"
    ) as caught:
        sampler(server).complete(["a", "400 b", "nothing", "d"], PARAMS)
    assert caught.value.completions == ["A", None, None, "D"]
    assert set(caught.value.reasons) == {1, 2}
    assert "gave no text" in caught.value.reasons[2]


def test_nobody_there_is_said(server: FakeServer) -> None:
    client = APISampler("m", "http://127.0.0.1:9/v1", max_retries=0, timeout_seconds=2)
    with pytest.raises(IncompleteError, match="APIConnectionError"):
        client.complete(["a"], PARAMS)


def test_a_budget_is_never_passed(server: FakeServer) -> None:
    budget = Budget(max_requests=3)
    with pytest.raises(IncompleteError, match="all 3 requests of the budget are used") as caught:
        sampler(server, budget=budget).complete([str.upper(c) for c in "abcdef"], PARAMS)
    assert len(server.bodies) == 3
    assert sum(text is not None for text in caught.value.completions) == 3
    assert budget.tokens == 15
    tokens = Budget(max_tokens=10)
    with pytest.raises(IncompleteError, match="10 tokens are used, of a budget of 10"):
        sampler(server, budget=tokens, num_workers=1).complete(["a", "b", "c"], PARAMS)


def test_the_cache_asks_once_also_after_a_failure_and_a_torn_write(
    server: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "cache.jsonl"
    cached = CachedSampler(sampler(server), path, "some-model")
    with pytest.raises(IncompleteError) as caught:
        cached.complete(["a", "400 b", "a"], PARAMS)
    assert caught.value.completions == ["A", None, "A"]
    assert len(server.bodies) == 2
    with open(path, "a") as file:
        file.write('{"key": "torn')
    again = CachedSampler(sampler(server), path, "some-model")
    assert again.complete(["a", "c"], PARAMS) == ["A", "C"]
    assert (again.hits, again.misses) == (1, 1)
    assert CachedSampler(MockSampler([]), path, "some-model").complete(["c", "a"], PARAMS) == ["C", "A"]


def test_another_model_or_other_parameters_are_another_question(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    assert CachedSampler(MockSampler(["1"]), path, "x").complete(["a"], PARAMS) == ["1"]
    assert CachedSampler(MockSampler(["2"]), path, "y").complete(["a"], PARAMS) == ["2"]
    longer = SamplingParams(max_new_tokens=9, temperature=0.0)
    assert CachedSampler(MockSampler(["3"]), path, "x").complete(["a"], longer) == ["3"]


def test_draws_of_one_prompt_stay_different_draws(tmp_path: Path) -> None:
    cached = CachedSampler(MockSampler(["1", "2"]), tmp_path / "cache.jsonl", "x")
    drawn = SamplingParams(max_new_tokens=8, temperature=1.0)
    assert cached.complete(["a", "a"], drawn) == ["1", "2"]
    assert cached.complete(["a", "a"], drawn) == ["1", "2"]
