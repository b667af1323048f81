"""Several answers per row and what a reward gives each: what best of N and pairs are made from."""

from __future__ import annotations

from collections.abc import Sequence

from ..chat.template import Chat
from ..rewards.processes.workers import Workers
from ..rewards.scoring.runner import Call, Outcome, check_reward, score_groups
from ..rewards.text.thinking import as_read, knowing
from ..samplers import Sampler, SamplingParams
from ..samplers.best_of_n import ChatPolicy, several
from ..types import Answer, Prompt, Reward, Row
from .best_of import Pooled


def calls_of(
    rows: Sequence[Row],
    prompts: Sequence[Prompt],
    sampled: Sequence[Sequence[Answer]],
    chat: Chat | None = None,
) -> list[Call]:
    """A call of a reward for each row.

    Args:
        rows: as rewards see them.
        prompts: what was asked, of each row.
        sampled: [row][K] answers.
        chat: of the model that gave them, which tells the tag of thinking that a prompt left open; None: an API.
    """
    calls = []
    for row, prompt, group in zip(rows, prompts, sampled, strict=True):
        own = [one.sampled for one in group if one.sampled is not None]
        if chat is not None and len(own) == len(group):
            calls.append(Call(knowing(own, chat.prompt(prompt), chat.text), [prompt] * len(own), row))
        else:
            calls.append(Call.of_texts([str(one) for one in group], [prompt] * len(group), row))
    return calls


def scored(
    reward: Reward, calls: Sequence[Call], workers: Workers | None = None
) -> list[tuple[list[str], list[Outcome]]]:
    """Of each call its texts as rewards read them, and what the reward gives them."""
    said = score_groups(reward, calls, workers)
    return [
        ([as_read(one) for one in call.completions], outcomes)
        for call, outcomes in zip(calls, said, strict=True)
    ]


def draw(
    sampler: Sampler,
    rows: Sequence[Row],
    reward: Reward,
    count: int,
    params: SamplingParams,
    *,
    gold: Reward | None = None,
    workers: Workers | None = None,
) -> list[Pooled]:
    """`count` samples of each row's prompt, scored by the reward and, next to it, by another one.

    InputError: before anything is sampled, if a reward asks for a column that rows lack.
    """
    chat = sampler.chat if isinstance(sampler, ChatPolicy) else None
    columns = [column for column in rows[0] if all(column in row for row in rows)] if rows else []
    rewards = [reward] if gold is None else [reward, gold]
    for one in rewards:
        check_reward(one, columns, tokens=chat is not None)
    prompts: list[Prompt] = [row["prompt"] for row in rows]
    sampled = several(sampler, prompts, count, params)
    calls = calls_of(rows, prompts, sampled, chat)
    found = [scored(one, calls, workers) for one in rewards]
    return [
        Pooled(
            row,
            group,
            found[0][i][0],
            [outcome.worth for outcome in found[0][i][1]],
            [outcome.worth for outcome in found[1][i][1]] if gold is not None else None,
        )
        for i, (row, group) in enumerate(zip(rows, sampled, strict=True))
    ]
