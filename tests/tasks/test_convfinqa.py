"""`numeric_qa` on ConvFinQA's and FinQA's formats: pages made up here, in the form in which those are published."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.errors import InputError
from tieout.rewards.library.numeric import numeric
from tieout.rewards.scoring.runner import check_reward, score
from tieout.tasks import Task, convfinqa
from tieout.tasks.convfinqa_answers import Gold, Turn, gold_of, is_rounded, kind_of
from tieout.tasks.numeric_qa import SPLITS, load
from tieout.types import Row

TABLE = [
    ["", "2012", "2011"],
    ["net sales", "$ 44", "$ 40"],
    ["tax rate", "35.5% ( 35.5 % )", "31% ( 31 % )"],
]
PAGE: dict[str, Any] = {
    "pre_text": ["net sales rose .", "amounts are in millions ."],
    "post_text": ["."],
    "filename": "ACME/2012/page_7.pdf",
    "table_ori": TABLE,
    "table": TABLE,
}
GROWTH = "subtract(44, 40), divide(#0, 40)"


def conversation(
    *turns: tuple[str, str, Any], name: str = "Single_ACME/2012/page_7.pdf-1", **qa: Mapping[str, Any]
) -> dict[str, Any]:
    """An entry of `train.json`: turns of (question, program, what it gives)."""
    asked, programs, values = zip(*turns, strict=True)
    annotation = {
        "amt_table": "<table></table>",
        "dialogue_break": list(asked),
        "turn_program": list(programs),
        "qa_split": [0] * len(turns),
        "exe_ans_list": list(values),
    }
    return {**PAGE, "id": name, "annotation": annotation, **qa}


def asked(program: str, answer: str, value: Any, question: str = "what was it?") -> dict[str, Any]:
    """The `qa` of an entry."""
    return {"question": question, "answer": answer, "explanation": "", "program": program, "exe_ans": value}


TALK = conversation(
    ("what were net sales in 2012?", "44", 44.0),
    ("and in 2011?", "40", 40.0),
    ("what was the change?", "subtract(44, 40)", 4.0),
    ("and relative to 2011?", GROWTH, 0.1),
    qa=asked(GROWTH, "10%", 0.1),
)


def write(folder: Path, *entries: Any) -> Path:
    path = folder / "pages.json"
    path.write_text(json.dumps(entries), "utf-8")
    return path


def all_rows(task: Task) -> list[Row]:
    return [row for split in SPLITS for row in task.rows(split)]


def paid(task: Task, row: Row, *completions: str) -> list[float | None]:
    assert task.reward is not None
    check_reward(task.reward, row)
    return [one.score for one in score(task.reward, completions, ["?"] * len(completions), row)]


def test_each_turn_is_a_row_with_the_turns_before_it_in_its_prompt(tmp_path: Path) -> None:
    task = load(write(tmp_path, TALK))
    first, second, third, last = all_rows(task)
    source = """net sales rose . amounts are in millions .

 | 2012 | 2011
net sales | $ 44 | $ 40
tax rate | 35.5% ( 35.5 % ) | 31% ( 31 % )"""
    assert first == {
        "id": "Single_ACME/2012/page_7.pdf-1_0",
        "document": "ACME/2012/page_7.pdf",
        "company": "ACME",
        "prompt": [
            {"role": "system", "content": convfinqa.SYSTEM},
            {"role": "user", "content": f"{source}\n\nwhat were net sales in 2012?"},
        ],
        "completion": "44",
        "answer": "44",
        "scale": "",
        "unit": "",
        "tolerance": None,
    }
    assert [row["id"][-2:] for row in (second, third, last)] == ["_1", "_2", "_3"]
    assert [(message["role"], message["content"]) for message in last["prompt"][2:]] == [
        ("assistant", "44"),
        ("user", "and in 2011?"),
        ("assistant", "40"),
        ("user", "what was the change?"),
        ("assistant", "4"),
        ("user", "and relative to 2011?"),
    ]
    assert last["completion"] == "10%"
    assert paid(task, last, "10%", "0.1", "10.0%", "10", "1%", "-10%") == [1, 1, 1, 0, 0, 0]
    assert paid(task, first, "44", "$ 44", "44 million", "44%", "43") == [1, 1, 0, 0, 0]
    assert task.gold is not None
    assert task.corrupt is not None
    for row in (first, second, third, last):
        assert paid(
            task, row, task.gold(row) or "", *(task.corrupt(row, random.Random(i)) for i in range(9))
        ) == [
            1,
            *[0] * 9,
        ]


def test_a_file_by_turn_gives_the_same_rows(tmp_path: Path) -> None:
    whole = all_rows(load(write(tmp_path, TALK)))
    by_turn = [
        {
            **TALK,
            "id": f"{TALK['id']}_{turn}",
            "annotation": {
                **TALK["annotation"],
                "cur_dial": TALK["annotation"]["dialogue_break"][: turn + 1],
                "cur_program": TALK["annotation"]["turn_program"][turn],
                "exe_ans": TALK["annotation"]["exe_ans_list"][turn],
                "turn_ind": turn,
            },
        }
        for turn in range(4)
    ]
    assert all_rows(load(write(tmp_path, *by_turn))) == whole
    assert all_rows(load(write(tmp_path, by_turn[2]))) == whole[2:3]


def test_a_question_of_finqa_is_one_row(tmp_path: Path) -> None:
    entry = {
        **PAGE,
        "id": "ACME/2012/page_7.pdf-2",
        "qa": asked(GROWTH, "10%", 0.1, "by how much did net sales grow?"),
    }
    (row,) = all_rows(load(write(tmp_path, entry)))
    assert (row["id"], row["document"], row["completion"]) == (entry["id"], "ACME/2012/page_7.pdf", "10%")
    assert row["prompt"][-1]["content"].endswith("\n\nby how much did net sales grow?")


def test_what_the_annotators_answered_decides_whether_it_is_per_cent() -> None:
    def gold(program: str, value: str, published: str = "", question: str = "what was it?") -> Gold | str:
        return gold_of(Turn(question, program, Decimal(value)), published, TABLE)

    assert gold("7.5", "7.5", "7.5%") == (
        Gold("7.5%", "7.5", "percent", "ratio")  # the table's cells have no sign
    )
    assert gold("7.5", "7.5", "$ 7.5 million") == Gold("7.5", "7.5")
    assert gold("divide(40, 16)", "2.5", "$ 2.5") == Gold("2.5", "2.5", tolerance="shown")  # per share
    assert gold("divide(40, 16)", "2.5", "2.5") == Gold("2.5", "250", "percent", "ratio", "shown")
    assert gold("divide(40, 16)", "2.5", "250%") == Gold("250%", "250", "percent", "ratio", "shown")
    assert gold("divide(40, 16)", "2.5", "2.5%") == "program and annotators disagree"
    assert gold("divide(40, 16), multiply(#0, const_100)", "250", "250%") == Gold(
        "250%", "250", "percent", "ratio", "shown"
    )
    assert gold("divide(40, 16), multiply(#0, const_100)", "250") == Gold(
        "250%", "250", "percent", "ratio", "shown"
    )
    assert gold("divide(1, 3)", "0.33333", "33%") == Gold("33.333%", "33.333", "percent", "ratio", "shown")
    assert gold("divide(1, 3)", "0.33333", "34%") == "program and annotators disagree"
    assert gold("subtract(40, 44)", "-4", "4") == "program and annotators disagree"
    assert gold("subtract(40, 44)", "-4", "it fell") == "no figure"
    assert gold("7.5", "7.5", "", "what was the percentage of debt?") == "per cent or not"
    assert gold("a sum", "7.5") == "a program that cannot be read"
    assert gold("divide(40, 44)", "0", "0%") == Gold("0%", "0", "percent", "ratio", "shown")
    assert gold_of(Turn("was it more?", "greater(44, 40)", "yes"), "yes", TABLE) == "yes or no"
    assert gold_of(Turn("was it more?", "add(a, b)", "n/a"), "", TABLE) == "no figure"


@pytest.mark.parametrize(
    ("program", "kind", "rounded"),
    [
        ("60.94", "amount", False),
        ("35.5%", "share", False),
        (".455", "amount", False),
        ("const_100", "amount", False),
        ("subtract(35.5%, 31%)", "share", False),
        ("add(44, 40), divide(#0, const_2)", "amount", True),
        ("multiply(44, 40), divide(#0, const_1000000)", "amount", True),
        ("subtract(75.95, const_100), divide(#0, const_100)", "share", True),
        ("divide(44, 40), subtract(#0, const_1)", "share", True),
        ("divide(44, 40), subtract(44, 40)", "amount", False),
        ("multiply(35.5%, 44)", "amount", True),
        ("divide(4, 40), multiply(#0, const_100), add(#1, 35.5%)", None, True),  # 10 and 0.355
        ("divide(44, 40), exp(#0, 0.5), subtract(#1, 1)", "share", True),
        ("table_average(net sales, none)", "amount", True),
        ("table_max(tax rate, none)", "share", False),
        ("table_sum(costs, none)", None, False),  # no such row
        ("subtract(44, #0)", None, False),
        ("subtract(44, 40), a note", None, False),
        ("subtract(44, forty)", None, False),
        ("", None, False),
    ],
)
def test_what_a_program_gives_is_read_from_its_steps(program: str, kind: str | None, rounded: bool) -> None:
    assert (kind_of(program, TABLE), is_rounded(program)) == (kind, rounded)


NUMBERS = st.sampled_from(
    ["44", "1,204.5", ".5", "12%", "const_100", "const_2", "const_m1", "#0", "#7", "none", "x"]
)
NAMES = st.sampled_from(["add", "subtract", "multiply", "divide", "exp", "greater", "table_sum", "log"])
STEPS = st.builds("{}({}, {})".format, NAMES, NUMBERS, NUMBERS)


@given(st.one_of(st.text(max_size=40), st.lists(STEPS, max_size=5).map(", ".join)), st.text(max_size=12))
def test_any_program_and_any_answer_give_gold_that_scores_1_or_a_reason(program: str, published: str) -> None:
    gold = gold_of(Turn("what?", program, Decimal("0.125")), published, TABLE)
    if isinstance(gold, str):
        assert gold
    else:
        row = {"prompt": "?", **gold._asdict()}
        outcome = score(numeric, [gold.completion, ""], ["?", "?"], row)
        assert [one.score for one in outcome] == [1, 0]


@given(st.decimals(-(10**9), 10**9, places=5), st.sampled_from([2, 5]))
def test_a_share_is_paid_as_a_decimal_and_as_per_cent(value: Decimal, places: int) -> None:
    value = round(value, places)
    gold = gold_of(Turn("what?", "divide(1, 3)", value), "", [])
    assert isinstance(gold, Gold)
    row = {"prompt": "?", **gold._asdict()}
    texts = [f"{value:f}", f"{100 * value:f}%", f"{value + 1:f}", f"{-value:f}"]
    outcomes = score(numeric, texts, ["?"] * 4, row)
    assert [one.score for one in outcomes] == [1, 1, 0, float(value == 0)]


def test_turns_without_gold_are_counted_and_a_disagreement_ends_the_conversation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = "greater(44, 40)"
    kept = conversation(("was it more?", more, "yes"), ("by how much?", "subtract(44, 40)", 4.0))
    wrong = conversation(
        ("what were net sales?", "44", 44.0),
        ("how much did they grow?", GROWTH, 0.1),
        ("and what is that of 2012?", "divide(4, 44)", 0.09091),
        name="Double_ACME/2012/page_7.pdf",
        qa_0=asked(GROWTH, "11%", 0.1),
        qa_1=asked("divide(4, 44)", "9.1%", 0.09091),
    )
    path = write(tmp_path, kept, wrong)
    with caplog.at_level(logging.WARNING):
        rows = all_rows(load(path))
    assert [row["id"] for row in rows] == ["Single_ACME/2012/page_7.pdf-1_1", "Double_ACME/2012/page_7.pdf_0"]
    assert [message["content"] for message in rows[0]["prompt"][2:]] == ["yes", "by how much?"]
    assert [record.message for record in caplog.records] == [
        f"numeric_qa: rows left out of {path}: "
        "1 after such a turn, 1 program and annotators disagree, 1 yes or no"
    ]
    with pytest.raises(InputError, match="left out: 1 yes or no"):
        load(write(tmp_path, conversation(("was it more?", more, "yes"))))


def test_all_pages_of_a_company_are_in_one_split(tmp_path: Path) -> None:
    entries = [
        conversation(("how much?", "44", 44.0), name=f"Single_CO{company}/{year}/page_{page}.pdf-1")
        for company in range(40)
        for year in (2011, 2012)
        for page in (7, 8)
    ]
    task = load(write(tmp_path, *entries))
    found = {split: {row["company"] for row in task.rows(split)} for split in SPLITS}
    assert sorted(company for companies in found.values() for company in companies) == sorted(
        f"CO{company}" for company in range(40)
    )
    assert all(found.values())


def without(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != name}


def annotated(**fields: Any) -> dict[str, Any]:
    return {**TALK, "annotation": {**TALK["annotation"], **fields}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("text", "entry 2 is a str; expected an object"),
        (without(TALK, "id"), "entry 2 has no 'id'; expected a text"),
        (without(TALK, "table"), "entry 2 has no 'table'; expected a list"),
        ({**TALK, "post_text": "one text"}, "entry 2: 'post_text' is a str; expected a list"),
        ({**TALK, "table": [["a", 1]]}, "entry 2: 'table' has .*; expected a list of texts"),
        ({**TALK, "annotation": None}, "entry 2: 'annotation' is a NoneType; expected an object"),
        (without(without(TALK, "annotation"), "qa"), "entry 2 has no 'qa'"),
        (
            {**TALK, "annotation": without(TALK["annotation"], "exe_ans_list")},
            "annotation has no 'exe_ans_list'.*private",
        ),
        (annotated(exe_ans_list=[44.0]), "dialogue_break has 4, turn_program has 4, exe_ans_list has 1"),
        (
            annotated(exe_ans_list=[44.0, None, 4.0, 0.1]),
            "annotation, turn 1: 'exe_ans' is None; expected a number",
        ),
        (
            annotated(turn_program=["44", "40", 4, GROWTH]),
            "annotation, turn 2: 'program' is a int; expected a text",
        ),
        (annotated(dialogue_break=["a", "b", "c", 4]), "'dialogue_break' has .*; expected a list of texts"),
        (annotated(turn_ind=4), "'turn_ind' is 4; the conversation has 4 turns, from 0"),
        (annotated(turn_ind="0"), "'turn_ind' is a str; expected a whole number"),
        ({**TALK, "qa": without(TALK["qa"], "answer")}, "entry 2, qa has no 'answer'"),
        (TALK, "entries 1 and 2 have the same id"),
    ],
)
def test_a_malformed_entry_is_named_with_its_field(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"pages\.json: .*{message}"):
        load(write(tmp_path, TALK, entry))


def test_the_variants_of_the_task_keep_what_is_asked(tmp_path: Path) -> None:
    task = load(write(tmp_path, TALK))
    first, *_, last = all_rows(task)
    made: Sequence[Row | None] = [vary(first, random.Random(0)) for vary in task.variants.values()]
    assert [row is not None and row["prompt"] != first["prompt"] for row in made] == [True] * 3
    reworded = task.variants["paraphrase"](last, random.Random(0))
    assert reworded is not None
    assert reworded["prompt"][0]["content"] in convfinqa.WORDINGS
    assert reworded["prompt"][1:] == last["prompt"][1:]
    assert task.variants["order"](last, random.Random(0)) is None  # the page stands in an earlier message
