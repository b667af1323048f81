"""Two processes do what one does: the same gradients, the same weights, the same decisions."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from random_groups import relative
from ranks import CASES, outcome
from tieout.learner.parallel.processes import Processes, join
from tieout.storage.machine import launched

ROOT = Path(__file__).resolve().parents[2]
ModelFolder = Callable[[str], Path]

# ---------------------------------------------------------------- who does what


class Pretended(Processes):
    """A rank of several, for what needs no talking."""


@given(st.lists(st.integers(1, 500), max_size=20), st.integers(1, 5))
def test_every_piece_of_work_has_one_rank_and_none_has_much_more_than_another(
    sizes: list[int], count: int
) -> None:
    shares = [Pretended(rank, count).share(sizes) for rank in range(count)]
    assert Counter(i for share in shares for i in share) == Counter(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(sizes[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


@given(st.integers(0, 50), st.integers(1, 7))
def test_stretches_lie_end_to_end_and_differ_by_one_at_most(total: int, count: int) -> None:
    parts = [Pretended(rank, count).stretch(total) for rank in range(count)]
    assert [i for start, end in parts for i in range(start, end)] == list(range(total))
    lengths = [end - start for start, end in parts]
    assert max(lengths) - min(lengths) <= 1


def test_one_process_alone_talks_to_nobody() -> None:
    one = Processes()
    assert one.leads
    assert one.gather({"a": 1}) == [{"a": 1}]
    assert one.together(lambda: 3) == [3]
    assert one.first(lambda: Path("x")) == Path("x")
    assert one.place(["a", "b"], [0, 1], 2) == ["a", "b"]
    parameter = torch.nn.Parameter(torch.zeros(2))
    one.sum_gradients([parameter])
    assert parameter.grad is None
    one.agree("whatever", "it")
    with pytest.raises(OSError, match="full"):
        one.first(lambda: (_ for _ in ()).throw(OSError("full")))


def test_accelerate_on_the_cpu_without_mpi_starts_one_process_and_we_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert launched() == (0, 1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.warns(UserWarning, match=r"starts only one .*cpu\.yaml"):
        assert join.__wrapped__().count == 1
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched() == (3, 4)


# ---------------------------------------------------------------- two of them


@pytest.fixture(scope="module")
def two(tiny_model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which two launched processes wrote what they did."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(ROOT / "recipes" / "accelerate" / "cpu.yaml")]
    command += [str(ROOT / "tests" / "ranks.py"), str(tiny_model("llama")), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return out


def found(two: Path, rank: int) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((two / f"found-{rank}.json").read_text())
    return result


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradients_and_the_weights_of_one(
    two: Path, tiny_model: ModelFolder, case: str
) -> None:
    assert [found(two, rank)["count"] for rank in (0, 1)] == [2, 2]
    alone, steps = outcome(tiny_model("llama"), case)
    first, second = (load_file(two / f"{case}-{rank}.safetensors") for rank in (0, 1))
    assert relative(first["gradient"], alone["gradient"]) < 1e-5
    assert alone["gradient"].abs().max() > 0
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name]), name  # ranks agree to the last bit
        assert (first[name] - weight).abs().max() < 2e-5, name
    assert any(name.startswith("eval/") for name in steps[-1])
    for ours, theirs in zip(steps, found(two, 0)["metrics"][case], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"token_ratio", "shared_prefix"}:  # what was fed depends on who has what
            value = ours[name]
            assert theirs[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.timeout(900)
def test_a_gradient_that_is_not_finite_on_one_rank_is_applied_on_none(two: Path) -> None:
    for rank in (0, 1):
        assert found(two, rank)["poisoned"] == [True, 1.0, True, True]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "said"), [("signal", "KeyboardInterrupt: "), ("monitor", "StopTraining: rank 1 has seen enough")]
)
def test_what_stops_one_rank_stops_all_and_the_run_goes_on_as_if_unbroken(
    two: Path, how: str, said: str
) -> None:
    for rank in (0, 1):
        assert found(two, rank)[how] == [said, 2, True]


@pytest.mark.timeout(900)
def test_an_error_of_one_rank_is_raised_on_all_in_its_words(two: Path) -> None:
    assert found(two, 0)["failed"] == ["PeerError", "rank 1: OSError: the disk of rank 1 is full"]
    assert found(two, 1)["failed"] == ["OSError", "the disk of rank 1 is full"]
    for rank in (0, 1):
        assert "the ranks disagree about the weights: [0, 1]" in found(two, rank)["drifted"]


@pytest.mark.timeout(900)
def test_no_thread_of_the_backend_holds_a_tensor_when_a_collective_returns(two: Path) -> None:
    assert [found(two, rank)["held"] for rank in (0, 1)] == [0, 0]


def test_what_is_gathered_arrives_whole(two: Path) -> None:
    for rank in (0, 1):
        assert found(two, rank)["sums"] == {"a": 2.0, "only 0": 2.0, "only 1": 2.0}
        for values in found(two, rank)["bits"]:
            assert values == [0.1, 1e-320, math.inf, "é\ud800"]
