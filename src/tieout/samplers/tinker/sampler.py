"""Sample on the training server that trains: from the weights that it saved last, and never from older ones.

A server may answer for an older path with its newest weights, or put the old ones in the place of what is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ...chat.template import Chat
from ...errors import InputError
from ...types import Completion, Group, Prompt
from .. import SamplingParams, answers
from ..staleness import StalenessCheck, measure, pick
from ..vllm.server_check import refuse_truncation
from ..vllm.wire import seed_of

if TYPE_CHECKING:
    from ...learner import Learner
    from ...learner.tinker.learner import TinkerLearner

SEEDS = 2**31 - 1
"""Seeds of servers are below it."""


class TinkerSampler:
    """A Sampler and a PolicySampler on the server of one learner."""

    def __init__(self, learner: TinkerLearner, chat: Chat | None = None) -> None:
        """
        Args:
            learner: whose weights are sampled.
            chat: tokens to text, and what ends a completion; the model's if None.
        """
        self.learner, self.chat = learner, chat or learner.model.chat
        self._sampling: Any = None
        self._path = ""

    @property
    def context(self) -> int:
        """The model's."""
        return self.learner.model.context

    def load(self, learner: Learner) -> None:
        """Save the present weights for sampling. InputError: it is another learner."""
        if learner is not self.learner:
            raise InputError(
                "the sampler of a training server reads the weights of the learner it was made with"
            )
        before, self._path = self._path, self.learner.save_for_sampler()
        self._sampling = self.learner.connection.sampling(self._path)
        self.learner.drop(before)

    def close(self) -> None:
        """Delete what was saved for sampling."""
        self.learner.drop(self._path)
        self._sampling, self._path = None, ""

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """[prompt][completion], with log-probabilities at temperature 1, whatever they were sampled at.

        Raises:
            InputError: they could not be trained on, or do not fit into the context.
            ServerLost: no reply, or one that cannot be right.
        """
        refuse_truncation(params)
        if params.temperature not in (0.0, 1.0):
            raise InputError(
                f"temperature is {params.temperature:g}; a training server gives log-probabilities at temperature 1 "
                "only: sample at 1, or greedily at 0"
            )
        for prompt in prompts:
            if not prompt:
                raise InputError("a prompt has no tokens; give at least one")
            if len(prompt) + params.max_new_tokens > self.context:
                raise InputError(
                    f"a prompt of {len(prompt)} tokens and max_new_tokens={params.max_new_tokens} exceed the model's "
                    f"context of {self.context}; shorten one of them"
                )
        if self._sampling is None:
            self.load(self.learner)
        connection = self.learner.connection

        def all_of_them() -> list[Any]:
            sent = [
                self._send(list(p), params.stream(i), num_completions, params) for i, p in enumerate(prompts)
            ]
            return [future.result(connection.seconds) for future in sent]

        replies = connection.ask("sample", all_of_them)
        return [self._completions(reply, num_completions, params.max_new_tokens) for reply in replies]

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt, as text."""
        started = perf_counter()
        tokens = [self.chat.prompt(p) for p in prompts]
        sampled = [group[0] for group in self.sample(tokens, 1, params)]
        return answers(list(zip(tokens, sampled, strict=True)), started)

    def _send(self, prompt: list[int], stream: int, count: int, params: SamplingParams) -> Any:
        from tinker import types

        asked = types.SamplingParams(
            max_tokens=params.max_new_tokens,
            temperature=params.temperature,
            seed=seed_of(params.seed, stream) % (SEEDS - count),
            stop=list(self.chat.stop_tokens),
        )
        return self._sampling.sample(
            prompt=types.ModelInput.from_ints(prompt), num_samples=count, sampling_params=asked
        )

    def _completions(self, reply: Any, count: int, most: int) -> list[Completion]:
        from ...learner.tinker.connection import ServerLost

        url, stops = self.learner.connection.url, self.chat.stop_tokens
        if len(reply.sequences) != count:
            raise ServerLost(f"{url} was asked for {count} completions, and gave {len(reply.sequences)}")
        made = []
        for drawn in reply.sequences:
            tokens, logprobs = list(drawn.tokens), [float(x) for x in drawn.logprobs or []]
            if len(logprobs) != len(tokens) or not all(math.isfinite(x) for x in logprobs):
                raise ServerLost(
                    f"{url} gave a completion of {len(tokens)} tokens with {len(logprobs)} log-probabilities, of which "
                    "each must be a finite number"
                )
            ended = bool(tokens) and tokens[-1] in stops
            if not ended and len(tokens) != most:
                raise ServerLost(
                    f"{url} gave a completion of {len(tokens)} tokens, of at most {most}, that does not end with a "
                    "stop token: how it ended could not be learned"
                )
            text, reason = self.chat.text(tokens), "stop" if ended else "length"
            made.append(Completion(tokens, [True] * len(tokens), logprobs, text, reason))
        return made

    def logprobs(self, groups: Sequence[Group]) -> list[float]:
        """Nats of the tokens of all completions, one after another, by the weights that are sampled."""
        from tinker import types

        from ...learner.tinker.connection import ServerLost

        connection, wanted = (
            self.learner.connection,
            [(g.prompt, c.tokens) for g in groups for c in g.completions],
        )

        def all_of_them() -> list[Any]:
            sent = [self._sampling.compute_logprobs(types.ModelInput.from_ints([*p, *c])) for p, c in wanted]
            return [future.result(connection.seconds) for future in sent]

        found: list[float] = []
        for reply, (prompt, tokens) in zip(
            connection.ask("compute_logprobs", all_of_them), wanted, strict=True
        ):
            if len(reply) - len(prompt) - len(tokens) not in (0, -1):  # the first token has none, or None
                raise ServerLost(
                    f"{connection.url} gave {len(reply)} log-probabilities of {len(prompt) + len(tokens)} tokens"
                )
            found += [math.nan if x is None else float(x) for x in reply[len(reply) - len(tokens) :]]
        return found


class ServedStaleness(StalenessCheck):
    """The staleness check where the weights of one load earlier can no longer be asked.

    Some completions are kept, with the learner's log-probabilities under the weights they came from. After the next
    load, learner and sampler are asked about the same tokens: has the sampler come along?
    """

    sampler: TinkerSampler

    def __init__(self, sampler: TinkerSampler, limit: float = 0.1, num_tokens: int = 1024) -> None:
        super().__init__(sampler, limit, num_tokens)
        self._kept: list[Group] = []
        self._earlier: list[float] = []
        self._keeps = False

    def load(self, learner: Learner) -> None:
        """Pass it on; then compare sampler and learner on what was sampled before it."""
        self.sampler.load(learner)
        self._learner, self._keeps = learner, True
        if not self._kept:
            return
        now = _flat(learner, self._kept)
        if now != self._earlier:  # else nothing was trained since
            self.findings = {"": measure(self.sampler.logprobs(self._kept), now, self._earlier)}

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """The sampler's completions, of which some of the first after a load are kept."""
        drawn = self.sampler.sample(prompts, num_completions, params)
        if self._keeps and self._learner is not None:
            groups = [Group(list(p), list(c)) for p, c in zip(prompts, drawn, strict=True)]
            self._kept, _ = pick(groups, [""] * len(groups), self.num_tokens)
            self._earlier, self._keeps = _flat(self._learner, self._kept), False
        return drawn


def _flat(learner: Learner, groups: Sequence[Group]) -> list[float]:
    return [x for group in learner.logprobs(groups) for row in group for x in row]
