"""The benchmark on real text: its page is what its file of results says, and ratios are of steps next to each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def text_rows(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import text_rows

    return text_rows


def test_the_page_says_what_was_measured(text_rows: Any) -> None:
    found = json.loads((BENCHMARKS / "results" / "against_trl.json").read_text(encoding="utf-8"))
    rows = [row for row in found if row.get("text")]
    assert rows
    page = (BENCHMARKS / "results" / "against_trl.md").read_text(encoding="utf-8")
    assert "\n".join(text_rows.table(rows)) in page


def test_each_step_is_compared_with_the_other_sides_step(text_rows: Any) -> None:
    seconds = {"trl": [8.0, 6.0, 9.0], "tieout": [2.0, 3.0, 1.0]}
    steps = {side: [{"seconds": s} for s in own] for side, own in seconds.items()}
    assert text_rows.ratio({"steps": steps}) == (4.0, 2.0, 9.0)


def test_no_example_is_seen_twice_and_both_halves_of_a_pair_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from text_side import WORKS, rows_of

    for work in WORKS.values():
        rows = rows_of(work)
        asked = [json.dumps(row["prompt"]) for row in rows]
        assert len(set(asked)) == len(rows) == work.groups * (work.rounds + 1)
        assert all(row.get("chosen") != row.get("rejected") for row in rows if work.method == "dpo")
        assert all("completion" not in row for row in rows if work.method == "grpo")
