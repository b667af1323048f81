"""LoRA over a base in 16 bits: what is smaller than the base's rounding is kept."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from tieout.learner.models.loading import load
from tieout.learner.models.sixteen_bits import OnceRounded, exact_magnitudes, folded, round_once

SIXTEEN = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
KINDS = pytest.mark.parametrize(
    ("dora", "turned"),
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["lora", "dora", "lora on Conv1D", "dora on Conv1D"],
)


def _network(
    dtype: torch.dtype, dropout: float = 0.0, dora: bool = False, turned: bool = False, stir: float = 3e-4
) -> nn.Module:
    """One layer, of GPT-2's kind if turned, whose adapter's part is far smaller than the base's output."""
    torch.manual_seed(0)
    base = nn.Sequential(Conv1D(80, 96) if turned else nn.Linear(96, 80))
    nn.init.normal_(base[0].weight, std=0.06)
    nn.init.normal_(base[0].bias, std=0.06)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["0"], lora_dropout=dropout, use_dora=dora, fan_in_fan_out=turned
    )
    peft = get_peft_model(base.to(dtype), config)
    layer = _layer(peft)
    torch.nn.init.normal_(layer.lora_B["default"].weight, std=stir)
    if dora:
        nn.init.zeros_(layer.lora_B["default"].weight)
        exact_magnitudes(peft, "default")
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=stir)
        magnitude = layer.lora_magnitude_vector["default"].weight
        magnitude.data *= 1 + stir * torch.randn_like(magnitude)
    return peft


def _layer(network: nn.Module) -> Linear:
    return next(m for m in network.modules() if isinstance(m, Linear))


def _kept(found: Tensor, without: Tensor, exact: Tensor) -> float:
    """The share of the adapter's part that is in `found`, by least squares; 1 if all of it."""
    part = exact - without
    return ((found.float() - without) * part).sum().item() / part.square().sum().item()


@KINDS
def test_what_is_below_the_rounding_of_the_base_is_kept(dora: bool, turned: bool) -> None:
    network = _network(torch.bfloat16, dora=dora, turned=turned)
    x = torch.randn(4000, 96).to(torch.bfloat16)
    whole = copy.deepcopy(network).float()  # PEFT's own layer, in fp32
    with torch.no_grad():
        exact = whole(x.float())
        without = _layer(whole).get_base_layer()(x.float())
        rounded_twice = network(x)
        round_once(network)
        once = network(x)
    assert isinstance(_layer(network), OnceRounded)
    assert abs(_kept(once, without, exact) - 1) < 0.05
    assert abs(_kept(rounded_twice, without, exact) - 1) > 0.1, "PEFT keeps it too: this test shows nothing"
    assert (once.float() - exact).abs().max() <= exact.abs().max() * 2**-8


@KINDS
def test_what_is_below_the_rounding_of_a_weight_is_folded_in(dora: bool, turned: bool) -> None:
    network = _network(torch.bfloat16, dora=dora, turned=turned, stir=1e-4)
    whole, twice = copy.deepcopy(network).float(), copy.deepcopy(network)
    round_once(network)
    weights = []
    for one in (whole, network, twice):
        without = _layer(one).get_base_layer().weight.detach().float().clone()
        _layer(one).merge(adapter_names=["default"])
        weights.append(_layer(one).get_base_layer().weight.detach().float())
    exact, once, rounded = weights
    assert abs(_kept(once, without, exact) - 1) < 0.2
    assert abs(_kept(rounded, without, exact) - 1) > 0.3, "PEFT keeps it too: this test shows nothing"
    assert (once - exact).abs().max() < exact.abs().max() * 2**-7


@SIXTEEN
@KINDS
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_those_of_fp32(dtype: torch.dtype, dora: bool, turned: bool, dropout: float) -> None:
    network = _network(dtype, dropout, dora, turned, stir=3e-3)
    whole = copy.deepcopy(network).float()
    round_once(network)
    torch.manual_seed(1)
    x = torch.randn(2, 50, 96).to(dtype).requires_grad_()
    y = x.detach().float().requires_grad_()
    weights = torch.randn(2, 50, 80)
    for net, given in ((network, x), (whole, y)):
        torch.manual_seed(2)
        (net.train()(given).float() * weights).sum().backward()
    theirs = {n: p.grad for n, p in whole.named_parameters() if p.requires_grad}
    ours = {n: p.grad for n, p in network.named_parameters() if p.requires_grad}
    assert ours.keys() == theirs.keys()
    assert len(ours) == 2 + dora
    for found, expected in [(x.grad, y.grad), *((ours[n], theirs[n]) for n in ours)]:
        assert found is not None
        assert expected is not None
        cosine = torch.cosine_similarity(found.float().flatten(), expected.flatten(), 0)
        assert cosine > 0.9995
        assert abs(found.float().norm() / expected.norm() - 1) < 5e-3


@SIXTEEN
@KINDS
def test_an_adapter_of_zeros_is_the_base_to_the_bit(dtype: torch.dtype, dora: bool, turned: bool) -> None:
    network = _network(dtype, dora=dora, turned=turned, stir=0.0)
    round_once(network)
    x = torch.randn(7, 96).to(dtype)
    with torch.no_grad():
        on = network(x)
        _layer(network)._disable_adapters = True
        assert torch.equal(network(x), on)


def test_what_is_not_one_plain_adapter_is_computed_by_peft() -> None:
    torch.manual_seed(0)
    biased = get_peft_model(
        nn.Sequential(nn.Linear(8, 8)).to(torch.bfloat16), LoraConfig(r=2, target_modules=["0"], bias="all")
    )
    round_once(biased)
    biased(torch.randn(3, 8, dtype=torch.bfloat16)).float().sum().backward()
    bias = _layer(biased).get_base_layer().bias
    assert bias.requires_grad
    assert torch.equal(bias.grad.float(), torch.full((8,), 3.0))
    dropped = _network(torch.bfloat16, dropout=0.5, dora=True).train()
    x, seen = torch.randn(5, 96, dtype=torch.bfloat16), []
    for _ in range(2):
        torch.manual_seed(3)
        seen.append(dropped(x))
        round_once(dropped)
    assert torch.equal(*seen)
    full = get_peft_model(nn.Sequential(nn.Linear(8, 8)), LoraConfig(r=2, target_modules=["0"]))
    round_once(full)
    assert type(_layer(full)) is Linear


def test_folding_is_right_in_the_mean() -> None:
    torch.manual_seed(0)
    weight = (torch.randn(400, 400) * 0.05).to(torch.bfloat16)
    exact = weight.float() + 2e-5
    nearest = exact.to(torch.bfloat16).float() - weight.float()
    random = folded(weight, exact).float() - weight.float()
    assert abs(random.mean() / 2e-5 - 1) < 0.05
    assert abs(nearest.mean() / 2e-5 - 1) > 0.2
    assert torch.equal(folded(weight, exact), folded(weight, exact))
    assert torch.equal(folded(weight, weight.float()), weight)
    assert folded(weight, torch.full_like(exact, torch.nan)).isnan().all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=1024, num_key_value_heads=2, **sizes))
    network.save_pretrained(tmp_path / "base")
    load("tieout-base").tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_a_model_in_bf16_says_what_its_adapter_adds(folder: Path) -> None:
    from tieout.learner.models.adapters import AdapterConfig
    from tieout.learner.models.reference import said_by

    models = [load(str(folder), AdapterConfig(), dtype=d) for d in (torch.float32, torch.bfloat16)]
    generator = torch.Generator().manual_seed(0)
    fp32, bf16 = (dict(m.network.named_parameters()) for m in models)
    for name, parameter in fp32.items():
        if "lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator) * (1e-3 if "lora_B" in name else 0.1)
            parameter.data, bf16[name].data = noise.clone(), noise.clone()
    whole, half = models
    assert sum(isinstance(m, OnceRounded) for m in half.network.modules()) == 21
    assert not any(isinstance(m, OnceRounded) for m in whole.network.modules())
    added = said_by(whole.causal, whole.network)
    with whole.as_reference() as causal:
        added = added - said_by(causal, whole.network)
    with half.as_reference() as causal:
        reference = said_by(causal, half.network).float()
    found = said_by(half.causal, half.network).float() - reference
    with half.merged() as causal:
        merged = said_by(causal, half.network).float() - reference
    share = [(x * added).sum().item() / added.square().sum().item() for x in (found, merged)]
    assert abs(share[0] - 1) < 0.25
    assert abs(share[1] - 1) < 0.25
