"""The precision of a base, by what is asked and by the processor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tieout.cli.run import run_recipe
from tieout.errors import InputError
from tieout.learner.models import loading, precision
from tieout.learner.models.adapters import AdapterConfig
from tieout.learner.models.loading import load, precision_of
from tieout.methods import SFT
from tieout.training.spec import TrainSpec, identity


def processor(
    patch: pytest.MonkeyPatch, capability: str = "AVX512", bf16: bool = True, amx: bool = False
) -> None:
    """Pretend to be on another processor."""
    for limit in ("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA"):
        patch.delenv(limit, raising=False)
    patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


def test_auto_takes_bf16_where_it_is_native_and_the_base_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch)
    assert precision.precision("auto", "cpu", 135_000_000).name == "bf16"
    assert precision.precision("auto", "cpu", 29_000_000).name == "fp32"
    assert precision.precision("auto", "cpu", 135_000_000, four_bits=True).name == "fp32"
    assert precision.precision("auto", "cuda:1", 1_000_000).name == "bf16"
    assert precision.precision("fp32", "cuda", 135_000_000).dtype is torch.float32
    assert precision.precision("bf16", "cpu", 1_000_000).dtype is torch.bfloat16
    assert "AVX512-BF16; 135 million" in str(precision.precision("auto", "cpu", 135_000_000))


@pytest.mark.parametrize(
    ("given", "limit", "native"),
    [
        ({}, None, "AVX512-BF16"),
        ({"amx": True}, None, "AMX"),
        ({"amx": True}, "AVX512_CORE_BF16", "AVX512-BF16"),
        ({"bf16": False}, None, None),
        ({"capability": "AVX2"}, None, None),
        ({}, "AVX2", None),
        ({}, "AVX512_CORE", None),
        ({}, "AVX512_CORE_BF16", "AVX512-BF16"),
    ],
)
def test_what_is_native(
    given: dict[str, object], limit: str | None, native: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, **given)  # type: ignore[arg-type]
    if limit:
        monkeypatch.setenv("DNNL_MAX_CPU_ISA", limit)
    assert precision.native_bf16() == native


def test_another_name_is_refused() -> None:
    with pytest.raises(InputError, match="dtype is 'bfloat16'; expected auto, fp32 or bf16"):
        load("tieout-base", dtype="bfloat16")


def test_the_embedded_model_stays_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch)
    assert precision_of("tieout-base", "auto", "cpu").name == "fp32"
    assert load("tieout-base", device="cpu").causal.dtype is torch.float32
    monkeypatch.setattr(loading, "parameters_of", lambda name: 135_000_000)
    assert precision_of("tieout-base", "auto", "cpu").name == "bf16"


def test_adapters_stay_in_fp32() -> None:
    model = load("tieout-base", AdapterConfig(), dtype="bf16", device="cpu")
    assert model.causal.dtype is torch.bfloat16
    assert {p.dtype for p in model.trained().values()} == {torch.float32}


def test_the_precision_belongs_to_the_run() -> None:
    assert identity(TrainSpec(SFT(), dtype="fp32")) != identity(TrainSpec(SFT(), dtype="bf16"))


def test_a_run_says_what_was_taken_and_is_not_continued_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"What is {i} + 1?", "completion": str(i + 1), "answer": str(i + 1)}) + "\n"
            for i in range(40)
        )
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data: {{train: {tmp_path}/rows.jsonl}}\nreward: exact\nstages:\n  - train: sft\n    batch_size: 8\n"
    )
    run_recipe(recipe, tmp_path / "run", settings=("placement.device=cpu", "dtype=bf16"))
    assert "bf16 (as asked)" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["precision"] == "bf16 (as asked)"
    assert kept["identity"]["dtype"] == "bf16"
    with pytest.raises(Exception, match="dtype"):
        run_recipe(recipe, tmp_path / "run", settings=("placement.device=cpu",))
