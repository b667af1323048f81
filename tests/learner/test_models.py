from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from random_groups import VOCABULARY, flat, make_learner, random_groups
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.models.architecture import decoder_of, head_of
from tieout.learner.models.model import Model, why_not_packed

ModelFolder = Callable[[str], Path]
IDS = torch.tensor([[9, 3, 77, 120, 5, 5, 201, 40, 2, 90, 17, 33, 8, 61, 150, 99, 7, 21, 250, 64]])


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=IDS).logits


def save_tiny(config: Any, folder: Path, tokenizer: Any) -> Path:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def shape(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        **more,
    }


# ---------------------------------------------------------------- decoder and head


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "qwen3_next"])
def test_decoder_and_head_give_the_models_own_logits(tiny_model: ModelFolder, family: str) -> None:
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tiny_model(family), attn_implementation="eager").eval()
    network = load(str(tiny_model(family))).causal
    with torch.no_grad():
        hidden = decoder_of(network)(input_ids=IDS, use_cache=False).last_hidden_state
        found = head_of(network).logits(hidden)
    assert (found - logits(plain)).abs().max() < 1e-5
    assert (head_of(network).softcap is not None) == (family == "gemma2")


@pytest.mark.parametrize("family", ["granite", "cohere", "gpt_oss", "bloom", "deepseek_v3"])
def test_further_architectures_say_what_they_say_in_transformers(
    family: str, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """A scaled head, attention sinks, ALiBi, heads of two sizes: none is lost, each packs or says why not."""
    import transformers as hf

    config = {
        "granite": lambda: hf.GraniteConfig(**shape(logits_scaling=3.0)),
        "cohere": lambda: hf.CohereConfig(**shape(logit_scale=0.3)),
        "gpt_oss": lambda: hf.GptOssConfig(
            **shape(head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        ),
        "bloom": lambda: hf.BloomConfig(
            vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0, eos_token_id=1
        ),
        "deepseek_v3": lambda: hf.DeepseekV3Config(
            **shape(
                num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
            ),
            q_lora_rank=None,
            kv_lora_rank=8,
            qk_rope_head_dim=4,
            qk_nope_head_dim=4,
            v_head_dim=6,
            n_group=1,
            topk_group=1,
        ),
    }[family]()
    folder = save_tiny(config, tmp_path, tiny_tokenizer)
    plain = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    learner = Learner(load(str(folder), AdapterConfig(rank=2)))
    assert (logits(learner.model.network) - logits(plain)).abs().max() < 1e-5
    groups = random_groups([(12, [9, 4, 11]), (3, [2])])
    expected = []
    for group in groups:
        for c in group.completions:
            with torch.no_grad():
                rows = plain(torch.tensor([group.prompt + c.tokens])).logits[0].log_softmax(-1)
            expected.append(
                rows[len(group.prompt) - 1 : -1].gather(-1, torch.tensor(c.tokens)[:, None])[:, 0]
            )
    if family in ("granite", "cohere"):
        found = learner.logprobs(groups)
        assert learner.packs
    else:
        with pytest.warns(UserWarning, match="cannot share prompts"):
            found = learner.logprobs(groups)
    assert (flat(found) - torch.cat(expected)).abs().max() < 1e-5


def test_an_architecture_with_a_head_unknown_here_is_refused(tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Falcon-H1 multiplies its logits by a number of its own: better no numbers than wrong ones."""
    from transformers import FalconH1Config

    config = FalconH1Config(
        **shape(lm_head_multiplier=0.5),
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_n_groups=1,
    )
    with pytest.raises(ValueError, match=r"falcon_h1.*not its output layer applied"):
        load(str(save_tiny(config, tmp_path, tiny_tokenizer)))


# ---------------------------------------------------------------- adapters


def test_a_fresh_adapter_changes_nothing_and_its_seed_decides_it(tiny_model: ModelFolder) -> None:
    base = logits(load(str(tiny_model("llama"))).network)
    first, second, other = (
        load(str(tiny_model("llama")), AdapterConfig(rank=4), seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(logits(first.network), base)
    pairs = zip(first.trained().values(), second.trained().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(first.trained().values(), other.trained().values(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_lora_trains_every_linear_layer_but_the_output_head(tiny_model: ModelFolder) -> None:
    model = load(str(tiny_model("llama")), AdapterConfig(rank=4))
    linear = [
        n for n, m in load(str(tiny_model("llama"))).network.named_modules() if isinstance(m, nn.Linear)
    ]
    assert len(model.trained()) == 2 * (len(linear) - 1)
    assert not any("lm_head" in name for name in model.trained())
    only = load(str(tiny_model("llama")), AdapterConfig(rank=4, targets="q_proj, v_proj"))
    assert len(only.trained()) == 2 * 2 * 2
    assert len(load(str(tiny_model("llama")), AdapterConfig(method="full")).trained()) == len(
        list(load(str(tiny_model("llama"))).network.parameters())
    )


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_starting_from_an_adapter_gives_its_policy_and_a_frozen_copy_as_reference(
    tiny_model: ModelFolder, tmp_path: Path, method: str
) -> None:
    first = make_learner(tiny_model("llama"), adapter=AdapterConfig(method=method, rank=4))  # type: ignore[arg-type]
    save_adapter(first, tmp_path / "sft")
    policy = logits(first.model.network)
    assert (policy - logits(load(str(tiny_model("llama"))).network)).abs().max() > 0.1
    trained = load(str(tiny_model("llama")), AdapterConfig(), start=tmp_path / "sft")
    assert torch.equal(logits(trained.network), policy)
    assert trained.trained().keys() == first.model.trained().keys()
    assert trained.start is not None
    assert trained.start.keys() == trained.trained().keys()
    for_sampling = load(str(tiny_model("llama")), start=tmp_path / "sft")
    assert torch.equal(logits(for_sampling.network), policy)
    assert for_sampling.trained() == {}
    by_folder = load(str(tmp_path / "sft"), AdapterConfig())  # the adapter names its base
    assert torch.equal(logits(by_folder.network), policy)


def test_the_original_adapter_folder_keeps_no_reference(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """What DPO saves is the policy alone, in PEFT's format, loadable by PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    save_adapter(make_learner(tiny_model("llama")), tmp_path / "sft")
    learner = Learner(
        load(str(tiny_model("llama")), AdapterConfig(), start=tmp_path / "sft"), learning_rate=1e-2
    )
    learner.update(random_groups(), lambda outputs, batch: (batch.token_mean(-outputs.logprobs), {}))
    save_adapter(learner, tmp_path / "dpo")
    assert not list((tmp_path / "dpo").rglob("*reference*"))
    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    peft = PeftModel.from_pretrained(base, str(tmp_path / "dpo")).eval()
    assert (logits(peft) - logits(learner.model.network)).abs().max() < 1e-5


# ---------------------------------------------------------------- merged weights


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("targets", ["all-linear", "q_proj,lm_head"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_merging_serves_the_policy_and_leaves_no_trace(
    tiny_model: ModelFolder, family: str, targets: str, method: str
) -> None:
    """gemma3's output layer is its embedding: an adapter on the one must not reach the other."""
    adapter = AdapterConfig(method=method, rank=4, targets=targets)  # type: ignore[arg-type]
    model = make_learner(tiny_model(family), adapter=adapter).model
    policy = logits(model.network)
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    for _ in range(3):
        with model.merged() as network:
            assert (logits(network) - policy).abs().max() < 1e-5
        assert torch.equal(logits(model.network), policy)
    for name, parameter in model.network.named_parameters():
        assert torch.equal(parameter, before[name])


def test_merging_is_undone_after_an_error(tiny_model: ModelFolder) -> None:
    model = make_learner(tiny_model("llama")).model
    policy = logits(model.network)
    with pytest.raises(KeyboardInterrupt), model.merged():
        raise KeyboardInterrupt
    assert torch.equal(logits(model.network), policy)


def test_merging_ignores_the_reference(tiny_model: ModelFolder, tmp_path: Path) -> None:
    save_adapter(make_learner(tiny_model("llama")), tmp_path / "sft")
    learner = Learner(
        load(str(tiny_model("llama")), AdapterConfig(), start=tmp_path / "sft"), learning_rate=1e-2
    )
    learner.update(random_groups(), lambda outputs, batch: (batch.token_mean(-outputs.logprobs), {}))
    policy = logits(learner.model.network)
    with learner.model.as_reference() as network:
        reference = logits(network)
    with learner.model.merged() as network:
        assert (logits(network) - policy).abs().max() < 1e-5
        assert (logits(network) - reference).abs().max() > 1e-3
    with learner.model.as_reference() as network:
        assert torch.equal(logits(network), reference)


def test_full_fine_tuning_has_nothing_to_merge(tiny_model: ModelFolder) -> None:
    model = load(str(tiny_model("llama")), AdapterConfig(method="full"))
    with model.merged() as network:
        assert torch.equal(logits(network), logits(model.network))


# ---------------------------------------------------------------- what is refused


def test_what_cannot_be_loaded_says_what_was_expected(tiny_model: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no model: expected config\.json"):
        load(str(tmp_path))
    with pytest.raises(ValueError, match=r"could not be loaded|does not exist"):
        load(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"holds no adapter: expected adapter_config\.json"):
        load(str(tiny_model("llama")), AdapterConfig(), start=tmp_path)
    save_adapter(make_learner(tiny_model("llama")), tmp_path / "sft")
    with pytest.raises(ValueError, match="names another"):
        load(str(tmp_path / "sft"), AdapterConfig(), start=tmp_path / "sft")
    with pytest.raises(ValueError, match="merge it first"):
        load(str(tiny_model("llama")), AdapterConfig(method="full"), start=tmp_path / "sft")


def test_pickled_weights_are_not_loaded(tiny_model: ModelFolder, tmp_path: Path) -> None:
    for file in tiny_model("llama").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    torch.save({"evil": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        load(str(tmp_path))


def test_the_context_is_that_of_the_configuration(tiny_model: ModelFolder) -> None:
    stored = json.loads((tiny_model("llama") / "config.json").read_text())
    assert load(str(tiny_model("llama"))).context == stored["max_position_embeddings"]


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("llama", None),
        ("mistral", None),
        ("gemma3", None),
        ("gemma2", "own attention"),
        ("qwen3_next", "linear"),
    ],
)
def test_what_architectures_allow(tiny_model: ModelFolder, family: str, reason: str | None) -> None:
    model: Model = load(str(tiny_model(family)))
    found = why_not_packed(model)
    assert found is None if reason is None else reason in (found or "")
