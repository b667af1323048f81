"""The step by tieout, on the works of `works.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from works import ALPHA, RANK, DecodeJob, Rows, reward_of, sequences, stir


class Ours:
    """Sample, measure, update."""

    def __init__(
        self, work: DecodeJob, model: Path, device: str = "cpu", layout: Literal["auto", "repeated"] = "auto"
    ) -> None:
        from tieout.chat.template import Chat
        from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
        from tieout.methods import DPO, GRPO, SFT
        from tieout.samplers.local.sampler import LocalSampler

        class Endless(Chat):
            """Every rollout has its full length, as `min_new_tokens` makes the other side's."""

            stop_tokens = ()  # type: ignore[assignment]

        self.work = work
        adapter = AdapterConfig(rank=RANK, alpha=ALPHA)
        loaded = load(str(model), adapter, device=device)
        self.learner = Learner(loaded, learning_rate=0.0, config=LearnerConfig(layout=layout))
        stir(self.learner.model.trained())
        self.sampler = LocalSampler(self.learner.model, Endless(self.learner.model.tokenizer))
        options = {} if work.method == "sft" else {"beta": work.beta}
        self.method: Any = {"dpo": DPO, "sft": SFT, "grpo": GRPO}[work.method](**options)
        self.learner.packs  # noqa: B018  the check of the attention is made once in a run, not in a step

    def groups(self, rows: Rows, logprobs: bool) -> list[Any]:
        """Scored groups of given tokens; with `logprobs`, as if the current policy had sampled them."""
        from tieout.types import Completion, Group

        groups = []
        for prompt, completions in rows:
            scores = [1.0, 0.0] if self.work.method == "dpo" else [reward_of(c) for c in completions]
            groups.append(Group(prompt, [Completion(c, [True] * len(c)) for c in completions], scores))
        if not logprobs:
            return groups
        return [
            replace(g, completions=[replace(c, logprobs=x) for c, x in zip(g.completions, own, strict=True)])
            for g, own in zip(groups, self.learner.logprobs(groups), strict=True)
        ]

    def logprobs(self, groups: list[Any]) -> Any:
        """[T] of the completion tokens, one after another."""
        import torch

        return torch.tensor([x for g in self.learner.logprobs(groups) for c in g for x in c])

    def sample(self) -> list[tuple[list[int], list[list[int]]]]:
        """The step's rollouts."""
        return [(g.prompt, [c.tokens for c in g.completions]) for g in self.sampled()]

    def sampled(self) -> list[Any]:
        """The same as scored groups, with the sampler's log-probabilities."""
        from tieout.samplers import SamplingParams
        from tieout.types import Group

        prompts = [p for p, _ in sequences(self.work)]
        sampled = self.sampler.sample(
            prompts, self.work.group_size, SamplingParams(max_new_tokens=self.work.completion)
        )
        return [
            Group(p, cs, [reward_of(c.tokens) for c in cs]) for p, cs in zip(prompts, sampled, strict=True)
        ]

    def update(self, groups: list[Any]) -> dict[str, float]:
        """Reference and update. What is known of the reference is forgotten: others compute it in each step, too."""
        from tieout.learner.logprob_cache import LogprobCache

        self.learner.logprob_cache = LogprobCache()
        annotated = self.method.annotate(groups, self.learner)
        return self.learner.update(annotated, self.method.loss, self.method.counts(annotated))


@contextmanager
def counted_flops() -> Iterator[Callable[[], int]]:
    """FLOPs of matrix products and attention inside."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    total = 0

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total
            out = func(*args, **(kwargs or {}))
            if func._overloadpacket in flop_registry:
                total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
            return out

    with Count():
        yield lambda: total
