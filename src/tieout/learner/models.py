"""Load a causal language model, give it an adapter, and know what its architecture allows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from .. import embedded
from ..chat import Chat
from .attention import NAME
from .head import Head

POLICY = "default"
REFERENCE = "reference"


@dataclass(frozen=True)
class AdapterConfig:
    """What is trained."""

    method: Literal["lora", "dora", "full"] = "lora"
    """lora: https://arxiv.org/abs/2106.09685; dora: https://arxiv.org/abs/2402.09353; full: every weight."""
    rank: int = 16
    """Width of the low-rank update."""
    alpha: float = 32.0
    """The update is scaled by alpha / rank."""
    dropout: float = 0.0
    """Dropout before the adapter; above 0 no prompt can be shared between completions."""
    targets: str = "all-linear"
    """`all-linear` (every linear layer but the output head), or module names separated by commas."""


@dataclass
class Model:
    """A network, its tokenizer, and how to reach its frozen reference."""

    network: Any
    """The transformers model, or PEFT's wrapper around it."""
    tokenizer: Any
    name: str
    """Hub id or folder of the base."""
    reference_network: Any = None
    """Full fine-tuning only: a frozen copy of the network at step 0."""

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
        return _context(_text_config(self.causal))

    @property
    def head(self) -> Head:
        """The output layer."""
        return head_of(self.causal)

    def trained(self) -> dict[str, nn.Parameter]:
        """Name -> every parameter that takes a gradient."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    @contextmanager
    def as_reference(self) -> Iterator[PreTrainedModel]:
        """The policy at step 0: the adapter off, the frozen copy of the adapter it started from, or a frozen copy."""
        if self.reference_network is not None:
            yield self.reference_network
        elif not isinstance(self.network, PeftModel):
            raise ValueError(
                "full fine-tuning keeps no reference unless asked: load the model with keep_reference=True"
            )
        elif REFERENCE in self.network.peft_config:
            with _using(self.network, REFERENCE):
                yield self.causal
        else:
            with self.network.disable_adapter():
                yield self.causal

    @contextmanager
    def merged(self) -> Iterator[PreTrainedModel]:
        """The policy with its adapter folded into a copy of the weights; the originals come back untouched.

        An adapter on something other than a linear layer (a mixture's experts) stays beside the weights.
        """
        layers = [m for m in self.network.modules() if isinstance(m, BaseTunerLayer)]
        if not all(isinstance(layer.get_base_layer(), nn.Linear) for layer in layers):
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


@contextmanager
def _using(network: PeftModel, adapter: str) -> Iterator[None]:
    """Switch the active adapter without touching requires_grad (PEFT's own set_adapter would)."""
    layers = [m for m in network.modules() if isinstance(m, BaseTunerLayer)]
    before = [layer._active_adapter for layer in layers]
    try:
        for layer in layers:
            layer._active_adapter = [adapter]
        yield
    finally:
        for layer, names in zip(layers, before, strict=True):
            layer._active_adapter = names


def load(
    name: str,
    adapter: AdapterConfig | None = None,
    *,
    start: Path | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    keep_reference: bool = False,
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
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
    name, source, own = resolve(name)
    if own is not None and start is not None:
        raise ValueError(f"{own} is an adapter, and start={start} names another: give one of the two")
    start = start or own
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        config = _without_dropout(AutoConfig.from_pretrained(source))
        network = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation=_attention_for(config),
        ).to(device)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model {name!r} could not be loaded: expected the folder of a causal language model with "
            f"config.json, tokenizer and *.safetensors, or a hub id that is reachable or cached ({error})"
        ) from error
    network.eval().requires_grad_(False)
    _check_head(network, name)
    if adapter is None and start is None:
        return Model(network, tokenizer, name)
    if adapter is not None and adapter.method == "full":
        if start is not None:
            raise ValueError("full fine-tuning cannot start from an adapter: merge it first (`tieout ship`)")
        frozen = _copy(network) if keep_reference else None
        return Model(network.requires_grad_(True), tokenizer, name, frozen)
    if start is not None:
        peft = _start_from(network, Path(start), trainable=adapter is not None)
    else:
        assert adapter is not None
        torch.manual_seed(seed)
        peft = get_peft_model(network, _lora(adapter)).eval()
    # PEFT would write the folder it was loaded from.
    peft.peft_config[POLICY].base_model_name_or_path = portable(name)
    return Model(peft, tokenizer, name)


def resolve(name: str) -> tuple[str, str, Path | None]:
    """What a model name stands for: (name of the base, what transformers loads, adapter folder or None)."""
    folder = embedded.path(name) if name in embedded.NAMES else Path(name)
    if (folder / "adapter_config.json").exists():
        base = json.loads((folder / "adapter_config.json").read_text()).get("base_model_name_or_path")
        if not base:
            raise ValueError(f"{folder}/adapter_config.json names no base_model_name_or_path; add it")
        return (*resolve(base)[:2], folder)
    if folder.exists() and not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds no model: expected config.json and *.safetensors there")
    if not folder.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ValueError(f"model folder {name} does not exist; give a folder, a hub id, or tieout-base")
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


def _start_from(network: PreTrainedModel, folder: Path, trainable: bool) -> PeftModel:
    if not (folder / "adapter_model.safetensors").exists():
        raise ValueError(
            f"{folder} holds no adapter: expected adapter_config.json and adapter_model.safetensors"
        )
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = not trainable
    options: dict[str, Any] = {"config": config, "torch_device": str(network.device)}
    peft = PeftModel.from_pretrained(network, str(folder), is_trainable=trainable, **options)
    if trainable:
        frozen = LoraConfig.from_pretrained(str(folder))
        frozen.inference_mode = True
        peft.load_adapter(str(folder), adapter_name=REFERENCE, is_trainable=False, peft_config=frozen)
    return peft.eval()


def _lora(adapter: AdapterConfig) -> LoraConfig:
    targets: str | list[str] = adapter.targets
    if targets != "all-linear":
        targets = [t.strip() for t in adapter.targets.split(",")]
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        use_dora=adapter.method == "dora",
        task_type="CAUSAL_LM",
    )


def _copy(network: PreTrainedModel) -> PreTrainedModel:
    copy = type(network)(network.config).to(network.device, network.dtype)
    copy.load_state_dict(network.state_dict())
    return copy.eval().requires_grad_(False)


def _without_dropout(config: Any) -> Any:
    """The base's own dropout off: it would make two forwards of the same weights differ, and each copy of a prompt."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, value in vars(part).items():
            if isinstance(value, float) and ("drop" in name):
                setattr(part, name, 0.0)
    return config


def _attention_for(config: Any) -> str:
    """Ours where the architecture takes any attention; else the best that it knows itself.

    What SDPA cannot do (a soft cap on scores, attention sinks) would be left out without a word.
    """
    network = AutoModelForCausalLM._model_mapping.get(type(config), PreTrainedModel)
    if not network._supports_sdpa:
        return "eager"
    return NAME if network._supports_attention_backend else "sdpa"


def _text_config(network: PreTrainedModel) -> Any:
    return network.config.get_text_config()


def decoder_of(network: PreTrainedModel) -> nn.Module:
    """The stack of layers that gives hidden states, without the output head."""
    return network.get_decoder()


def head_of(network: PreTrainedModel) -> Head:
    """The output layer with what the architecture does to its logits."""
    config = _text_config(network)
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    if getattr(config, "logits_scaling", None):
        scale /= float(config.logits_scaling)
    return Head(network.get_output_embeddings(), scale, getattr(config, "final_logit_softcapping", None))


def _check_head(network: PreTrainedModel, name: str) -> None:
    """Refuse an architecture that does to its logits what `head_of` does not know: every number would be wrong."""
    ids = torch.tensor([[1, 2, 3]], device=network.device)
    with torch.no_grad():
        own = network(input_ids=ids).logits.float()
        hidden = decoder_of(network)(input_ids=ids, use_cache=False).last_hidden_state
        error = (head_of(network).logits(hidden) - own).abs().max().item()
    if not error <= 0.02 * own.abs().max().item():
        raise ValueError(
            f"the logits of {name!r} ({network.config.model_type}) are not its output layer applied to its hidden "
            f"states: they differ by {error:.2g}. This architecture is not known here; `head_of` must learn it"
        )


FULL_ATTENTION = {"full_attention", "sliding_attention"}


def why_not_packed(model: Model) -> str | None:
    """None if the completions of a group may share their prompt in this model, else the reason."""
    config = _text_config(model.causal)
    other = {kind for kind in getattr(config, "layer_types", None) or [] if kind not in FULL_ATTENTION}
    if other:
        return f"it has layers of type {', '.join(sorted(other))}, which carry state across the row"
    state = [
        n for n, m in model.causal.named_modules() if isinstance(m, (nn.Conv1d, nn.RNNBase)) or _is_mamba(m)
    ]
    if state:
        return f"it has recurrent or convolution layers ({state[0]}), which carry state across the row"
    if getattr(config, "alibi", False) or config.model_type in {"bloom", "mpt", "falcon_h1"}:
        return "its positions are distances along the row (ALiBi)"
    if getattr(config, "kv_lora_rank", None):
        return "its keys and values have heads of different sizes (multi-head latent attention)"
    if config._attn_implementation != NAME:
        return f"its architecture brings its own attention ({config._attn_implementation})"
    if _dropout(model):
        return "the adapter's dropout is above 0: copies of a prompt would differ"
    return None


def _is_mamba(module: nn.Module) -> bool:
    return "mamba" in type(module).__name__.lower()


def _dropout(model: Model) -> bool:
    if not isinstance(model.network, PeftModel):
        return False
    return any(config.lora_dropout > 0 for config in model.network.peft_config.values())
