"""tieout compare: one table of every model of a run, and the choice; a recipe is run first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from made_cases import two_models
from tieout.cli import compare
from tieout.cli.compare import main
from tieout.errors import InputError
from tieout.evidence.choice import ChoicePolicy
from tieout.evidence.report import write_report


def run_folder(place: Path, choice: ChoicePolicy | None) -> Path:
    write_report(place / "evidence", two_models(), candidate="sft", baseline="base", choice=choice)
    return place


def test_a_folder_is_read_and_other_prices_change_nothing_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path, ChoicePolicy())
    before = (run / "evidence" / "report.json").read_bytes()
    main([str(run)])
    said = capsys.readouterr().out
    assert "cost of 1000" in said
    assert "not known" in said  # these samplers did not count
    main([str(run), "--json", "--price", "sft=1/h"])
    found = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in found["rows"]] == ["base", "sft"]
    assert (run / "evidence" / "report.json").read_bytes() == before
    with pytest.raises(InputError, match="MODEL is one of: base, sft"):
        main([str(run), "--price", "dpo=1/h"])


def test_an_older_report_is_chosen_from_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(run_folder(tmp_path, None)), "--json"])
    assert json.loads(capsys.readouterr().out)["taken"] is None


def test_a_recipe_is_run_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Path] = []

    def run(recipe: Path, out: Path, *_: object) -> str:
        ran.append(recipe)
        run_folder(out, ChoicePolicy())
        return "hold"

    monkeypatch.setattr(compare, "run_recipe", run)
    recipe = tmp_path / "mine.yaml"
    stages = [{"train": "sft"}, {"evaluate": {}}, {"gate": {}}]
    recipe.write_text(yaml.safe_dump({"task": "finance_statements", "stages": stages}))
    main([str(recipe), "--out", str(tmp_path / "run")])
    assert ran == [recipe]
    recipe.write_text(yaml.safe_dump({"task": "finance_statements", "stages": stages[:1]}))
    with pytest.raises(InputError, match="no evaluate and no gate stage"):
        main([str(recipe)])
