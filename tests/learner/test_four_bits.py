"""QLoRA: a base in 4 bits computes right on this processor, or is refused when it is loaded."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import flat, random_groups
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.models.adapters import tuner_layers
from tieout.learner.models.bases import Bases
from tieout.learner.models.four_bits import dequantised, four_bits, prepare_four_bits
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.types import Group

ModelFolder = Callable[[str], Path]
QLORA = AdapterConfig(method="qlora", rank=4)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_qlora_says_what_it_needs(tiny_model: ModelFolder) -> None:
    with pytest.raises(ValueError, match=r"needs bitsandbytes, which is not installed: `pip install"):
        load(str(tiny_model("llama")), AdapterConfig(method="qlora"))


def test_qlora_trains_beside_four_bits_and_samples_from_what_it_trains(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    config, folder = AdapterConfig(method="qlora", rank=4), str(tiny_model("llama"))
    learner = Learner(load(folder, config), 1e-2)
    layer = tuner_layers(learner.model.network)[0]
    assert isinstance(layer.get_base_layer(), bitsandbytes.nn.Linear4bit)
    stored = layer.get_base_layer().weight.clone()
    full = load(folder, AdapterConfig(rank=4))
    groups = random_groups([(9, [4, 7]), (5, [6])], seed=1)
    assert not torch.allclose(
        flat(learner.logprobs(groups)), flat(Learner(full, 1e-2).logprobs(groups)), atol=1e-4
    )

    before = flat(learner.logprobs(groups))
    losses = [learner.update(groups, lambda o, b: (b.token_mean(-o.logprobs), {}))["loss"] for _ in range(8)]
    assert losses[-1] < losses[0] - 0.05
    assert torch.equal(layer.get_base_layer().weight, stored)
    torch.testing.assert_close(flat(learner.reference_logprobs(groups)), before, rtol=0, atol=1e-5)

    (sampled,) = LocalSampler(learner.model).sample(
        [groups[0].prompt], 3, SamplingParams(max_new_tokens=6, seed=1)
    )
    measured = learner.logprobs([Group(groups[0].prompt, sampled)])
    torch.testing.assert_close(flat(measured), flat([[c.logprobs for c in sampled]]), rtol=0, atol=1e-4)

    save_adapter(learner, tmp_path / "adapter")
    again = Learner(load(folder, AdapterConfig(method="qlora"), start=tmp_path / "adapter"), 1e-2)
    torch.testing.assert_close(
        flat(again.logprobs(groups)), flat(learner.logprobs(groups)), rtol=0, atol=1e-5
    )


def test_qlora_is_refused_where_it_has_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieout.learner.models.four_bits.find_spec", lambda name: object())
    with pytest.raises(ValueError, match=r"needs a CUDA device or a CPU and this run is on 'mps'"):
        four_bits(torch.float32, "mps")
    config = four_bits(torch.bfloat16, "cuda:0")
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")


def test_a_shared_base_in_four_bits_gives_every_model_the_numbers_of_its_own(tiny_model: ModelFolder) -> None:
    pytest.importorskip("bitsandbytes")
    name, bases, groups = str(tiny_model("llama")), Bases(), random_groups()
    first = Learner(load(name, QLORA, seed=3, bases=bases), 1e-2)
    network = first.model.causal
    first.update(groups, lambda o, b: (b.token_mean(-o.logprobs), {}))
    second = Learner(load(name, QLORA, seed=3, bases=bases), 1e-2)
    assert second.model.causal is network
    assert second.logprobs(groups) == Learner(load(name, QLORA, seed=3), 1e-2).logprobs(groups)


def test_the_packed_kernel_of_some_processors_is_off(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor with AVX512-BF16 it fails on a layer 32 wide, and stops the gradient of a wider one."""
    modules = pytest.importorskip("bitsandbytes.nn.modules")
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    learner = Learner(load(str(tiny_model("llama")), QLORA), 1e-2)
    layers = [layer.get_base_layer() for layer in tuner_layers(learner.model.network)]
    learner.logprobs(random_groups())
    assert layers
    assert not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers)
    layers[0].weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(
        ValueError, match=r"packed the weights of 'model.layers.0.self_attn.q_proj.*load .* again"
    ):
        prepare_four_bits(learner.model.causal, "used")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda y: y.view(-1, 0), r"fails with RuntimeError: .*shape"),
        (lambda y: y * 1.05, r"differs by \d.*% from the stored weights"),
        (lambda y: torch.cat([y[..., :-1], 0 * y[..., -1:]], -1), r"differs by .*%"),
        (lambda y: y.detach(), r"fails with RuntimeError: .*grad"),
    ],
    ids=["has no kernel", "rounds", "skips the last block", "stops the gradient"],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_that_the_machine_computes_wrongly_is_computed_from_its_codes(
    monkeypatch: pytest.MonkeyPatch, spoil: Any, problem: str, bias: bool
) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(128, 96, bias, torch.float32, quant_type="nf4")
    layer.weight = layer.weight.to("cpu")
    network = torch.nn.ModuleDict({"up": layer.requires_grad_(False).eval()})
    network.dtype, network.device = torch.float32, torch.device("cpu")
    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "support_avx512bf16_for_cpu", False, raising=False)
    right = bitsandbytes.nn.Linear4bit.forward
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(2)).requires_grad_()
    layer.support_avx512bf16_for_cpu = False
    expected = right(layer, x)
    (gradient,) = torch.autograd.grad(expected.pow(2).sum(), x)

    prepare_four_bits(network, "sound")  # type: ignore[arg-type]
    assert "forward" not in vars(layer)
    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", lambda self, x: spoil(right(self, x)))
    with pytest.warns(
        UserWarning, match=rf"spoiled \(128 x 96\) are dequantised by torch.* for this cpu {problem}"
    ):
        prepare_four_bits(network, "spoiled")  # type: ignore[arg-type]
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(torch.autograd.grad(layer(x).pow(2).sum(), x)[0], gradient)


@pytest.mark.parametrize("shape", [(96, 128), (96, 40), (33, 31), (7, 5)])
@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("rows", [None, 20])
def test_dequantised_weights_are_near_what_was_quantised(
    shape: tuple[int, int], twice: bool, rows: int | None
) -> None:
    """Within half the widest gap between the 16 codes, and the rounding of the scales."""
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    codes, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=twice)
    stored: Any = torch.nn.Parameter(codes, requires_grad=False)
    stored.quant_state = state
    blocks = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    largest = blocks.abs().amax(1).repeat_interleave(64)[: weight.numel()].view(shape)
    error = (dequantised(stored, rows) - weight[-(rows or shape[0]) :]).abs()
    assert (error <= 0.17 * largest[-(rows or shape[0]) :]).all()


def test_bitsandbytes_is_imported_only_for_four_bits(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """Its import warns of kernels that 4-bit layers alone would use."""
    code = """
import sys
from pathlib import Path
model = sys.argv[1]
sys.argv[1:] = ["train", "dpo", "--help"]
from tieout.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
import tieout.samplers.local.sampler, tieout.trl
for method in ("lora", "dora"):
    learner = Learner(load(model, AdapterConfig(method=method)))
    save_adapter(learner, Path(method))
    with load(model, AdapterConfig(), start=Path(method)).as_reference():
        pass
assert sys.modules.get("bitsandbytes") is None, "bitsandbytes was imported"
"""
    command = [sys.executable, "-c", code, str(tiny_model("llama"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "kernels" not in done.stderr


def test_the_warning_about_a_kernel_that_is_off_is_not_printed(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("bitsandbytes")
    four_bits(torch.float32, "cpu")
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "no module")
    logger.warning("another one")
    assert [record.getMessage() for record in caplog.records] == ["another one"]


def test_peft_is_imported_in_one_place() -> None:
    """Elsewhere it would bring bitsandbytes with it."""
    package = Path(__file__).parents[2] / "src" / "tieout"
    lines = {
        str(path.relative_to(package)): line
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.split()[:2] in (["from", "peft"], ["import", "peft"]) or line.strip().startswith("from peft.")
    }
    assert set(lines) <= {"learner/models/peft.py", "shipping/card.py"}, lines
