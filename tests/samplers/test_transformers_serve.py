"""The API as a model against a server that others wrote: `transformers serve` with tieout-base."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tieout import embedded
from tieout.learner import load
from tieout.samplers import SamplingParams
from tieout.samplers.api import APISampler, Ledger
from tieout.samplers.local.sampler import LocalSampler
from tieout.types import Answer, Prompt

pytestmark = pytest.mark.slow
PROMPTS: list[Prompt] = [
    [{"role": "user", "content": f"Repeat this line: {line}"}]
    for line in ("red 12", "sand 7 mill", "a b c d")
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = "from transformers.cli.transformers import main; main()"
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-c", serve, "serve", str(embedded.path("tieout-base")), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 600
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (URLError, OSError):
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def test_it_answers_as_the_model_does_here_and_is_paid_once(url: str, tmp_path: Path) -> None:
    params = SamplingParams(16, temperature=0.0)
    local = LocalSampler(load("tieout-base")).complete(PROMPTS, params)
    name = str(embedded.path("tieout-base"))
    client = APISampler(name, url, api_key="none", ledger=Ledger(tmp_path))
    answers = client.complete(PROMPTS, params)
    assert answers == local
    for one, own in zip(answers, local, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(own, Answer)
        assert one.finish_reason == own.finish_reason
        assert {k: one.usage[k] for k in ("prompt_tokens", "tokens")} == {
            k: own.usage[k] for k in ("prompt_tokens", "tokens")
        }
    again = APISampler(name, url, api_key="none", ledger=Ledger(tmp_path))
    assert again.complete(PROMPTS, params) == local
    assert (again.hits, again.misses) == (3, 0)
