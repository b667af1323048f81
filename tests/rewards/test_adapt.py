"""Rewards that were written for TRL's lists of messages: recognised by their text, or told what to do."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.rewards import load_reward
from tieout.rewards.scoring.adapt import from_trl, reads_messages
from tieout.rewards.scoring.runner import check_call, score

ROW = {"prompt": "What?", "answer": "four"}


def subscript(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    return [float(c[0]["content"] == a) for c, a in zip(completions, answer, strict=True)]


def contents(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    said = [completion[-1]["content"] for completion in completions]
    return [float(text == a) for text, a in zip(said, answer, strict=True)]


def got(prompts: list[Any], completions: list[Any], answer: list[str]) -> list[float]:
    scores = []
    for i, completion in enumerate(completions):
        last = completion[-1]
        scores.append(float(last.get("content") == answer[i] and prompts[i][-1]["role"] == "user"))
    return scores


def of_turns(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    return [float("".join(m["content"] for m in c) == a) for c, a in zip(completions, answer, strict=True)]


def swallowed(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """What fails on text without a word."""
    scores = []
    for completion, wanted in zip(completions, answer, strict=True):
        try:
            scores.append(float(completion[0]["content"] == wanted))
        except Exception:
            scores.append(0.0)
    return scores


class Object:
    def __call__(self, completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        return [float(completions[i][0]["content"] == a) for i, a in enumerate(answer)]


class Inherits(Object):
    pass


def from_columns(**columns: Any) -> list[float]:
    """What fails on text without a word, and names no completions."""
    scores = []
    for completion, wanted in zip(columns["completions"], columns["answer"], strict=True):
        try:
            scores.append(float(completion[0]["content"] == wanted))
        except Exception:
            scores.append(0.0)
    return scores


async def later(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    return [float(c[0]["content"] == a) for c, a in zip(completions, answer, strict=True)]


def scaled(completions: list[Any], answer: list[str], factor: float = 1.0, **_: Any) -> list[float]:
    return [factor * (c[0]["content"] == a) for c, a in zip(completions, answer, strict=True)]


READS_MESSAGES = [
    *(subscript, contents, got, of_turns, swallowed, Object(), Inherits(), from_columns, later),
    functools.partial(scaled, factor=1.0),
    from_trl(subscript),
    from_trl(later),
]


@pytest.mark.parametrize("reward", READS_MESSAGES, ids=lambda r: getattr(r, "__name__", type(r).__name__))
@pytest.mark.parametrize("prompt", ["What?", [{"role": "user", "content": "What?"}]], ids=["text", "talk"])
def test_a_reward_of_messages_gets_messages(reward: Any, prompt: Any) -> None:
    outcomes = score(reward, ["four", "five"], [prompt] * 2, ROW)
    assert [outcome.score for outcome in outcomes] == [1.0, 0.0], [o.reason for o in outcomes]


def text_or_messages(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(c if isinstance(c, str) else c[0]["content"])) for c in completions]


def of_prompts(completions: list[str], prompts: list[Any], **_: Any) -> list[float]:
    return [float(len(c) > len(p[-1]["content"])) for c, p in zip(completions, prompts, strict=True)]


def of_json(completions: list[str], **_: Any) -> list[float]:
    import json

    found = [json.loads(c) for c in completions]
    return [float(value["content"] == 4) for value in found]


@pytest.mark.parametrize(
    "reward", [text_or_messages, of_prompts, of_json, len], ids=lambda reward: reward.__name__
)
def test_a_reward_of_text_gets_text(reward: Callable[..., Any]) -> None:
    assert not reads_messages(reward)


def test_they_are_texts_where_they_always_were() -> None:
    talk = [{"role": "user", "content": "abc"}]
    assert [o.score for o in score(of_prompts, ["abcd", "a"], [talk] * 2, {})] == [1.0, 0.0]
    assert [o.score for o in score(of_json, ['{"content": 4}'], ["p"], {})] == [1.0]
    assert [o.score for o in score(text_or_messages, ["abcd"], ["p"], {})] == [4.0]


def _said(completion: Any) -> str:
    return str(completion[0]["content"])


def by_helper(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(_said(c))) for c in completions]


def test_one_that_reads_them_elsewhere_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match=re.escape("tieout.rewards.scoring.adapt.from_trl(function)")):
        check_call(by_helper, [ROW])
    assert [o.score for o in score(from_trl(by_helper), ["abc"], ["p"], {})] == [3.0]


def test_a_file_of_the_command_line_is_recognised_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def right(completions, answer, **kwargs):\n"
        '    contents = [completion[0]["content"] for completion in completions]\n'
        "    return [1.0 if c == a else 0.0 for c, a in zip(contents, answer)]\n"
    )
    reward = load_reward(f"{file}:right")
    check_call(reward, [ROW])
    assert [o.score for o in score(reward, ["four", "five"], ["p"] * 2, ROW)] == [1.0, 0.0]
