"""Samplers: a Sampler gives text; a PolicySampler gives tokens with log-probabilities and takes weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from ..errors import InputError
from ..types import Answer, Completion, Prompt

if TYPE_CHECKING:
    from ..learner import Learner


@dataclass(frozen=True)
class SamplingParams:
    """Parameters of sampling."""

    max_new_tokens: int = 256
    """Completions are cut off after this many tokens."""
    temperature: float = 1.0
    """Logits are divided by it; 0 is greedy."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with this much probability. Must be 1 to train on the samples."""
    seed: int = 0
    """Request i of a call samples from the random stream (seed, i), however requests are batched."""
    streams: Sequence[int] = ()
    """Prompt i of a call samples as prompt streams[i] of a larger call would, so that parts of a batch give the samples
    of the whole. Empty: as itself."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if self.temperature < 0:
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")

    def stream(self, prompt: int) -> int:
        """The prompt whose random stream this one of the call uses."""
        return self.streams[prompt] if self.streams else prompt


def answers(sampled: Sequence[tuple[Sequence[int], Completion]], started: float) -> list[str]:
    """(prompt tokens, completion) as text; a batch that began at `started` shares its seconds evenly."""
    seconds = (perf_counter() - started) / max(1, len(sampled))
    return [
        Answer(c.text, {"prompt_tokens": len(prompt), "tokens": len(c.tokens), "seconds": seconds}, c)
        for prompt, c in sampled
    ]


class Sampler(Protocol):
    """Anything that completes prompts: a local model, a server, an API, a list of canned completions."""

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt; an `Answer` where the sampler counts what it took."""
        ...


class PolicySampler(Protocol):
    """A sampler whose output can be trained on."""

    @property
    def context(self) -> int:
        """Tokens of prompt and completion together that there is room for."""
        ...

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """[prompt][completion]: `num_completions` samples of each prompt, given as token ids."""
        ...

    def load(self, learner: Learner) -> None:
        """Take the learner's current weights."""
        ...
