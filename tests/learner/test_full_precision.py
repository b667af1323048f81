"""Full fine-tuning in bf16 moves what fp32 moves, also after a restart; weight decay spares norms and biases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers as hf

from random_groups import random_groups
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.checkpoint import Checkpoints

ModelFolder = Callable[[str], Path]
FULL = AdapterConfig("full")
STEPS = 25


def learner(folder: Path, dtype: torch.dtype, adapter: AdapterConfig = FULL, **config: Any) -> Learner:
    model = load(str(folder), adapter, dtype=dtype, device="cpu")
    return Learner(model, 1e-6, LearnerConfig(layout="repeated", **config))


def loss(outputs: Any, batch: Any) -> Any:
    return batch.token_mean(-outputs.logprobs), {}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    """Share of the weights that are not what they were."""
    different = sum(int((after[n].float() != x.float()).sum()) for n, x in before.items())
    return different / sum(x.numel() for x in before.values())


def weights(own: Learner) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in own.model.trained().items()}


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_in_bf16_as_many_weights_move_as_in_fp32(tiny_model: ModelFolder, family: str) -> None:
    groups = random_groups()
    shares = {}
    for dtype in (torch.float32, torch.bfloat16):
        own = learner(tiny_model(family), dtype)
        before = [b.detach().clone().float() for b in own.optimizer.buffers]
        shown = weights(own)
        for _ in range(STEPS):
            own.update(groups, loss)
        pairs = zip(before, own.optimizer.buffers, strict=True)
        shares[dtype] = sum(int((a != b).sum()) for a, b in pairs) / sum(b.numel() for b in before)
        assert all(b.dtype == torch.float32 for b in own.optimizer.buffers)
        assert all(v.dtype == torch.float32 for s in own.optimizer.state.values() for v in s.values())
        if dtype == torch.bfloat16:
            assert moved(shown, weights(own)) < shares[dtype]  # what is shown is rounded
    assert shares[torch.bfloat16] > 0.97 * shares[torch.float32]


def test_a_resumed_run_in_bf16_ends_at_the_same_bits(tiny_model: ModelFolder, tmp_path: Path) -> None:
    groups = random_groups()
    whole, cut = (learner(tiny_model("llama"), torch.bfloat16) for _ in range(2))
    for _ in range(6):
        whole.update(groups, loss)
    for _ in range(3):
        cut.update(groups, loss)
    Checkpoints(tmp_path).save(cut, {})
    again = learner(tiny_model("llama"), torch.bfloat16)
    Checkpoints(tmp_path).restore(again)
    for _ in range(3):
        again.update(groups, loss)
    for a, b in zip(whole.optimizer.buffers, again.optimizer.buffers, strict=True):
        assert torch.equal(a, b)
    assert moved(weights(whole), weights(again)) == 0


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3", "qwen3_next", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("method", ["full", "dora"])
def test_weight_decay_spares_what_transformers_spares(
    tiny_model: ModelFolder, tiny_tokenizer: Any, tmp_path: Path, family: str, method: Any
) -> None:
    if family.startswith("gpt"):
        shape = {"vocab_size": 262, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = (
            hf.GPT2Config(**shape) if family == "gpt2" else hf.GPTNeoXConfig(**shape, intermediate_size=64)
        )
        hf.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
    if family == "qwen3_next" and method == "dora":
        method = "lora"  # PEFT has no DoRA of a mixture's experts
    folder = tmp_path if family.startswith("gpt") else tiny_model(family)
    own = learner(
        folder, torch.float32, AdapterConfig(method, rank=None if method == "full" else 2), weight_decay=0.5
    )
    theirs = hf.Trainer.get_decay_parameter_names(cast(Any, None), own.model.network)
    trained = own.model.trained()
    before = weights(own)
    own.learning_rate = 0.1
    own.optimizer.zero()
    own.optimizer.apply(0.1, 1.0)  # no gradient: what moves is decay alone
    shrunk = {n for n, p in trained.items() if not torch.equal(p, before[n])}
    assert shrunk == {n for n in trained if n in theirs and before[n].any()}
    assert method != "full" or shrunk != set(trained)
