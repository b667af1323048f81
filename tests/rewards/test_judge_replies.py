"""A judge's service that replies in another shape: its error, never a completion's score; no key in any message."""

from __future__ import annotations

import doctest
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tieout.rewards.library.judge import Judge
from tieout.rewards.scoring import redaction
from tieout.rewards.scoring.attribution import Limits
from tieout.rewards.scoring.runner import Call, score, score_groups
from tieout.samplers import SamplingParams
from tieout.samplers.api import APISampler
from tieout.types import Prompt

KEY = "sk-test-0123456789abcdef"
QUICK = Limits(retries=0)
BODIES = {
    "HTML": "<html>Welcome</html>",
    "null": "null",
    "a list": "[]",
    "no choices": "{}",
    "null choices": '{"choices": null}',
    "an empty choice": '{"choices": [{}]}',
    "a message of text": '{"choices": [{"message": "5", "finish_reason": "stop"}]}',
    "null content": '{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
    "usage in words": '{"choices": [{"message": {"content": "5"}, "finish_reason": "stop"}], "usage": "many"}',
}


class Service(BaseHTTPRequestHandler):
    body, status = "{}", 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = self.body.replace("HEADER", self.headers["Authorization"]).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def judge() -> Iterator[Judge]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield Judge(APISampler("m", url, KEY, max_retries=0), "Is it brief?")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", BODIES)
def test_a_reply_of_another_shape_is_no_score_of_the_completion(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Service, "body", BODIES[kind])
    calls = [Call.of_texts(["one", "two"], ["Why?"] * 2, {})]
    for outcome in score_groups(judge, calls, limits=QUICK)[0]:
        assert outcome.status == "errored"
        assert outcome.cause in ("infrastructure", "reward")
        assert outcome.worth is None


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_an_error_that_echoes_the_key_is_told_without_it(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    body = json.dumps({"error": {"message": "cannot parse header Authorization: HEADER"}})
    monkeypatch.setattr(Service, "body", body)
    monkeypatch.setattr(Service, "status", status)
    (outcome,) = score_groups(judge, [Call.of_texts(["one"], ["Why?"], {})], limits=QUICK)[0]
    assert outcome.worth is None
    assert KEY not in outcome.reason
    assert KEY[3:] not in outcome.reason


class Odd:
    """A client that meets something it does not know."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> Any:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


@pytest.mark.parametrize(
    "reply", [AttributeError("'NoneType' object has no attribute 'content'"), TypeError("x"), [], [None], [5]]
)
def test_a_client_that_breaks_is_the_services_error(reply: Any) -> None:
    call = Call.of_texts(["one"], ["Why?"], {})
    (outcome,) = score_groups(Judge(Odd(reply), "Is it brief?"), [call], limits=QUICK)[0]
    assert (outcome.status, outcome.cause, outcome.worth) == ("errored", "infrastructure", None)


def test_any_rewards_error_is_told_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hunter2hunter2")

    def careless(completions: list[str]) -> list[float]:
        raise ValueError(
            "sent Authorization: Bearer abcdef123 with key hunter2hunter2 to http://me:pass@host/"
        )

    reason = score(careless, ["x"], ["Why?"], {})[0].reason
    assert "hunter2" not in reason
    assert "abcdef123" not in reason
    assert "me:pass" not in reason


def test_doctests() -> None:
    assert doctest.testmod(redaction).attempted
    assert not doctest.testmod(redaction).failed
