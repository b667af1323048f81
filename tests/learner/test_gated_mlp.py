"""SwiGLU layers keep less for backward, and compute the same to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from tieout.learner.memory import kept_bytes
from tieout.learner.models.gated_mlp import keep_less

SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


def network(kind: str, **more: object) -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **HEADS, pad_token_id=0, **more)
    made: nn.Module = AutoModelForCausalLM.from_config(config)
    return made


def gradients(model: nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    logits = model(input_ids=ids).logits
    logits.float().logsumexp(-1).sum().backward()
    return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "olmo2", "granite"])
def test_outputs_and_gradients_are_the_same_to_the_last_bit(kind: str, dtype: torch.dtype) -> None:
    plain = network(kind).to(dtype)
    lean = copy.deepcopy(plain)
    keep_less(lean)
    keep_less(lean)  # twice changes nothing more
    ids = torch.arange(2, 26).view(2, 12)
    for a, b in zip(gradients(lean, ids), gradients(plain, ids), strict=True):
        assert torch.equal(a, b)
    weights = list(plain.parameters())
    kept = kept_bytes(lambda: plain(input_ids=ids).logits, weights)
    less = kept - kept_bytes(lambda: lean(input_ids=ids).logits, list(lean.parameters()))
    assert less == 2 * 24 * 48 * dtype.itemsize  # one number of each of the width, in both layers
    assert [type(m).__name__ for m in lean.modules()] == [type(m).__name__ for m in plain.modules()]
    assert torch.equal(copy.deepcopy(lean)(input_ids=ids).logits, plain(input_ids=ids).logits)


@pytest.mark.parametrize(("kind", "more"), [("gemma", {}), ("phi3", {}), ("llama", {"hidden_act": "gelu"})])
def test_other_layers_stay_as_they_are(kind: str, more: dict[str, str]) -> None:
    model = network(kind, **more)
    before = [type(m) for m in model.modules()]
    keep_less(model)
    assert [type(m) for m in model.modules()] == before


def test_a_layer_that_does_more_than_llamas_stays_as_it_is() -> None:
    class Doubled(LlamaMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = nn.Sequential(Doubled(AutoConfig.for_model("llama", **SIZES, **HEADS)))
    keep_less(model)
    assert type(model[0]) is Doubled
