"""What the story pages quote is what the data and the kept reports say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from runpy import run_path
from textwrap import dedent
from typing import Any

import pytest

from tieout.evidence.evaluate import read_cases
from tieout.evidence.stats import mean
from tieout.rewards.library.summary import quiz, summary
from tieout.rewards.text.amounts import amounts
from tieout.rewards.text.sentences import sentences
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


def figures(page: str, name: str) -> list[str]:
    """The cells of a table's row."""
    text = (STORIES / page).read_text(encoding="utf-8")
    return re.split(r" (?<!\\)\| ", re.search(rf"^\| {re.escape(name)} \| (.*) \|$", text, re.MULTILINE)[1])  # type: ignore[index]


def measured(
    measures: Iterable[Callable[..., Any] | None], texts: list[str], rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The mean of each measure with its interval, as a table has it."""
    columns = {key: [row[key] for row in rows] for key in rows[0] if key not in ("prompt", "completion")}
    found = []
    for measure in measures:
        assert measure is not None
        known = [value for value in measure(texts, **columns) if value is not None]
        of = mean(known, bounds=(0.0, max(1.0, *known)))
        assert of.value is not None
        digits = 1 if of.value > 1 else 3
        found.append(f"{of.value:.{digits}f} [{of.low:.{digits}f}, {of.high:.{digits}f}]")
    return found


def column_of(row: Mapping[str, Any], asked: bool) -> str:
    """A statement read by splitting its lines: the column that is asked, or always the first."""
    lines = row["prompt"][1]["content"].split("\n")
    head, *body = ([cell.strip() for cell in line.split("|")] for line in lines if "|" in line)
    at = head.index(row["period"]) if asked else 1
    read: dict[str, dict[str, Any]] = {"figures": {}, "citations": {}}
    for place, (label, *cells) in enumerate(body):
        again = sum(earlier[0] == label for earlier in body[: place + 1])
        name = label if again == 1 else f"{label} ({again})"
        if cell := cells[at - 1]:
            figure = float(cell.strip("()—").replace(",", "") or 0)
            read["figures"][name] = -figure if cell.startswith("(") else figure
            read["citations"][name] = " | ".join([label, *cells[:at]])
    return json.dumps(read)


def test_programs_that_read_no_statement_score_what_the_page_says(shared_data: Path) -> None:
    path = str(shared_data / "sec" / "statements")
    task = load_task("sec_statements", {"path": path, "max_lines": 5, "max_chars": 1500})
    rows = list(task.rows("test"))
    zeros = [{"figures": dict.fromkeys(row["figures"], 0), "citations": row["evidence"]} for row in rows]
    measures = [task.metrics["exact"], task.reward, task.metrics["sums_hold"]]
    for name, texts in {
        "every figure 0, lines cited": [json.dumps(zero) for zero in zeros],
        "always the first column": [column_of(row, asked=False) for row in rows],
        r"the column that is asked, cells split at `\|`": [column_of(row, asked=True) for row in rows],
    }.items():
        assert figures("filings.md", name) == measured(measures, texts, rows)


def test_copies_of_a_call_score_what_the_page_says() -> None:
    task = load_task("summaries", {"words": 110, "quoted": 0.4})
    rows = list(task.rows("test"))
    said = [sentences(row["document"]) for row in rows]
    measures = [*(task.metrics[name] for name in ("quiz_score", "num_words", "copied_share")), summary]
    for name, texts in {
        "the whole call": [row["document"] for row in rows],
        "every sentence with a figure": [" ".join(s for s in own if amounts(s)) for own in said],
        "three sentences after the welcome": [" ".join(own[2:5]) for own in said],
        "demonstrations": [row["completion"] for row in rows],
        "references": [row["reference"] for row in rows],
    }.items():
        assert figures("summaries.md", name) == measured(measures, texts, rows)
