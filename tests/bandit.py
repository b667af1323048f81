"""A model over three words, so small that every completion can be enumerated with its probability."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tieout.learner import Learner, LearnerConfig, Model
from tieout.learner.models.scalar_head import ScalarHead
from tieout.types import Completion

PROMPT = [2, 0, 1]
WIDTH = 16


@dataclass
class Words:
    """What a sampler needs of a chat, for a vocabulary without text."""

    stop_tokens: tuple[int, ...] = ()

    def text(self, tokens: Any) -> str:
        return " ".join(map(str, tokens))


def make_bandit(reference: bool = False, value: bool = False) -> Learner:
    """A Llama over three words, all of it trained; with a reference that says something else, and a value head of 0."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=3,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.3,
        attn_implementation="tieout",
    )
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    tokenizer = type("Tokenizer", (), {"pad_token_id": 0})()
    other = None
    if reference:
        other = copy.deepcopy(network).requires_grad_(False)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
    head = ScalarHead.new("value", WIDTH, torch.device("cpu")) if value else None
    model = Model(network, tokenizer, "bandit", reference_network=other, value=head)
    return Learner(model, config=LearnerConfig(max_grad_norm=float("inf")))


def logprobs(network: Any, words: tuple[int, ...]) -> torch.Tensor:
    """[C] of these words after the prompt, with gradient."""
    logits = network(torch.tensor([PROMPT + list(words)])).logits[0].log_softmax(-1)
    return torch.stack([logits[len(PROMPT) - 1 + i, w] for i, w in enumerate(words)])


def probabilities(learner: Learner) -> torch.Tensor:
    """[3] of the next word, with gradient."""
    return torch.stack([logprobs(learner.model.network, (w,))[0] for w in range(3)]).exp()


def completions(learner: Learner, length: int) -> Iterator[tuple[Completion, float]]:
    """Every completion of so many words, as if sampled, and its probability."""
    for words in itertools.product(range(3), repeat=length):
        own = logprobs(learner.model.network, words).detach()
        yield Completion(list(words), [True] * length, own.tolist()), own.sum().exp().item()


def slope(learner: Learner, value: torch.Tensor) -> torch.Tensor:
    """The flat gradient of a number by everything that the policy trains, in the learner's order."""
    parameters = [p for n, p in learner.model.trained().items() if not n.startswith("value_head")]
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])
