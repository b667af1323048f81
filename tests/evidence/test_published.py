"""Reports that are published with their cases tie out: all of them by `make test-slow`, one by `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieout.evidence.evaluate import read_cases
from tieout.evidence.scoring import rescore
from tieout.evidence.verify import verify
from tieout.storage.jsonl import stored

PUBLISHED = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*/*/report.json"))


def test_there_are_some() -> None:
    assert PUBLISHED


def marked(reports: list[Path]) -> list[object]:
    """All but the first are slow."""
    return [
        pytest.param(report, id=report.parent.name, marks=[pytest.mark.slow] if number else [])
        for number, report in enumerate(reports)
    ]


@pytest.mark.parametrize("report", marked(PUBLISHED))
def test_a_published_report_ties_out(report: Path) -> None:
    assert verify(report) == []


@pytest.mark.parametrize(
    "report", marked([r for r in PUBLISHED if stored(r.with_name("rows.jsonl")).exists()])
)
def test_published_scores_follow_from_the_outputs(report: Path) -> None:
    again = rescore(report.parent)
    assert again.problems == []
    assert again.left == 0
    cases = read_cases(stored(report.with_name("cases.jsonl")))
    assert again.scored == sum(case.score is not None for own in cases.values() for case in own) > 500
