"""Best of N: several samples per prompt, of which the one that scores best is the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..types import Answer, Prompt
from . import PolicySampler, Sampler, SamplingParams, answers

if TYPE_CHECKING:
    from ..chat.template import Chat

Scores = list[float | None]
Select = Callable[[Sequence[Prompt], Sequence[Sequence[Answer]]], Sequence[tuple[list[str], Scores]]]
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


@runtime_checkable
class ChatPolicy(PolicySampler, Protocol):
    """A sampler of tokens that knows its template, and computes a prompt once for all of its completions."""

    @property
    def chat(self) -> Chat: ...


def several(
    sampler: Sampler | ChatPolicy, prompts: Sequence[Prompt], count: int, params: SamplingParams
) -> list[list[Answer]]:
    """[prompt][count] answers of any sampler. Seconds of a batch that is sampled together are shared evenly."""
    if isinstance(sampler, ChatPolicy):
        started = perf_counter()
        tokens = [sampler.chat.prompt(prompt) for prompt in prompts]
        sampled = sampler.sample(tokens, count, params)
        said: Sequence[str] = answers(
            [(own, one) for own, group in zip(tokens, sampled, strict=True) for one in group], started
        )
    else:
        said = sampler.complete([prompt for prompt in prompts for _ in range(count)], params)
    flat = [one if isinstance(one, Answer) else Answer(one) for one in said]
    return [flat[i * count : (i + 1) * count] for i in range(len(prompts))]


class BestOfN:
    """A Sampler over a sampler that gives several completions of a prompt."""

    chat: Chat
    context: int
    """Where the sampler has them: one of text alone, such as an API's, has neither."""

    def __init__(self, sampler: Sampler | ChatPolicy, count: int, temperature: float, select: Select) -> None:
        """
        Args:
            sampler: of the samples.
            count: samples per prompt.
            temperature: of the sampling, in place of what `complete` is asked for.
            select: scores the samples.
        """
        self.sampler, self.count, self.temperature, self.select = sampler, count, temperature, select
        if isinstance(sampler, ChatPolicy):
            self.chat, self.context = sampler.chat, sampler.context
        self.draws: list[Draw] = []
        """Of the last call, a prompt each."""

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """The best sample of each prompt, with the usage of all N.

        A sampler of tokens reads a prompt once, and shares the time of the call evenly; any other reads it N times,
        and its slowest sample is what is waited for. No usage where one sample was not counted.
        """
        started, together = perf_counter(), isinstance(self.sampler, ChatPolicy)
        sampled = several(self.sampler, prompts, self.count, replace(params, temperature=self.temperature))
        self.draws = [Draw(texts, scores, best(scores)) for texts, scores in self.select(prompts, sampled)]
        seconds = (perf_counter() - started) / max(1, len(prompts))
        chosen = list[str]()
        for group, draw in zip(sampled, self.draws, strict=True):
            used = [one.usage for one in group] if all(one.usage for one in group) else []
            taken = used and {
                "prompt_tokens": used[0]["prompt_tokens"]
                if together
                else sum(own["prompt_tokens"] for own in used),
                "tokens": sum(own["tokens"] for own in used),
                "seconds": seconds if together else max(own["seconds"] for own in used),
            }
            one = group[draw.chosen]
            chosen.append(Answer(one, taken or None, one.sampled, one.finish_reason))
        return chosen
