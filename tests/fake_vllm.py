"""A small server that speaks what our sampler needs of vLLM's API, and misbehaves on demand."""

from __future__ import annotations

import json
import math
import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOGITS = [0.5, -1.0, 2.0, 0.0, 1.0, -0.5, 0.3, 1.7]
"""Of the next token, whatever came before; an adapter turns them around."""
STOP = 1
Misbehave = int | str | Callable[[dict[str, Any]], Any]
"""A status; `drop` the connection, reply with `garbage`; or what to make of the right reply."""


def logprobs(temperature: float = 1.0, adapter: bool = False) -> list[float]:
    """[V] what tokens are drawn with."""
    scaled = [x / temperature for x in (LOGITS[::-1] if adapter else LOGITS)]
    total = math.log(sum(map(math.exp, scaled)))
    return [x - total for x in scaled]


class FakeVLLM:
    """Serves until `stop`; a new one on the same port is the same server started anew."""

    def __init__(
        self,
        mode: str = "processed_logprobs",
        model: str = "tiny",
        port: int = 0,
        max_rank: int = 16,
        context: int = 64,
    ) -> None:
        self.mode, self.model, self.max_rank, self.context = mode, model, max_rank, context
        self.adapters: dict[str, str] = {}
        self.seen: list[tuple[str, dict[str, Any]]] = []
        """Path and body of every request."""
        self.next: list[Misbehave] = []
        """What happens to the next draws."""
        self.dies_after: int | None = None
        """Completion requests until it closes its door."""
        self.gate: threading.Event | None = None
        """Draws wait for it."""
        self.hangs: threading.Event | None = None
        """Everything waits for it."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.handle(self, {})

            def do_POST(self) -> None:
                fake.handle(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def drawn(self) -> list[dict[str, Any]]:
        """Bodies of the requests for draws, without the probes."""
        return [body for path, body in self.seen if path == "/v1/completions" and body["logprobs"] == 0]

    # ---------------------------------------------------------------- the API

    def handle(self, http: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.seen.append((http.path, body))
        if self.hangs:
            self.hangs.wait(10)
        what: Misbehave = 200
        if http.path == "/v1/completions" and body["logprobs"] == 0:
            if self.gate:
                self.gate.wait(10)
            if self.dies_after is not None:
                self.dies_after -= 1
                if self.dies_after < 0:
                    http.close_connection = True
                    return
            what = self.next.pop(0) if self.next else 200
        if what == "drop":
            http.close_connection = True
        elif what == "garbage":
            _send(http, 200, b"<html>a proxy's page</html>")
        elif isinstance(what, int) and what != 200:
            _send(http, what, json.dumps({"error": {"message": f"told to say {what}"}}).encode())
        else:
            status, reply = getattr(self, http.path.rpartition("/")[2])(body)
            if callable(what):
                reply = what(reply)
            _send(http, status, reply.encode() if isinstance(reply, str) else json.dumps(reply).encode())

    def models(self, body: dict[str, Any]) -> tuple[int, Any]:
        base = {"id": self.model, "parent": None, "max_model_len": self.context}
        return 200, {"data": [base, *({"id": n, "parent": self.model} for n in self.adapters)]}

    def load_lora_adapter(self, body: dict[str, Any]) -> tuple[int, Any]:
        folder = Path(body["lora_path"])
        if body["lora_name"] in self.adapters:
            return 400, {"error": {"message": "has already been loaded"}}
        config = json.loads((folder / "adapter_config.json").read_text())
        if config["r"] > self.max_rank:
            return 500, {"error": {"message": f"rank {config['r']} is greater than {self.max_rank}"}}
        assert (folder / "adapter_model.safetensors").exists()
        self.adapters[body["lora_name"]] = body["lora_path"]
        return 200, "Success"

    def unload_lora_adapter(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.adapters.pop(body["lora_name"], None) is None:
            return 404, {"error": {"message": "cannot be found"}}
        return 200, "Success"

    def completions(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["model"] not in (self.model, *self.adapters):
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if len(body["prompt"]) + body["max_tokens"] > self.context:
            return 400, {"error": {"message": "too long"}}
        return 200, {"choices": [self._choice(body, k) for k in range(body["n"])][::-1]}

    def _choice(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        adapter, temperature = body["model"] != self.model, body["temperature"] or 1.0
        drawn_with = logprobs(temperature, adapter)
        generator = random.Random(body["seed"] + index)
        tokens: list[int] = []
        while len(tokens) < body["max_tokens"] and not set(tokens) & set(body["stop_token_ids"]):
            tokens += generator.choices(range(len(LOGITS)), [math.exp(x) for x in drawn_with])
        raw = LOGITS[::-1] if adapter else LOGITS
        told = {
            "processed_logprobs": drawn_with,
            "raw_logprobs": logprobs(1.0, adapter),
            "raw_logits": raw,
            "processed_logits": [x / temperature for x in raw],
            "top_k": [x if x > -1.9 else -9999.0 for x in drawn_with],
        }[self.mode]
        best = sorted(range(len(told)), key=lambda t: -told[t])[: body["logprobs"]]
        return {
            "index": index,
            "token_ids": tokens,
            "finish_reason": "stop" if tokens[-1] in body["stop_token_ids"] else "length",
            "logprobs": {
                "token_logprobs": [told[t] for t in tokens],
                "top_logprobs": [{f"token_id:{t}": told[t] for t in best}] * len(tokens),
            },
        }


def _send(http: BaseHTTPRequestHandler, status: int, data: bytes) -> None:
    http.send_response(status)
    http.send_header("Content-Length", str(len(data)))
    if status == 429:
        http.send_header("Retry-After", "0")
    http.end_headers()
    http.wfile.write(data)
