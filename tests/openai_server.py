"""OpenAI-compatible servers on this machine: one that misbehaves as its prompt asks, and one that runs a model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answerer = Callable[[dict[str, Any]], tuple[str, str, int, int]]
"""Body of a request -> text, finish reason, tokens of the prompt, tokens of the completion."""


def capitals(body: dict[str, Any]) -> tuple[str, str, int, int]:
    """The prompt in capitals; sampled, with the seed after it."""
    text = asked(body).upper()
    return (f"{text} {body['seed']}" if body["temperature"] else text), "stop", 3, 2


def asked(body: dict[str, Any]) -> str:
    """The last message, or the prompt."""
    text: str = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    return text


class Never(dict[str, int]):
    """Of planned failures: a number in a prompt is no status: `server.failed = Never()`."""

    def get(self, key: str, default: Any = None) -> int:
        return 99


class OpenAIServer(ThreadingHTTPServer):
    """Counts requests. A prompt `500 500 hi` fails twice with that status first; words such as `html` misbehave."""

    def __init__(self, answerer: Answerer = capitals) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answerer = answerer
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.failed: dict[str, int] = {}
        self.lock = threading.Lock()
        self.retry_after = {"retry-after-ms": "1"}
        self.closing = threading.Event()
        self.version = "2026"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> OpenAIServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are expected."""


class Handler(BaseHTTPRequestHandler):
    server: OpenAIServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = asked(body)
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.times.append(time.monotonic())
            failed = self.server.failed.get(prompt, 0)
            self.server.failed[prompt] = failed + 1
        planned = [word for word in prompt.split() if word.isdigit()]
        key = self.headers.get("Authorization", "")
        if failed < len(planned):
            return self.reply(int(planned[failed]), {"error": {"message": f"planned, for {key}"}})
        if "renamed" in prompt and "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return self.reply(400, {"error": {"message": said, "param": "max_tokens"}})
        text, reason, prompt_tokens, tokens = self.server.answerer(body)
        content = (
            {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        )
        value: dict[str, Any] = {
            "id": "x", "object": "x", "created": 0, "model": f"{body['model']}-{self.server.version}",
            "choices": [{"index": 0, "finish_reason": reason, **content}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens,
                      "total_tokens": prompt_tokens + tokens},
        }  # fmt: skip
        for word, change in MISBEHAVIOUR.items():
            if word in prompt.split():
                value = change(value, key)
        if "html" in prompt.split():
            return self.send(200, b"<html><body>Sign in to the network</body></html>", "text/html")
        if "hang" in prompt.split():
            self.server.closing.wait(20)
            return None
        if "drip" in prompt.split():
            return self.drip(json.dumps(value).encode())
        if "cut" in prompt.split():
            return self.send(200, json.dumps(value).encode()[:-20], declared=1000)
        return self.reply(200, value)

    def drip(self, data: bytes) -> None:
        self.head(200, len(data), "application/json")
        for byte in data:
            if self.server.closing.wait(0.1):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def reply(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode())

    def send(self, status: int, data: bytes, kind: str = "application/json", declared: int = 0) -> None:
        self.head(status, declared or len(data), kind)
        self.wfile.write(data)

    def head(self, status: int, size: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        if status != 200:
            for name, value in self.server.retry_after.items():
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _choice(**fields: Any) -> Callable[[dict[str, Any], str], dict[str, Any]]:
    return lambda value, key: {**value, "choices": [{**value["choices"][0], **fields}]}


MISBEHAVIOUR: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "nothing": _choice(text=None),
    "null": lambda value, key: {**value, "choices": None},
    "empty": lambda value, key: {**value, "choices": []},
    "twice": lambda value, key: {**value, "choices": value["choices"] * 2},
    "list": lambda value, key: [value],
    "filtered": _choice(finish_reason="content_filter"),
    "unended": _choice(finish_reason=None),
    "reasoned": _choice(finish_reason="length", text=None),
    "number": _choice(text=7),
    "sorry": lambda value, key: {"error": {"message": "overloaded"}},
    "miscounted": lambda value, key: {**value, "usage": {"prompt_tokens": "3", "completion_tokens": "2"}},
    "uncounted": lambda value, key: {k: v for k, v in value.items() if k != "usage"},
    "echo": lambda value, key: {**value, "headers": key},
}
"""Word in a prompt -> what becomes of the reply."""


def model_answers(name: str = "tieout-base") -> Answerer:
    """Answers of a model that this process runs, one request after the other, greedy or seeded."""
    from tieout.learner import load
    from tieout.samplers import SamplingParams
    from tieout.samplers.local.sampler import LocalSampler

    sampler, lock = LocalSampler(load(name)), threading.Lock()

    def answer(body: dict[str, Any]) -> tuple[str, str, int, int]:
        params = SamplingParams(body["max_tokens"], body["temperature"], body["top_p"], body["seed"])
        with lock:
            prompt = sampler.chat.prompt(body.get("messages") or body["prompt"])
            ((completion,),) = sampler.sample([prompt], 1, params)
        return completion.text, completion.finish_reason, len(prompt), len(completion.tokens)

    return answer
