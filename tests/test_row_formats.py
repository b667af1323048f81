"""Rows as spreadsheets, other trainers and hands write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tieout.cli.evaluate import Options as Evaluation
from tieout.cli.evaluate import task_of
from tieout.cli.train_rows import Options, task_for
from tieout.errors import InputError
from tieout.methods import GRPO
from tieout.rewards import load_reward
from tieout.rows import RowsError, check_rows, read_rows
from tieout.rows.pairs import PairSelection, claims_scores, preferences, scores_of
from tieout.storage.jsonl import write_jsonl
from tieout.tasks.files import Data, answered, check_columns, files_task, rows_task
from tieout.types import Row
from tieout.vetting.attack import AttackSettings, attack
from tieout.vetting.check import prove
from tieout.vetting.golden_rows import golden_rows


def written(folder: Path, name: str, text: str) -> Path:
    (path := folder / name).write_text(text, encoding="utf-8")
    return path


def test_scores_of_pairs_in_a_spreadsheet_are_numbers(tmp_path: Path) -> None:
    text = "prompt,chosen,rejected,chosen_score,rejected_score\nq,a,b,0.9,0\nr,a,b,,\ns,a,b,high,low\n"
    rows = read_rows(written(tmp_path, "a.csv", text))
    assert [scores_of(row) for row in rows] == [(0.9, 0.0), None, None]
    assert [claims_scores(row) for row in rows] == [True, False, True]
    with pytest.raises(InputError, match=r"a\.csv:3: .*this row has none"):
        preferences(rows, selection=PairSelection(min_gap=0.5))


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_a_spreadsheet_is_read_by_the_mark_of_its_header(tmp_path: Path, mark: str) -> None:
    cells = [["prompt", "completion", "label"], ["1,5 and 2; or", "3", "1"], ["q", "a", "FALSE"]]
    text = "\ufeff" + "\r\n".join(
        mark.join(f'"{c}"' if mark in c or ";" in c else c for c in row) for row in cells
    )
    rows = check_rows(read_rows(written(tmp_path, "a.csv", text)), "label")
    assert rows[0] == {"prompt": "1,5 and 2; or", "completion": "3", "label": True}
    assert rows[1]["label"] is False


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "prompt;completion\nq;a;b\n", "3 cells; the header has 2, divided by semicolons"),
        ("a.csv", "prompt,completion\nq,a,b\n", "divided by commas: put a cell that holds one"),
        ("a.jsonl", '{"a": 1},\n{"a": 2}\n', "a comma follows the object: leave it out"),
        ("a.jsonl", '{"a": 1} {"a": 2}\n', "expected one object a line"),
        ("a.json", '[{"a": 1},\n]', "leave out the comma after the last value"),
        ("a.jsonl", "{'a': True}\n", "expected double quotes"),
    ],
)
def test_the_cause_and_the_remedy_are_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(RowsError) as caught:
        read_rows(written(tmp_path, name, text))
    assert says in str(caught.value)


@pytest.mark.parametrize(("label", "good"), [(1, True), (0, False), (1.0, True), (True, True)])
def test_labels_are_true_and_false_or_1_and_0(label: Any, good: bool) -> None:
    (row,) = check_rows([{"prompt": "p", "completion": "c", "label": label}], "label")
    assert row["label"] is good


def test_alpacas_input_is_part_of_the_question() -> None:
    row = {"instruction": "Add one.", "input": "3", "output": "4"}
    (made,) = check_rows([row], "demonstration")
    assert made["prompt"] == [{"role": "user", "content": "Add one.\n\n3"}]
    assert made["completion"] == "4"
    (plain,) = check_rows([{**row, "input": ""}], "prompt")
    assert plain["prompt"] == [{"role": "user", "content": "Add one."}]
    (told,) = check_rows([{**row, "system": "Be brief."}], "demonstration")
    assert told["prompt"][0] == {"role": "system", "content": "Be brief."}
    (pair,) = check_rows([{**row, "chosen": "4", "rejected": "5"}], "preference")
    assert pair["prompt"] == made["prompt"]
    with pytest.raises(RowsError, match="'history' is not read"):
        check_rows([{**row, "history": [["a", "b"]]}], "demonstration")


def test_sharegpts_conversations_are_read() -> None:
    talk = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]
    (row,) = check_rows([{"conversations": talk}], "demonstration")
    assert (row["prompt"], row["completion"]) == ([{"role": "user", "content": "hi"}], "yo")


@pytest.mark.parametrize("side", [dict, lambda said: [dict(said)], lambda said: said["value"]])
def test_sharegpts_pairs_and_labels_are_read(side: Any) -> None:
    asked, good, bad = (
        {"from": who, "value": text} for who, text in (("human", "2+2?"), ("gpt", "4"), ("gpt", "5"))
    )
    prompt = [{"role": "user", "content": "2+2?"}]
    pair: Row = {"conversations": [asked], "chosen": side(good), "rejected": side(bad)}
    for kind in ("preference", "ranking"):
        (row,) = check_rows([pair], kind)  # type: ignore[arg-type]
        assert row == {"prompt": prompt, "chosen": "4", "rejected": "5"}
    (row,) = check_rows([{"conversations": [asked, bad], "label": 0}], "label")
    assert row == {"prompt": prompt, "completion": "5", "label": False}
    with pytest.raises(RowsError, match="the last message of 'conversations' is from 'user'"):
        check_rows([{"conversations": [asked], "label": 1}], "label")
    with pytest.raises(RowsError, match="'conversations' ends with an answer"):
        check_rows([{**pair, "conversations": [asked, good]}], "preference")
    with pytest.raises(RowsError, match="'conversations' is text"):
        check_rows([{**pair, "conversations": "2+2?"}], "preference")


def test_a_list_in_one_line_is_counted_by_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"prompt": "a"}, {"prompt": ""}]')
    with pytest.raises(RowsError, match=r"rows\.json, row 2: 'prompt' is empty"):
        check_rows(read_rows(tmp_path / "rows.json"), "prompt")
    (tmp_path / "rows.json").write_text('[{"prompt": "a"},\n{"prompt": ""}]')
    with pytest.raises(RowsError, match=r"rows\.json:2: 'prompt' is empty"):
        check_rows(read_rows(tmp_path / "rows.json"), "prompt")


SAID = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": SAID},
        {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
        {"prompt": SAID[:1], "completion": SAID[1:]},
        {"prompt": SAID[:1], "completion": "4"},
    ],
)
def test_rows_to_sample_from_are_read_as_those_to_imitate(row: Row) -> None:
    (asked,), (shown,) = (check_rows([{**row, "answer": "4"}], kind) for kind in ("prompt", "demonstration"))
    assert asked == shown == {"prompt": SAID[:1], "completion": "4", "answer": "4"}
    (golden,) = golden_rows([{**row, "answer": "4"}])  # of `reward check` and `attack`
    assert golden == asked


def test_messages_that_end_with_a_question_are_a_prompt() -> None:
    (row,) = check_rows([{"messages": SAID[:1], "answer": "4"}], "prompt")
    assert row == {"prompt": SAID[:1], "answer": "4"}


def test_the_completion_is_the_answer_where_a_reward_asks_for_one(tmp_path: Path) -> None:
    """As in a recipe, so in `eval`, in training and in Python: a spreadsheet of prompt and completion can be scored."""
    table = written(tmp_path, "test.csv", "prompt;completion\n2+2?;4\n2+3?;5\n")
    (tmp_path / "r.py").write_text(
        "def right(completions, answer, **_):\n"
        "    return [float(c == a) for c, a in zip(completions, answer)]\n"
        "def other(completions, solution, **_):\n    return [1.0] * len(completions)\n"
    )
    reward = f"{tmp_path}/r.py:right"
    given: Any = {"data": table, "reward": reward}
    scored = task_of(Evaluation(**given)).rows("test")
    trained = task_for(GRPO().needs, "grpo", Options(out=tmp_path / "run", **given)).rows("train")
    assert [row["answer"] for row in scored] == [row["answer"] for row in trained] == ["4", "5"]
    assert scored.location(1) == f"{table}:3"  # type: ignore[attr-defined]
    alone = [{"prompt": f"{i} + 0?", "completion": f"{i}"} for i in range(3)]
    assert prove(load_reward(reward), alone).checks[0].passed == 3  # `reward check`
    assert attack(
        load_reward(reward), alone, AttackSettings(seconds=0.2, num_search=0)
    ).rows  # a gold that is paid
    quiz = {"prompt": "p", "completion": "4", "reference": "4"}
    assert "answer" not in answered([quiz], load_reward("summary"))[0]  # there it is an option, not a column
    blank = written(tmp_path, "blank.csv", "prompt;completion\n2+2?;4\n2+3?;\n")
    for makes in (
        lambda: task_of(Evaluation(data=blank, reward=reward)),
        lambda: task_for(GRPO().needs, "grpo", Options(out=tmp_path, data=blank, reward=reward)),
    ):
        with pytest.raises(InputError, match=r"1 of 2 have 'answer', the first without it is .*blank\.csv:3"):
            makes()
    part: list[Row] = [{"prompt": "p", "answer": "1"}, {"prompt": "Which?"}]
    with pytest.raises(InputError, match=r"1 of 2 have 'answer', the first without it is 'Which\?'"):
        check_columns(load_reward(reward), part)  # its second row may be any of the file
    (own,) = rows_task("rows", [{"prompt": "p", "answer": "1"}], load_reward(reward)).rows("")
    assert own["answer"] == "1"
    with pytest.raises(
        InputError, match=r"test\.csv: reward 'other' needs column 'solution'; rows have: completion"
    ):
        task_of(Evaluation(data=table, reward=f"{tmp_path}/r.py:other"))


def test_a_completion_that_is_labelled_bad_is_no_gold_and_no_answer(tmp_path: Path) -> None:
    reward = load_reward("numeric")
    rows = [
        {"prompt": "2+2?", "completion": "4", "label": True},
        {"prompt": "2+3?", "completion": "6", "label": 0},
    ]
    assert [row.get("answer") for row in answered(rows, reward)] == ["4", None]
    with pytest.raises(InputError, match="rows: reward 'numeric' needs column 'answer'"):
        rows_task("rows", rows, reward)
    with pytest.raises(InputError, match="row 2 has no gold in column 'completion' that is not labelled bad"):
        prove(reward, rows)
    told = [{**rows[0], "answer": "4"}, {**rows[1], "answer": "5"}]
    assert [row["completion"] for row in golden_rows(told)] == ["4", "5"]


def test_pairs_alone_have_their_chosen_completion_as_the_answer(tmp_path: Path) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": f"{i}?"}], "chosen": f"{i}", "rejected": "-"}
        for i in range(60)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    task = files_task(Data(pairs=str(tmp_path / "pairs.jsonl")), "numeric")
    assert all(row["answer"] == row["chosen"] for split in ("train", "test") for row in task.rows(split))
    (tmp_path / "r.py").write_text(
        "def close(completions, gold, **_):\n    return [1.0] * len(completions)\n"
    )
    with pytest.raises(
        InputError, match=r"train rows \(.*pairs.jsonl\): .*needs column 'gold'.*give data.test with it"
    ):
        files_task(Data(pairs=str(tmp_path / "pairs.jsonl")), f"{tmp_path / 'r.py'}:close")
