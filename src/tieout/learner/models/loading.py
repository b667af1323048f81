"""Load a causal language model, give it an adapter, and know what its architecture allows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from ... import embedded
from ...chat.template import Chat
from ...errors import InputError
from .adapters import (
    POLICY,
    REFERENCE,
    REWARD,
    VALUE,
    AdapterConfig,
    add_frozen,
    lora_config,
    start_from,
    tuner_layers,
    using,
)
from .architecture import decoder_of, head_of, text_config, why_not_packed
from .bases import Bases, load_base
from .output_head import Head
from .peft import PeftModel, get_peft_model
from .scalar_head import ScalarHead, ScalarKind, adapter_score, load_value

__all__ = [
    "POLICY",
    "REFERENCE",
    "VALUE",
    "AdapterConfig",
    "Model",
    "context_of",
    "decoder_of",
    "head_of",
    "load",
    "load_chat",
    "portable",
    "resolve",
    "why_not_packed",
]


@dataclass(eq=False)
class Model:
    """A network, its tokenizer, and how to reach its frozen reference."""

    network: Any
    """The transformers model, or PEFT's wrapper around it."""
    tokenizer: Any
    name: str
    """Hub id or folder of the base."""
    reference_network: Any = None
    """Full fine-tuning only: a frozen copy of the network at step 0."""
    reference_moved: bool = False
    """Whether the reference was refreshed: it is then no longer what the model was loaded with."""
    score: ScalarHead | None = None
    """One number a sequence: the network is a reward model, or has one's frozen adapter beside its own."""
    value: ScalarHead | None = None
    """One number a token: PPO's expected return."""

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model, without PEFT's wrapper."""
        return self.network.get_base_model() if isinstance(self.network, PeftModel) else self.network

    @cached_property
    def chat(self) -> Chat:
        """Tokens to text and back, with the stop tokens that the model's generation config adds."""
        stops = getattr(self.causal.generation_config, "eos_token_id", None)
        return Chat(
            self.tokenizer, tuple(stops) if isinstance(stops, list) else () if stops is None else (stops,)
        )

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def context(self) -> int:
        """The longest sequence the model was built for, in tokens."""
        return _context(text_config(self.causal))

    @property
    def head(self) -> Head:
        """The output layer."""
        return head_of(self.causal)

    def trained(self) -> dict[str, nn.Parameter]:
        """Name -> every parameter that takes a gradient."""
        heads = {"score_head": self.score, "value_head": self.value}
        named = dict(self.network.named_parameters())
        for name, head in heads.items():
            named |= {f"{name}.{n}": p for n, p in head.linear.named_parameters()} if head else {}
        return {name: p for name, p in named.items() if p.requires_grad}

    @property
    def only_scores(self) -> bool:
        """Whether the network is a reward model: what its output layer says of tokens means nothing."""
        return self.score is not None and self.score.adapter is None

    def add_reward(self, folder: Path) -> None:
        """Put a reward model's adapter beside the policy's, frozen: one base serves both.

        ValueError: the folder holds no adapter with a score head, or one of another base.
        """
        if not isinstance(self.network, PeftModel):
            raise InputError(
                "full fine-tuning changes the base that the reward model needs: train an adapter"
            )
        base, _, own = resolve(str(folder))
        if own is None or portable(base) != portable(self.name):
            raise InputError(
                f"{folder} is no adapter of {portable(self.name)}, but of {portable(base)}; "
                "use it as a reward function: tieout.rewards.library.reward_model.reward_model"
            )
        tensors = adapter_score(own)
        if tensors is None:
            raise InputError(
                f"the adapter in {folder} has no score head; train it with `tieout train reward_model`"
            )
        add_frozen(self.network, own, REWARD)
        self.score = ScalarHead.of(tensors, self.device, REWARD)

    @property
    def has_reference(self) -> bool:
        """Whether `as_reference` gives one: always with an adapter."""
        return self.reference_network is not None or isinstance(self.network, PeftModel)

    @contextmanager
    def as_reference(self) -> Iterator[PreTrainedModel]:
        """The policy at step 0: the adapter off, the frozen copy of the adapter it started from, or a frozen copy."""
        if self.reference_network is not None:
            yield self.reference_network
        elif not isinstance(self.network, PeftModel):
            raise InputError(
                "full fine-tuning keeps no reference unless asked: load the model with keep_reference=True"
            )
        elif REFERENCE in self.network.peft_config:
            with using(self.network, REFERENCE):
                yield self.causal
        else:
            with self.network.disable_adapter():
                yield self.causal

    @contextmanager
    def merged(self) -> Iterator[PreTrainedModel]:
        """The policy with its adapter folded into a copy of the weights; the originals come back untouched.

        An adapter on anything but a plain linear layer (a mixture's experts, 4-bit weights) stays beside it.
        """
        layers = tuner_layers(self.network)
        if not all(type(layer.get_base_layer()) is nn.Linear for layer in layers):
            layers = []
        originals = [(layer, layer.get_base_layer(), layer.get_base_layer().weight) for layer in layers]
        try:
            with torch.no_grad():
                for layer, base, weight in originals:
                    # A new parameter, not new data: an embedding tied to this one keeps its own.
                    base.weight = nn.Parameter(weight.clone(), requires_grad=False)
                    layer.merge(adapter_names=[POLICY])
            yield self.causal
        finally:
            for layer, base, weight in originals:
                base.weight = weight
                layer.merged_adapters.clear()


def load(
    name: str,
    adapter: AdapterConfig | None = None,
    *,
    start: Path | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    keep_reference: bool = False,
    head: ScalarKind | None = None,
    value_adapter: bool = False,
    four_bits: bool = False,
    bases: Bases | None = None,
) -> Model:
    """Load a base by hub id, local folder or `tieout-base`, and put an adapter on it.

    Args:
        name: hub id, folder of a causal model, folder of a PEFT adapter (its base is loaded, and it becomes the
            start), or the name of an embedded model.
        adapter: what to train; None loads for inference only.
        start: folder of a PEFT adapter to start from. The reference is then a frozen copy of it.
        seed: of the new adapter's weights.
        dtype: of the base; fp32 on CPU and bf16 on CUDA if None.
        device: cuda if there is one, else cpu, if None.
        keep_reference: full fine-tuning only: keep a frozen copy of the network.
        head: a scalar head to add: `score` makes a reward model, `value` is for PPO. A head that was saved with the
            checkpoint or adapter is taken up; what was a reward model is one again without being asked.
        value_adapter: the value head reads an adapter of its own instead of the policy's.
        four_bits: load the base in 4 bits, as it is for an adapter of method `qlora`, also without `adapter`.
        bases: where a base that is loaded already is taken from; the model that had it before is then closed. None, and
            full fine-tuning, which changes the base: load it from disk.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
    name, source, own = resolve(name)
    if own is not None and start is not None:
        raise InputError(f"{own} is an adapter, and start={start} names another: give one of the two")
    start = start or own
    four_bits = four_bits or (adapter is not None and adapter.method == "qlora")
    if adapter is not None and adapter.method == "full":
        bases = None
    base = (bases.borrow if bases else load_base)(name, source, dtype, device, four_bits)
    network, tensors = base.network, base.score
    if start is not None and (Path(start) / "adapter_config.json").exists():
        tensors = adapter_score(Path(start)) or tensors
    model = _with_adapter(Model(network, base.tokenizer, name), adapter, start, seed, keep_reference)
    if tensors is not None:
        model.score = ScalarHead.of(tensors, model.device)
    elif head == "score":
        torch.manual_seed(seed)
        model.score = ScalarHead.new("score", text_config(network).hidden_size, model.device)
    if head == "value":
        _add_value(model, adapter, start or Path(source), seed, value_adapter)
    for scalar in filter(None, (model.score, model.value)):
        scalar.linear.requires_grad_(adapter is not None)
    if bases is not None:
        bases.lend(base, model, source, dtype, device, four_bits)
    return model


def _with_adapter(
    model: Model, adapter: AdapterConfig | None, start: Path | None, seed: int, keep_reference: bool
) -> Model:
    """The model with what is to be trained: an adapter, fresh or started from, or all of it."""
    if adapter is None and start is None:
        return model
    if adapter is not None and adapter.method == "full":
        if start is not None:
            raise InputError("full fine-tuning cannot start from an adapter: merge it first (`tieout ship`)")
        model.reference_network = frozen_copy(model.network) if keep_reference else None
        model.network.requires_grad_(True)
        return model
    if start is not None:
        model.network = start_from(model.network, Path(start), adapter)
    else:
        assert adapter is not None
        torch.manual_seed(seed)
        model.network = get_peft_model(model.network, lora_config(adapter)).eval()
    # PEFT would write the folder it was loaded from.
    model.network.peft_config[POLICY].base_model_name_or_path = portable(model.name)
    return model


def _add_value(model: Model, adapter: AdapterConfig | None, saved: Path, seed: int, own: bool) -> None:
    """The value head that lies in `saved`, or a new one; on an adapter of its own if asked."""
    if model.only_scores:
        raise InputError(f"{model.name} is a reward model: it has no policy that a value head could serve")
    tensors, width = load_value(saved), text_config(model.causal).hidden_size
    if own:
        if adapter is None or not isinstance(model.network, PeftModel):
            raise InputError(
                "a value head on an adapter of its own needs an adapter to train: not method 'full'"
            )
        torch.manual_seed(seed)
        if (saved / VALUE / "adapter_config.json").exists():
            add_frozen(model.network, saved / VALUE, VALUE)
        else:
            config = replace(model.network.peft_config[POLICY], inference_mode=False)
            model.network.add_adapter(VALUE, config)
        for name, parameter in model.network.named_parameters():
            if f".{VALUE}." in name:
                parameter.requires_grad_(True)
        model.network.eval()
    where = VALUE if own else None
    if tensors is not None:
        model.value = ScalarHead.of(tensors, model.device, where)
    else:
        model.value = ScalarHead.new("value", width, model.device, where)


def resolve(name: str) -> tuple[str, str, Path | None]:
    """What a model name stands for: (name of the base, what transformers loads, adapter folder or None)."""
    folder = embedded.path(name) if name in embedded.NAMES else Path(name)
    if (folder / "adapter_config.json").exists():
        base = json.loads((folder / "adapter_config.json").read_text()).get("base_model_name_or_path")
        if not base:
            raise InputError(f"{folder}/adapter_config.json names no base_model_name_or_path; add it")
        return (*resolve(base)[:2], folder)
    if folder.exists() and not (folder / "config.json").exists():
        raise InputError(f"{folder} holds no model: expected config.json and *.safetensors there")
    if not folder.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"model folder {name} does not exist; give a folder, a hub id, or tieout-base")
    return name, str(folder) if folder.exists() else name, None


def portable(base: str) -> str:
    """The name under which a base is found elsewhere: embedded name or hub id; else the folder's full path.

    >>> portable("/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de")
    'Qwen/Qwen3-0.6B'
    """
    if base in embedded.NAMES:
        return base
    if cached := re.search(r"models--([^/]+?)--([^/]+)/snapshots/", f"{base}/"):
        return f"{cached[1]}/{cached[2]}"
    if not Path(base).exists():
        return base
    folder = Path(base).resolve()
    inside = folder.parent == Path(embedded.__file__).resolve().parent
    return folder.name.replace("_", "-") if inside else str(folder)


def load_chat(name: str) -> Chat:
    """The tokenizer and chat template of a model, without its weights."""
    return Chat.load(resolve(name)[1])


def context_of(name: str) -> int:
    """The longest sequence a model was built for, in tokens, without loading its weights."""
    return _context(AutoConfig.from_pretrained(resolve(name)[1]).get_text_config())


def _context(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", 0) or 1 << 30)


def frozen_copy(network: PreTrainedModel) -> PreTrainedModel:
    """The same network, which no training moves."""
    copy = type(network)(network.config).to(network.device, network.dtype)
    copy.load_state_dict(network.state_dict())
    return copy.eval().requires_grad_(False)
