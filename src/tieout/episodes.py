"""Episodes: conversations of a policy with a task's environment, in lockstep, for training and for evaluation.

Both advance all episodes of a batch together, one call of the sampler per turn, and judge how they end alike. They
differ in what they keep: evaluation the text, training also every sampled token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from .chat.template import Chat
from .chat.tokens import Tokens
from .errors import InputError
from .rewards.processes.workers import Workers
from .rewards.scoring.runner import Call, Encode, Outcome, score, score_groups
from .rewards.text.thinking import begun, opened_in
from .rows.messages import check_in_turn, reply_of, told_by, turns_of
from .samplers import PolicySampler, Sampler, SamplingParams
from .tasks import Environment, Task
from .types import Completion, Message, Messages, Prompt, Row

MAX_TURNS = 100
"""An environment that has not ended by then is an error."""


class Episode:
    """One conversation in text. An environment that raises ends it with an error, never with a score."""

    def __init__(self, environment: Environment, row: Row) -> None:
        self.row, self.game = row, environment(row)
        self.messages = Messages(told=told_by(row))
        self.said = list[str]()
        """The policy's turns, as they are read: see `rewards.text.thinking.begun`."""
        self.written = list[str]()
        """The same as the sampler gave them."""
        self.ended = self.outgrown = False
        self._returned: Any = None
        self._failure: Outcome | None = None
        self._advance(None)

    @property
    def text(self) -> str:
        """Everything the policy said, its turns separated by blank lines."""
        return "\n\n".join(self.said)

    @property
    def turns(self) -> list[Message]:
        """What the policy said, and what the environment replied to it, in turn."""
        return self.messages[1:]

    @property
    def replies(self) -> list[str]:
        """What the environment replied to each turn but the one that ended it."""
        return [str(message["content"]) for message in self.turns[1::2]]

    @property
    def opened(self) -> bool:
        """Whether the environment gave a first observation: without one there is nothing to reply to."""
        return bool(self.messages)

    @property
    def failed(self) -> bool:
        """Whether it ended in another way than by the environment's return."""
        return self._failure is not None

    def take(self, text: str, opened: str = "") -> None:
        """Append what the policy said, after the tag that its prompt opened, and the environment's reply to it."""
        self.messages.append({"role": "assistant", "content": text})
        self.written.append(text)
        self.said.append(begun(opened, text))
        self._advance(self.said[-1])

    def outgrow(self, size: int) -> None:
        """End it: `size` tokens leave no room for another turn. That is a wrong answer, or it would be a way out."""
        self.outgrown = True
        reason = f"the episode outgrew the model's context after {size} tokens"
        self._fail(Outcome("errored", None, reason, "completion", as_wrong=0.0))
        self._close()

    def overrun(self) -> None:
        """End it: the environment does not."""
        self._fail(
            Outcome("errored", None, f"the environment did not end within {MAX_TURNS} turns", "reward")
        )
        self._close()

    def outcome(self) -> Outcome:
        """The environment's score, judged as a reward's value is; or why there is none."""
        if self._failure is not None:
            return self._failure

        def environment(completions: list[str]) -> list[Any]:
            return [self._returned]

        return score(environment, [""], [""], {})[0]

    def _advance(self, text: str | None) -> None:
        try:
            observation = next(self.game) if text is None else self.game.send(text)
        except StopIteration as stop:
            self._returned, self.ended = stop.value, True
            if not self.opened:
                self._fail(Outcome("errored", None, "the environment ended before the first turn", "reward"))
        except Exception as error:
            reason = f"the environment raised {type(error).__name__}: {error}"
            self._fail(Outcome("errored", None, reason, "reward"))
        else:
            self.messages.append({"role": "user", "content": observation})

    def _fail(self, outcome: Outcome) -> None:
        self._failure, self.ended = outcome, True

    def _close(self) -> None:
        with suppress(Exception):  # whatever it does at its end, the other episodes continue
            self.game.close()


class TokenEpisode(Episode):
    """An episode to train on: sampled tokens are kept verbatim, the environment's replies are not trained."""

    def __init__(self, chat: Chat, environment: Environment, row: Row, stream: int) -> None:
        super().__init__(environment, row)
        self.chat, self.stream = chat, stream
        self.prompt = chat.prompt(self.messages) if self.opened else []
        self.tokens, self.mask, self.logprobs = list(self.prompt), list[bool](), list[float]()
        self.finish_reason = "stop"

    def take_turn(self, turn: Completion) -> None:
        """Append what the policy wrote, and the environment's reply to it."""
        if turn.logprobs is None:
            raise InputError(
                "the sampler gave no log-probabilities; episodes need a sampler that records them"
            )
        opened = opened_in(self.tokens, self.chat.text)
        self._append(turn.tokens, turn.logprobs, trained=True)
        self.finish_reason = turn.finish_reason
        self.take(turn.text, opened)
        if not self.ended:
            before, reply = Messages(self.messages[:-1], self.messages.told), self.messages[-1]
            suffix = self.chat.suffix(before, reply, ended=turn.finish_reason == "stop")
            self._append(suffix, [0.0] * len(suffix), trained=False)

    def completion(self) -> Completion:
        """The whole episode as one completion; its text is the policy's last turn."""
        said = self.said[-1] if self.said else ""
        reason = "length" if self.outgrown else self.finish_reason
        tokens = self.tokens[len(self.prompt) :]
        return Completion(tokens, self.mask, self.logprobs, said, reason, turns=self.turns)

    def _append(self, tokens: Sequence[int], logprobs: Sequence[float], *, trained: bool) -> None:
        self.tokens += tokens
        self.mask += [trained] * len(tokens)
        self.logprobs += logprobs


def demonstrated(chat: Chat, prompt: Prompt, said: Sequence[Message]) -> Tokens:
    """The tokens of an episode that the data holds: those of the policy's turns are trained, the replies' are not.

    Args:
        chat: renders every turn as where the policy samples.
        prompt: the first observation.
        said: the messages after it, the policy's and the environment's in turn; the last is the policy's.

    Raises:
        InputError: they are not in turn.
    """
    check_in_turn(said)
    before = opening = Messages(turns_of(prompt), getattr(prompt, "told", {}))
    tokens, mask = list[int](), list[bool]()
    for message in said:
        if message["role"] == "assistant":
            (own,) = chat.given(before, [reply_of([message])]).completions
        else:
            own = chat.suffix(before, message, ended=True)
        tokens += own
        mask += [message["role"] == "assistant"] * len(own)
        before = Messages([*before, message], before.told)
    return Tokens(chat.prompt(opening), [tokens], [mask])


@runtime_checkable
class KnowsContext(Protocol):
    """A text sampler that can tell when a conversation has become too long for it."""

    @property
    def context(self) -> int: ...
    @property
    def chat(self) -> Chat: ...


@runtime_checkable
class KeepsConversations(Protocol):
    """A sampler that computes the earlier turns of a conversation once."""

    def keeping(self) -> AbstractContextManager[None]: ...


def text_episodes(
    environment: Environment, rows: Iterable[Row], sampler: Sampler, params: SamplingParams
) -> list[Episode]:
    """One episode per row, to its end, with a sampler of text."""
    episodes = [Episode(environment, row) for row in rows]

    def turn(active: Sequence[Episode], params: SamplingParams) -> None:
        chat = sampler.chat if isinstance(sampler, KnowsContext) else None
        opened = [opened_in(chat.prompt(e.messages), chat.text) if chat else "" for e in active]
        said = sampler.complete([e.messages for e in active], params)
        for episode, text, tag in zip(active, said, opened, strict=True):
            episode.take(text, tag)

    with _keeping(sampler):
        if isinstance(sampler, KnowsContext):
            chat, longest = sampler.chat, sampler.context - params.max_new_tokens
            _lockstep(episodes, turn, params, longest, lambda episode: len(chat.prompt(episode.messages)))
        else:
            _lockstep(episodes, turn, params)
    return episodes


def token_episodes(
    task: Task,
    chat: Chat,
    rows: Sequence[Row],
    group_size: int,
    sampler: PolicySampler,
    params: SamplingParams,
) -> list[list[TokenEpisode]]:
    """[row][group_size] episodes, to their end. Each samples from streams of its own, whichever others are still
    active and on whichever rank.

    Raises:
        InputError: two episodes of one row opened differently.
    """
    assert task.environment is not None
    episodes = [
        TokenEpisode(chat, task.environment, row, params.stream(i) * group_size + k)
        for i, row in enumerate(rows)
        for k in range(group_size)
    ]

    def turn(active: Sequence[TokenEpisode], params: SamplingParams) -> None:
        params = replace(params, streams=[e.stream for e in active])
        sampled = sampler.sample([e.tokens for e in active], 1, params)
        for episode, (completion,) in zip(active, sampled, strict=True):
            episode.take_turn(completion)

    longest = sampler.context - params.max_new_tokens
    with _keeping(sampler):
        _lockstep(episodes, turn, params, longest, lambda episode: len(episode.tokens))
    groups = [episodes[i : i + group_size] for i in range(0, len(episodes), group_size)]
    for group in groups:
        prompts = [episode.prompt for episode in group if episode.opened]
        if any(prompt != prompts[0] for prompt in prompts):
            raise InputError(
                f"task {task.name!r}: the environment opened two episodes of one row differently; the first "
                "observation must follow from the row, since a group has one prompt"
            )
    return groups


def _keeping(sampler: object) -> AbstractContextManager[None]:
    return sampler.keeping() if isinstance(sampler, KeepsConversations) else nullcontext()


E = TypeVar("E", bound=Episode)


def _lockstep(
    episodes: Sequence[E],
    turn: Callable[[Sequence[E], SamplingParams], None],
    params: SamplingParams,
    longest: int | None = None,
    size: Callable[[E], int] = lambda episode: 0,
) -> None:
    """Advance all episodes turn by turn until each has ended; those that left no room in the context end first."""
    for number in range(MAX_TURNS):
        if longest is not None and number:
            for episode in episodes:
                if not episode.ended and size(episode) > longest:
                    episode.outgrow(size(episode))
        active = [episode for episode in episodes if not episode.ended]
        if not active:
            return
        # Request i of a call samples from the stream (seed, i): a seed per turn, or turns would repeat their samples.
        turn(active, replace(params, seed=params.seed + 7_919 * number))
    for episode in episodes:
        if not episode.ended:
            episode.overrun()


def judge(
    task: Task,
    groups: Sequence[Sequence[Episode]],
    workers: Workers | None = None,
    encode: Encode | None = None,
) -> list[list[Outcome]]:
    """[group][episode] outcomes, by whichever scores: the environment, or the reward on everything the policy said.

    An episode that failed has its own outcome. One that outgrew the context is worth no more than the worst of its
    group.
    """
    outcomes = [[episode.outcome() for episode in group] for group in groups]
    if task.scorer == "reward" and task.reward is not None:
        places = [[k for k, episode in enumerate(group) if not episode.failed] for group in groups]
        calls = [
            Call([as_read(g[k]) for k in at], [g[0].row.get("prompt", "")] * len(at), g[0].row, encode)
            for g, at in zip(groups, places, strict=True)
            if at
        ]
        said = iter(score_groups(task.reward, calls, workers))
        for own, at in zip(outcomes, places, strict=True):
            for k, outcome in zip(at, next(said) if at else [], strict=True):
                own[k] = outcome
    return [_no_way_out(group, own) for group, own in zip(groups, outcomes, strict=True)]


def as_read(episode: Episode) -> Completion:
    """Everything the policy said as one text and in turns, with its tokens where they are known."""
    known = episode.completion() if isinstance(episode, TokenEpisode) else Completion([], [])
    read = iter(episode.said)
    turns = [
        {**turn, "content": next(read)} if turn["role"] == "assistant" else turn for turn in episode.turns
    ]
    return replace(known, text=episode.text, turns=turns)


def _no_way_out(group: Sequence[Episode], outcomes: list[Outcome]) -> list[Outcome]:
    lowest = min([0.0, *(o.score for o in outcomes if o.score is not None)])
    return [
        replace(outcome, as_wrong=lowest) if episode.outgrown else outcome
        for episode, outcome in zip(group, outcomes, strict=True)
    ]
