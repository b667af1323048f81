"""Both searches over canned models: examples, parts, proposals that are none, and a journal cut anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout import MockSampler, SamplingParams, ranged
from tieout.errors import InputError
from tieout.prompt_search import plain, reflective
from tieout.prompt_search.budget import Budget
from tieout.prompt_search.candidates import Candidate
from tieout.prompt_search.journal import FILE, Journal
from tieout.prompt_search.reflective import Reflector
from tieout.prompt_search.scoring import Scorer, named
from tieout.prompt_search.tried import Tried, best_of
from tieout.rows.messages import text_of
from tieout.tasks import Task
from tieout.types import Answer, Prompt

BUDGET = Budget(150, 3, 8)


@ranged(0, 1)
def loud(completions: list[str], word: list[str], **_: Any) -> list[float]:
    return [float(text == w.upper()) for text, w in zip(completions, word, strict=True)]


def rows(split: str, count: int) -> list[dict[str, Any]]:
    words = [f"{split}{chr(97 + i)}" for i in range(count)]
    return [{"prompt": [{"role": "user", "content": f"say {w}"}], "word": w} for w in words]


TRAIN, VALIDATION = named("train", rows("train", 16)), named("validation", rows("valid", 8))


def policy(prompt: Prompt) -> str:
    """Says the word in capitals if it is shown how; otherwise only words that end in a, b or c."""
    assert not isinstance(prompt, str)
    told = prompt[0]["content"] if prompt[0]["role"] == "system" else ""
    word = text_of(prompt).removeprefix("say ")
    shown = [turn["content"] for turn in prompt if turn["role"] == "assistant"]
    assert all(one.isupper() for one in shown), "only completions that scored high are shown"
    assert text_of(prompt) not in [turn["content"] for turn in prompt[:-1]], (
        "a row is not shown its own answer"
    )
    return word.upper() if shown or "loud" in told or word[-1] in "abc" else word


def scorer(folder: Path, answers: Callable[[Prompt], str] = policy) -> Scorer:
    return Scorer(
        Task("rows", lambda split: [], loud), MockSampler(answers), Journal(folder), 16, batch_size=5
    )


def by_edits(folder: Path, sampler: Scorer | None = None) -> tuple[list[Tried], Scorer]:
    own = sampler or scorer(folder)
    return plain.search(Candidate({"system": ""}), own, TRAIN, VALIDATION, BUDGET, 0), own


class Teacher:
    """A model whose n-th proposal of a search is always the same; keeps what it was asked."""

    def __init__(self, *replies: str | Answer) -> None:
        self.replies, self.asked = list(replies), list[str]()

    def complete(self, prompts: Any, params: SamplingParams) -> list[str]:
        self.asked += [text_of(prompt) for prompt in prompts]
        return [self.replies[min(params.seed, len(self.replies)) - 1]]


def by_reflection(
    folder: Path, teacher: Teacher, parts: dict[str, str] | None = None
) -> tuple[list[Tried], Scorer, Reflector]:
    own = scorer(folder)
    reflector = Reflector("teacher", teacher, own.journal, 64, 0)
    seed = Candidate(parts or {"system": "Be nice."})
    return reflective.search(seed, own, reflector, TRAIN, VALIDATION, BUDGET, 0), own, reflector


def test_edits_find_that_examples_of_its_own_help_and_keep_within_the_budget(tmp_path: Path) -> None:
    tried, own = by_edits(tmp_path)
    best = best_of(tried)
    assert best.mean == 1.0
    assert best.candidate.shots
    assert tried[0].mean == 3 / 8
    assert len(own.used) <= BUDGET.completions
    assert best.how.startswith("show train/")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("search", ["plain", "gepa"])
def test_a_journal_cut_anywhere_leads_to_the_same_search(tmp_path: Path, kept: float, search: str) -> None:
    teacher = Teacher("```\nBe quiet.\n```", "```\nBe quick.\n```", "```\nBe loud.\n```")

    def run(folder: Path) -> tuple[list[Tried], Scorer]:
        return by_edits(folder) if search == "plain" else by_reflection(folder, teacher)[:2]

    whole, first = run(tmp_path / "whole")
    data = (tmp_path / "whole" / FILE).read_bytes()
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / FILE).write_bytes(data[: int(len(data) * kept)])  # a line may be torn
    teacher.asked.clear()
    again, second = run(tmp_path / "part")
    assert [(one.candidate, one.parent, one.how, one.scores) for one in again] == [
        (one.candidate, one.parent, one.how, one.scores) for one in whole
    ]
    asked = [sum(len(prompts) for prompts, _ in own.sampler.calls) for own in (first, second)]  # type: ignore[attr-defined]
    lines = data[: int(len(data) * kept)].count(b"\n") - data[: int(len(data) * kept)].count(b'"proposal"')
    assert asked[0] == len(first.used), "no row is asked twice of one candidate"
    assert abs(asked[0] - asked[1] - lines) <= 1, "what the journal has is not asked for"


def test_reflection_rewrites_named_parts_in_turn_and_sees_training_rows_only(tmp_path: Path) -> None:
    teacher = Teacher("```\nYou shout.\n```", "```\nBe loud.\n```", "```\nBe louder.\n```")
    tried, _, reflector = by_reflection(tmp_path, teacher, {"role": "You speak.", "form": "Be nice."})
    assert len(teacher.asked) == reflector.asked
    shown = [("You speak." in one, "Be nice." in one) for one in teacher.asked[:2]]
    assert sorted(shown) == [(False, True), (True, False)]
    assert best_of(tried).mean == 1.0
    assert not any("valid" in one for one in teacher.asked)
    assert "Score 0 of at most 1." in teacher.asked[0]


def test_proposals_that_are_no_new_prompt_are_counted_and_cost_no_completion(tmp_path: Path) -> None:
    cut = Answer("```\nBe loud.", finish_reason="length")
    teacher = Teacher(cut, "", "```\nBe nice.\n```", f"```\n{'long ' * 9000}\n```", "```\nBe loud.\n```")
    tried, _, reflector = by_reflection(tmp_path, teacher)
    assert reflector.refused >= 4
    assert [one.candidate.parts["system"] for one in tried] == ["Be nice.", "Be loud."]


def test_an_error_of_the_reflection_model_ends_the_search(tmp_path: Path) -> None:
    class Broken(Teacher):
        def complete(self, prompts: Any, params: SamplingParams) -> list[str]:
            raise InputError("the teacher is gone")

    with pytest.raises(InputError, match="the teacher is gone"):
        by_reflection(tmp_path, Broken())


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"step": 1}\n')
    with pytest.raises(InputError, match="none of a search"):
        Journal(tmp_path)


def test_a_reward_is_known_by_all_that_changes_its_scores() -> None:
    from functools import partial

    from tieout import Judge, combine
    from tieout.rewards.scoring.reward_identity import reward_identity

    def said(rubric: str, low: int = 1) -> Judge:
        return Judge(MockSampler([]), rubric, low=low, secret="kept apart")

    def scaled(completions: list[str], scale: float = 1.0, **_: Any) -> list[float]:
        return [scale for _ in completions]

    rewards = [
        loud,
        scaled,
        partial(scaled, scale=0.5),
        combine({loud: 1.0, scaled: 0.5}),
        combine({loud: 1.0, scaled: 0.25}),
        said("Is it brief?"),
        said("Is it kind?"),
        said("Is it kind?", low=0),
    ]
    known = [str(reward_identity(reward)) for reward in rewards]
    assert len(set(known)) == len(rewards)
    assert not any("kept apart" in one for one in known)
    assert known[0] == str(reward_identity(loud))
