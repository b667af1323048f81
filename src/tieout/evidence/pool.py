"""Several answers per row and what a reward gives each: what best of N and pairs are made from."""

from __future__ import annotations

from collections.abc import Sequence

from ..chat.template import Chat
from ..rewards.processes.workers import Workers
from ..rewards.scoring.runner import Call, Outcome, score_groups
from ..rewards.text.thinking import as_read, knowing
from ..types import Answer, Prompt, Reward, Row


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
