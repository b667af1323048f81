"""A right merge in 16 bits passes, and a wrong one does not, however little its adapter has learned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import tieout.shipping.candidate
from random_groups import stir_weights
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.models.sixteen_bits import folded
from tieout.methods import SFT
from tieout.shipping.candidate import ShippingError, check
from tieout.shipping.reload_check import Behaviour, difference, observe
from tieout.source import Source
from tieout.tasks import load_task
from tieout.training.loop import train

TinyModel = Callable[[str], Path]
Weights = dict[str, torch.Tensor]
LAYER = "layers.1.mlp.down_proj."


def built(learner: Learner, folder: Path, prompts: list[Any]) -> Behaviour:
    """A candidate as it is packaged, without its card, and what the policy in memory did."""
    save_adapter(learner, folder / "adapter")
    seen = observe(learner.model, learner.model.chat, prompts, max_new_tokens=24)
    dtype = getattr(torch, seen.dtype)
    network = load(str(folder / "adapter"), dtype=dtype, device="cpu").network.merge_and_unload(
        safe_merge=True
    )
    network.generation_config.eos_token_id = seen.stop_tokens
    network.save_pretrained(folder / "merged")
    learner.model.tokenizer.save_pretrained(folder / "merged")
    return seen


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Behaviour]:
    """The embedded model after three steps of SFT at a learning rate of DPO, in bf16."""
    task = load_task("finance_statements")
    learner = Learner(load("tieout-base", AdapterConfig(), dtype="bf16", device="cpu"))
    source = Source(task, learner.model.chat, seed=0)
    train(SFT(learning_rate=5e-6, batch_size=4), source, learner, steps=3)
    folder = tmp_path_factory.mktemp("young")
    return folder, built(learner, folder, [row["prompt"] for row in list(task.rows("test"))[:2]])


@pytest.fixture(scope="module")
def stirred(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Behaviour]:
    """A tiny model with an adapter of large random weights."""
    learner = Learner(load(str(tiny_model("llama")), AdapterConfig(rank=4), dtype="bf16", device="cpu"))
    stir_weights(learner, scale=0.05)
    folder = tmp_path_factory.mktemp("stirred")
    return folder, built(learner, folder, ["Net income was", "Total assets"])


@pytest.fixture(params=["young", "stirred"])
def candidate(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Behaviour]:
    """A candidate of one's own."""
    folder, seen = request.getfixturevalue(request.param)
    return Path(shutil.copytree(folder, tmp_path / "candidate")), seen


def updates(folder: Path) -> Weights:
    """Name of a weight -> s B A of a plain LoRA, from its file alone."""
    config = json.loads((folder / "adapter/adapter_config.json").read_text())
    saved = load_file(folder / "adapter/adapter_model.safetensors")
    return {
        name.removeprefix("base_model.model.").replace("lora_A.", ""): (config["lora_alpha"] / config["r"])
        * (saved[name.replace("lora_A", "lora_B")] @ down)
        for name, down in saved.items()
        if "lora_A" in name
    }


def rewrite(folder: Path, update: Callable[[str, Weights], torch.Tensor]) -> None:
    """Put base + update, well rounded, in the place of every weight that has an adapter."""
    base = dict(load(str(folder / "adapter"), dtype="bf16", device="cpu").causal.named_parameters())
    own, path = updates(folder), folder / "merged/model.safetensors"
    tensors = load_file(path)
    for name in own:
        weight = base[name.replace(".weight", ".base_layer.weight")]
        tensors[name] = folded(weight, weight.detach().float() + update(name, own))
    save_file(tensors, path, metadata={"format": "pt"})


def other_layer(name: str, own: Weights) -> torch.Tensor:
    here, there = (".layers.0.", ".layers.1.") if ".layers.0." in name else (".layers.1.", ".layers.0.")
    return own[name.replace(here, there)] if here in name else own[name]


WRONG: dict[str, Callable[[str, Weights], torch.Tensor]] = {
    "left out": lambda name, own: 0 * own[name],
    "left out of one layer": lambda name, own: own[name] * (LAYER not in name),
    "applied twice": lambda name, own: 2 * own[name],
    "scaled by half": lambda name, own: 0.5 * own[name],
    "scaled by half in one layer": lambda name, own: own[name] * (0.5 if LAYER in name else 1.0),
    "taken off": lambda name, own: -own[name],
    "in another layer": other_layer,
    "turned around": lambda name, own: own[name].flip(0),
}


def test_a_right_merge_passes(candidate: tuple[Path, Behaviour]) -> None:
    folder, seen = candidate
    found = check(folder, seen, device="cpu")
    assert found.worst.keys() == {"adapter", "merged"}
    assert found.noise is not None
    assert found.tolerance >= 5 * found.noise > 0
    assert found.worst["merged"] <= found.tolerance
    rewrite(folder, lambda name, own: own[name])  # the same in plain arithmetic
    check(folder, seen, device="cpu")


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_merge_is_refused(candidate: tuple[Path, Behaviour], fault: str) -> None:
    folder, seen = candidate
    rewrite(folder, WRONG[fault])
    with pytest.raises(ShippingError, match=r"merged/, model\.layers\..*(update arrived|not the exact one)"):
        check(folder, seen, device="cpu")


def test_log_probabilities_alone_do_not_tell_a_young_adapter(
    young: tuple[Path, Behaviour], tmp_path: Path
) -> None:
    """What the weights are compared for: without the adapter the model says the same, within the fixed bound."""
    folder = Path(shutil.copytree(young[0], tmp_path / "candidate"))
    rewrite(folder, WRONG["left out"])
    found = difference(folder / "merged", young[1], device="cpu")
    assert found.worst < 0.25
    assert found.mean < 0.05


def edit(folder: Path, change: Callable[[Weights], Any]) -> None:
    path = folder / "merged/model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "merged/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def another_head(folder: Path) -> None:
    """The output layer is not in the file, and transformers makes up a random one."""
    edit(folder, lambda tensors: tensors.pop("lm_head.weight", None))
    settings(folder, tie_word_embeddings=False)


def one_row(tensors: Weights) -> None:
    tensors["model.embed_tokens.weight"][40] *= 1.02


OTHER: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no output layer": (another_head, r"merged/ cannot be loaded: .*lm_head\.weight is in none"),
    "one row of the embeddings": (
        lambda folder: edit(folder, one_row),
        r"merged/, model\.embed_tokens\.weight is not that of the base",
    ),
    "a norm": (
        lambda folder: edit(folder, lambda t: t["model.norm.weight"].mul_(1.01)),
        r"merged/, model\.norm\.weight is not that",
    ),
    "the epsilon of the norms": (lambda folder: settings(folder, rms_norm_eps=0.3), "merged/.* nats"),
}


@pytest.mark.parametrize("fault", OTHER)
def test_what_no_adapter_changes_is_compared(candidate: tuple[Path, Behaviour], fault: str) -> None:
    change, message = OTHER[fault]
    change(candidate[0])
    with pytest.raises(ShippingError, match=message):
        check(*candidate, device="cpu")


def test_without_memory_for_fp32_the_weights_are_compared(
    stirred: tuple[Path, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tieout.shipping.candidate, "fits", lambda model: False)
    folder = Path(shutil.copytree(stirred[0], tmp_path / "candidate"))
    found = check(folder, stirred[1], device="cpu")
    assert found.noise is None
    assert found.tolerance == 0.25
    rewrite(folder, WRONG["scaled by half in one layer"])
    with pytest.raises(ShippingError, match=r"update arrived|not the exact one"):
        check(folder, stirred[1], device="cpu")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["dora", "gpt2", "gpt2, dora"])
def test_other_kinds_of_adapters_pass(tiny_model: TinyModel, tmp_path: Path, kind: str, dtype: str) -> None:
    base = tiny_model("llama")
    if "gpt2" in kind:
        tokenizer = load(str(base), device="cpu").tokenizer
        torch.manual_seed(0)
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
        network = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), initializer_range=0.2, **sizes))
        network.save_pretrained(tmp_path / "gpt2")
        tokenizer.save_pretrained(tmp_path / "gpt2")
        base = tmp_path / "gpt2"
    adapter = AdapterConfig(method="dora" if "dora" in kind else "lora", rank=4)
    learner = Learner(load(str(base), adapter, dtype=getattr(torch, dtype), device="cpu"))
    stir_weights(learner, scale=0.02)
    seen = built(learner, tmp_path / "candidate", ["Net income was", "Total assets"])
    assert check(tmp_path / "candidate", seen, device="cpu").noise
