"""Transcripts of one's own: a folder or JSONL, whole companies in one split, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tieout.errors import InputError
from tieout.tasks import load_task
from tieout.tasks.transcripts import SPLITS, split_of, transcripts

CALL = "Operator: Welcome.\nAda Holm: Revenue was $5 million, which is 3% more than a year ago."
SUMMARY = "Revenue rose 3% to $5 million."


def folder(path: Path, names: list[str]) -> Path:
    path.mkdir()
    for n, name in enumerate(names):
        for text, end in ((CALL, "txt"), (SUMMARY, "summary.txt")):
            (path / f"{name}.{end}").write_text(text.replace("$5", f"${n + 5}"), encoding="utf-8-sig")
    return path


def test_a_folder_is_a_task_and_its_gold_scores_one(tmp_path: Path) -> None:
    names = [f"company{n}_2024q{q}" for n in range(20) for q in (1, 2)]
    task = load_task("summaries", {"path": str(folder(tmp_path / "calls", names))})
    companies = [{row["company"] for row in task.rows(split)} for split in ("train", "calibration", "test")]
    assert sum(map(len, companies)) == 20 == len(set.union(*companies))
    assert sum(len(task.rows(split)) for split in ("train", "calibration", "test")) == 40
    assert list(task.rows("ood")) == []
    row = task.rows("test")[0]
    assert row["prompt"][1]["content"] == row["document"]
    assert row["document"].startswith("Operator: Welcome.\nAda Holm: Revenue was $")
    assert task.reward is not None
    assert task.gold is not None
    columns = {name: [row[name]] for name in ("document", "reference")}
    assert task.reward([task.gold(row)], **columns) == [1.0]


def test_questions_of_ones_own_are_scored(tmp_path: Path) -> None:
    quiz = [{"question": "Revenue rose ____", "answer": "3%"}]
    lines = [
        {"name": f"c{n}_1", "transcript": f"{CALL} {n}", "summary": "All is well.", "quiz": quiz}
        for n in range(20)
    ]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    task = load_task("summaries", {"path": str(path)})
    row = task.rows("test")[0]
    score = task.metrics["quiz_score"]
    assert score(["Revenue rose 3%.", "Revenue rose 4%."], reference=[""] * 2, quiz=[row["quiz"]] * 2) == [
        1,
        0,
    ]


def test_a_call_without_a_name_is_a_company_of_its_own(tmp_path: Path) -> None:
    lines = tmp_path / "calls.jsonl"
    calls = [{"name": None, "transcript": f"{CALL} {n}", "summary": SUMMARY} for n in range(20)]
    lines.write_text("\n".join(map(json.dumps, calls)))
    rows = transcripts(lines)
    assert {row["company"] for split in SPLITS for row in rows(split)} == {str(n) for n in range(1, 21)}


def test_the_split_of_a_company_depends_on_its_name_alone() -> None:
    found = [split_of(f"company{n}") for n in range(200)]
    assert 100 < found.count("train") < 140
    assert 40 < found.count("test") < 80
    assert split_of("ACME") == split_of("acme")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a_1.txt", "A page without speakers.", r"a_1.txt: no turn was found"),
        ("a_1.summary.txt", " ", r"a_1.txt: the summary is empty"),
        ("a_1.summary.txt", "All is well.", r"a_1.txt: the summary has no figure and no name"),
    ],
)
def test_a_flawed_file_is_refused_by_name(name: str, text: str, expected: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "calls", ["a_1", "b_1"])
    (path / name).write_text(text)
    with pytest.raises(InputError, match=expected):
        transcripts(path)


def test_what_is_missing_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "calls", ["a_1"])
    with pytest.raises(InputError, match="none of 1 companies falls into"):
        transcripts(path)
    (path / "a_1.summary.txt").unlink()
    with pytest.raises(InputError, match=r"expected a_1\.summary\.txt next to it"):
        transcripts(path)
    (path / "b_1.summary.txt").write_text(SUMMARY)
    with pytest.raises(
        InputError, match=r"b_1\.summary\.txt has no transcript; expected b_1\.txt next to it"
    ):
        transcripts(path)
    (path / "a_1.txt").unlink()
    for name, value in {"seed": 0, "sizes": {"test": 5}, "words": 200, "quoted": 0.5}.items():
        with pytest.raises(InputError, match=f"task summaries: {name} is of the rows that it makes up"):
            load_task("summaries", {"path": str(tmp_path), name: value})
    with pytest.raises(InputError, match="has no transcripts"):
        transcripts(path)
    lines = tmp_path / "calls.jsonl"
    lines.write_text(json.dumps({"transcript": CALL}))
    with pytest.raises(InputError, match="row 1: column 'summary' is None; expected a text"):
        transcripts(lines)
    call = {"transcript": CALL, "summary": SUMMARY}
    for asked in (
        {"question": "What was it?", "answer": "3%"},
        {"question": "It was ____.", "answer": ""},
        "What?",
    ):
        lines.write_text(json.dumps({**call, "quiz": [asked]}))
        with pytest.raises(InputError, match=r"row 1: quiz has .*; expected a question with a gap `____`"):
            transcripts(lines)
    lines.write_text("\n".join(json.dumps({**call, "name": name}) for name in ("a_1", None)))
    with pytest.raises(InputError, match=r"row 2: its transcript is that of .*calls\.jsonl, row 1; drop one"):
        transcripts(lines)
    lines.write_text(json.dumps({"transcript": CALL, "summary": SUMMARY, "quiz": "What?"}))
    with pytest.raises(InputError, match="row 1: quiz is 'What\\?'; expected a list"):
        transcripts(lines)
