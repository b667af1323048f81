"""Labels leave as the rows that training, calibration and the gate read, and come back without loss."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from projects import answer, judge_all, open_store, rows_of

from tieout.cli.label import main
from tieout.errors import InputError
from tieout.evidence.human import read_grades, write_sheet
from tieout.labelling.assignment import Design
from tieout.labelling.exports import export, imported
from tieout.labelling.items import read_items
from tieout.labelling.scheme import make_scheme
from tieout.labelling.store import Store
from tieout.labelling.values import SKIP
from tieout.rows import check_rows, read_rows
from tieout.storage.jsonl import write_jsonl
from tieout.vetting.calibrate import calibrate

sys.path.insert(0, str(Path(__file__).parents[1] / "evidence"))
from made_cases import make_cases

EVERY = Design(overlap=1.0, repeats=0)


def labelled(folder: Path, kind: Any = "pairs", name: str = "labels", number: int = 12) -> Store:
    """A project in which anna judges everything in all ways, and ben agrees on most."""
    ways: Mapping[str, list[Any]] = {
        "pairs": ["a", "b", "tie", "bad", SKIP],
        "rankings": [[[0], [1], [2], [3]], [[3], [0, 1], [2]], [[0, 1, 2, 3]], SKIP],
        "grades": [{"good": "1"}, {"good": "0"}, SKIP],
        "spans": [[{"start": 12, "end": 13, "label": "wrong"}], [], SKIP],
    }
    store = open_store(folder, kind, number, EVERY, name=name)
    places = {item: i for i, item in enumerate(store.items)}
    judge_all(store, "anna", lambda item, _: ways[kind][places[item] % len(ways[kind])])
    judge_all(
        store, "ben", lambda item, _: ways[kind][(places[item] + (places[item] % 7 == 6)) % len(ways[kind])]
    )
    return store


CASES = {
    "pairs": ["pairs", "kto", "rankings", "calibration", "all"],
    "rankings": ["pairs", "rankings", "calibration", "all"],
    "grades": ["kto", "calibration", "all"],
    "spans": ["all"],
}


@pytest.mark.parametrize(
    ("kind", "format"), [(kind, format) for kind, own in CASES.items() for format in own]
)
def test_export_import_export_is_identical(tmp_path: Path, kind: Any, format: str) -> None:
    store = labelled(tmp_path, kind)
    settled = next(iter(store.items))
    value = {"pairs": "b", "rankings": [[3], [2], [1], [0]], "grades": {"good": "0"}, "spans": []}[kind]
    store.settle(answer(store, "chief", settled, value, base=0))
    write_jsonl(tmp_path / "one.jsonl", export(store, store.scheme, format))
    other = open_store(tmp_path, kind, 12, EVERY, name="other")
    assert other.add_imported(imported(tmp_path / "one.jsonl")) > 5
    write_jsonl(tmp_path / "two.jsonl", export(other, other.scheme, format))
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert other.add_imported(imported(tmp_path / "one.jsonl")) == 0, "what is there is not added again"


def test_pairs_are_preferences_of_the_majority(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=4, design=EVERY)
    first, second, third, fourth = store.items
    says = {first: "ab", second: "bb", third: ["tie", "tie"], fourth: ["bad", "bad"]}
    judge_all(store, "anna", lambda item, _: says[item][0])
    judge_all(store, "ben", lambda item, _: says[item][1])
    rows = export(store, store.scheme, "pairs")
    source = rows_of("pairs", 4)[1]
    assert [(row["chosen"], row["rejected"]) for row in rows] == [(source["rejected"], source["chosen"])]
    check_rows(rows, "preference")
    labels = export(store, store.scheme, "kto")
    assert [row["label"] for row in labels] == [True, False, False, False]
    check_rows(labels, "label")


def test_a_ranking_is_taken_apart_into_each_pair_that_it_decides(tmp_path: Path) -> None:
    store = open_store(tmp_path, "rankings", 1)
    judge_all(store, "anna", [[2], [0, 3], [1]])
    rows = export(store, store.scheme, "pairs")
    words = {(row["chosen"].split()[1], row["rejected"].split()[1]) for row in rows}
    assert words == {("three", "one"), ("three", "four"), ("three", "two"), ("one", "two"), ("four", "two")}
    (ranked,) = export(store, store.scheme, "rankings")
    assert ranked["scores"] == [1.5, 0.0, 3.0, 1.5]
    check_rows([ranked], "ranking")


def test_a_calibration_set_is_read_by_calibrate_with_the_columns_that_a_reward_asks_for(
    tmp_path: Path,
) -> None:
    rows = [{**row, "gold": f"1,{i:03}.5"} for i, row in enumerate(rows_of("grades", 40))]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    kind, items = read_items(tmp_path / "rows.jsonl")
    store = Store(tmp_path / "labels", make_scheme(kind), items, EVERY)
    judge_all(store, "anna", lambda item, _: {"good": str(int(item, 16) % 2)})
    judge_all(store, "ben", lambda item, _: {"good": str(int(item, 16) % 2)})
    write_jsonl(tmp_path / "set.jsonl", export(store, store.scheme, "calibration"))

    def has_gold(completions: list[str], gold: list[str], **_: Any) -> list[float]:
        return [float(g in c) for c, g in zip(completions, gold, strict=True)]

    found = calibrate("has_gold", has_gold, list(read_rows(tmp_path / "set.jsonl")))
    right = sum(int(item, 16) % 2 for item in store.items)
    assert found.agreement.value == pytest.approx(right / 40)
    assert found.people.value == 1.0


def sheet(folder: Path) -> Path:
    models = {model: make_cases([0.5] * 30, model=model.upper()) for model in ("new", "old", "base")}
    return write_sheet(folder / "evidence" / "human", models, [("new", "old"), ("new", "base")], 20)


def test_the_human_track_reaches_the_model_that_wrote_it_and_the_sheet_says_no_names(tmp_path: Path) -> None:
    path = sheet(tmp_path)
    kind, items = read_items(tmp_path)
    assert kind == "pairs"
    store = Store(tmp_path / "labels", make_scheme("pairs"), items, EVERY)
    first = [item for item, _ in store.next("anna", 20)]
    assert {store.items[item].group for item in first} == {0}, "pairs that decide come first"
    for name in ("anna", "ben"):
        judge_all(store, name, lambda item, _: "ab"["NEW" in store.items[item].texts[1]])
    rows = export(store, store.scheme, "human", path.with_name("key.json"))
    write_jsonl(tmp_path / "grades.jsonl", rows)
    grades = read_grades(tmp_path / "grades.jsonl", models=["new", "old", "base"])
    assert len(grades) == 80
    assert all(grade.shares()["new"] == 1.0 for grade in grades)
    other = Store(tmp_path / "other", make_scheme("pairs"), items, EVERY)
    other.add_imported(imported(tmp_path / "grades.jsonl"))
    assert export(other, other.scheme, "human", path.with_name("key.json")) == rows
    journal = (tmp_path / "labels" / "journal.jsonl").read_text()
    assert "model" not in journal


def test_a_sheet_that_was_changed_after_the_labels_is_refused(tmp_path: Path) -> None:
    path = sheet(tmp_path)
    store = Store(tmp_path / "labels", make_scheme("pairs"), read_items(tmp_path)[1])
    judge_all(store, "anna", "a", most=1)
    path.with_name("key.json").write_text(
        path.with_name("key.json").read_text().replace('"sha256": "', '"sha256": "0')
    )
    with pytest.raises(InputError, match="is not the one that was written"):
        export(store, store.scheme, "human", path.with_name("key.json"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": "a"}, r"rows.jsonl:2: no rejected for pairs; the row has: prompt, chosen"),
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        (
            {"prompt": "p", "chosen": "a", "rejected": [{"role": "assistant", "content": "b"}]},
            "text and some messages",
        ),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt is 3; expected text or messages"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused_with_their_line(
    tmp_path: Path, row: Any, message: str
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [*rows_of("pairs", 1), row])
    with pytest.raises(InputError, match=message):
        read_items(tmp_path / "rows.jsonl")


def test_importing_elsewhere_or_against_another_answer_changes_nothing(tmp_path: Path) -> None:
    store = labelled(tmp_path)
    write_jsonl(tmp_path / "out.jsonl", export(store, store.scheme, "all"))
    other = open_store(tmp_path, "rankings", 2, name="elsewhere")
    with pytest.raises(InputError, match="not of this project"):
        other.add_imported(imported(tmp_path / "out.jsonl"))
    third = open_store(tmp_path, number=12, design=EVERY, name="third")
    judge_all(third, "anna", "a", most=1)
    size = third.journal.path.stat().st_size
    with pytest.raises(InputError, match="anna has judged"):
        third.add_imported(imported(tmp_path / "out.jsonl"))
    assert third.journal.path.stat().st_size == size
    write_jsonl(tmp_path / "rows.jsonl", rows_of("pairs", 1))
    with pytest.raises(InputError, match="no judgements"):
        imported(tmp_path / "rows.jsonl")


def test_a_format_that_is_none_is_refused_with_all_of_them(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    with pytest.raises(InputError, match=r"'nothing'; there are pairs.*human.*sheet"):
        main([str(tmp_path / "rows.jsonl"), "--export", "nothing", "--out", str(tmp_path / "out.jsonl")])
    assert not (tmp_path / "rows.jsonl.labels").exists()
