"""`--vllm` draws on the servers it names, watched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_vllm import FakeVLLM
from tieout.cli.train import main
from tieout.errors import StopTraining


def test_training_draws_on_the_server_and_notices_that_it_is_of_another_model(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """The fake server knows nothing of the model: its first draws stop the run, which says who drew them."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"say {i}", "answer": str(i)}) + "\n" for i in range(8)))
    server = FakeVLLM(context=2048)
    out, model = tmp_path / "run", str(tiny_model("llama"))
    given = {"--vllm": server.url, "--model": model, "--data": data, "--reward": "exact", "--out": out}
    method = {"--batch-size": 4, "--group-size": 4, "--max-new-tokens": 6}
    try:
        with pytest.raises(StopTraining, match=f"the sampler at {server.url} and the learner disagree"):
            main(["grpo", *(str(x) for pair in (given | method).items() for x in pair)])
    finally:
        server.stop()
    assert len(server.drawn()) == 4
    assert {body["model"] for body in server.drawn()} != {"tiny"}  # the adapter, not the base
    metrics = json.loads((out / "grpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert metrics["sampler_mismatch"] > 0.1


def test_a_run_is_resumed_on_another_server(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """The second server is refused for what it samples, and not for its address."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"say {i}", "answer": str(i)}) + "\n" for i in range(8)))
    given = {"--model": tiny_model("llama"), "--data": data, "--reward": "exact", "--out": tmp_path / "run"}
    method = {"--batch-size": 4, "--group-size": 4, "--max-new-tokens": 6}
    for _ in range(2):
        server = FakeVLLM(context=2048)
        try:
            with pytest.raises(StopTraining, match=f"the sampler at {server.url} and the learner disagree"):
                main(["grpo", "--vllm", server.url, *(str(x) for p in (given | method).items() for x in p)])
        finally:
            server.stop()
