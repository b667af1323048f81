"""Rows: what is read, what is refused and where the message points, and the one form that comes out."""

from __future__ import annotations

import csv
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tieout.rows import Rows, RowsError, check_general, check_rows, data_hash, is_general, read_rows
from tieout.rows.locations import location, part
from tieout.storage.jsonl import write_jsonl

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=8), JSON, max_size=4), min_size=1, max_size=5)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


Q, A, B = user("q"), assistant("a"), assistant("b")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(data: str | bytes, name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


# ---------------------------------------------------------------- reading


@given(rows=ROWS)
def test_what_is_written_is_read_back(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write_jsonl(folder / "a.jsonl", rows)
    (folder / "a.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    for name in ("a.jsonl", "a.json"):
        again = read_rows(folder / name)
        assert again == rows
        assert data_hash(again) == data_hash(rows)


@given(data=st.binary(max_size=200) | st.text(alphabet='[]{}",:\n\\u1e-d8', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused_with_the_file_named(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for suffix in (".jsonl", ".json", ".csv"):
        path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
        path.write_bytes(data)
        try:
            rows = read_rows(path)
        except RowsError as error:
            message = str(error)
            assert message.startswith(str(path))
        else:
            assert all(isinstance(row, dict) for row in rows)
            data_hash(rows)


def test_lines_are_counted_through_blank_lines_and_windows_line_ends(file: Any) -> None:
    rows = read_rows(file(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": "\xe2\x80\xa8"}\r\n'))
    assert rows == [{"a": 1}, {"a": "\u2028"}]
    assert rows.location(1).endswith("train.jsonl:3")
    rows = read_rows(file('[\n {"a": 1},\n\n {"a":\n 2}\n]\n', "train.json"))
    assert [rows.location(i)[-2:] for i in range(2)] == [":2", ":4"]
    rows = read_rows(file('prompt,label\n"two\nlines",true\n\nx,0\n', "train.csv"))
    assert rows == [{"prompt": "two\nlines", "label": True}, {"prompt": "x", "label": False}]
    assert [rows.location(i)[-2:] for i in range(2)] == [":2", ":5"]


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b'{"a": 1}\n{"a": }\n{"a": 2}\n', 2, "not JSON at column 7"),
        (b'{"a": 1}\n{"a": "cut o', 2, "is it complete"),
        (b'{"a": 1}\n{"b": "caf\xe9"}\n', 2, "not UTF-8: byte 0xe9 at byte 11"),
        (b'{"a": 1}\n[1, 2]\n', 2, "expected a JSON object with columns, found a list"),
        (b'{"a": 1}\n"text"\n', 2, "found text"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}\n', 1, "key 'c' is given twice"),
        (b'{"a": NaN}\n', 1, "NaN is not JSON"),
        (b'{"a": "\\ud800"}\n', 1, "lone surrogate"),
        (b'{"a": ' + b"[" * 100_000 + b"\n", 1, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}\n", 1, "4300"),
        (b'{\n "a": 1\n}\n', 1, "one object a line"),
        (b'[{"a": 1},\n {"a": 2}', 2, "the file ends inside the list"),
        (b'[{"a": 1},\n {"a": "x', 2, "not JSON at column"),
        (b'[{"a": 1},\n {"a": 1, "a": 2}]', 2, "given twice"),
        (b'[{"a": 1},\n {"a": 2}]\n{"a": 3}', 2, "more after the list"),
        (b'[{"a": 1}\n {"a": 2}]', 2, "expected ',' or ']'"),
        (b'[{"a": 1},\n "\xff"]', 2, "not UTF-8: byte 0xff at byte 3"),
        (b'[\n\n 3]', 3, "found a number"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_line(file: Any, data: bytes, line: int, says: str) -> None:
    path = file(data)
    with pytest.raises(RowsError) as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"[]", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(file: Any, data: bytes) -> None:
    with pytest.raises(RowsError, match="no rows"):
        read_rows(file(data))


def test_a_file_that_is_not_there_suggests_its_neighbour(file: Any) -> None:
    path = file("{}\n")
    with pytest.raises(FileNotFoundError, match=rf"trian\.jsonl; did you mean {re.escape(str(path))}\?"):
        read_rows(path.with_name("trian.jsonl"))
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_rows(path.parent / "nowhere" / "a.jsonl")
    with pytest.raises(RowsError, match=r"unknown kind of file '\.txt'; expected one of \.jsonl"):
        read_rows(file("x", "a.txt"))
    with pytest.raises(RowsError, match="is a folder"):
        read_rows(path.parent)
    with pytest.raises(RowsError, match="UTF-16"):
        read_rows(file('{"a": 1}'.encode("utf-16")))


def test_csv_cells_stay_text_and_ragged_rows_are_refused(file: Any) -> None:
    assert read_rows(file("prompt,answer\nx,007\n", "a.csv")) == [{"prompt": "x", "answer": "007"}]
    assert read_rows(file("prompt\tanswer\nx,y\t1e5\n", "a.tsv")) == [{"prompt": "x,y", "answer": "1e5"}]
    long = "x" * 200_000
    limit = csv.field_size_limit()
    assert read_rows(file(f"prompt\n{long}\n", "a.csv")) == [{"prompt": long}]
    assert csv.field_size_limit() == limit
    with pytest.raises(RowsError, match=r"a\.csv:3: 1 cells; the header has 2"):
        read_rows(file("a,b\n1,2\n1\n", "a.csv"))
    with pytest.raises(RowsError, match=r"a\.csv:2: not CSV"):
        read_rows(file('a,b\n1,"2\n', "a.csv"))
    with pytest.raises(RowsError, match="names a column twice"):
        read_rows(file("a,a\n1,2\n", "a.csv"))


def test_parquet_datasets_and_memory_give_the_same_rows(tmp_path: Path, file: Any) -> None:
    from datasets import Dataset, DatasetDict

    rows = [
        {"prompt": [user("a")], "completion": "b", "n": 1},
        {"prompt": [user("c")], "completion": "d", "n": 2},
    ]
    dataset = Dataset.from_list(rows)
    dataset.to_parquet(tmp_path / "a.parquet")
    dataset.save_to_disk(tmp_path / "saved")
    for source in (tmp_path / "a.parquet", str(tmp_path / "saved"), dataset, rows, tuple(rows)):
        again = read_rows(source)
        assert again == rows
        assert data_hash(again) == data_hash(rows)
    assert read_rows(tmp_path / "a.parquet").location(1).endswith("a.parquet, row 2")
    with pytest.raises(RowsError, match="DatasetDict with train, test; choose one"):
        read_rows(DatasetDict(train=dataset, test=dataset))
    DatasetDict(train=dataset).save_to_disk(tmp_path / "splits")
    with pytest.raises(RowsError, match="several splits"):
        read_rows(tmp_path / "splits")
    with pytest.raises(RowsError, match=r"bad\.parquet: not readable as Parquet"):
        read_rows(file(b"PAR1 but not really", "bad.parquet"))
    with pytest.raises(RowsError, match="row 2: expected a mapping of columns, found text"):
        read_rows([{"prompt": "x"}, "y"])  # type: ignore[list-item]


def test_the_hash_sees_values_and_order_but_not_the_order_of_keys() -> None:
    a, b = {"x": 1, "y": "é"}, {"x": 2, "y": "z"}
    assert data_hash([a, b]) == data_hash([dict(reversed(a.items())), b])
    hashes = [data_hash(rows) for rows in ([a, b], [b, a], [a], [a, {**b, "x": "2"}], [a, {**b, "x": 2.5}])]
    assert len(set(hashes)) == len(hashes)
    # Pinned: a run is continued by this hash, so it must not change between versions.
    assert data_hash([a]) == sha256('{"x":1,"y":"é"}\n'.encode()).hexdigest()


def test_writing_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(path, [{"a": 2}, {"a": float("nan")}])
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        write_jsonl(path, [{"a": 2}, {"a": object()}])
    assert read_rows(path) == [{"a": 1}]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


# ---------------------------------------------------------------- checking


def test_every_form_comes_out_as_one() -> None:
    chat = [user("q")]
    demonstration = [{"prompt": chat, "completion": "a", "answer": 3}]
    for row in (
        {"prompt": chat, "completion": "a", "answer": 3},
        {"prompt": chat, "completion": [assistant("a")], "answer": 3},
        {"messages": [user("q"), assistant("a")], "answer": 3, "prompt": None},
        {"messages": [{**user("q"), "name": None}, assistant("a")], "answer": 3},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "answer": 3},
        {"prompt": "q", "completion": [assistant("a")], "answer": 3},
    ):
        assert check_rows([row], "demonstration") == demonstration
    preference = [{"prompt": chat, "chosen": "a", "rejected": "b"}]
    for row in (
        {"prompt": chat, "chosen": "a", "rejected": "b"},
        {"prompt": chat, "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
        {"prompt": "q", "chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
        {"prompt": chat, "chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
    ):
        assert check_rows([row], "preference") == preference
    assert check_rows([{"prompt": "p", "completion": " c", "label": False}], "label") == [
        {"prompt": "p", "completion": " c", "label": False}
    ]
    assert (
        check_rows([{"prompt": [{"role": "system", "content": ""}, *chat], "gold": "x"}], "prompt")[0]["gold"]
        == "x"
    )


def test_a_checked_row_passes_again_unchanged() -> None:
    rows = check_rows([{"messages": [user("q"), assistant("a"), user("r"), assistant("b")]}], "demonstration")
    assert rows == [{"prompt": [user("q"), assistant("a"), user("r")], "completion": "b"}]
    assert check_rows(rows, "demonstration") == rows


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("prompt", {"prompt": [user("q")]}),
        ("demonstration", {"messages": [user("q"), assistant("a")]}),
        ("preference", {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]}),
    ],
)
def test_a_system_text_beside_the_conversation_is_not_lost(kind: Any, row: dict[str, Any]) -> None:
    """ShareGPT's files have such a column."""
    with pytest.raises(RowsError, match=r"row 1: the column 'system' is not read"):
        check_rows([{**row, "system": "Answer in French."}], kind)
    assert check_rows([{**row, "system": ""}], kind)[0]["prompt"] == check_rows([row], kind)[0]["prompt"]
    said = {"role": "system", "content": "Answer in French."}
    told = {name: [said, *turns] for name, turns in row.items() if isinstance(turns, list)}
    assert check_rows([{**row, **told, "system": "Answer in French."}], kind)[0]["prompt"][0] == said


@pytest.mark.parametrize(
    ("kind", "row", "says"),
    [
        (
            "preference",
            {"prompt": "p", "response": "x"},
            "missing columns 'chosen', 'rejected'; this row has: prompt, response",
        ),
        (
            "preference",
            {"prompt": "p", "choosen": "x", "rejected": "y"},
            "this row has: prompt, choosen, rejected; rename 'choosen' to 'chosen'?",
        ),
        (
            "demonstration",
            {"question": "p", "answer": "x"},
            "rename 'question' to 'prompt' and rename 'answer' to 'completion'?",
        ),
        ("prompt", {"Question": "p", "Answer": "x"}, "rename 'Question' to 'prompt'?"),
        ("demonstration", {"text": "all in one"}, "split it into 'prompt' and 'completion'"),
        (
            "demonstration",
            {"prompt": "p", "completion": None},
            "missing column 'completion'; this row has: prompt",
        ),
        ("demonstration", {}, "this row has: nothing"),
        ("demonstration", {"prompt": "  \n", "completion": "x"}, "'prompt' is empty"),
        ("demonstration", {"prompt": "p", "completion": " "}, "'completion' is empty"),
        (
            "demonstration",
            {"prompt": 5, "completion": "x"},
            "'prompt' is a number; expected text or a list of messages",
        ),
        (
            "demonstration",
            {"prompt": "p", "completion": {"a": 1}},
            "'completion' is an object; expected text",
        ),
        ("demonstration", {"prompt": "p\ud800", "completion": "x"}, "half a character"),
        (
            "demonstration",
            {"prompt": [user("p")], "completion": [user("x")]},
            "has the turns user; expected the last one from the assistant",
        ),
        (
            "demonstration",
            {"messages": [user("p")]},
            "the last message of 'messages' is from 'user'; expected 'assistant'",
        ),
        ("demonstration", {"messages": [assistant("p")]}, "nothing to answer"),
        (
            "demonstration",
            {"messages": [user("p"), assistant("")]},
            "the last message of 'messages' is empty",
        ),
        (
            "demonstration",
            {"messages": [{"role": "system", "content": "s"}, A]},
            "from 'system'; expected 'user'",
        ),
        ("demonstration", {"messages": []}, "'messages' is an empty list"),
        ("demonstration", {"messages": "hello"}, "'messages' is text; expected messages"),
        (
            "demonstration",
            {"messages": [{"from": "human", "value": "x"}]},
            "the last message of 'messages' is from 'user'; expected 'assistant'",
        ),
        ("demonstration", {"messages": [{"role": "gpt", "content": "x"}]}, "did you mean 'assistant'?"),
        (
            "demonstration",
            {"messages": [Q, {"role": "assistant", "content": [{"type": "text"}]}]},
            "a part of messages[1] is {'type': 'text'}; only text is trained here",
        ),
        ("demonstration", {"messages": [user(""), A]}, "messages[0] is an empty user message"),
        (
            "demonstration",
            {"messages": ["q"]},
            "messages[0] is text; expected an object with role and content",
        ),
        ("prompt", {"prompt": []}, "'prompt' is an empty list"),
        ("prompt", {"prompt": [Q, {"role": "system", "content": "s"}]}, "from 'system'; expected 'user'"),
        (
            "preference",
            {"chosen": "p a", "rejected": "p b"},
            "move what 'chosen' and 'rejected' begin with into 'prompt'",
        ),
        (
            "preference",
            {"chosen": [Q, A], "rejected": [user("r"), B]},
            "share 0 messages, then differ in 2 and 2",
        ),
        ("preference", {"prompt": "other", "chosen": [Q, A], "rejected": [Q, B]}, "'prompt' differs"),
        (
            "label",
            {"prompt": "p", "completion": "c", "label": 2},
            "'label' is 2, a number; expected true or 1 (good), or false or 0 (bad)",
        ),
        ("label", {"prompt": "p", "completion": "c", "label": "yes"}, "'label' is 'yes', text"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(kind: Any, row: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"prompt": "p", "completion": "c", "chosen": "c", "rejected": "d", "label": True}
    with pytest.raises(RowsError) as caught:
        check_rows(Rows([good, row], "train.jsonl", [3, 17]), kind)
    assert str(caught.value).startswith("train.jsonl:17: ")
    assert says in str(caught.value)


def test_rows_with_one_cause_are_one_line_and_five_causes_are_listed() -> None:
    rows: list[Any] = [*[{"prompt": ""}] * 8, *({f"c{i}": 1} for i in range(6))]
    with pytest.raises(RowsError) as caught:
        check_rows(rows, "prompt", source="mine")
    lines = str(caught.value).splitlines()
    assert lines[0] == "14 problems in mine:"
    others = "mine, row 2; mine, row 3; mine, row 4; 4 more"
    assert lines[1] == f"  mine, row 1: 'prompt' is empty (and {others})"
    assert [line.partition(": ")[0] for line in lines[2:-1]] == [f"  mine, row {row}" for row in range(9, 13)]
    assert lines[-1] == "  ... and 2 more"
    with pytest.raises(RowsError, match="mine: there are no rows"):
        check_rows([], "prompt", source="mine")
    with pytest.raises(ValueError, match="expected one of demonstration, preference"):
        check_rows(rows, "sft")  # type: ignore[arg-type]


@example(row={"chosen": [{"": False}, None], "rejected": [{"": False}, None]})
@given(
    row=st.dictionaries(
        st.sampled_from(["prompt", "completion", "chosen", "rejected", "label", "messages"]), JSON
    )
)
def test_any_row_is_accepted_or_refused_never_a_crash(row: dict[str, Any]) -> None:
    for kind in ("demonstration", "preference", "label", "prompt"):
        try:
            checked = check_rows([row], kind)  # type: ignore[arg-type]
        except RowsError as error:
            message = str(error)
            assert message.startswith("rows, row 1: ")
        else:
            assert check_rows(checked, kind) == checked  # type: ignore[arg-type]


def test_real_data(shared_data: Path) -> None:
    rows = read_rows(shared_data / "gsm8k" / "train_first_2000.jsonl")
    assert len(rows) == 2000
    with pytest.raises(RowsError, match="rename 'question' to 'prompt'"):
        check_rows(rows, "prompt")
    assert len(check_rows([{"prompt": row["question"]} for row in rows], "prompt")) == 2000


def test_pairs_of_equals_are_general_rows_for_methods_with_an_sft_term_only(tmp_path: Path) -> None:
    pairs = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "same", "rejected": "same\n"},
    ]
    talk = {"chosen": [Q, A], "rejected": [Q, A]}
    rows = check_rows([*pairs, talk], "preference")
    assert [is_general(row) for row in rows] == [False, True, True]
    assert rows[1]["rejected"] == "same"
    assert rows[2]["prompt"] == [Q]
    check_general(rows, "dpo", anchors=True)
    check_general(rows[:1], "reward_model", anchors=False)
    with pytest.raises(
        RowsError, match=r"2 problems in rows:\n  rows, row 2: .*the same, and simpo learns nothing"
    ):
        check_general(rows, "simpo", anchors=False)
    with pytest.raises(RowsError, match="the same in every row: nothing is compared; train sft"):
        check_general(list(rows)[1:], "dpo", anchors=True)


def test_a_part_of_the_rows_knows_where_they_stood(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n" + "".join(json.dumps({"prompt": f"q{i}"}) + "\n" for i in range(5)))
    asked = part(read_rows(file), 2, 4)
    assert [row["prompt"] for row in asked] == ["q2", "q3"]
    assert location(asked, 1) == f"{file}:5"
    assert location(part(Rows([{"prompt": "a"}, {"prompt": "b"}], "t"), 1, 2), 0) == "t, row 2"
