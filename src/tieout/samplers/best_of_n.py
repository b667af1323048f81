"""Best of N: several samples per prompt, of which the one that scores best is the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from ..types import Answer, Completion, Prompt
from . import PolicySampler, SamplingParams

if TYPE_CHECKING:
    from ..chat.template import Chat

Scores = list[float | None]
Select = Callable[[Sequence[Prompt], Sequence[Sequence[Completion]]], Sequence[tuple[list[str], Scores]]]
"""(prompts, [prompt][N] samples) -> of each prompt its samples as they are read, and their scores."""


@dataclass(frozen=True)
class Draw:
    """The samples of one prompt."""

    completions: list[str]
    """[N] as they are read."""
    scores: Scores
    """[N] of the selector; None: it abstained or errored."""
    chosen: int
    """Place of the answer."""


def best(scores: Sequence[float | None]) -> int:
    """The place of the highest score, the first of equal ones; one without a score is below all.

    >>> best([0.2, None, 0.9, 0.9]), best([None, None])
    (2, 0)
    """
    return max(range(len(scores)), key=lambda k: (-float("inf") if (s := scores[k]) is None else s, -k))


class BestOfN:
    """A Sampler over a sampler that gives several completions of a prompt."""

    def __init__(
        self, sampler: PolicySampler, chat: Chat, count: int, temperature: float, select: Select
    ) -> None:
        """
        Args:
            sampler: of the samples.
            chat: of its model.
            count: samples per prompt.
            temperature: of the sampling, in place of what `complete` is asked for.
            select: scores the samples.
        """
        self.sampler, self.chat = sampler, chat
        self.count, self.temperature, self.select = count, temperature, select
        self.draws: list[Draw] = []
        """Of the last call, a prompt each."""

    @property
    def context(self) -> int:
        """The model's."""
        return self.sampler.context

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """The best sample of each prompt. Its usage is that of all N; the prompt counts once, as it is read once."""
        started = perf_counter()
        tokens = [self.chat.prompt(prompt) for prompt in prompts]
        sampled = self.sampler.sample(tokens, self.count, replace(params, temperature=self.temperature))
        self.draws = [Draw(texts, scores, best(scores)) for texts, scores in self.select(prompts, sampled)]
        seconds = (perf_counter() - started) / max(1, len(prompts))
        answers = list[str]()
        for prompt, group, draw in zip(tokens, sampled, self.draws, strict=True):
            taken = {
                "prompt_tokens": float(len(prompt)),
                "tokens": float(sum(len(c.tokens) for c in group)),
                "seconds": seconds,
            }
            answers.append(Answer(group[draw.chosen].text, taken, group[draw.chosen]))
        return answers
