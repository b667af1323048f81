"""Files that are whole, and errors that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.storage.jsonl import read_json, read_jsonl, set_aside, write_jsonl, write_text

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))


@settings(max_examples=20)
@given(st.lists(st.dictionaries(ANY_TEXT, st.one_of(ANY_TEXT, st.integers(), st.booleans())), max_size=4))
def test_what_is_written_is_read_whatever_the_text_holds(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    write_jsonl(path, rows)
    assert [row for _, row in read_jsonl(path)] == rows


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1}\n{"a": \n', r"rows.jsonl:2: not JSON"),
        (b'{"a": 1}\n\n{"a"', r"rows.jsonl:3: not JSON"),
        (b'{"a": 1}\n{"a": "\xff"}\n', r"rows.jsonl:2: not UTF-8 \(byte 0xff\)"),
        (b'{"a": 1}\n[1]\n', r"rows.jsonl:2: expected an object .*, found a list"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        list(read_jsonl(path))


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (2, {"a": 2})]


def test_bad_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{\n"a": nope}')
    with pytest.raises(ValueError, match=r"report.json:2: not JSON"):
        read_json(path)


def test_no_numbers_that_json_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(tmp_path / "rows.jsonl", [{"a": float("nan")}])
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", "a\ud800b")
    assert (tmp_path / "page.html").read_text() == "a\\ud800b"


def test_files_are_set_aside_together_under_one_free_number(tmp_path: Path) -> None:
    for name in ("sheet.jsonl", "key.json", "key-1.json"):
        (tmp_path / name).write_text(name)
    set_aside(tmp_path / "sheet.jsonl", tmp_path / "key.json")
    assert {p.name for p in tmp_path.iterdir()} == {"sheet-2.jsonl", "key-2.json", "key-1.json"}
    assert (tmp_path / "key-2.json").read_text() == "key.json"
