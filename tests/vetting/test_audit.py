"""Audit sheets: what a person fills in decides whether the judge is to be refreshed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tieout.rewards.library.judge import Judge
from tieout.samplers.api import APISampler
from tieout.samplers.mock import MockSampler
from tieout.storage.jsonl import write_jsonl
from tieout.vetting.audit import audit, read_sheets, sheet


def reply(prompt: Any) -> str:
    mark = re.search(r'"mark": "([0-9a-f]+)"', prompt[0]["content"]).group(1)  # type: ignore[union-attr]
    return "It is short.\nAnd right.\n" + json.dumps({"mark": mark, "score": 4})


def rows(steps: dict[int, float], n: int = 40) -> list[dict[str, Any]]:
    """Filled sheets: per step, the share that a person agrees with."""
    return [
        {
            "step": step,
            "prompt": f"{step}/{i}",
            "completion": f"c{i}",
            "score": i / n,
            "agree": "yes" if i < share * n else "no",
        }
        for step, share in steps.items()
        for i in range(n)
    ]


def test_a_sheet_spans_the_scores_and_carries_the_judge_s_reasons() -> None:
    judge = Judge(MockSampler(reply), "5: good. 1: bad.")
    samples = [({"prompt": f"p{i}"}, f"text {i}", i / 20) for i in range(21)]
    made = sheet(100, samples, {"judge": judge}, 5)
    assert [row["score"] for row in made] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert made[0]["reasons"] == {"judge": "It is short.\nAnd right."}
    assert made[0]["judges"] == {"judge": 0.75}
    assert {row["agree"] for row in made} == {""}
    assert [row["score"] for row in sheet(1, samples, {"judge": judge}, 1)] == [1.0]
    assert len(sheet(1, samples[:3], {"judge": judge}, 8)) == 3


def test_a_judge_that_does_not_answer_leaves_a_sheet_without_reasons() -> None:
    client = APISampler("m", "http://127.0.0.1:9/v1", max_retries=0, timeout_seconds=2)
    made = sheet(1, [({"prompt": "p"}, "c", 0.5)], {"judge": Judge(client, "5: good.")}, 1)
    assert made[0]["judges"] == {"judge": None}
    assert "did not answer" in made[0]["reasons"]["judge"]


def test_a_judge_that_people_agree_with_passes_and_one_that_drifts_is_refreshed() -> None:
    healthy = audit(rows({1: 0.95, 100: 0.9, 200: 0.95}))
    assert (healthy.verdict, healthy.refresh) == ("pass", False)
    drifting = audit(rows({1: 1.0, 100: 0.95, 200: 0.6}))
    assert drifting.verdict == "fail"
    assert drifting.refresh
    assert "agreement fell from 100% at step 1 to 60% at step 200" in drifting.reasons
    assert "refresh the judge" in drifting.reasons[-1]
    low = audit(rows({1: 0.4, 100: 0.5}))
    assert "below the floor of 70%" in low.reasons[0]


def test_few_rows_and_open_ones_hold() -> None:
    few = audit(rows({1: 1.0}, n=8) + [{**row, "agree": ""} for row in rows({2: 1.0}, n=5)])
    assert (few.verdict, few.open_rows, few.agreement.n) == ("hold", 5, 8)
    assert "nothing is filled in" in audit([{**row, "agree": ""} for row in rows({1: 1.0})]).reasons[0]


def test_scores_that_people_give_are_compared_and_show_the_judge_s_biases() -> None:
    filled = [
        {
            **row,
            "agree": "",
            "completion": "word " * (1 + i % 20),
            "score": (i % 20) / 20,
            "human_score": (i * 7 % 11) / 11,
        }
        for i, row in enumerate(rows({1: 1.0, 100: 1.0}, n=110))
    ]
    found = audit(filled)
    assert found.scores is not None
    assert found.scores.agreement.n == 220
    assert any("longer text" in reason for reason in found.reasons)
    assert found.verdict == "fail"


def test_sheets_of_a_folder_are_read_and_answers_that_are_none_are_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "step-000001.jsonl", rows({1: 1.0}, n=3))
    write_jsonl(tmp_path / "step-000100.jsonl", rows({100: 0.0}, n=3))
    assert [row["step"] for row in read_sheets(tmp_path)] == [1, 1, 1, 100, 100, 100]
    write_jsonl(tmp_path / "step-000200.jsonl", [{**rows({200: 1.0}, n=1)[0], "agree": "perhaps"}])
    with pytest.raises(ValueError, match=r"step-000200.jsonl, row 1: agree is 'perhaps'; expected yes, no"):
        read_sheets(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no audit sheets"):
        read_sheets(tmp_path / "empty")
    write_jsonl(tmp_path / "other.jsonl", [{"prompt": "p"}])
    with pytest.raises(ValueError, match="is of no audit sheet: it has no step"):
        read_sheets(tmp_path / "other.jsonl")


def test_the_command_reads_the_filled_sheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tieout.cli.calibrate import main

    for name, share, status in (("good", 0.95, 0), ("bad", 0.3, 4)):
        path = tmp_path / f"{name}.jsonl"
        write_jsonl(path, rows({1: 0.95, 100: share}))
        with pytest.raises(SystemExit) as ended:
            main(["--audit", str(path), "--out", str(tmp_path / name)])
        assert ended.value.code == status
        report = json.loads((tmp_path / name / "audit.json").read_text())
        assert report["refresh"] is (status == 4)
    said = capsys.readouterr().out
    assert "people agree" in said
    assert "step 100" in said
    with pytest.raises(ValueError, match="leave out the reward and --data"):
        main(["numeric", "--audit", str(path)])
    with pytest.raises(ValueError, match="calibrate needs a reward and its labelled rows"):
        main([])
