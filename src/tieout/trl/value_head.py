"""What programs for PPO's step interface use with the trainer: the wrapped model, its reference, random lengths."""

from __future__ import annotations

import random
import warnings
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from ..errors import InputError
from ..learner.models.names import resolve
from ..learner.models.scalar_head import ScalarHead

CHAINED = {
    "to", "cuda", "cpu", "train", "eval", "half", "float", "double", "bfloat16", "requires_grad_", "apply",
    "share_memory",
}  # fmt: skip
"""Methods of a module that return the module."""


class AutoModelForCausalLMWithValueHead:
    """A causal model whose value head the trainer adds. What it does not know it asks the model it wraps."""

    def __init__(self, pretrained_model: Any, peft_config: Any = None) -> None:
        self.pretrained_model, self.peft_config = pretrained_model, peft_config
        self.value_head: ScalarHead | None = None

    @classmethod
    def from_pretrained(
        cls, name: Any, *_: Any, peft_config: Any = None, load_in_8bit: bool = False, **options: Any
    ) -> AutoModelForCausalLMWithValueHead:
        """Load a base by name, or wrap a model. `torch_dtype` is the older name of `dtype`."""
        if load_in_8bit or options.pop("load_in_4bit", False):
            raise InputError("8 and 4 bits: load the base with a quantization_config and wrap it")
        if options.pop("trust_remote_code", False):
            raise InputError("trust_remote_code: code from a repository is never run")
        if "torch_dtype" in options:
            options["dtype"] = options.pop("torch_dtype")
        for gone in ("summary_dropout_prob", "v_head_initializer_range", "v_head_init_strategy"):
            options.pop(gone, None)
        if isinstance(name, str):
            options = {"dtype": torch.float32, "use_safetensors": True, **options}
            name = AutoModelForCausalLM.from_pretrained(resolve(name)[1], **options)
        return cls(name, peft_config)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "pretrained_model" not in self.__dict__:  # copying and pickling ask early
            raise AttributeError(name)
        found = getattr(self.pretrained_model, name)
        if name not in CHAINED:
            return found

        def chained(*given: Any, **options: Any) -> AutoModelForCausalLMWithValueHead:
            found(*given, **options)
            return self

        return chained

    def forward(self, *given: Any, **options: Any) -> tuple[Tensor, Tensor | None, Tensor]:
        """Logits [B, L, V] in fp32, loss (None without labels), and values [B, L] in fp32.

        Values are those of the trainer's value head, and 0 before a PPOTrainer has been made with this model.
        """
        wanted = {**options, "output_hidden_states": True, "return_dict": True}
        said = self.pretrained_model(*given, **wanted)
        if self.value_head is None:
            values = torch.zeros(said.logits.shape[:2], device=said.logits.device)
        else:
            values = self.value_head(said.hidden_states[-1])
        return said.logits.float(), said.loss, values

    __call__ = forward


def create_reference_model(model: Any, num_shared_layers: int | None = None, pattern: Any = None) -> Any:
    """A frozen copy of a model, wrapped if the model is. A trainer that is given none keeps the same reference."""
    if num_shared_layers is not None or pattern is not None:
        text = "num_shared_layers, pattern: without effect: the reference is a whole copy, and every layer is trained"
        warnings.warn(text, stacklevel=2)
    if isinstance(model, AutoModelForCausalLMWithValueHead):
        return AutoModelForCausalLMWithValueHead(create_reference_model(model.pretrained_model))
    return deepcopy(model).eval().requires_grad_(False)


def refuse_filters(**given: float | None) -> None:
    """InputError: a filter of samples that is on, for which log-probabilities would not be the policy's."""
    for name, value in given.items():
        if value not in ((None, 0) if name == "top_k" else (None, 1.0)):
            raise InputError(
                f"{name}: log-probabilities of filtered samples are not the policy's; leave it out"
            )


def respond_to_batch(
    model: Any, queries: Tensor, txt_len: int = 20, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """[B, txt_len] tokens sampled after queries [B, L] of one length, stop tokens or not."""
    refuse_filters(top_k=top_k, top_p=top_p)
    ids = queries
    with torch.no_grad():
        for _ in range(txt_len):
            sampled = torch.multinomial(model(input_ids=ids)[0][:, -1].float().softmax(-1), 1)
            ids = torch.cat([ids, sampled], dim=-1)
    return ids[:, queries.shape[1] :]


class LengthSampler:
    """Random lengths in [min_value, max_value): `new_tokens = sampler()`."""

    def __init__(self, min_value: int, max_value: int) -> None:
        self.values = range(min_value, max_value)

    def __call__(self) -> int:
        return random.choice(self.values)
