"""Section Consistency: shares with what flatters them, rows that flip, and how to ask where nothing was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tieout.evidence.consistency_rows import SAME_PROMPT
from tieout.evidence.evaluate import CONSISTENCY, PROGRAMMATIC, Case
from tieout.evidence.report import write_report
from tieout.review import consistency
from tieout.review.answers import Review
from tieout.review.reviewer import review_rows, seen_of
from tieout.review.stored import Stored, read

ROWS = 12


def said(prompt: str, right: bool, **place: Any) -> Case:
    answer = "12" if right else "<b>13</b>"
    talk = [{"role": "user", "content": prompt}]
    return Case(prompt=talk, completion=answer, score=float(right), metrics={"right": float(right)}, **place)


def cases_of(knows: int, loses: int) -> list[Case]:
    """Of the rows that a model knows, so many are lost in other words, and half of the samples of the first."""
    found = []
    for i in range(ROWS):
        name, right = f"t/test/{i}", i < knows
        found.append(said(f"What is 3 x 4?\nRow {i}", right, id=name, track=PROGRAMMATIC, slice="test"))
        place = {"track": CONSISTENCY, "cluster": name}
        again = f"3 times 4 is?\nRow {i}"
        found.append(said(again, right and i >= loses, id=f"{name}/p", slice="paraphrase", **place))
        found += [
            said(
                f"What is 3 x 4?\nRow {i}",
                right and (i or k) > 0,
                id=f"{name}/{k}",
                slice=SAME_PROMPT,
                **place,
            )
            for k in range(2)
        ]
    return found


def made(folder: Path, **options: Any) -> Stored:
    cases = {"base": cases_of(0, 0), "sft": cases_of(6, 2)}
    again = {"rows": ROWS + 1, "repeats": 2, "temperature": 0.7}
    write_report(
        folder / "evidence",
        cases,
        candidate="sft",
        baseline="base",
        **{"primary": "right", "again": again, **options},
    )
    return read(folder)


def test_shares_stand_next_to_the_rows_that_were_right_at_first(tmp_path: Path) -> None:
    page = str(consistency.section(made(tmp_path)))
    assert "13 test rows asked again" in page
    assert "right or wrong in right" in page
    assert "none to lose" in page
    assert "0 of 12" in page
    assert "6 of 12" in page
    assert "4 of 6" in page
    assert "17%" in page
    assert "1 without one" in page
    assert "2 samples at temperature 0.7; flips where they are not all judged alike" in page


def test_rows_that_flip_show_what_differs_and_what_was_answered(tmp_path: Path) -> None:
    page = str(consistency.section(made(tmp_path)))
    assert "- What is 3 x 4?" in page
    assert "+ 3 times 4 is?" in page
    assert "Row 0" not in page.split("<pre>")[1]
    assert "&lt;b&gt;13&lt;/b&gt;" in page
    assert "<b>13</b>" not in page
    assert "paraphrase: right → wrong" in page
    assert "same prompt: right → 1 of 2 wrong, 1 of 2 right" in page


def test_scores_that_are_no_right_and_wrong_show_their_means(tmp_path: Path) -> None:
    cases = {model: [*cases_of(6, 2)] for model in ("base", "sft")}
    graded = {
        m: [Case(**{**vars(c), "score": (c.score or 0.0) * 0.8}) for c in own] for m, own in cases.items()
    }
    again = {"rows": ROWS, "repeats": 2, "temperature": 0.7}
    write_report(tmp_path / "evidence", graded, candidate="sft", baseline="base", again=again)
    page = str(consistency.section(read(tmp_path)))
    assert "by more than 0.1 of the reward" in page
    assert "Mean at first" in page
    assert "0.400" in page
    assert "0.267" in page


def test_nothing_measured_says_how_to_ask(tmp_path: Path) -> None:
    page = str(consistency.section(made(tmp_path, again=None)))
    assert page.count("<p") == 1
    assert "evaluate: {consistency: {max_rows: 48}}" in page


def test_a_reviewer_reads_no_share_without_what_it_is_of(tmp_path: Path) -> None:
    run = made(tmp_path)
    row = review_rows(run.judged, Review(), seen_of(run))[6]
    assert row.asked.startswith("Sensitivity")
    assert [line.partition(":")[0] for line in row.open] == [
        "order, formatting",
        "other temperatures and seeds",
    ]
    assert (
        "base, paraphrase: 0.0% of 12 rows flip [0.0%, 26.5%]; 0 were right at first, so that none could be lost"
        in (row.found)
    )
