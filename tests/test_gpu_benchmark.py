"""The benchmark that is written for a GPU: its path runs without one, and its check of the attention can fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.learner.prefix import attention

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from attention_parity import check

    return check


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`gpu("--device", "cpu")`: the benchmark's command line."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
        gpu.main()

    return call


def test_the_whole_benchmark_runs_small_on_a_cpu(tmp_path: Path, gpu: Callable[..., None]) -> None:
    folders = ["--out", str(tmp_path / "gpu"), "--folder", str(tmp_path)]
    gpu("--device", "cpu", "--rows", "tiny", "--rounds", "1", *folders)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert all(c["right"] for c in found["parity"])
    (row,) = found["rows"]
    assert row["path"] == "merge"
    assert row["sampling_backend"] == "lean"
    assert row["shared_prefix"] == 1
    assert row["logprob_difference"] < 1e-5
    assert row["gradient_cosine"] > 0.99999  # tieout's own loss against the one written out in plain_peer.py
    assert set(row["update"]) == {"tieout", "repeated", "plain"}
    assert set(row["sample"]) == {"tieout", "plain"}
    assert "| tiny | 160, 8, 4 x 2 |" in (tmp_path / "gpu.md").read_text()


def test_without_a_gpu_it_says_so(gpu: Callable[..., None]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="no CUDA device was found; --device cpu --rows tiny"):
        gpu()


def test_the_attention_is_right_here(check: Any) -> None:
    assert check("cpu", (4, 2, 64), None)["right"]


def test_a_prompt_that_completions_do_not_see_whole_is_found(
    check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cross = attention._cross
    monkeypatch.setattr(attention, "_cross", lambda *of: [(a, b, p, end - 1) for a, b, p, end in cross(*of)])
    found = check("cpu", (4, 2, 64), None)
    assert found["isolated"]
    assert not found["right"]


def test_completions_that_see_each_other_are_found(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_own", lambda spans: [(span.start, span.end) for span in spans])
    found = check("cpu", (4, 2, 64), None)
    assert not found["isolated"]
    assert not found["right"]
