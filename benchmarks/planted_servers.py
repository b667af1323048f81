"""Servers that `faults.py` asks: one that drips, and one whose reply has no end."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from planted import Fault

from tieout.rewards.library.judge import Judge
from tieout.rewards.scoring.attribution import Limits
from tieout.rewards.scoring.reward_identity import reward_identity, servers_of
from tieout.rewards.scoring.runner import Call, score_groups
from tieout.samplers.api.sampler import APISampler
from tieout.samplers.vllm.server import Server
from tieout.storage.runfolder import RunFolder


@contextmanager
def rude(part: bytes, pause: float) -> Iterator[tuple[str, list[int]]]:
    """The address of a server that replies with these bytes again and again, and a list of how many it has sent."""
    sent = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while sent[0] < 400 << 20:
                    sent[0] += self.wfile.write(part)
                    time.sleep(pause)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()


def asked(
    part: bytes, pause: float, seconds: float, ask: Callable[[str, float], str]
) -> Callable[[Path], str]:
    """Refused within the time-out and a few seconds, and before a tenth of the reply was read."""

    def plant(folder: Path) -> str:
        begun = time.monotonic()
        with rude(part, pause) as (url, sent):
            try:
                outcome = ask(url, seconds)
            except Exception:
                if time.monotonic() - begun > seconds + 20 or sent[0] > 60 << 20:
                    return "lost"
                raise
        return outcome

    return plant


def vllm(url: str, seconds: float) -> str:
    server = Server(url, timeout_seconds=seconds, max_retries=0)
    server.ask("/v1/completions", {"prompt": [1], "n": 1, "max_tokens": 4})
    return "silent"


def judge(url: str, seconds: float) -> str:
    client = APISampler("m", f"{url}/v1", "key", max_retries=0, timeout_seconds=seconds)
    call = Call.of_texts(["x"], ["Why?"], {})
    (outcome,) = score_groups(Judge(client, "Brief?"), [call], limits=Limits(retries=0))[0]
    return "silent" if outcome.worth is not None else "refused"


def resumed(model: str) -> Callable[[Path], str]:
    """A run that is resumed with its judge at another port, where this model is asked."""

    def plant(folder: Path) -> str:
        for name, port in (("m", 1), (model, 2)):
            judge = Judge(APISampler(name, f"http://127.0.0.1:{port}/v1", "key"), "Brief?")
            with RunFolder(folder) as run, warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                run.record(reward_identity(judge), servers=servers_of({"reward": judge}))
        return "survived" if any("another address" in str(one.message) for one in said) else "silent"

    return plant


def servers() -> list[Fault]:
    drip, flood = (b" ", 0.05, 0.5), (b" " * (1 << 20), 0.0, 60.0)
    return [
        Fault("vLLM", "a reply a byte at a time", asked(*drip, vllm)),
        Fault("vLLM", "a reply without end", asked(*flood, vllm)),
        Fault("judge", "a reply a byte at a time", asked(*drip, judge)),
        Fault("judge", "a reply without end", asked(*flood, judge)),
        Fault("judge", "another port, when a run is resumed", resumed("m")),
        Fault("judge", "another model, when a run is resumed", resumed("n")),
    ]
