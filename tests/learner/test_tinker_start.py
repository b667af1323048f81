"""What is examined of a training server before the first step: each way in which it could be another than it should."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fake_tinker import FakeTinker, FakeTraining
from tieout.errors import InputError
from tieout.learner.tinker import connection as room
from tieout.learner.tinker.archive import unpack
from tieout.learner.tinker.connection import Connection, ServerLost, check_address, download
from tieout.learner.tinker.reduction import Reduction, ask
from tieout.learner.tinker.served_model import served_model
from tieout.learner.tinker.start_check import Adapter, examine
from tieout.learner.tinker.step_check import check_step

pytest.importorskip("tinker", reason="the client of training servers: pip install -e '.[dev]'")


def examined(folder: Path, server: FakeTinker, patch: pytest.MonkeyPatch, **given: Any) -> Any:
    patch.setattr(room, "download", server.archive)
    connection = Connection("http://127.0.0.1:1", server, seconds=20.0)
    return examine(connection, served_model(str(folder)), Adapter(str(folder), 4, 32.0, 0), **given)


def test_what_is_found_is_said(tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model("llama")
    server = FakeTinker(folder, "tokens")
    found = examined(folder, server, monkeypatch)
    assert found.reduction == Reduction("mean of tokens")
    assert found.apart < 1e-5
    assert "mean of tokens" in found.said
    assert "nats from the base here" in found.said
    assert server.models == 1, "one adapter is enough"
    silent = FakeTinker(folder, "sum")
    silent.norms = False
    alone = examined(folder, silent, monkeypatch, local=False)
    assert (alone.reduction, alone.apart) == (Reduction("sum"), None)
    assert "tells no norms of gradients" in alone.said
    assert "norms" not in found.said


def test_a_server_that_is_another_is_refused(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another base, another scale, 16 bits, an optimizer that goes down, an adapter that acts otherwise here."""
    folder = tiny_model("llama")
    wrong = FakeTinker(tiny_model("qwen3"))
    wrong.names = [str(folder)]
    with pytest.raises(InputError, match=r"nats per token from those of the model here.*another base"):
        examined(folder, wrong, monkeypatch)

    scaled = FakeTinker(folder)
    scaled.alpha = 16.0
    with pytest.raises(
        InputError, match=r"adapters of alpha 16, and 32 was asked for: give --adapter\.alpha 16"
    ):
        examined(folder, scaled, monkeypatch)

    coarse = FakeTinker(folder)
    coarse.dtype = torch.bfloat16
    with pytest.raises(InputError, match=r"keeps its adapters in torch\.bfloat16, and float32 is needed"):
        examined(folder, coarse, monkeypatch)
    assert "optim_step" not in coarse.calls, "one step there would give NaN, and spoil every adapter"

    with monkeypatch.context() as patch:
        step = FakeTraining.optim_step

        def down(self: FakeTraining, adam: Any) -> Any:
            return step(self, adam.model_copy(update={"learning_rate": -adam.learning_rate}))

        patch.setattr(FakeTraining, "optim_step", down)
        with pytest.raises(InputError, match="should raise log-probabilities"):
            examined(folder, FakeTinker(folder), monkeypatch)

    other = FakeTinker(folder)
    honest = other.logprobs

    def scaled_otherwise(weights: Any, *given: Any) -> torch.Tensor:
        doubled = replace(
            weights, values={n: x * (2 if "lora_B" in n else 1) for n, x in weights.values.items()}
        )
        return honest(doubled, *given)

    other.logprobs = scaled_otherwise  # type: ignore[method-assign]
    with pytest.raises(
        InputError, match="the adapter is scaled otherwise there, or trains more than is fetched"
    ):
        examined(folder, other, monkeypatch)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"max_norm": 1.0}, r"by 1\.000 of the first, and by 0\.745 is right \(1: gradients are scaled down"),
        ({"max_norm": 1e5}, r"of the first, and by 0\.745 is right"),
        (
            {"beta2": 0.95},
            r"by 0\.736 of the first, and by 0\.745 is right\. Asked for are betas 0\.9 and 0\.999",
        ),
        (
            {"decay": 0.01},
            r"its weight decay is 0\.01, and 0 is asked for: give --learner\.weight-decay 0\.01",
        ),
        ({"eps": 1e3}, "the first step of Adam moves weights by .* of the learning rate there"),
    ],
)
@pytest.mark.parametrize("norms", [True, False])
def test_a_server_with_an_optimizer_of_its_own_is_refused(
    tiny_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    own: dict[str, float],
    said: str,
    norms: bool,
) -> None:
    """The run would record a step that was never made: gradients scaled down, other moments, another decay."""
    folder = tiny_model("llama")
    server = FakeTinker(folder)
    server.own, server.norms = own, norms
    with pytest.raises(InputError, match=said):
        examined(folder, server, monkeypatch, local=False)
    assert "save_state" not in server.calls


@pytest.mark.parametrize("left", [0.5, 1.5])
def test_a_gradient_that_the_first_step_changed_is_no_reason_to_refuse(left: float) -> None:
    """It is 6% smaller after one step of an adapter of SmolLM2-135M, and smaller still where there are more weights."""
    weights = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = iter([1.0, left])
    optimizer = torch.optim.AdamW([weights], lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)

    def step(factor: float) -> None:
        weights.grad = torch.full_like(weights, factor * next(gradients))
        optimizer.step()

    check_step(weights.clone, step, 1e-4, 0.01)


def test_a_servers_own_optimizer_may_be_the_one_that_is_asked_for(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not take the API's fields, unless the reduction has to be read off steps of other fields."""
    folder = tiny_model("llama")
    server = FakeTinker(folder, "rows")
    server.own = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.01}
    found = examined(folder, server, monkeypatch, local=False, weight_decay=0.01)
    assert found.reduction == Reduction("mean of rows")
    server.norms = False
    with pytest.raises(InputError, match="whether it sums or averages cannot be told"):
        examined(folder, server, monkeypatch, local=False, weight_decay=0.01)


def test_the_reduction_is_read_off_four_norms() -> None:
    """Norms of a server's own arithmetic, not of ours: a token's gradient has norm 6 before anything is divided."""
    servers: dict[str, Callable[[list[int]], float]] = {
        "sum": lambda rows: 6.0,
        "mean of rows": lambda rows: 6.0 / len(rows),
        "mean of row means": lambda rows: 6.0 / rows[0] / len(rows),
        "mean of tokens": lambda rows: 6.0 / sum(rows),
    }
    for kind, server in servers.items():
        assert ask(lambda rows, apart, server=server: server(rows)).kind == kind  # type: ignore[misc]
    with pytest.raises(InputError, match="no sum and no mean that is known"):
        ask(lambda rows, apart: 6.0 / sum(rows) ** 2)
    with pytest.raises(InputError, match="each must be above 0"):
        ask(lambda rows, apart: 0.0)


def test_archives_of_anything_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerLost, match="cannot be read"):
        unpack(b"no archive", tmp_path, "base")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("../../escaped.py", "adapter_config.json"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(ServerLost, match=r"found adapter_config\.json"):
        unpack(buffer.getvalue(), tmp_path, "base")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="expected an http address"):
        download("file:///etc/passwd", 1.0)


def test_addresses_hold_no_password() -> None:
    for url, said in {
        "127.0.0.1:8000": "expected the address of a server",
        "http://me:secret@127.0.0.1:8000": "the key as TINKER_API_KEY",
    }.items():
        with pytest.raises(InputError, match=said) as found:
            check_address(url)
        assert "secret" not in str(found.value)
