"""GRPO in one file: a tutorial, and the oracle that the library is tested against. It does not import tieout.

Group Relative Policy Optimization (Shao et al., 2024, https://arxiv.org/abs/2402.03300) in one step:

    1. ask the policy each prompt K times: a *group* of K completions;
    2. score every completion with a reward function;
    3. a completion's *advantage* is how far its score lies above its group's mean, in standard deviations;
    4. make the tokens of completions above the mean likelier and of those below less likely, but earn nothing
       by moving a token's probability more than a fifth away from where it was sampled.

There is no value network and no labelled answer: the other completions of the group are the baseline.

    python examples/rl_loop.py                      a tiny random model learns to repeat a letter, 20 s on a CPU
    python examples/rl_loop.py --model DIR_OR_ID    the same toy with a real model and its tokenizer

Shapes: N sequences (prompts x K), P prompt tokens, C completion tokens (of the longest; the rest is padding).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

# ---------------------------------------------------------------- the task: what to ask, and what is good

LETTERS = "abcdefgh"


def reward(prompt: str, completion: str) -> float:
    """Share of the completion's characters that are the prompt's letter; an empty completion earns nothing."""
    return completion.count(prompt[0]) / max(1, len(completion))


# ---------------------------------------------------------------- the model


class Letters:
    """A tokenizer for the toy: one token a letter, and one that ends a completion."""

    eos_token_id = len(LETTERS) + 1

    def encode(self, text: str) -> list[int]:
        return [(LETTERS + ":").index(character) for character in text]

    def decode(self, tokens: list[int], skip_special_tokens: bool = True) -> str:
        return "".join((LETTERS + ":")[token] for token in tokens if token < self.eos_token_id)


def make_policy() -> tuple[Any, Any]:
    """Two layers of random weights (about 100,000), and the tokenizer: nothing is learned yet."""
    config = LlamaConfig(
        vocab_size=len(LETTERS) + 2,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=Letters.eos_token_id,
    )
    return LlamaForCausalLM(config), Letters()


# ---------------------------------------------------------------- 1. sample


@torch.no_grad()
def sample(model: Any, prompt: list[int], num: int, length: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """K completions of one prompt, drawn from the policy as it is, at temperature 1.

    Returns:
        [K, C] tokens; [K, C] their log-probabilities (nats); [K, C] bool, True for the tokens that the policy
        wrote. After its end token, which is the policy's choice too, a completion is padding.
    """
    tokens, cache = torch.tensor([prompt] * num, device=model.device), None
    running = torch.ones(num, dtype=torch.bool, device=model.device)
    drawn: list[Tensor] = []
    logprobs: list[Tensor] = []
    mask: list[Tensor] = []
    while len(drawn) < length and running.any():
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = output.past_key_values  # the keys and values so far, so that only the new token is computed
        distribution = output.logits[:, -1].float().log_softmax(-1)
        tokens = torch.multinomial(distribution.exp(), 1)
        drawn.append(torch.where(running, tokens[:, 0], end))
        logprobs.append(distribution.gather(1, tokens)[:, 0])
        mask.append(running)
        running = running & (tokens[:, 0] != end)
    return torch.stack(drawn, 1), torch.stack(logprobs, 1), torch.stack(mask, 1)


# ---------------------------------------------------------------- 2. and 3. score, and compare within the group


def advantages(scores: Tensor, eps: float = 1e-4) -> Tensor:
    """[K] -> [K]: (score - mean) / (std + eps) within a group. All alike: all zero, and nothing is learned."""
    return (scores - scores.mean()) / (scores.std() + eps)


# ---------------------------------------------------------------- 4. learn


def completion_logprobs(model: Any, prompts: Tensor, completions: Tensor) -> Tensor:
    """[N, P], [N, C] -> [N, C]: the log-probability (nats) of every completion token, given all before it.

    No attention mask: padding only ever stands at the end, where no real token sees it.
    """
    logits = model(input_ids=torch.cat([prompts, completions], 1)).logits
    predicting = logits[:, prompts.shape[1] - 1 : -1].float()  # the token at t is predicted from t - 1
    return predicting.log_softmax(-1).gather(-1, completions[..., None])[..., 0]


def grpo_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, epsilon: float = 0.2
) -> Tensor:
    """The clipped surrogate of GRPO (eq. 3 of the paper, without its KL term), to be minimised.

    Args:
        logprobs: [N, C] under the policy that is being trained, with gradient.
        old_logprobs: [N, C] under the policy that sampled.
        advantages: [N] one for each completion: all its tokens share it.
        mask: [N, C] 1 for the tokens that the policy wrote, 0 for padding.
        epsilon: a probability ratio past 1 +- epsilon earns nothing more.

    Returns:
        [] mean over each completion's tokens, then over completions.
    """
    ratio = (logprobs - old_logprobs).exp()
    advantages = advantages[:, None]
    per_token = -torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)
    mask = mask.to(per_token.dtype)
    return ((per_token * mask).sum(1) / mask.sum(1)).mean()


# ---------------------------------------------------------------- the loop


def train(
    model: Any,
    tokenizer: Any,
    steps: int = 40,
    prompts_per_step: int = 6,
    group_size: int = 8,
    length: int = 8,
    learning_rate: float = 3e-3,
    updates: int = 2,
    seed: int = 0,
) -> list[float]:
    """Train, print the mean reward as it rises, and return it for every step.

    Each batch of groups is learned from `updates` times. The first time the ratio is exactly 1 and nothing is
    clipped; from the second on the clip keeps the policy near the one that sampled.
    """
    torch.manual_seed(seed)
    model.eval()  # no dropout: the log-probabilities of sampling and learning must agree
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    history, started = [], time.perf_counter()
    for step in range(steps):
        batch = []
        for index in torch.randperm(len(LETTERS))[:prompts_per_step].tolist():
            prompt = LETTERS[index] + ":"
            tokens = tokenizer.encode(prompt)
            completions, old, mask = sample(model, tokens, group_size, length, tokenizer.eos_token_id)
            texts = [
                tokenizer.decode(c[m].tolist(), skip_special_tokens=True)
                for c, m in zip(completions, mask, strict=True)
            ]
            scores = torch.tensor([reward(prompt, text) for text in texts], device=model.device)
            prompts = torch.tensor([tokens] * group_size, device=model.device)
            batch.append((prompts, completions, mask, old, advantages(scores), scores))
        for _ in range(updates):
            optimizer.zero_grad()
            for prompts, completions, mask, old, advantage, _ in batch:  # a group at a time: gradients add up
                logprobs = completion_logprobs(model, prompts, completions)
                (grpo_loss(logprobs, old, advantage, mask) / len(batch)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        history.append(torch.cat([scores for *_, scores in batch]).mean().item())
        if step % max(1, steps // 10) == 0 or step == steps - 1:
            print(f"step {step:3d}  reward {history[-1]:.3f}  {prompt!r} -> {texts[0]!r}", flush=True)
    print(f"{steps} steps in {time.perf_counter() - started:.0f} s")
    return history


def main(arguments: list[str] | None = None) -> list[float]:
    """Parse the command line, build or load the policy, train it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", help="folder or hub id of a causal language model; default: a tiny random one"
    )
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, help="default: 3e-3 for the tiny model, else 1e-5")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.manual_seed(given.seed)
    if given.model is None:
        model, tokenizer = make_policy()
    else:
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    rate = given.learning_rate or (3e-3 if given.model is None else 1e-5)
    return train(model, tokenizer, given.steps, learning_rate=rate, seed=given.seed)


if __name__ == "__main__":
    main()
