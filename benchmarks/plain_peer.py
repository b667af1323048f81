"""The step as transformers and PEFT give it, on the works of `works.py`: padded rows, `generate`, torch's AdamW.

What a careful engineer writes without a framework: logits of the completions only, everything of a step in one forward,
no gradient checkpointing. It stands where TRL cannot be installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from works import ALPHA, PAD, RANK, DecodeJob, padded, reward_of, sequences, stir


class Plain:
    """Sample, measure, update."""

    def __init__(self, work: DecodeJob, model: Path, device: str) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        self.work, self.device = work, device
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="sdpa")
        lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        self.network: Any = get_peft_model(network.to(device), lora).eval()  # no dropout to switch on
        self.parameters = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        stir(self.parameters)
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=0.0, weight_decay=0.0)

    def sample(self) -> list[tuple[list[int], list[list[int]]]]:
        """The step's rollouts; the prompts of a work are of one length."""
        import torch

        prompts = [p for p, _ in sequences(self.work)]
        ids, length, k = torch.tensor(prompts, device=self.device), self.work.completion, self.work.group_size
        options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": k}
        with torch.no_grad():
            out = self.network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=length,
                max_new_tokens=length,
                pad_token_id=PAD,
                **options,
            )
        drawn = out[:, ids.shape[1] :].tolist()
        return [(p, drawn[i * k : (i + 1) * k]) for i, p in enumerate(prompts)]

    def logprobs(self, groups: list[Any]) -> Any:
        """[T] of the completion tokens, one after another."""
        import torch

        with torch.no_grad():
            logprobs, kept = self._forward(groups)
        return logprobs[kept].cpu()

    def _forward(self, groups: list[Any]) -> tuple[Any, Any]:
        """[N, C] log-probabilities of the last C tokens, and which of them are a completion's."""
        ids, mask, labels = (
            x.to(self.device) for x in padded([(g.prompt, c.tokens) for g in groups for c in g.completions])
        )
        first = int((labels != -100).any(0).int().argmax())  # the first column of any completion
        logits = self.network(
            input_ids=ids, attention_mask=mask, logits_to_keep=ids.shape[1] - first + 1, use_cache=False
        ).logits[:, :-1]
        targets = ids[:, first:, None]
        logprobs = logits.float().log_softmax(-1).gather(-1, targets)[..., 0]
        return logprobs, labels[:, first:] != -100

    def update(self, groups: list[Any]) -> None:
        """One optimizer step: the reference, the loss, its gradient."""
        import torch

        reference = None
        if self.work.beta:
            with torch.no_grad(), self.network.disable_adapter():
                reference = self._forward(groups)[0]
        logprobs, kept = self._forward(groups)
        loss = (self._dpo if self.work.method == "dpo" else self._grpo)(groups, logprobs, reference, kept)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()

    def _dpo(self, groups: list[Any], logprobs: Any, reference: Any, kept: Any) -> Any:
        """Equation 7 of https://arxiv.org/abs/2305.18290, pairs side by side."""
        import torch

        margins = ((logprobs - reference) * kept).sum(-1).view(-1, 2)
        return -torch.nn.functional.logsigmoid(self.work.beta * (margins[:, 0] - margins[:, 1])).mean()

    def _grpo(self, groups: list[Any], logprobs: Any, reference: Any, kept: Any) -> Any:
        """Equation 3 of https://arxiv.org/abs/2402.03300, on the policy's own samples: the ratio is one."""
        import torch

        scores = torch.tensor([[reward_of(c.tokens) for c in g.completions] for g in groups])
        advantages = (scores - scores.mean(1, keepdim=True)) / (scores.std(1, keepdim=True) + 1e-4)
        advantages = advantages.flatten()[:, None].to(logprobs.device)
        loss = -(logprobs - logprobs.detach()).exp() * advantages
        if reference is not None:
            away = reference - logprobs
            loss = loss + self.work.beta * (away.exp() - away - 1)
        return ((loss * kept).sum(-1) / kept.sum(-1)).mean()
