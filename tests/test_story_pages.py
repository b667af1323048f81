"""What the story pages quote is what the data and the kept reports say."""

from __future__ import annotations

import re
from pathlib import Path
from runpy import run_path
from textwrap import dedent

import pytest

from tieout.evidence.evaluate import read_cases
from tieout.rewards.library.summary import quiz
from tieout.storage.jsonl import read_jsonl, stored
from tieout.tasks import load_task

ROOT = Path(__file__).parents[1]
STORIES = ROOT / "docs" / "stories"
KEPT = ROOT / "benchmarks" / "results" / "stories"


def quoted(page: str) -> str:
    """The indented blocks of a page, without their indent."""
    text = (STORIES / page).read_text(encoding="utf-8")
    return "\n".join(dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "task", "options"),
    [
        ("filings.md", "sec_statements", {"max_lines": 5, "max_chars": 1500}),
        ("derive.md", "derive", {"max_lines": 6, "calculator": True, "thinking": True}),
    ],
)
def test_the_real_row_of_a_page_is_the_first_of_the_filings(
    page: str, task: str, options: dict[str, object], shared_data: Path
) -> None:
    path = shared_data / "sec" / "statements"
    row = load_task(task, {"path": str(path), **options}).rows("train")[0]
    assert row["prompt"][1]["content"] in quoted(page)
    assert task == "sec_statements" or row["completion"] in quoted(page)
    assert row["adsh"] in (STORIES / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(("place", "model"), [(3, "sft"), (6, "grpo")])
def test_the_marks_of_a_reply_are_those_of_the_metric(place: int, model: str) -> None:
    """And nothing of the reply is lost in the picture."""
    lines_of = run_path(str(ROOT / "scripts" / "draw_filings.py"))["lines_of"]
    row = [line["row"] for _, line in read_jsonl(stored(KEPT / "filings-0" / "rows.jsonl"))][place]
    cases = read_cases(stored(KEPT / "filings-0" / "cases.jsonl"))
    assert next(i for i, case in enumerate(cases[model]) if not case.metrics["exact"]) == place
    for case in (own[place] for own in cases.values()):
        lines = list(lines_of(case.completion, row))
        figures = {(line.text.rstrip("},"), line.right) for line in lines if line.part == "figures"}
        share = sum(right for _, right in figures) / max(len(figures), len(row["figures"]))
        assert share == case.metrics["figures_right"]
        assert "".join(line.text for line in lines) == case.completion


def test_the_summaries_of_one_call_are_those_of_the_first_test_row() -> None:
    page = (STORIES / "summaries.md").read_text(encoding="utf-8")
    kept = KEPT / "summaries-0"
    row = next(line["row"] for _, line in read_jsonl(stored(kept / "rows.jsonl")) if line["slice"] == "test")
    shown = page[page.index("### One call") : page.index("## What went wrong")]
    assert (
        re.sub(r"^>(?: |$)", "", shown, flags=re.MULTILINE).count(row["document"].replace("\n", "\n\n")) == 1
    )
    assert f"*{row['reference']}*" in shown
    found = read_cases(stored(kept / "cases.jsonl"))
    own = [next(case for case in found[m] if case.slice == "test") for m in ("sft", "quiz_only", "grpo")]
    table = [
        [cell.strip() for cell in line.split("|")[2:-1]] for line in shown.split("\n") if line[:1] == "|"
    ]
    count = len(quiz(row["reference"]))
    assert table[2] == [case.completion for case in own]
    assert [int(cell) / count for cell in table[3]] == [case.metrics["quiz_score"] for case in own]
    assert [int(cell) for cell in table[4]] == [case.metrics["num_words"] for case in own]
    assert table[5] == [f"{case.metrics['copied_share']:.2f}" for case in own]
    assert table[6] == [f"{case.score:.2f}" for case in own]
