"""Every kind of adapter that PEFT makes: the reference is the policy at step 0; what is saved is what was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from peft import EvaConfig, LoftQConfig, LoraConfig, PeftModel, get_peft_model

from random_groups import flat, random_groups
from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import Checkpoints, save_adapter
from tieout.learner.models.adopted import adopt
from tieout.learner.models.bases import Bases
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler

ModelFolder = Callable[[str], Path]
IDS = torch.tensor([[9, 3, 77, 120, 5, 201, 40, 2]])
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"]
"""gemma2 and gemma3 tie their output layer to the embedding, qwen2 has biases."""
LINEAR = ["q_proj", "v_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "random": {"init_lora_weights": False},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa, fast": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "pissa, ranks": {"init_lora_weights": "pissa", "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    "eva": {"init_lora_weights": "eva", "eva_config": EvaConfig()},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
    "all biases": {"bias": "all"},
    "its biases": {"bias": "lora_only"},
    "lora_bias": {"lora_bias": True, "target_modules": ["o_proj", "down_proj"]},
    "embedding": {"modules_to_save": ["embed_tokens"]},
    "output": {"modules_to_save": ["lm_head"]},
    "both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "norms": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": [5, 9, 40]},
    "output, LoRA": {"target_modules": ["q_proj", "lm_head"]},
    "embedding, LoRA": {"target_modules": ["q_proj", "embed_tokens"]},
}  # fmt: skip


BOTH = ["qwen2", "gemma3"]
"""With biases; and with its layers tied."""
OTHERS = [family for family in FAMILIES if family not in BOTH]
EACH = [(family, kind) for i, kind in enumerate(KINDS) for family in [*BOTH, OTHERS[i % len(OTHERS)]]]
"""Each kind on both, and on one of the others in turn."""


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=IDS).logits


def base_of(folder: Path) -> Any:
    return hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def adopted(folder: Path, kind: str, seed: int = 0) -> Learner:
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **KINDS[kind]}
    )
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    return Learner(adopt(base_of(folder), tokenizer, config, needs_reference=True, seed=seed), 1e-2)


def loss(outputs: Any, batch: Any) -> Any:
    return batch.token_mean(-outputs.logprobs), {}


@pytest.mark.parametrize(("family", "kind"), EACH)
def test_the_reference_is_the_policy_at_step_0_and_stays(
    tiny_model: ModelFolder, family: str, kind: str
) -> None:
    groups = random_groups()
    learner = adopted(tiny_model(family), kind)
    first = flat(learner.logprobs(groups))
    assert torch.allclose(flat(learner.reference_logprobs(groups)), first, atol=1e-5)
    if kind != "random":  # which has another policy than its base
        config = learner.model.causal.config
        theirs = base_of(tiny_model(family))
        assert (logits(learner.model.network) - logits(theirs)).abs().max() < 2e-3, config.model_type
    for _ in range(2):
        learner.update(groups, loss)
    learner.logprob_cache = type(learner.logprob_cache)()
    assert torch.allclose(flat(learner.reference_logprobs(groups)), first, atol=1e-5)
    assert (flat(learner.logprobs(groups)) - first).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", BOTH)
def test_peft_loads_what_was_trained_on_the_base_as_it_is(
    tiny_model: ModelFolder, tmp_path: Path, family: str, kind: str
) -> None:
    learner = adopted(tiny_model(family), kind)
    for _ in range(2):
        learner.update(random_groups(), loss)
    trained = logits(learner.model.network)
    save_adapter(learner, tmp_path / "saved")
    assert torch.equal(logits(learner.model.network), trained)  # saving changes nothing
    learner.update(random_groups(), loss)
    assert not torch.equal(logits(learner.model.network), trained)  # and training continues
    peft = PeftModel.from_pretrained(base_of(tiny_model(family)), str(tmp_path / "saved")).eval()
    assert (logits(peft) - trained).abs().max() < 2e-3
    again = load(str(tmp_path / "saved"), AdapterConfig(), device="cpu")
    assert (logits(again.network) - trained).abs().max() < 2e-3
    with again.as_reference() as network:
        assert torch.equal(logits(network), logits(again.network))
    with again.merged() as network:
        assert (logits(network) - trained).abs().max() < 2e-3


@pytest.mark.parametrize("kind", ["pissa", "all biases", "both", "tokens", "output, LoRA"])
def test_what_is_sampled_is_what_is_trained(tiny_model: ModelFolder, kind: str) -> None:
    learner = adopted(tiny_model("qwen2"), kind)
    learner.update(random_groups(), loss)
    prompts = [[9, 40, 7], [5, 9]]
    sampled = LocalSampler(learner.model).sample(prompts, 2, SamplingParams(12, 1.0, seed=1))
    from tieout.types import Group

    groups = [Group(p, list(cs)) for p, cs in zip(prompts, sampled, strict=True)]
    expected = [c.logprobs for g in groups for c in g.completions]
    assert torch.allclose(flat(learner.logprobs(groups)), flat(expected), atol=1e-4)


@pytest.mark.parametrize("kind", ["random", "pissa, fast", "all biases"])
def test_a_resumed_run_has_the_same_reference(tiny_model: ModelFolder, tmp_path: Path, kind: str) -> None:
    groups = random_groups()
    learner = adopted(tiny_model("qwen2"), kind)
    first = flat(learner.reference_logprobs(groups))
    learner.update(groups, loss)
    Checkpoints(tmp_path).save(learner, {})
    again = adopted(tiny_model("qwen2"), kind)
    Checkpoints(tmp_path).restore(again)
    assert torch.allclose(flat(again.reference_logprobs(groups)), first, atol=1e-5)
    assert torch.allclose(flat(again.logprobs(groups)), flat(learner.logprobs(groups)), atol=1e-5)


def rounded(layer: Any, name: str, config: Any) -> None:
    """An initialisation that quantises the base and leaves the adapter at zero."""
    with torch.no_grad():
        weight = layer.get_base_layer().weight
        weight.copy_((weight * 8).round() / 8)
    layer.reset_lora_parameters(name, True)


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"bias": "lora_only"}, "bias"),
        ({"modules_to_save": ["embed_tokens"]}, "modules_to_save"),
        ({"trainable_token_indices": [5, 9]}, "trainable_token_indices"),
        (
            {"use_rslora": True, "rank_pattern": {"v_proj": 2}},
            "use_rslora with rank_pattern or alpha_pattern",
        ),
    ],
)
def test_what_could_not_be_saved_is_refused_before_training(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], named: str, init: str
) -> None:
    monkeypatch.setitem(KINDS, "unsaved", {"init_lora_weights": init, **options})
    with pytest.raises(InputError, match=rf"^{named}: with init_lora_weights='{init}'"):
        adopted(tiny_model("llama"), "unsaved")


def test_adapters_that_share_their_numbers_are_refused(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tied = {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}
    monkeypatch.setitem(KINDS, "tied", tied)
    with pytest.raises(InputError, match="share their numbers"):
        adopted(tiny_model("gemma3"), "tied")
    adopted(tiny_model("llama"), "tied")  # nothing is tied in this one


def test_what_cannot_be_right_is_refused_with_the_reason(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("llama")
    KINDS["loftq"] = {"init_lora_weights": "loftq", "loftq_config": LoftQConfig()}
    monkeypatch.setattr("peft.tuners.lora.layer.LoraLayer.loftq_init", rounded)  # PEFT's own needs CUDA
    KINDS["both at once"] = {"init_lora_weights": "pissa", "use_dora": True}
    KINDS["activated"] = {"alora_invocation_tokens": [3, 77]}
    try:
        with pytest.raises(InputError, match=r"use_dora with an initialisation that rewrites the base"):
            adopted(folder, "both at once")
        with pytest.raises(InputError, match=r"'loftq' rewrites the base, and .* another model"):
            adopted(folder, "loftq")
        with pytest.raises(InputError, match=r"its adapter, is not known here"):
            adopted(folder, "activated")
    finally:
        for name in ("loftq", "both at once", "activated"):
            del KINDS[name]
    config = LoraConfig(r=4, target_modules=LINEAR, task_type="CAUSAL_LM", init_lora_weights="pissa_niter_2")
    get_peft_model(base_of(folder), config).save_pretrained(tmp_path / "random")
    with pytest.raises(InputError, match=r"'pissa_niter_2', which rewrites the base.*plain LoRA"):
        load(str(folder), AdapterConfig(), start=tmp_path / "random")


def test_a_rewritten_base_is_not_shared(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """With PEFT's own unconverted PiSSA adapter as the start: loading it takes a part off the base again."""
    folder = tiny_model("llama")
    config = LoraConfig(r=4, target_modules=LINEAR, task_type="CAUSAL_LM", init_lora_weights="pissa")
    theirs = get_peft_model(base_of(folder), config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter += 0.05
    theirs.save_pretrained(tmp_path / "pissa")
    bases = Bases()
    model = load(str(folder), AdapterConfig(), start=tmp_path / "pissa", bases=bases, device="cpu")
    assert (logits(model.network) - logits(theirs)).abs().max() < 1e-3
    assert model.rewritten
    with model.as_reference() as network:
        assert torch.equal(logits(network), logits(model.network))
    plain = load(str(folder), AdapterConfig(), bases=bases, device="cpu")
    assert torch.equal(logits(plain.network), logits(base_of(folder)))
    judge = Learner(load(str(folder), AdapterConfig(rank=2), head="score", device="cpu"))
    save_adapter(judge, tmp_path / "reward")
    with pytest.raises(InputError, match=r"has rewritten the base that .* needs"):
        model.add_reward(tmp_path / "reward")
    with pytest.raises(InputError, match="has rewritten its base"):
        load(str(folder), AdapterConfig(), start=tmp_path / "pissa", head="value", value_adapter=True)


def test_the_tokenizer_in_an_adapters_folder_is_the_models(
    tiny_model: ModelFolder, tmp_path: Path, new_tokenizer: Callable[..., Any]
) -> None:
    """With tokens that training added, whose embeddings the adapter holds."""
    from tieout.learner.models.loading import load_chat

    tokenizer = new_tokenizer()
    tokenizer.add_tokens(["<|tool|>"], special_tokens=True)
    tokenizer.chat_template = "{% for m in messages %}<|tool|>{{ m['content'] }}<|end|>{% endfor %}"
    network = base_of(tiny_model("llama"))
    network.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(r=2, target_modules=LINEAR, task_type="CAUSAL_LM")
    learner = Learner(adopt(network, tokenizer, config), 1e-2)
    learner.update(random_groups(), loss)
    save_adapter(learner, tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again = load(str(tmp_path / "saved"), AdapterConfig(), device="cpu")
    assert again.chat.prompt([{"role": "user", "content": "a"}])[0] == len(tokenizer) - 1
    assert load_chat(str(tmp_path / "saved")).tokenizer.chat_template == tokenizer.chat_template
    assert (logits(again.network) - logits(learner.model.network)).abs().max() < 1e-5
    save_adapter(Learner(again), tmp_path / "onward")
    assert load_chat(str(tmp_path / "onward")).tokenizer.chat_template == tokenizer.chat_template
