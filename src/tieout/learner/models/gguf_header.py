"""What a GGUF file says of its model and its tokenizer, and what of it transformers would pass over in silence.

transformers loads a file although it leaves out some of its keys and tensors, and splits the text of vocabularies that
it does not know as GPT-2 does. Both give a model that writes sensible text and other numbers than the file's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ...errors import InputError

INSTALL = "`pip install 'tieout[real]'` (or `pip install gguf`)"

SAME: Mapping[str, tuple[str, ...]] = {
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "norm_epsilon", "layer_norm_eps", "norm_eps"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "rope.freq_base": ("rope_theta",),
    "rope.dimension_count": ("rotary_dim", "head_dim"),
    "vocab_size": ("vocab_size",),
}
"""Key of a file, without its architecture -> the names that a configuration may give it."""
NOT_OF_THE_MODEL = {"tensor_data_layout", "attention.causal"}
SCALING = "rope.scaling."
LLAMA3_FREQUENCIES = "rope_freqs.weight"

DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
"""Byte-level vocabularies whose text is cut at every digit first, then as GPT-2's (llama.cpp's src/llama-vocab.cpp)."""
AS_GPT2 = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"}
WHOLE_WORDS = {"llama3", "llama-v3", "llama-bpe", "tekken"}
"""Vocabularies that take a word which is a token whole, without merging; they begin every text with BOS."""


class Header:
    """The keys and tensors of a GGUF file."""

    def __init__(self, file: Path) -> None:
        if find_spec("gguf") is None:
            raise InputError(f"reading {file} needs the package gguf, which is not installed: {INSTALL}")
        from gguf import GGUFReader

        self.file = file
        try:
            reader = GGUFReader(str(file))
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise InputError(f"{file} is no GGUF file, or is cut off ({error}); download it again") from error
        arrays = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.scores")
        self.keys = {k: field.contents() for k, field in reader.fields.items() if not k.startswith(arrays)}
        self.tensors = {
            t.name: (int(t.n_elements), t.tensor_type.name, t.data if t.name == LLAMA3_FREQUENCIES else None)
            for t in reader.tensors
        }
        if "general.architecture" not in self.keys:
            raise InputError(f"{file} names no general.architecture: it holds no model")
        self.architecture = str(self.keys["general.architecture"])

    @property
    def rounded_to(self) -> tuple[str, int]:
        """The type of most of the weights in matrices, such as Q4_1, and its bits; 16 and more: not rounded."""
        counts: dict[str, int] = {}
        for elements, kind, _ in self.tensors.values():
            counts[kind] = counts.get(kind, 0) + elements
        kind = max(counts, key=lambda k: counts[k])
        digits = "".join(c for c in kind.partition("_")[0] if c.isdigit())
        return kind, int(digits or 16)

    def of_model(self) -> dict[str, Any]:
        """The keys that describe the architecture, without its name before them."""
        prefix = f"{self.architecture}."
        return {k.removeprefix(prefix): v for k, v in self.keys.items() if k.startswith(prefix)}

    def refuse_unreadable(self) -> None:
        """InputError: a part of a model, or a tokenizer that would split text in another way than the file's."""
        if int(self.keys.get("split.count", 1)) > 1:
            raise InputError(
                f"{self.file} is one of {self.keys['split.count']} parts; join them first: "
                "`llama-gguf-split --merge FIRST.gguf WHOLE.gguf`"
            )
        if self.keys.get("tokenizer.ggml.model") == "gpt2" and self.splits_as not in self.known_splits():
            raise InputError(
                f"{self.file} splits text as {self.splits_as!r}, which neither transformers nor this program knows: "
                "its tokens would be others than the model was trained on. Give the folder of the model that the file "
                "was made from"
            )

    @property
    def splits_as(self) -> str | None:
        """llama.cpp's name of how text is cut before its pieces are merged; GPT-2's own files have none."""
        return self.keys.get("tokenizer.ggml.pre", "gpt-2" if self.architecture == "gpt2" else None)

    @staticmethod
    def known_splits() -> set[str]:
        """Those of transformers, and those that `mend_tokenizer` sets."""
        try:
            from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
        except ImportError:  # an older transformers
            return DIGITS | AS_GPT2
        return {*GGUF_PRE_TOKENIZER_SPLITS, *DIGITS, *AS_GPT2}

    def mend_tokenizer(self, tokenizer: Any) -> None:
        """Make a tokenizer that transformers read from the file split text as the file says."""
        if self.keys.get("tokenizer.ggml.model") == "gpt2":
            backend, bytes_of = tokenizer.backend_tokenizer, pre_tokenizers.ByteLevel(add_prefix_space=False)
            if self.splits_as in DIGITS:
                digits = pre_tokenizers.Digits(individual_digits=True)
                backend.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_of])
            elif self.splits_as in AS_GPT2:
                backend.pre_tokenizer = bytes_of
            elif self.splits_as in WHOLE_WORDS:
                backend.model.ignore_merges = True
                if "tokenizer.ggml.add_bos_token" not in self.keys:
                    tokenizer.add_bos_token = True
        if (length := self.of_model().get("context_length")) is not None:
            tokenizer.model_max_length = int(length)

    def mend_config(self, config: PretrainedConfig) -> None:
        """Add what transformers leaves out of the configuration. InputError: what is left out cannot be added."""
        if self.architecture == "llama" and getattr(config, "sliding_window", None):
            config.sliding_window = None  # Mistral's default, which files of this architecture do not have
        if LLAMA3_FREQUENCIES in self.tensors:
            self._set_llama3_rope(config)
        if unread := self._unread(config):
            raise InputError(
                f"{self.file} says {', '.join(unread)}, which transformers does not read: it would compute another "
                "model. Give the folder of the model that the file was made from"
            )

    def _unread(self, config: PretrainedConfig) -> list[str]:
        """`key = value` of what the configuration does not say."""
        keys = self.of_model()
        unscaled = keys.get(f"{SCALING}type", "none") == "none" and keys.get(f"{SCALING}factor", 1) in (0, 1)
        read = self._read_by_transformers()
        if read is None:
            return []
        unread = []
        for key, value in keys.items():
            if key in NOT_OF_THE_MODEL or (key.startswith(SCALING) and unscaled):
                continue
            if key in SAME and not isinstance(value, list):
                if not _says(config, key, value):
                    unread.append(f"{key} = {value}")
            elif key not in read:
                unread.append(f"{key} = {value}")
        return unread

    def _read_by_transformers(self) -> set[str] | None:
        """The keys of this architecture that go into its configuration; None: a reader of its own takes all."""
        try:
            from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

            if self.architecture in GGUF_CONFIG_ARCHS:
                return None
        except ImportError:  # an older transformers
            pass
        from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

        names = {
            self.architecture,
            self.architecture.replace("moe", "_moe"),
            self.architecture.replace("-", "_"),
        }
        return {key for name in names for key, ours in GGUF_CONFIG_MAPPING.get(name, {}).items() if ours}

    def _set_llama3_rope(self, config: PretrainedConfig) -> None:
        """The scaling of positions of Llama 3.1 to 3.3, which a file keeps as a tensor of divisors."""
        divisors = torch.tensor(self.tensors[LLAMA3_FREQUENCIES][2]).float().flatten()
        plain = dict(config.rope_parameters)
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        config.rope_parameters = {
            **plain,
            "rope_type": "llama3",
            "factor": float(divisors.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        ours, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        theirs = plain["rope_theta"] ** -(torch.arange(0, dim, 2).float() / dim) / divisors
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=1e-3, atol=0):
            raise InputError(
                f"{self.file} scales positions in a way of its own ({LLAMA3_FREQUENCIES}), which transformers does not "
                "read: give the folder of the model that the file was made from"
            )

    def refuse_left_out(self, model: Any, missing: Mapping[str, Any]) -> None:
        """InputError: transformers filled in weights that the file lacks, or left out some that it has."""
        absent = sorted([*missing.get("missing_keys", ()), *missing.get("mismatched_keys", ())])
        if absent:
            raise InputError(f"{self.file} lacks weights of the model: {', '.join(map(str, absent[:3]))}")
        ours = sum({t.data_ptr(): t.numel() for t in model.state_dict().values()}.values())
        given = {
            n: e for n, (e, _, _) in self.tensors.items() if n != LLAMA3_FREQUENCIES and "nextn" not in n
        }
        if model.config.tie_word_embeddings:
            given.pop("output.weight", None)
        if sum(given.values()) != ours:
            raise InputError(
                f"{self.file} holds {sum(given.values()):,} weights, of which transformers reads {ours:,}: it would "
                "compute another model. Give the folder of the model that the file was made from"
            )


def _says(config: PretrainedConfig, key: str, value: Any) -> bool:
    """Whether the configuration gives a key of the file the same value."""
    rope = getattr(config, "rope_parameters", None) or {}
    found = [getattr(config, name, None) for name in SAME[key]] + [rope.get(name) for name in SAME[key]]
    if key == "attention.sliding_window" and value >= config.max_position_embeddings:
        found.append(value)  # wider than any text: no window
    heads = getattr(config, "num_attention_heads", None)
    if SAME[key][-1] == "head_dim" and heads:
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        share = getattr(config, "partial_rotary_factor", None) or rope.get("partial_rotary_factor") or 1.0
        found.append(int(dim * share) if key == "rope.dimension_count" else dim)
    return any(isinstance(f, int | float) and math.isclose(f, value, rel_tol=1e-4) for f in found)
