"""Statements as filed with the SEC: over a made-up data set, and over real filings where they are given."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from filed_statements import CASH, GAAP, INCOME, TEST, TRAIN, write
from hypothesis import given
from hypothesis import strategies as st

from tieout.errors import InputError
from tieout.evidence.leakage import find_leaks
from tieout.rewards.library.reconcile import Relation
from tieout.tasks import Task, load_task
from tieout.tasks.sec_excerpts import excerpts
from tieout.tasks.sec_facts import read_company_facts
from tieout.tasks.sec_print import tables
from tieout.tasks.sec_statements import load, read_filings
from tieout.tasks.sec_tables import Filing, read_data_sets
from tieout.types import Row


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load(write(tmp_path_factory.mktemp("filings")))


@pytest.fixture(scope="session")
def real(shared_data: Path) -> Path:
    folder = shared_data / "sec" / "statements"
    if not folder.is_dir():
        pytest.skip(f"no filings at {folder}")
    return folder


def score(task: Task, row: Row, *texts: str) -> list[float | None]:
    assert task.reward is not None
    columns = {
        name: [value] * len(texts) for name, value in row.items() if name not in ("prompt", "completion")
    }
    return task.reward(list(texts), **columns)


def measured(task: Task, name: str, row: Row, text: str) -> float | None:
    columns = {key: [value] for key, value in row.items() if key not in ("prompt", "completion")}
    return task.metrics[name]([text], **columns)[0]


def find(rows: Iterable[Row], statement: str, period: str) -> Row:
    return next(row for row in rows if (row["statement"], row["period"]) == (statement, period))


# --- reading and printing -----------------------------------------------------------------------------------


def test_statements_are_printed_as_filed(tmp_path: Path) -> None:
    """Order, headings, printed signs, scales, a dash for zero, nothing for nil, opening and closing balances."""
    filing = read_data_sets(write(tmp_path))[0]
    assert [table.text() for table in tables(filing)] == [INCOME, CASH]


def test_a_row_asks_for_one_column_with_its_relations_in_printed_signs(made: Task) -> None:
    row = find(made.rows("train"), "income statement", "Dec. 31, 2023")
    assert row["prompt"][1]["content"] == f"Give the figures for Dec. 31, 2023.\n{INCOME}"
    assert row["figures"] == {
        "Net sales": 1250,
        "Cost of sales": 800,
        "Gross profit": 450,
        "Income tax": -500,
        "Net income (loss)": -50,
        "Basic": -0.5,
        "Shares": 100,
    }
    assert row["relations"] == [
        {"total": "Gross profit", "parts": {"Net sales": 1, "Cost of sales": -1}},
        {"total": "Net income (loss)", "parts": {"Gross profit": 1, "Income tax": 1}},
    ]
    assert json.loads(row["completion"])["citations"]["Income tax"] == "Income tax | (500)"
    before = find(made.rows("train"), "income statement", "Dec. 31, 2022")
    assert set(row["figures"]) - set(before["figures"]) == {"Basic", "Shares"}  # nil, and not reported
    assert before["figures"]["Income tax"] == 0
    assert before["evidence"]["Income tax"] == "Income tax | (500) | —"


def test_the_tables_of_the_notes_sets_give_the_same_rows(tmp_path: Path, made: Task) -> None:
    notes = load(write(tmp_path / "a", end="tsv"))
    assert list(notes.rows("train")) == list(made.rows("train"))


def test_facts_of_segments_and_of_co_registrants_are_left_out(tmp_path: Path, made: Task) -> None:
    facts = [("Revenues", GAAP, "20231231", "4", "USD", "Segment=A", "", "9000000")]
    facts += [("Revenues", GAAP, "20231231", "4", "USD", "", "Subsidiary", "8000000")]
    assert list(load(write(tmp_path, facts=facts)).rows("train")) == list(made.rows("train"))


def test_a_fact_that_is_given_twice_with_different_values_is_not_asked(tmp_path: Path) -> None:
    facts = [("Revenues", GAAP, "20231231", "4", "USD", "", "", "9000000000")]
    row = find(load(write(tmp_path, facts=facts)).rows("train"), "income statement", "Dec. 31, 2023")
    assert "Net sales" not in row["figures"]
    assert [one["total"] for one in row["relations"]] == ["Net income (loss)"]


def test_the_second_line_with_a_label_has_a_number(tmp_path: Path) -> None:
    folder = write(tmp_path)
    pre = folder / "pre.txt"
    pre.write_text(pre.read_text().replace("Cost of sales", "Net sales"))
    row = find(load(folder).rows("train"), "income statement", "Dec. 31, 2023")
    assert (row["figures"]["Net sales"], row["figures"]["Net sales (2)"]) == (1250, 800)
    assert row["relations"][0] == {"total": "Gross profit", "parts": {"Net sales": 1, "Net sales (2)": -1}}
    assert row["evidence"]["Net sales (2)"] == "Net sales | 800"


def test_the_second_line_with_a_label_is_the_second_that_is_printed(tmp_path: Path) -> None:
    """Also in a column where the first has no figure."""
    folder = write(tmp_path)
    pre = folder / "pre.txt"
    pre.write_text(pre.read_text().replace("\tBasic\t", "\tA\t").replace("\tShares\t0", "\tA\t0"))
    column = find(load(folder).rows("train"), "income statement", "Dec. 31, 2023")
    assert (column["figures"]["A"], column["figures"]["A (2)"]) == (-0.5, 100)
    num = folder / "num.txt"
    kept = [line for line in num.read_text().splitlines(True) if "EarningsPerShareBasic" not in line]
    assert len(kept) < len(num.read_text().splitlines())
    num.write_text("".join(kept))
    column = find(load(folder).rows("train"), "income statement", "Dec. 31, 2023")
    assert column["figures"]["A (2)"] == 100
    assert "A" not in column["figures"]


def test_a_sum_that_does_not_hold_is_no_relation(tmp_path: Path) -> None:
    folder = write(tmp_path)
    num = folder / "num.txt"
    num.write_text(num.read_text().replace("450000000", "451000000"))
    row = find(load(folder).rows("train"), "income statement", "Dec. 31, 2023")
    assert row["relations"] == []
    assert row["figures"]["Gross profit"] == 451


def test_without_calculation_arcs_relations_are_known_identities(tmp_path: Path) -> None:
    row = find(load(write(tmp_path, cal=False)).rows("train"), "income statement", "Dec. 31, 2023")
    assert row["relations"] == [{"total": "Gross profit", "parts": {"Net sales": 1, "Cost of sales": -1}}]


def test_several_quarters_may_lie_in_one_folder_but_no_filing_twice(tmp_path: Path, made: Task) -> None:
    write(tmp_path / "2024q1")
    assert list(load(tmp_path).rows("test")) == list(made.rows("test"))
    write(tmp_path / "2024q2")
    with pytest.raises(InputError, match=f"filing {TRAIN}-24 is in two of the folders"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("num", "1250000000.0000", "n/a", r"num.txt:2: value is 'n/a'; expected a number"),
        ("num", "1250000000.0000", "NaN", r"num.txt:2: value is 'NaN'; expected a finite number"),
        ("num", "\t4\tUSD", "\tfour\tUSD", r"num.txt:2: qtrs is 'four'; expected a whole number"),
        ("num", "\tddate", "\tdate", r"no column ddate; the first line has: adsh, tag"),
        ("pre", "Net sales\t", "Net\tsales\t", r"pre.txt:3: 10 cells; the header has 9 columns"),
        ("tag", "Revenues", "Sales", r"pre.txt:3: tag Revenues of version us-gaap/2023 is not in tag"),
        ("sub", "10-K", "8-K", r"sub has no filing of the forms 10-K"),
    ],
)
def test_files_that_cannot_be_right_are_refused(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    path = write(tmp_path) / f"{name}.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_wrong_paths_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one with the SEC's data sets"):
        load(tmp_path / "none")
    with pytest.raises(InputError, match=r"no sub.txt .* unpack the ZIP first"):
        load(tmp_path)
    folder = write(tmp_path)
    (folder / "num.txt").unlink()
    with pytest.raises(InputError, match=r"no num.txt"):
        load(folder)
    write(folder)
    for options, message in (
        ({"max_lines": 1}, "max_lines is 1; expected 2 or more"),
        ({"max_chars": 0}, "max_chars is 0"),
        (
            {"max_chars": 9},
            r"no statement with two figures is left of 2 filings .*rows longer than 9 characters",
        ),
        ({"generated": -1}, "generated is -1"),
        ({"sizes": {"train": 5}}, "sizes is of the rows that it makes up"),
        ({"sizes": {"train": 5}, "generated": 5}, "sizes is of the rows that it makes up"),
        ({"periods": 1}, "periods is of the rows that it makes up"),
        ({"seed": 0}, "seed is of the rows that it makes up"),
        ({"path": None, "generated": 5}, "without a path every row is"),
        ({"path": None, "sizes": {"dev": 5}}, "no split dev"),
        ({"path": None, "max_chars": 9, "sizes": {"test": 5}}, r"only 0 of 2000 made-up rows are left"),
        ({"credit": "both"}, r"'credit' is 'both' .*; expected one of 'figures', 'ladder'"),
    ):
        with pytest.raises(InputError, match=message):
            load_task("sec_statements", {"path": folder, **options})
    with pytest.raises(InputError, match="has no split 'dev'"):
        load(folder).rows("dev")


# --- excerpts and made-up rows ------------------------------------------------------------------------------


def test_excerpts_are_the_table_and_keep_sums_whole(tmp_path: Path) -> None:
    table = next(tables(read_data_sets(write(tmp_path))[0]))
    assert excerpts(table, None) == [(0, 8)]
    assert excerpts(table, 3) == [(0, 4), (4, 7), (7, 8)]  # Gross profit with its parts
    rows = load(tmp_path, max_lines=3).rows("train")
    assert max(len(row["figures"]) for row in rows) == 3
    assert [one["total"] for row in rows for one in row["relations"]] == ["Gross profit"] * 2


def test_made_up_statements_are_added_to_the_training_rows_alone(tmp_path: Path, made: Task) -> None:
    task = load(write(tmp_path), max_lines=4, generated=40)
    rows = [row for row in task.rows("train") if row["form"] == "made up"]
    assert len(rows) == 40
    assert sum(bool(row["relations"]) for row in rows) > 20
    assert {row["form"] for row in task.rows("test")} == {"10-K"}
    assert [score(task, row, row["completion"]) for row in rows] == [[1.0]] * 40


def test_without_a_path_every_statement_is_made_up_and_companies_are_in_one_split() -> None:
    task = load_task(
        "sec_statements", {"max_lines": 4, "sizes": {"train": 300, "calibration": 20, "test": 100}}
    )
    splits = {split: task.rows(split) for split in ("train", "calibration", "test")}
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 300,
        "calibration": 20,
        "test": 100,
    }
    companies = [{row["company"] for row in rows} for rows in splits.values()]
    assert not companies[0] & companies[1] | companies[0] & companies[2] | companies[1] & companies[2]
    rows = [row for rows in splits.values() for row in rows]
    assert len({row["prompt"][1]["content"] for row in rows}) == len({row["id"] for row in rows}) == 420
    assert {row["form"] for row in rows} == {"made up"}
    assert [score(task, row, row["completion"]) for row in rows[::7]] == [[1.0]] * 60
    alike = load_task("sec_statements", {"max_lines": 4, "sizes": {"train": 300}})
    assert list(alike.rows("train")) == list(splits["train"])
    other = load_task("sec_statements", {"max_lines": 4, "sizes": {"train": 300}, "seed": 1})
    assert list(other.rows("train")) != list(splits["train"])


# --- reward -------------------------------------------------------------------------------------------------


def perturbed(row: Row, name: str, by: int | float) -> str:
    reply = json.loads(row["completion"])
    reply["figures"][name] += by
    return json.dumps(reply)


@given(data=st.data(), by=st.integers(-(10**9), 10**9).filter(bool))
def test_any_figure_perturbed_scores_below_gold(made: Task, data: st.DataObject, by: int) -> None:
    row = data.draw(st.sampled_from(list(made.rows("train"))))
    name = data.draw(st.sampled_from(sorted(row["figures"])))
    wrong = score(made, row, perturbed(row, name, by))[0]
    assert wrong is not None
    assert wrong < 0.8
    assert measured(made, "exact", row, perturbed(row, name, by)) == 0


@pytest.mark.parametrize("credit", ["figures", "ladder"])
def test_gold_scores_1_and_every_flaw_less(tmp_path: Path, credit: str) -> None:
    task = load_task("sec_statements", {"path": write(tmp_path), "credit": credit})
    for row in task.rows("train"):
        assert score(task, row, row["completion"], "") == [1.0, 0.0]
        for name, flaw in task.flaws.items():
            for seed in range(20):
                (found,) = score(task, row, flaw(row, random.Random(seed)))
                assert found is not None
                assert found < 1, name


def test_what_can_be_said_without_reading_the_figures_scores_little(made: Task) -> None:
    row = find(made.rows("train"), "income statement", "Dec. 31, 2023")
    zeros = {"figures": dict.fromkeys(row["figures"], 0), "citations": row["evidence"]}
    (found,) = score(made, row, json.dumps(zeros))
    assert found is not None
    assert found < 0.1
    assert measured(made, "sums_hold", row, json.dumps(zeros)) == 1  # which is why it is no reward
    assert measured(made, "figures_right", row, json.dumps(zeros)) == 0


def test_variants_have_gold_that_scores_1(made: Task) -> None:
    for row in made.rows("train"):
        for vary in made.variants.values():
            other = vary(row, random.Random(0))
            assert other is not None
            assert other["prompt"] != row["prompt"]
            assert score(made, other, other["completion"]) == [1.0]


# --- company facts ------------------------------------------------------------------------------------------


def facts(folder: Path, **changes: Any) -> Path:
    def fact(val: int, **more: Any) -> dict[str, Any]:
        return {"end": "2023-01-28", "val": val, "accn": "0-1", "form": "10-K", **more}

    tags = {
        "Assets": [fact(10_000), fact(8_000, end="2022-01-29")],
        "Liabilities": [fact(6_000), fact(5_000, end="2022-01-29")],
        "MinorityInterest": [fact(1_000), fact(500, end="2022-01-29")],
        "StockholdersEquity": [fact(3_000), fact(2_500, end="2022-01-29")],
        "Revenues": [fact(20_000, start="2022-01-30")],
        "NetIncomeLoss": [fact(-400, start="2022-01-30")],
        "Goodwill": [fact(7_000, accn="0-2", form="8-K")],
    }
    whole = {
        "cik": int(TEST),
        "entityName": "ACME",
        "facts": {"us-gaap": {tag: {"label": tag.lower(), "units": {"USD": f}} for tag, f in tags.items()}},
    }
    path = folder / "CIK.json"
    path.write_text(json.dumps({**whole, **changes}))
    return path


def test_company_facts_become_statements_with_identities_as_relations(tmp_path: Path) -> None:
    rows = load(facts(tmp_path)).rows("test")
    sheet = find(rows, "balance sheet", "Jan. 31, 2023")
    assert sheet["source"].splitlines()[2:] == [
        "assets | 10,000 | 8,000",
        "liabilities | 6,000 | 5,000",
        "stockholdersequity | 3,000 | 2,500",
        "minorityinterest | 1,000 | 500",
    ]
    assert sheet["relations"] == [
        {"total": "assets", "parts": {"liabilities": 1, "stockholdersequity": 1, "minorityinterest": 1}}
    ]
    income = find(rows, "income statement", "Jan. 31, 2023")
    assert income["figures"] == {"revenues": 20_000, "netincomeloss": -400}


def test_company_facts_of_another_format_are_refused(tmp_path: Path) -> None:
    for path, message in (
        (
            facts(tmp_path, facts={"us-gaap": {"Assets": {}}}),
            "is not a company-facts file of the SEC: KeyError",
        ),
        (tmp_path / "text.json", "is not JSON"),
    ):
        if not path.exists():
            path.write_text("{")
        with pytest.raises(InputError, match=message):
            read_company_facts(path)


# --- real filings -------------------------------------------------------------------------------------------


def kinds(filings: Iterable[Filing]) -> set[tuple[str, str]]:
    return {(filing.adsh, table.kind) for filing in filings for table in tables(filing)}


@pytest.mark.parametrize("options", [{}, {"max_lines": 5}])
def test_gold_of_every_real_statement_scores_1_and_flawed_less(real: Path, options: dict[str, Any]) -> None:
    task = load(real, **options)
    rows = [row for split in ("train", "calibration", "test") for row in task.rows(split)]
    assert {(row["adsh"], row["statement"]) for row in rows} == kinds(read_filings(real))
    for row in rows[:: 3 if options else 1]:
        rng = random.Random(row["id"])
        name = rng.choice(sorted(row["figures"]))
        flaws = [flaw(row, rng) for flaw in task.flaws.values()]
        gold, *wrong = score(task, row, row["completion"], perturbed(row, name, rng.choice((-1, 1))), *flaws)
        assert gold == 1
        assert max(found for found in wrong if found is not None) < 1
        assert all(Relation(one["total"], one["parts"]).holds(row["figures"]) for one in row["relations"])


def test_real_statements_have_relations_and_splits_share_nothing(real: Path) -> None:
    task = load(real)
    splits = {split: task.rows(split) for split in ("train", "calibration", "test")}
    assert sum(len(row["relations"]) for rows in splits.values() for row in rows) > 800
    companies = {split: {row["cik"] for row in rows} for split, rows in splits.items()}
    assert not companies["train"] & companies["test"]
    assert not companies["calibration"] & (companies["train"] | companies["test"])
    assert find_leaks({"train": splits["train"]}, {"test": splits["test"]}) == []
    ids = [row["id"] for rows in splits.values() for row in rows]
    assert len(ids) == len(set(ids))


def test_real_company_facts_reconcile_with_minority_interest(shared_data: Path) -> None:
    path = shared_data / "sec" / "companyfacts_SNOW.json"
    if not path.is_file():
        pytest.skip(f"no company facts at {path}")
    task = load(path)
    rows = [row for split in ("train", "calibration", "test") for row in task.rows(split)]
    assert len(rows) > 20
    assert all(score(task, row, row["completion"]) == [1.0] for row in rows)
    assert any(len(one["parts"]) == 3 for row in rows for one in row["relations"])
