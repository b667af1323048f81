"""Play a task's environment with a Sampler that gives text: the multi-turn case of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..rewards.scoring.runner import Outcome, score
from ..samplers import Sampler, SamplingParams
from ..tasks import Environment
from ..types import Message, Row

MAX_TURNS = 100
"""An environment that has not ended by then is an error."""


def play(
    environment: Environment, rows: Sequence[Row], sampler: Sampler, params: SamplingParams
) -> list[tuple[str, Outcome]]:
    """(everything the model said, its turns apart by blank lines; what the environment made of it) for each row.

    All games go in lockstep, one call of the sampler a turn. An environment that raises, returns no number or does not
    end is an error, not a score.
    """
    games = [_Game(environment, row) for row in rows]
    for turn in range(MAX_TURNS):
        active = [game for game in games if game.outcome is None]
        if not active:
            break
        # Request i of a call draws from the stream (seed, i): a seed per turn, or turns would repeat their draws.
        drawn = sampler.complete(
            [g.messages for g in active], replace(params, seed=params.seed + 7_919 * turn)
        )
        for game, text in zip(active, drawn, strict=True):
            game.take(text)
    unended = Outcome("errored", None, f"the environment did not end within {MAX_TURNS} turns", "reward")
    return [("\n\n".join(game.said), game.outcome or unended) for game in games]


class _Game:
    def __init__(self, environment: Environment, row: Row) -> None:
        self.game = environment(row)
        self.messages: list[Message] = []
        self.said: list[str] = []
        self.outcome: Outcome | None = None
        self._step(None)

    def take(self, text: str) -> None:
        self.said.append(text)
        self.messages.append({"role": "assistant", "content": text})
        self._step(text)

    def _step(self, text: str | None) -> None:
        try:
            observation = next(self.game) if text is None else self.game.send(text)
        except StopIteration as stop:
            self.outcome = _judged(stop.value)
        except Exception as error:
            reason = f"the environment raised {type(error).__name__}: {error}"
            self.outcome = Outcome("errored", None, reason, "reward")
        else:
            self.messages.append({"role": "user", "content": observation})


def _judged(value: Any) -> Outcome:
    """What an environment returned, judged as a reward's value is."""

    def environment(completions: list[str]) -> list[Any]:
        return [value]

    return score(environment, [""], [""], {})[0]
