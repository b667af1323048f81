"""Weights that are missing, renamed, of another shape, not finite or changed are refused, by tensor and file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.storage.atomic import MANIFEST, seal

ModelFolder = Callable[[str], Path]
Tensors = dict[str, torch.Tensor]
BASE, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture
def base(tiny_model: ModelFolder, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))


@pytest.fixture
def adapter(tiny_model: ModelFolder, tmp_path: Path) -> Path:
    model = load(str(tiny_model("llama")), AdapterConfig(rank=4))
    save_adapter(Learner(model, 1e-3), tmp_path / "adapter")
    return tmp_path / "adapter"


def rewrite(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Change a file of weights, and its folder's manifest, as a program that saves wrong weights would."""
    save_file(change(load_file(path)), path, {"format": "pt"})
    if (path.parent / MANIFEST).exists():
        seal(path.parent)


def without(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: x for name, x in tensors.items() if not name.endswith(key)}


def renamed(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {
        name.replace(f"layers.0.{part}", f"layers.0.{part}_old"): x for name, x in tensors.items()
    }


def cut(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: x[:-1].clone() if n.endswith(key) else x for n, x in tensors.items()}


def holding(key: str, value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        (name,) = [name for name in tensors if name.endswith(key)]
        tensors[name].view(-1)[3] = value
        return tensors

    return change


O_PROJ = "layers.1.self_attn.o_proj.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(O_PROJ), f"model.{O_PROJ} is in none of its weight files"),
        (without("model.norm.weight"), "model.norm.weight is in none of its weight files"),
        (renamed("mlp.up_proj"), "there is model.layers.0.mlp.up_proj_old.weight, which no layer has"),
        (cut(O_PROJ), rf"model.safetensors: model.{O_PROJ} has shape \[31, 32\], .* asks for \[32, 32\]"),
        (holding(O_PROJ, float("nan")), f"model.safetensors: model.{O_PROJ} has 1 of 1024 values"),
        (holding("model.embed_tokens.weight", float("inf")), "model.embed_tokens.weight has 1 of"),
    ],
)
def test_a_base_that_is_not_whole_is_refused(
    base: Path, change: Callable[[Tensors], Tensors], said: str
) -> None:
    rewrite(base / BASE, change)
    with pytest.raises(InputError, match=said):
        load(str(base))


@pytest.mark.parametrize(
    ("layers", "said"),
    [(1, r"layers.1\..* belongs to a layer that config.json leaves out"), (3, r"layers.2\..* is in none of")],
)
def test_a_configuration_of_other_layers_than_the_weights_is_refused(
    base: Path, layers: int, said: str
) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    with pytest.raises(InputError, match=said):
        load(str(base))


LORA = "layers.1.self_attn.v_proj.lora_B.weight"


def also(tensors: Tensors) -> Tensors:
    return {**tensors, "base_model.model.model.layers.7.self_attn.v_proj.lora_B.weight": torch.zeros(16, 4)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(LORA), f"{LORA} is missing"),
        (renamed("self_attn.q_proj"), "layers.0.self_attn.q_proj.lora_A.weight is missing"),
        (lambda tensors: {}, r"lora_A.weight is missing \(and 27 more\)"),
        (cut(LORA), rf"{LORA} has shape \[15, 4\], .* ask for \[16, 4\]"),
        (holding(LORA, float("nan")), f"adapter_model.safetensors: .*{LORA} has 1 of 64 values"),
        (also, "layers.7.self_attn.v_proj.lora_B.weight belongs to no layer"),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused_in_one_sentence(
    adapter: Path, change: Callable[[Tensors], Tensors], said: str
) -> None:
    rewrite(adapter / ADAPTER, change)
    with pytest.raises(InputError, match=said) as caught:
        load(str(adapter), AdapterConfig())
    assert str(adapter / ADAPTER) in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)


def test_a_flipped_bit_is_noticed_by_the_manifest(adapter: Path) -> None:
    flip(adapter / ADAPTER)
    with pytest.raises(InputError, match=f"{ADAPTER} is not the file that .* was written for"):
        load(str(adapter))
    with pytest.raises(InputError, match=f"{ADAPTER} is not the file"):
        load(
            json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"],
            start=adapter,
        )
    (adapter / MANIFEST).unlink()  # what the sentence advises for a change on purpose
    load(str(adapter))


def test_a_flipped_bit_in_a_base_of_ours_is_noticed(base: Path) -> None:
    seal(base)
    flip(base / BASE)
    with pytest.raises(InputError, match=f"{BASE} is not the file"):
        load(str(base))


@pytest.mark.parametrize("text", ["{}", "", "{"])
def test_an_empty_manifest_vouches_for_nothing(adapter: Path, text: str) -> None:
    (adapter / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=f"{MANIFEST} is empty or no JSON"):
        load(str(adapter))


def test_a_manifest_of_another_program_and_a_new_card_are_no_damage(adapter: Path, base: Path) -> None:
    (base / MANIFEST).write_text('{"version": 1, "files": ["model.safetensors"]}')
    (adapter / "README.md").write_text("my card")
    load(str(base))
    load(str(adapter))


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json", "config.json"])
def test_a_broken_setting_is_named_with_its_line(base: Path, name: str) -> None:
    (base / name).write_text('{"a": 1\n"b": 2}')
    with pytest.raises(InputError, match=rf"{name}:2: not JSON"):
        load(str(base))


def test_a_truncated_file_of_weights_is_named(base: Path) -> None:
    (base / BASE).write_bytes((base / BASE).read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"could not be loaded: {base / BASE}: "):
        load(str(base))


def test_a_tokenizer_larger_than_the_embedding_is_refused(
    base: Path, adapter: Path, new_tokenizer: Callable[..., Any]
) -> None:
    larger = new_tokenizer(extra_special=("<a>", "<b>"))
    for folder in (base, adapter):
        larger.save_pretrained(folder)
        (folder / "manifest.json").unlink(missing_ok=True)  # saved so, not changed since
        with pytest.raises(InputError, match=r"the tokenizer of .* has 264 tokens and .* embedding 262 rows"):
            load(str(folder))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_blew_up_in_memory_give_no_completions(base: Path, temperature: float) -> None:
    model = load(str(base))
    model.causal.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite"):
        LocalSampler(model).sample([[5, 6, 7]], 1, SamplingParams(4, temperature=temperature))
