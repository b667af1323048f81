"""Prompt files, first prompts, feedback and the division of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.evidence.evaluate import Case
from tieout.prompt_search.budget import Budget
from tieout.prompt_search.candidates import Candidate, front, seed_candidate
from tieout.prompt_search.feedback import feedback_of
from tieout.prompt_search.splits import split_rows
from tieout.samplers.prompted import (
    PromptPrefix,
    check_not_searched,
    question_digest,
    read_prompt,
    write_prompt,
)


def chat(text: str, system: str = "") -> list[dict[str, str]]:
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]


def test_a_prompt_file_holds_all_of_a_prefix(tmp_path: Path) -> None:
    prefix = PromptPrefix(
        "Be brief.", [(chat("2 + 2"), "4"), ("3 + 3 =", "6")], "Old.", {"a": "Be brief."}, ["0" * 16]
    )
    write_prompt(tmp_path / "prompt.json", prefix)
    again = read_prompt(tmp_path / "prompt.json")
    assert again.plain == prefix.plain
    assert again.digest == prefix.digest
    assert again(chat("5 + 5")) == prefix(chat("5 + 5"))
    assert read_prompt(json.dumps(prefix.plain)).plain == prefix.plain


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"system": 3, "shots": []}, "expected system as a text"),
        ({"system": "x", "shots": [{"prompt": "x"}]}, "list of objects with prompt and completion"),
        ({"system": "x", "parts": ["x"]}, "expected system as a text"),
        ({"sytem": "x"}, "it has sytem; expected system and shots"),
        ([1], "it has list"),
    ],
)
def test_what_is_no_prompt_file_is_refused(tmp_path: Path, held: Any, said: str) -> None:
    (tmp_path / "prompt.json").write_text(json.dumps(held))
    with pytest.raises(InputError, match=said):
        read_prompt(tmp_path / "prompt.json")


def test_a_prompt_replaces_the_system_message_it_was_searched_in_place_of_and_no_other() -> None:
    prefix = PromptPrefix("New.", replaces="Old.")
    assert prefix(chat("hi", "Old."))[0] == {"role": "system", "content": "New."}
    assert prefix(chat("hi", "Mine."))[0] == {"role": "system", "content": "New.\n\nMine."}
    assert PromptPrefix("", replaces="Old.")(chat("hi", "Old.")) == chat("hi")


def test_the_first_prompt_is_what_is_given_or_what_all_rows_share(tmp_path: Path) -> None:
    rows = [{"prompt": chat(text, "Old.")} for text in "ab"]
    shared = seed_candidate("", rows)
    assert shared.prefix(rows[0]["prompt"]) == rows[0]["prompt"], "the first prompt changes nothing"
    assert seed_candidate("", [*rows, {"prompt": chat("c", "Other.")}]).prefix.system == ""
    assert seed_candidate("", [{"prompt": "plain text"}]).prefix("a text") == "a text"
    (tmp_path / "system.txt").write_text("From a file.\n")
    assert seed_candidate(str(tmp_path / "system.txt"), rows).prefix.system == "From a file."
    with pytest.raises(InputError, match="cannot be read"):
        seed_candidate("none.txt", rows)
    parts = PromptPrefix("", parts={"role": "You add.", "form": "Say a number."})
    write_prompt(tmp_path / "parts.json", parts)
    found = seed_candidate(str(tmp_path / "parts.json"), rows)
    assert list(found.parts) == ["role", "form"]
    assert found.prefix.system == "You add.\n\nSay a number."
    write_prompt(tmp_path / "both.json", PromptPrefix("Other.", parts={"role": "You add."}))
    with pytest.raises(InputError, match="parts make another text"):
        read_prompt(tmp_path / "both.json")


def test_rows_that_chose_a_prompt_are_known_whatever_their_system_message() -> None:
    prefix = PromptPrefix(
        "x", [(chat("shown"), "yes")], searched=[question_digest({"prompt": chat("a", "Old.")})]
    )
    rows = [{"prompt": chat(text, "New.")} for text in ("a", "b", "shown")]
    with pytest.raises(InputError, match="2 of 3 rows chose this prompt"):
        check_not_searched(prefix, rows, " ", "--reason")
    assert check_not_searched(prefix, rows, "to try", "--reason") == 2
    assert check_not_searched(prefix, rows[1:2], "", "--reason") == 0


def test_feedback_says_what_can_be_seen_and_nothing_that_a_reward_says() -> None:
    case = Case(
        "train/0",
        "programmatic",
        "search",
        "?",
        '{"total": 12,',
        0.25,
        {"exact": 0.0},
        {"exact": "reward 'exact' raised KeyError: the answer is 77"},
        parts={"form": 0.25, "figures": 0.0},
        usage={"tokens": 64, "prompt_tokens": 3, "seconds": 0},
    )
    said = feedback_of(case, 1.0, 64)
    assert "77" not in said
    for part in (
        "Score 0.25 of at most 1.",
        "form 0.25, figures 0",
        "exact 0",
        "KeyError",
        "cut off at 64",
        "as JSON",
    ):
        assert part in said
    assert "cut off" not in feedback_of(case, None, 65)


def test_no_question_is_on_two_sides_and_examples_are_not_tried_on() -> None:
    words = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in "klmnp"]
    rows = [{"prompt": chat(f"say {word}"), "answer": word} for word in words for _ in range(2)]
    shown = PromptPrefix("", [(chat(f"say {word}"), word) for word in words[:40]])
    given = shown.on([])  # no rows: nothing to put before
    assert given == []
    found = split_rows(rows, None, PromptPrefix(), (0, 0, 0), 3, "")
    sides = [{question_digest(row) for row in part} for part in (found.train, found.validation, found.test)]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert len(found.train) + len(found.validation) + len(found.test) == len(rows)
    assert set(found.searched) == sides[0] | sides[1]
    other = [{"prompt": chat(f"spell {word}"), "answer": word} for word in words]
    kept = split_rows(rows, other, shown, (0, 0, 0), 3, "")
    left = {question_digest(row) for row in (*kept.train, *kept.validation)}
    assert left == {question_digest(row) for row in rows} - {
        question_digest({"prompt": p}) for p, _ in shown.shots
    }
    with pytest.raises(InputError, match="1 test rows, and a search needs 2"):
        split_rows(rows, other[:1], PromptPrefix(), (0, 0, 0), 3, "")


def test_the_front_leaves_out_what_another_candidate_beats_on_every_row() -> None:
    scores = {"a": [1.0, 0.0, 0.5], "b": [0.0, 1.0, 0.5], "c": [0.0, 0.0, 0.5], "d": [1.0, 0.0, 0.5]}
    assert front(scores) == {"a", "b", "d"}


def test_a_budget_has_room_for_three_candidates_to_the_end() -> None:
    budget = Budget(8 + 3 * (2 * 3 + 8), 3, 8)
    assert (budget.spare, budget.step) == (0, 14)
    with pytest.raises(InputError, match=r"budget is 49 completions; expected at least 50"):
        Budget(49, 3, 8)
    with pytest.raises(InputError, match="minibatch is 0"):
        Budget(50, 0, 8)


def test_candidates_are_known_by_what_a_model_gets() -> None:
    one = Candidate({"system": "Be brief."})
    assert one.key == Candidate({"a": "Be brief.", "b": ""}).key
    assert one.key != Candidate({"system": "Be brief."}, ((chat("2 + 2"), "4"),)).key
    assert one.key != Candidate({"system": "Be brief."}, replaces="Old.").key
