"""The gate's rule is on record before a model is evaluated; one that is changed later shows as changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from made_cases import two_models
from tieout.evidence.gate import GatePolicy
from tieout.evidence.report import regate, write_report
from tieout.evidence.rule import FILE, in_words, put_on_record, read_rules, rule_of
from tieout.evidence.verify import verify


def _rule(**policy: Any) -> dict[str, Any]:
    return rule_of(GatePolicy(**policy), "sft", "base", None, None)


def _write(folder: Path, **policy: Any) -> dict[str, Any]:
    return write_report(folder, two_models(), candidate="sft", baseline="base", policy=GatePolicy(**policy))


def test_a_rule_that_was_first_and_stayed_is_nothing_to_speak_of(tmp_path: Path) -> None:
    put_on_record(tmp_path, _rule(), opened=False)
    said = _write(tmp_path)["rule"]
    assert said["before_evaluation"]
    assert said["first"] == said["sha256"]
    assert in_words(said) == []
    assert regate(tmp_path)["rule"] == said
    assert len(read_rules(tmp_path)) == 1


def test_a_rule_that_changes_afterwards_shows_as_changed(tmp_path: Path) -> None:
    put_on_record(tmp_path, _rule(), opened=False)
    _write(tmp_path)
    said = regate(tmp_path, policy=GatePolicy(control_margin=0.2))["rule"]
    assert in_words(said) == [
        "The gate's rule was changed after models had been evaluated (was -> is): policy.control_margin: 0.05 -> 0.2"
    ]
    # Going back does not hide it.
    assert len(regate(tmp_path, policy=GatePolicy())["rule"]["changed"]) == 2
    assert verify(tmp_path / "report.json") == []


def test_a_rule_that_came_with_the_cases_says_so(tmp_path: Path) -> None:
    assert in_words(_write(tmp_path)["rule"]) == [
        "The gate's rule was first written when models had been evaluated already"
    ]


def test_a_record_that_was_edited_or_cut_is_found(tmp_path: Path) -> None:
    put_on_record(tmp_path, _rule(), opened=False)
    put_on_record(tmp_path, _rule(min_cases=30), opened=False)
    _write(tmp_path, min_cases=30)
    path = tmp_path / FILE
    whole = path.read_text()
    for text in (whole.replace('"min_cases": 20', '"min_cases": 30'), whole.splitlines()[1] + "\n"):
        path.write_text(text)
        problems = verify(tmp_path / "report.json")
        assert any(line.startswith("rule.jsonl: changed since the report") for line in problems)
        assert any("one before it is gone" in line for line in problems)
    # A record that was made anew, hashes and all, is not the one that the report names.
    path.unlink()
    put_on_record(tmp_path, _rule(min_cases=30), opened=False)
    assert any(line.startswith("rule.first: the report says") for line in verify(tmp_path / "report.json"))


def test_the_rule_is_data(tmp_path: Path) -> None:
    two = GatePolicy(tracks=["programmatic", "negative_controls"])  # type: ignore[arg-type]  # as YAML gives it
    checks = write_report(tmp_path, two_models(), candidate="sft", baseline="base", policy=two)["verdict"][
        "checks"
    ]
    assert {c["track"]: c["status"] for c in checks if c["track"] == "human"} == {"human": "info"}
    with pytest.raises(ValueError, match="tracks of the gate are"):
        GatePolicy(tracks=("programatic",))
    fine = regate(tmp_path, policy=GatePolicy(smallest_detectable=0.001))
    assert "the rule asks for 0.001" in fine["verdict"]["reasons"][0]
    assert json.loads((tmp_path / "report.json").read_text())["verdict"]["verdict"] == "hold"
