"""The negative-control set."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from tieout.tasks import controls
from tieout.tasks.controls import SKILLS, exact_match, task
from tieout.tasks.glossary import GLOSSARY

ROWS = task.rows("test")


def test_every_skill_has_as_many_rows() -> None:
    counts = Counter(row["skill"] for row in ROWS)
    assert set(counts) == set(SKILLS)
    assert len(set(counts.values())) == 1
    assert len(ROWS) == controls.NUM_TEST


def test_only_test_has_rows() -> None:
    assert [len(task.rows(split)) for split in ("train", "calibration", "ood")] == [0, 0, 0]


def test_no_prompt_is_asked_twice() -> None:
    assert len({json.dumps(row["prompt"]) for row in ROWS}) == len(ROWS)


def test_rows_are_the_same_in_another_process() -> None:
    code = "from tieout.tasks.controls import task; import json; print(json.dumps(list(task.rows('test'))))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(other.stdout) == list(ROWS)


def test_imports_without_torch() -> None:
    code = "import tieout.tasks.controls, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_gold_scores_one_and_others_do_not() -> None:
    assert task.reward is not None
    assert task.gold is not None
    for index, row in enumerate(ROWS):
        other = ROWS[(index + 31) % len(ROWS)]
        said = [task.gold(row), f"  {task.gold(row)}\n", "", task.gold(row) + " indeed", task.gold(other)]
        scores = task.reward(said, **{name: [value] * len(said) for name, value in row.items()})
        assert scores[:4] == [1.0, 1.0, 0.0, 0.0], row
        assert scores[4] == (1.0 if row["answer"] == other["answer"] else 0.0)


def test_whitespace_inside_is_normalised_and_words_are_not() -> None:
    assert exact_match(["a  b\nc", "abc", "A b c"], ["a b c"] * 3) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("skill", SKILLS)
def test_a_row_can_be_answered_from_its_prompt(skill: str) -> None:
    """What is asked is told: the answer's words stand in the prompt (or in the glossary, or can be computed)."""
    rng = Random(f"test:{skill}")
    for _ in range(200):
        exercise = SKILLS[skill](rng)
        asked = exercise.prompt[-1]["content"]
        assert exercise.skill == skill
        assert exercise.answer.strip()
        if skill == "definitions":
            assert any(term in asked and GLOSSARY[term] == exercise.answer for term in GLOSSARY)
        elif skill == "arithmetic":
            a, b = map(int, re.findall(r"\d+", asked))
            words = {"+": a + b, "plus": a + b, " - ": a - b, "minus": a - b, "larger": max(a, b)}
            assert int(exercise.answer) == next(value for word, value in words.items() if word in asked)
        elif skill == "json":
            told = dict(re.findall(r"(\w+) is (\w+)", asked))
            assert {
                key: str(value) for key, value in json.loads(exercise.answer).items()
            }.items() <= told.items()
        else:
            assert exercise.answer in asked


def test_facts_have_one_answer() -> None:
    """No two people share a city or a job, so no question has two right answers."""
    rng = Random("facts")
    for _ in range(200):
        text = controls.facts(rng).prompt[0]["content"].rsplit("\n", 1)[0]
        for told in (r"(?:lives in|is from) (\w+)\.", r"(?:works as|is) an? (\w+)\."):
            found = re.findall(told, text)
            assert len(found) == len(set(found)) >= 2


def test_lookup_tables_have_no_doubt() -> None:
    rng = Random("lookup")
    for _ in range(200):
        exercise = controls.lookup(rng)
        table, question = exercise.prompt[0]["content"].split("\n\n")
        labels = [re.split(r"[^a-z]", line)[0] for line in table.splitlines()]
        asked = [label for label in labels if re.search(rf"\b{label}\b", question)]
        assert len(asked) == 1
        line = table.splitlines()[labels.index(asked[0])]
        assert line.endswith(exercise.answer)


def test_a_control_is_short_enough() -> None:
    assert max(len(row["answer"]) for row in ROWS) < task.max_new_tokens * 2
