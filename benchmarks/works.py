"""What the benchmarks against other trainers do, and the start that both sides share: model, tokens, adapter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAD, END, UNKNOWN = 0, 1, 2
FIRST = 3
"""The first token that is a word."""
NAMES = {"<pad>": PAD, "<end>": END, "<unk>": UNKNOWN}
RANK, ALPHA = 16, 32.0
"""Of the LoRA on every linear layer."""

Rows = Sequence[tuple[list[int], list[list[int]]]]
"""(prompt, its completions) as token ids."""


@dataclass(frozen=True)
class DecodeJob:
    """One row of a table."""

    method: str
    model: str
    prompt: int
    """Tokens of each prompt."""
    completion: int
    """Tokens of each completion, also of each rollout."""
    group_size: int
    groups: int
    """Prompts a step."""
    rounds: int
    beta: float = 0.0
    update: float = 0.0
    """The other side's time over ours to reach."""
    whole: float = 0.0
    """The same for the step with its rollouts."""


SHAPES: dict[str, dict[str, int]] = {
    "500m": {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "60m": {
        "vocab_size": 32_000,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "3m": {
        "vocab_size": 104,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}


def build_model(name: str, folder: Path) -> Path:
    """A Llama with seeded random weights and a tokenizer of one token a word (`w7 w12`), both saved in `folder`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    target = folder / name
    if (target / "tokenizer.json").exists():
        return target
    shape = SHAPES[name]
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape, max_position_embeddings=4096, pad_token_id=PAD, eos_token_id=END, bos_token_id=None
    )
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        network.lm_head.weight.mul_(3)  # a model that is sure of something
    network.save_pretrained(target)
    words = {**NAMES, **{f"w{i}": i for i in range(FIRST, shape["vocab_size"])}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    ).save_pretrained(target)
    return target


def stir(parameters: dict[str, Any]) -> None:
    """The same numbers in every adapter: sides start theirs differently, and half of a fresh one has no gradient."""
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in sorted(parameters.items()):
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


def sequences(work: DecodeJob) -> list[tuple[list[int], list[list[int]]]]:
    """A step's rows; for GRPO the completions come from rollouts, not from here."""
    rng = random.Random(0)

    def tokens(length: int) -> list[int]:
        return [rng.randrange(FIRST, SHAPES[work.model]["vocab_size"]) for _ in range(length)]

    if work.method == "sft":  # lengths spread evenly over 50 to 800, half of each is the completion
        steps = max(1, work.groups - 1)
        lengths = [work.prompt + (work.completion - work.prompt) * i // steps for i in range(work.groups)]
        return [(tokens(n // 2), [tokens(n - n // 2)]) for n in lengths]
    count = work.group_size if work.method == "dpo" else 0
    return [
        (tokens(work.prompt), [[*tokens(work.completion - 1), END] for _ in range(count)])
        for _ in range(work.groups)
    ]


def text(tokens: Sequence[int]) -> str:
    special = {token: name for name, token in NAMES.items()}
    return " ".join(special.get(t, f"w{t}") for t in tokens)


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Any, Any, Any]:
    """(prompt, completion) each -> ids, attention mask and labels [N, longest]; -100 is no completion token."""
    import torch

    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.full((len(rows), width), PAD)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        labels[i, len(prompt) : end] = torch.tensor(completion)
    mask = torch.arange(width)[None] < torch.tensor([[len(p) + len(c)] for p, c in rows])
    return ids, mask.long(), labels


def reward_of(tokens: Sequence[int]) -> float:
    """Something that differs from completion to completion."""
    return sum(t % 7 for t in tokens) / (6 * len(tokens))


def flat(parameters: dict[str, Any]) -> Any:
    """[all numbers] fp32: the gradients of named parameters, in the order of their names."""
    import torch

    return torch.cat([p.grad.flatten().float() for _, p in sorted(parameters.items())])
