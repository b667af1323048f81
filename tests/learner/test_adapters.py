"""Adapters from elsewhere, several on one base, and settings that are true or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import flat, make_learner, random_groups, stir_weights
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.models.adapters import REWARD, using

ModelFolder = Callable[[str], Path]
IDS = torch.tensor([[9, 3, 77, 120, 5, 201, 40, 2]])


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=IDS).logits


@pytest.fixture
def elsewhere(tiny_model: ModelFolder, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """An adapter that PEFT alone made, with some ranks of its own, and the logits it gives."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama")).eval()
    config = LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 2},
        use_rslora=True,
        lora_dropout=0.1,
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    network = get_peft_model(base, config).eval()
    network.save_pretrained(tmp_path / "peft")
    return tmp_path / "peft", logits(network)


def test_an_adapter_made_by_peft_is_start_and_reference(elsewhere: tuple[Path, torch.Tensor]) -> None:
    folder, expected = elsewhere
    model = load(str(folder), AdapterConfig())
    assert torch.allclose(logits(model.network), expected, atol=1e-5)
    learner = Learner(model, 1e-2)  # its dropout of 0.1 is not asked for, so it is off and prompts are shared
    learner.update(random_groups(), lambda o, b: (b.token_mean(-o.logprobs), {}))
    assert learner.packs
    assert not torch.allclose(logits(model.network), expected, atol=1e-3)
    with model.as_reference() as network:
        assert torch.allclose(logits(network), expected, atol=1e-5)


def test_it_merges_and_comes_back_to_the_same_bits(elsewhere: tuple[Path, torch.Tensor]) -> None:
    folder, expected = elsewhere
    model = load(str(folder))
    before = {n: p.clone() for n, p in model.network.named_parameters()}
    with model.merged() as network:
        assert torch.allclose(logits(network), expected, atol=1e-5)
        assert any(not torch.equal(p, before[n]) for n, p in model.network.named_parameters())
    assert all(torch.equal(p, before[n]) for n, p in model.network.named_parameters())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (AdapterConfig(rank=8), r"adapter rank is 8, but the adapter to start from .* has 3: leave rank out"),
        (AdapterConfig(alpha=7.0), r"adapter alpha is 7.0, but .* has 5"),
        (AdapterConfig(targets="v_proj"), r"adapter targets is .*v_proj.*, but .* has"),
        (AdapterConfig(method="dora"), "'dora' is asked, but .* holds a plain LoRA"),
        (AdapterConfig(method="full"), "merge it first"),
    ],
)
def test_settings_that_are_not_those_of_the_start_are_refused(
    elsewhere: tuple[Path, torch.Tensor], asked: AdapterConfig, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(str(elsewhere[0]), asked)


def test_settings_that_are_those_of_the_start_are_fine(elsewhere: tuple[Path, torch.Tensor]) -> None:
    folder, expected = elsewhere
    model = load(str(folder), AdapterConfig(rank=3, alpha=5.0, targets="down_proj, q_proj", dropout=0.2))
    assert torch.allclose(logits(model.network), expected, atol=1e-5)
    with pytest.warns(UserWarning, match="dropout is above 0"):
        assert not Learner(model).packs


def test_an_adapter_that_replaces_modules_or_is_no_lora_is_refused(
    elsewhere: tuple[Path, torch.Tensor],
) -> None:
    folder, _ = elsewhere
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(ValueError, match=r"does not fit its base: .*lm_head"):
        load(str(folder), AdapterConfig())


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_fields_of_the_adapter_change_what_is_trained(tiny_model: ModelFolder, method: Any) -> None:
    def made(**changes: Any) -> Any:
        config = load(str(tiny_model("llama")), AdapterConfig(method=method, **changes)).network.peft_config
        return config["default"]

    assert (made().r, made().lora_alpha, made().lora_dropout) == (16, 32, 0)
    assert (made(rank=3).r, made(alpha=4.0).lora_alpha, made(dropout=0.3).lora_dropout) == (3, 4, 0.3)
    assert made(targets="q_proj").target_modules == {"q_proj"}
    assert made().use_dora == (method == "dora")
    with pytest.raises(ValueError, match="rank is 0"):
        AdapterConfig(rank=0)
    with pytest.raises(ValueError, match="dropout is 1"):
        AdapterConfig(dropout=1.0)


def test_several_adapters_live_on_one_base(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """Policy, reference, value and reward: each says what it said alone, and only two of them are trained."""
    groups = random_groups()
    sft = make_learner(tiny_model("llama"))
    save_adapter(sft, tmp_path / "sft")
    judge = make_learner(tiny_model("llama"), head="score")
    stir_weights(judge, seed=5)
    save_adapter(judge, tmp_path / "reward")
    model = load(
        str(tiny_model("llama")), AdapterConfig(), start=tmp_path / "sft", head="value", value_adapter=True
    )
    learner = Learner(model, 1e-2)
    model.add_reward(tmp_path / "reward")
    assert set(model.network.peft_config) == {"default", "value", REWARD}

    def loss(outputs: Any, batch: Any) -> Any:
        return batch.token_mean((outputs.values - 1) ** 2 - outputs.logprobs), {}

    first = learner.update(groups, loss)["loss"]
    assert learner.update(groups, loss)["loss"] < first
    assert torch.allclose(flat(learner.reference_logprobs(groups)), flat(sft.logprobs(groups)), atol=1e-5)
    assert torch.allclose(flat(learner.scores(groups)), flat(judge.scores(groups)), atol=1e-5)
    policy = logits(model.network)
    with using(model.network, REWARD):
        assert not torch.allclose(logits(model.network), policy, atol=1e-3)
    assert torch.equal(logits(model.network), policy)
    trained = {name.split(".")[-2] for name in model.trained() if "lora" in name}
    assert trained == {"default", "value"}
