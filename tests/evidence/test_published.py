"""Reports that are published with their cases tie out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieout.evidence.verify import verify

PUBLISHED = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*/*/report.json"))


def test_there_are_some() -> None:
    assert PUBLISHED


@pytest.mark.parametrize("report", PUBLISHED, ids=lambda path: path.parent.name)
def test_a_published_report_ties_out(report: Path) -> None:
    assert verify(report) == []
