"""A report that ties out says so; every change of it, of its cases or of its page is found."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from made_cases import two_models, with_parts
from tieout.cli.verify import main
from tieout.evidence import stats
from tieout.evidence.claims import recomputed
from tieout.evidence.report import FORMER, regate, write_report
from tieout.evidence.verify import read_report, report_at, verify
from tieout.storage.jsonl import read_json


def write(folder: Path, **options: Any) -> dict[str, Any]:
    """A report of a run, with a primary metric and parts."""
    return write_report(
        folder, with_parts(two_models()), candidate="sft", baseline="base", primary="right", **options
    )


def _edit_report(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        report = read_json(folder / "report.json")
        change(report)
        (folder / "report.json").write_text(json.dumps(report))

    return edit


def _high(report: dict[str, Any]) -> float:
    high: float = report["models"]["sft"]["programmatic"]["high"]
    return high


def _metric(report: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = report["comparisons"][0]["tracks"]["programmatic"]["slices"]["test"][kind][name]
    return found


def _edit_score(folder: Path) -> None:
    path = folder / "cases.jsonl"
    path.write_text(path.read_text().replace('"score": 0.2', '"score": 0.9', 1))


TAMPERED = {
    "a mean": (
        _edit_report(lambda r: r["models"]["sft"]["programmatic"].update(mean=0.99)),
        "models.sft.programmatic.mean: the report says 0.99",
    ),
    "a digit": (
        _edit_report(lambda r: r["models"]["sft"]["programmatic"].update(high=round(_high(r), 6))),
        "models.sft.programmatic.high: the report says 0.",
    ),
    "an interval": (
        _edit_report(lambda r: r["comparisons"][0]["tracks"]["programmatic"].update(low=0.3)),
        "comparisons[0].tracks.programmatic.low: the report says 0.3",
    ),
    "the verdict": (
        _edit_report(lambda r: r["verdict"].update(verdict="ship")),
        "verdict.verdict: the report says 'ship', the cases give 'hold'",
    ),
    "a count": (
        _edit_report(lambda r: r["models"]["base"]["programmatic"].update(errors=True)),
        "models.base.programmatic.errors: the report says True",
    ),
    "a comparison left out": (
        _edit_report(lambda r: r["comparisons"].clear()),
        "comparisons: the report says []",
    ),
    "a slice left out": (
        _edit_report(lambda r: r["models"]["sft"]["programmatic"]["slices"].pop("ood")),
        "models.sft.programmatic.slices.ood: the report says None",
    ),
    "the primary metric": (
        _edit_report(lambda r: _metric(r, "metrics", "right").update(low=0.3)),
        "comparisons[0].tracks.programmatic.slices.test.metrics.right.low: the report says 0.3",
    ),
    "a part": (
        _edit_report(lambda r: _metric(r, "parts", "form").update(difference=-1.0)),
        "comparisons[0].tracks.programmatic.slices.test.parts.form.difference: the report says -1.0",
    ),
    "which metric is primary": (
        _edit_report(lambda r: r["settings"].update(primary=None)),
        "comparisons[0].gain: the report says 'right, the primary metric",
    ),
    "what the gain consists of": (
        _edit_report(lambda r: r["comparisons"][0].update(gain="most of the gain is substance")),
        "comparisons[0].gain: the report says 'most of",
    ),
    "a win": (
        _edit_report(lambda r: r["comparisons"][0]["tracks"]["programmatic"].update(losses=-1)),
        "comparisons[0].tracks.programmatic.losses: the report says -1",
    ),
    "a regression left out": (
        _edit_report(lambda r: r["comparisons"][0]["regressions"].clear()),
        "comparisons[0].regressions: the report says []",
    ),
    "another format": (
        _edit_report(lambda r: r.update(format=1)),
        "format: the report is in format 1, this version writes 6",
    ),
    "a score": (_edit_score, "cases.jsonl: changed since the report"),
    "the cases": (lambda folder: (folder / "cases.jsonl").unlink(), "cases.jsonl: missing"),
    "grades slipped in": (
        lambda folder: (folder / "human" / "grades.jsonl").write_text("") and None,
        "human/grades.jsonl: not there when the report was made",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_any_change_is_found(tmp_path: Path, what: str) -> None:
    write(tmp_path)
    assert verify(tmp_path / "report.json") == []
    tamper, message = TAMPERED[what]
    tamper(tmp_path)
    assert any(line.startswith(message) for line in verify(tmp_path / "report.json"))


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"models": {}}')
    with pytest.raises(ValueError, match="is not a report: it has no format, settings, comparisons"):
        verify(tmp_path / "report.json")


def test_a_report_of_format_5_is_verified_by_its_own_rule(tmp_path: Path) -> None:
    now = write(tmp_path)
    with stats.former():
        before = regate(tmp_path)
    path, models = tmp_path / "report.json", "models.sft.programmatic.slices.test.metrics.right.low"
    assert before["models"] != now["models"]
    assert any(line.startswith(models) for line in verify(path))
    _edit_report(lambda report: report.update(format=FORMER))(tmp_path)
    assert verify(path) == []
    (figures,) = (claim for claim in recomputed(read_report(path), path) if claim.what == "figures")
    assert "with the shorter intervals of format 5" in figures.said
    _edit_report(lambda report: report.update(models=now["models"]))(tmp_path)
    assert any(line.startswith(models) for line in verify(path))
    assert "format 5" not in recomputed(now, path)[0].said
    assert regate(tmp_path) == now  # and judged again it is of the present one


# ---- compressed cases


def test_compressed_cases_tie_out_and_give_the_same_report(tmp_path: Path) -> None:
    plain, packed = write(tmp_path / "plain"), write(tmp_path / "packed", compress=True)
    assert plain == packed
    assert not (tmp_path / "packed" / "cases.jsonl").exists()
    assert verify(tmp_path / "packed" / "report.json") == []
    assert regate(tmp_path / "packed") == plain
    # compressing the cases of a report afterwards changes nothing either
    path = tmp_path / "plain" / "cases.jsonl"
    path.with_name("cases.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r"cases.jsonl and cases.jsonl.gz are both there"):
        verify(tmp_path / "plain" / "report.json")
    path.unlink()
    assert verify(tmp_path / "plain" / "report.json") == []


def test_a_change_of_compressed_cases_is_found(tmp_path: Path) -> None:
    write(tmp_path, compress=True)
    path = tmp_path / "cases.jsonl.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text.replace('"right": 1.0', '"right": 0.0', 1).encode()))
    problems = verify(tmp_path / "report.json")
    assert any(line.startswith("cases.jsonl: changed") for line in problems)
    assert any(".metrics.right." in line for line in problems)
    path.write_bytes(path.read_bytes()[:-20])
    assert any("not a whole gzip file" in line for line in verify(tmp_path / "report.json"))


# ---- the command


def test_the_command_lists_what_disagrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evidence = tmp_path / "run" / "evidence"
    write(evidence)
    for path in (tmp_path / "run", evidence, evidence / "report.json"):
        assert report_at(path) == evidence / "report.json"
        main([str(path)])
        assert (
            "report.json ties out: every number of base, sft, and the verdict, hold"
            in capsys.readouterr().out
        )
    _edit_report(lambda r: _metric(r, "metrics", "right").update(low=0.3, high=0.9))(evidence)
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "run")])
    assert stopped.value.code == 1
    said = capsys.readouterr().out
    assert "metrics.right.low: the report says 0.3" in said
    assert said.rstrip().endswith("does not tie out: 2 differ")
    with pytest.raises(ValueError, match="is no report and has none"):
        main([str(tmp_path)])
