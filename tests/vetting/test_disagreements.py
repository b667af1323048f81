"""`tieout calibrate` says which threshold would agree, and which rows to read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tieout.cli import main


def calibrate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: list[dict[str, Any]], *options: str
) -> int:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["tieout", "calibrate", "scores", "--data", "rows.jsonl", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def labelled(wrong: int = 3) -> list[dict[str, Any]]:
    """Right from 0.95 on; `wrong` of 100 are the other way round."""
    return [
        {
            "prompt": f"q{i}",
            "completion": f"answer {i:03}",
            "score": 0.6 + 0.004 * i,
            "label": (i >= 88) != (i < wrong),
        }
        for i in range(100)
    ]


def test_the_best_threshold_passes_where_the_usual_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(monkeypatch, tmp_path, labelled()) == 4
    said = capsys.readouterr().out
    assert "best threshold: 0.95, where 0.970 of these rows agree, against 0.150 at 0.5" in said
    assert calibrate(monkeypatch, tmp_path, labelled(), "--threshold", "0.95") == 0
    said = capsys.readouterr().out
    assert "best threshold" not in said
    assert (
        'worst of 3 rows on which they differ:\n  rows.jsonl:1: score 0.6, people say right: "answer 000"'
        in said
    )


def test_the_worst_pairs_are_named_with_their_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {
            "prompt": f"q{i}",
            "chosen": "yes",
            "rejected": f"no {i}",
            "chosen_score": 1.0,
            "rejected_score": 0.1 * i,
        }
        for i in range(60)
    ]
    calibrate(monkeypatch, tmp_path, rows)
    said = capsys.readouterr().out
    assert 'worst of 49 rows on which they differ:\n  rows.jsonl:60: rejected 5.9, chosen 1: "no 59"' in said
