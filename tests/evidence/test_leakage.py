"""Training rows among held-out rows are found in every form; rows that share a template or a text are left alone."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.evidence.leakage import check_leakage, held_out, in_words, rows_of, warn_of_copies
from tieout.rows import read_rows
from tieout.rows.leakage import find_leaks
from tieout.tasks import load_task

Rows = list[dict[str, Any]]

QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)
OTHERS = [{"prompt": f"What is the capital of country number {i}, and who rules it?"} for i in range(20)]


def kinds(train: Sequence[Any], held: Sequence[Any]) -> list[str]:
    return [leak.kind for leak in find_leaks({"train": train}, {"test": held})]


@pytest.mark.parametrize(
    ("trained", "kind"),
    [
        (QUESTION, "exact"),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}], "exact"),
        (QUESTION.upper().replace(", ", " ,  "), "normalised"),
        (QUESTION.replace("sold", "so\u200bld").replace("clips", "𝐜𝐥𝐢𝐩𝐬"), "normalised"),
        (QUESTION.replace("friends", "colleagues"), "near"),
        (f"Think step by step and answer the following question. {QUESTION}", "near"),
        ([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"},
          {"role": "user", "content": QUESTION}], "near"),
    ],
    ids=["copy", "other system turn", "case and punctuation", "unicode", "one word", "preamble", "later turn"],
)  # fmt: skip
def test_a_planted_copy_is_found_in_every_form(trained: Any, kind: str) -> None:
    held = [{"prompt": [{"role": "user", "content": QUESTION}]}]
    assert kinds([*OTHERS, {"prompt": trained, "completion": "72"}], held) == [kind]
    assert kinds(OTHERS, held) == []


@pytest.mark.parametrize("columns", [("completion",), ("chosen", "rejected")])
def test_a_question_within_a_completion_is_found(columns: tuple[str, ...]) -> None:
    row = {"prompt": "Write a problem.", **dict.fromkeys(columns, f"{QUESTION} The answer is 72.")}
    assert kinds([*OTHERS, row], [{"prompt": QUESTION, "answer": "72"}]) == ["near"]


def test_a_list_of_completions_is_looked_through() -> None:
    row = {"prompt": "Write a problem.", "completions": ["No.", f"{QUESTION} 72"], "scores": [0.0, 1.0]}
    assert kinds([row], [{"prompt": QUESTION}]) == ["near"]


@pytest.mark.parametrize(
    ("trained", "held"),
    [
        ("What is 5 + 3?", "What is 5 - 3?"),
        ("Is 3 < 5?", "Is 3 > 5?"),
        ("What is 5% of 80?", "What is 5 of 80?"),
        ("增长了多少?", "减少了多少?"),
    ],
)
def test_a_sign_or_a_character_that_changes_the_question_is_no_punctuation(trained: str, held: str) -> None:
    assert kinds([{"prompt": trained}], [{"prompt": held}]) == []
    assert kinds([{"prompt": held}], [{"prompt": f" {held} "}]) == ["normalised"]


PASSAGE = (
    "The company sells coffee, tea and cocoa in Europe, Asia and America. It was founded in Turin by two brothers. "
    "Its fiscal year ends in June, and its shares are listed in Milan."
)


def test_other_questions_on_one_text_are_no_near_duplicates() -> None:
    asked = ["Who founded the company?", "Where are its shares listed?", "When does its fiscal year end?"]
    rows = [{"prompt": f"{PASSAGE}\n\n{question}"} for question in asked]
    assert kinds(rows[:2], rows[2:]) == []
    assert kinds(rows, rows[2:]) == ["exact"]
    again = {"prompt": f"Read this.\n{PASSAGE}\nAnswer: {asked[2]}"}
    assert kinds([*rows[:2], again], rows[2:]) == []  # "Answer: When ..." is a line of its own
    assert kinds([*rows[:2], {"prompt": f"Read this.\n{PASSAGE}\n{asked[2]}"}], rows[2:]) == ["near"]


def test_a_template_with_other_figures_is_no_near_duplicate() -> None:
    template = (
        "Revenue of {} was {} and costs were {}, both in millions of euros. What was the operating result?"
    )
    made = [{"prompt": template.format(f"Company {i}", 100 + i, 50 + 2 * i)} for i in range(60)]
    assert kinds(made[:50], made[50:]) == []
    assert kinds([*made[:50], {"prompt": "Please say: " + made[55]["prompt"]}], made[50:]) == ["near"]


def test_known_golds_tell_questions_apart() -> None:
    """Two questions that differ in a name: only golds can say whether that is another question."""
    one = "How have Amazon's inventory levels changed across these quarters and what might this indicate?"
    other = one.replace("Amazon", "Apple")
    assert (
        kinds([{"prompt": other, "answer": "They fell to 7,482"}], [{"prompt": one, "answer": "Up to 9,100"}])
        == []
    )
    assert kinds([{"prompt": other}], [{"prompt": one}]) == ["near"]


def test_ten_paraphrases_of_a_row_do_not_hide_each_other() -> None:
    words = QUESTION.split()
    edited = [" ".join([*words[:i], "indeed", *words[i:]]) for i in range(10)]
    train = [{"prompt": text, "completion": "She sold 72"} for text in edited]
    assert kinds(train, [{"prompt": QUESTION, "answer": "72 clips"}]) == ["near"]


@pytest.mark.parametrize("name", ["finance_statements", "code", "rag", "style", "summaries", "wordle"])
def test_the_splits_of_the_library_are_apart(name: str) -> None:
    task = load_task(name)
    train, held = {"train": rows_of(task, "train")}, held_out(task)
    held["controls"] = rows_of(load_task("controls"), "test")
    assert find_leaks(train, held) == []
    planted = [*train["train"], held["test"][3]]
    assert [leak.held for leak in find_leaks({"train": planted}, held)] == ["test, row 4"]


def test_rows_that_people_wrote(shared_data: Path) -> None:
    """GSM8K has no copies among its first 2,000 rows; one word changed in each is found nine times in ten."""
    read = read_rows(shared_data / "gsm8k" / "train_first_2000.jsonl")
    rows = [{"prompt": row["question"], "answer": row["answer"].split("#### ")[1]} for row in read]
    train, held = rows[:1500], rows[1500:]
    assert kinds(train, held) == []
    rng, edited = random.Random(0), list[dict[str, Any]]()
    for row in held:
        words = row["prompt"].split()
        words[rng.randrange(len(words))] = "thing"
        edited.append({"prompt": " ".join(words)})
    assert len(kinds([*train, *edited], held)) >= 0.85 * len(held)
    upper = [{"prompt": row["prompt"].upper()} for row in held]
    assert kinds([*train, *upper], held) == ["normalised"] * len(held)


def test_questions_on_tables_of_annual_reports(shared_data: Path) -> None:
    """TAT-QA: no leak between documents; divided by rows, tables are shared, and few questions seem alike."""
    path = str(shared_data / "tatqa" / "tatqa_dataset_dev.json")
    task = load_task("numeric_qa", {"path": path})
    assert find_leaks({"train": task.rows("train")}, held_out(task)) == []
    rows = [row for split in ("train", "calibration", "test") for row in task.rows(split)]
    random.Random(0).shuffle(rows)
    assert len(kinds(rows[:700], rows[700:])) <= 0.01 * len(rows[700:])
    unknown = [{"prompt": row["prompt"]} for row in rows]
    assert len(kinds(unknown[:700], unknown[700:])) <= 0.05 * len(rows[700:])


def test_many_rows_are_compared_in_seconds() -> None:
    rng = random.Random(0)
    words = [f"word{i}" for i in range(500)]
    rows = [{"prompt": " ".join(rng.choices(words, k=60))} for _ in range(8000)]
    started = time.process_time()
    assert kinds(rows, [{"prompt": row["prompt"] + " now"} for row in rows[:300]]) == ["near"] * 300
    assert time.process_time() - started < 20


def test_a_refusal_names_rows_and_counts(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in OTHERS))
    rows = read_rows(file)
    with pytest.raises(InputError) as error:
        check_leakage({"train": rows[:9]}, {"test": rows, "ood": []}, "", "--accept-leakage WHY")
    text = str(error.value)
    assert text.startswith("9 of 20 rows that are measured on are trained on too (test: 9 exact of 20):")
    assert f"{file}:1 is train, row 1: exact" in text
    assert "... and 4 more" in text
    assert "--accept-leakage WHY" in text


def test_what_is_accepted_is_counted_with_its_reason() -> None:
    found = check_leakage({"train": OTHERS[:9]}, {"test": OTHERS, "ood": []}, "a smoke test", "")
    assert found["accepted"] == "a smoke test"
    assert found["train"] == {"train": 9}
    assert found["held"] == {"test": {"rows": 20, "exact": 9, "normalised": 0, "near": 0}}
    clean = check_leakage({"train": OTHERS[:9]}, {"test": OTHERS[9:]}, "a smoke test", "")
    assert (clean["accepted"], in_words(clean)) == ("", "none")


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"a": rows, "b": OTHERS[9:]}])
def test_evaluating_on_what_is_trained_on_warns_once(wrap: Callable[[Rows], Any]) -> None:
    with pytest.warns(UserWarning, match="9 of 9 rows of eval_dataset are in train_dataset too") as caught:
        warn_of_copies(OTHERS[:9], wrap(OTHERS[:9]))
    assert len(caught) == 1


def test_held_out_datasets_warn_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    warn_of_copies(OTHERS[:9], OTHERS[9:])
    warn_of_copies(OTHERS[:9], None)
    warn_of_copies((row for row in OTHERS), OTHERS)  # a stream is not read twice
    assert not recwarn.list
