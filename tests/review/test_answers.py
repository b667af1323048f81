"""Nothing ships with a blank: what counts as blank, who is asked, and what the reviewer's table says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from given_review import REVIEW
from made_cases import two_models
from tieout.cli import review as terminal
from tieout.config.plain import to_plain
from tieout.evidence.report import write_report
from tieout.review.answers import Review, answered, keep, kept, lacking, merged, questions
from tieout.review.document import page_differs, write_page
from tieout.review.reviewer import review_rows
from tieout.storage.atomic import write_json

NAMES = [name for name, _ in questions()]


def test_all_that_is_asked_for_is_asked_for() -> None:
    assert len(lacking(Review())) == len(NAMES) == 13
    assert lacking(REVIEW) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nothing", ["", "  ", "TBD", "n/a", "todo.", "<your name>", "None", "???"])
def test_an_answer_that_says_nothing_is_blank(name: str, nothing: str) -> None:
    assert [line.partition(":")[0] for line in lacking(answered(REVIEW, name, nothing))] == [name]


def test_who_made_it_does_not_validate_it() -> None:
    assert "is the developer too" in lacking(replace(REVIEW, validator="dev patel "))[0]


def test_later_answers_replace_earlier_ones_and_blanks_replace_none() -> None:
    found = merged(REVIEW, Review(owner="Bo Li"))
    assert (found.owner, found.developer, found.monitoring) == ("Bo Li", "Dev Patel", REVIEW.monitoring)


def test_a_terminal_asks_until_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(getattr(terminal.sys, stream), "isatty", lambda: True, raising=False)
    said = iter(["tbd", "Ana Owens"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    assert terminal.asked(replace(REVIEW, owner="")) == REVIEW
    keep(tmp_path, REVIEW)
    assert kept(tmp_path) == REVIEW


def test_sixteen_rows_each_filled_or_with_who_must(tmp_path: Path) -> None:
    report = write_report(tmp_path / "evidence", two_models(), candidate="sft", baseline="base")
    write_json(tmp_path / "run.json", {"identity": {}})
    for review in (None, REVIEW):
        rows = review_rows(report, review)
        assert [row.number for row in rows] == list(range(1, 17))
        assert all(row.found or row.open for row in rows)
        assert all(":" in line for row in rows for line in row.open if "tieout" not in line)
    assert not any("asked for at" in line for row in rows for line in row.open)
    assert any("Val Ito" in line for line in rows[15].open)
    keep(tmp_path / "evidence", REVIEW)
    page = write_page(tmp_path).read_text()
    assert "Supports independent validation" in page
    assert "compliant" not in page
    assert "Rita Chen" in page
    assert "<code>tieout verify RUN --verifier NAME</code>" in page
    assert page_differs(tmp_path, tmp_path / "evidence" / "report.html") == []
    keep(tmp_path / "evidence", replace(REVIEW, owner="Bo Li"))
    assert "For the reviewer" in page_differs(tmp_path, tmp_path / "evidence" / "report.html")[0]


ASKED = {
    1: "purpose decision materiality prohibited owner developer validator",
    2: "inventory licence revision digest",
    3: "sources licences filtered split overlap refresh",
    4: "method reward",
    5: "runs seeds",
    6: "minus challengers best-of-n",
    7: "paraphrase order formatting temperatures seeds same",
    8: "controls attack hallucination groundedness refusal",
    9: "groups position length judges graded",
    10: "limits",
    11: "candidate served",
    12: "metric threshold cadence reviewer escalation rollback alarms",
    13: "approved",
    14: "oversight stop incident decommissioning",
    15: "verify",
    16: "date findings remediation",
}
"""What an independent reviewer asks for, row by row."""


def test_all_that_a_row_asks_for_is_said_or_has_somebody_who_must_where_nothing_is_known(
    tmp_path: Path,
) -> None:
    report = write_report(tmp_path, two_models(), candidate="sft", baseline="base")
    for row in review_rows(report, None):
        told = " ".join((*row.found, *row.open)).lower()
        assert [word for word in ASKED[row.number].split() if word not in told] == [], row.number


def test_what_was_measured_is_no_longer_asked_for(tmp_path: Path) -> None:
    report = write_report(tmp_path, two_models(), candidate="sft", baseline="base")
    figure = {"n": 9, "mean": 0.5, "low": 0.2, "high": 0.8, "right": None, "before": 0.4, "after": 0.3}
    attacked = {"stage": "check", "what": "attack", "verdict": "pass", "said": "no exploit"}
    report["metadata"]["reward_checks"] = [attacked]
    assert not any("not attacked" in line for line in review_rows(report, None)[7].open)
    report["consistency"] = {"sft": dict.fromkeys(("paraphrase", "order"), figure)}
    assert review_rows(report, None)[6].open[0].startswith("formatting, same prompt: not measured")


def test_a_recipe_that_ships_is_refused_before_any_row_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tieout.errors import InputError
    from tieout.pipelines.reading import make_recipe
    from tieout.pipelines.run import Run
    from tieout.storage.runfolder import RunFolder

    def recipe(ship: dict[str, Any]) -> Any:
        stages = [{"train": "sft"}, {"evaluate": {}}, {"gate": {}}, {"ship": ship}]
        return make_recipe({"task": "finance_statements", "stages": stages}, "recipe")

    stop: Callable[..., Any] = lambda self: (_ for _ in ()).throw(RuntimeError("rows were read"))  # noqa: E731
    monkeypatch.setattr(Run, "_task", stop)

    def begin(ship: dict[str, Any]) -> None:
        with RunFolder(tmp_path / "run") as folder:
            Run(recipe(ship), folder, console=None)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=r"is not said:\n  purpose: .*(?s:.)*demonstration: true"):
        begin({})
    for ship in ({"demonstration": True}, {"review": to_plain(REVIEW)}):
        with pytest.raises(RuntimeError, match="rows were read"):
            begin(ship)
    assert recipe({}).identity() == recipe({"review": to_plain(REVIEW)}).identity()
