"""Which model to take: the cheapest, unless a dearer one is shown to be better; recomputed with the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.evidence.choice import ChoicePolicy
from tieout.evidence.evaluate import CONTROLS, PROGRAMMATIC, Case
from tieout.evidence.report import build_report, regate, write_report
from tieout.evidence.stats import former
from tieout.evidence.verify import verify

ROWS = 40


def cases(
    right: int, seconds: float = 1.0, controls: int = 10, prefix: str = "", tokens: float = 20.0
) -> list[Case]:
    """The first `right` of 40 answers are right, and the first `controls` of 10 controls."""
    used = {"prompt_tokens": 10.0, "tokens": tokens, "seconds": seconds}
    own = [
        Case(
            f"t/test/{i}",
            PROGRAMMATIC,
            "test",
            f"ask {i}",
            f"{prefix}{i < right}",
            float(i < right),
            usage=used,
        )
        for i in range(ROWS)
    ]
    return own + [
        Case(f"c/{i}", CONTROLS, "controls", f"ask {i}", f"{i < controls}", float(i < controls), usage=used)
        for i in range(10)
    ]


MODELS = {"base": cases(4), "sft": cases(24), "dpo": cases(25), "gpt": cases(38)}
KNOWN = {
    "base": {"base": "tieout-base", "trained": None},
    "sft": {"base": "tieout-base", "trained": "1"},
    "dpo": {"base": "tieout-base", "trained": "2"},
    "gpt": {"base": "api:gpt", "trained": None},
}
PRICES = {"base": "3.6/h", "sft": "3.6/h", "dpo": "3.6/h", "gpt": "100,200"}


def report(models: dict[str, list[Case]], policy: ChoicePolicy | None = None, **more: Any) -> dict[str, Any]:
    made = {
        "sft": {"needs": ["weights", "demonstrations"], "seconds": 100.0},
        "dpo": {"needs": [], "seconds": 300.0},
    }
    metadata = {"models": {name: KNOWN[name] for name in models if name in KNOWN}, "made": made}
    given = {"candidate": "sft", "baseline": "base", "prices": PRICES, "metadata": metadata, **more}
    return build_report(models, choice=policy or ChoicePolicy(), **given)


def test_a_dearer_model_is_taken_only_where_it_is_shown_to_be_better() -> None:
    found = report(MODELS)["choice"]
    # 1,000 answers: a second each at 3.6 an hour, 1.0; 10 and 20 tokens at 100 and 200 a million, 5.0.
    assert {row["model"]: row["cost"] for row in found["rows"]} == pytest.approx(
        {"base": 1.0, "sft": 1.0, "dpo": 1.0, "gpt": 5.0}
    )
    # Of 100,000 answers, and 100 or 300 seconds of training.
    assert [(row["model"], row["total"]) for row in found["rows"]] == [
        ("base", pytest.approx(100.0)),
        ("sft", pytest.approx(100.1)),
        ("dpo", pytest.approx(100.3)),
        ("gpt", pytest.approx(500.0)),
    ]
    assert [(step["model"], step["against"], step["better"]) for step in found["steps"]] == [
        ("sft", "base", True),
        ("dpo", "sft", False),
        ("gpt", "sft", True),
    ]
    assert found["taken"] == "gpt"
    assert found["why"][0].startswith("take gpt: better than sft: +0.350")
    assert report({"base": cases(30), "sft": cases(10)})["choice"]["steps"][0]["said"].startswith(
        "worse than base"
    )


def test_where_not_one_answer_is_right_nothing_is_taken() -> None:
    found = report({"base": cases(0), "sft": cases(0)})["choice"]
    assert found["taken"] is None
    assert found["why"][0] == (
        "no model can be taken: none of the 40 answers of base has a reward above 0, "
        "and no dearer one is shown to be better"
    )
    with former():
        assert report({"base": cases(0), "sft": cases(0)})["choice"]["taken"] == "base"
    assert report({"base": cases(1), "sft": cases(1)})["choice"]["taken"] == "base"
    assert report({"base": cases(0), "sft": cases(30)})["choice"]["taken"] == "sft"


def test_a_limit_on_cost_or_score_leaves_models_out() -> None:
    cheap = report(MODELS, ChoicePolicy(max_cost=2.0))["choice"]
    assert cheap["taken"] == "sft"
    assert next(row for row in cheap["rows"] if row["model"] == "gpt")["out"].startswith(
        "the cost of 1000 answers is 5"
    )
    good = report(MODELS, ChoicePolicy(min_score=0.99))["choice"]
    assert good["taken"] is None
    assert "no model can be taken" in good["why"][0]


def test_what_broke_the_controls_or_has_few_cases_is_not_taken() -> None:
    broken = report({**MODELS, "gpt": cases(40, controls=0)})["choice"]
    assert broken["taken"] == "sft"
    assert any("it broke what base could do" in said for said in broken["why"])
    few = report({name: own[:10] for name, own in MODELS.items()})["choice"]
    assert few["taken"] is None


def test_without_prices_time_decides_between_models_of_one_machine_and_nothing_with_an_api() -> None:
    local = {name: own for name, own in MODELS.items() if name != "gpt"}
    found = report({**local, "dpo": cases(38, tokens=10.0)}, prices={})["choice"]
    assert (found["order"], found["taken"]) == ("seconds", "dpo")
    assert [row["model"] for row in found["rows"]] == ["dpo", "base", "sft"]
    away = report(MODELS, prices={"gpt": "100,200"})["choice"]
    assert away["taken"] is None
    assert "what base, sft, dpo costs is not known" in away["why"][0]


def test_adapters_of_one_base_are_ordered_by_tokens_whatever_else_the_machine_did() -> None:
    local = {"base": cases(4), "sft": cases(24, seconds=9.0), "dpo": cases(25, seconds=0.2, tokens=22.0)}
    for prices in ({}, PRICES):
        found = report(local, prices={k: v for k, v in prices.items() if k in local})["choice"]
        assert [row["model"] for row in found["rows"]] == ["base", "sft", "dpo"]
        assert any(said.startswith("base, sft, dpo share a base") for said in found["why"])
    rate = (1.0 + 9.0 + 0.2) / (20 + 20 + 22)
    assert found["rows"][2]["cost"] == pytest.approx(22 * rate)
    assert found["rows"][2]["seconds"] == pytest.approx(0.2), "shown as measured"
    known = {**KNOWN, "dpo": {"base": "another", "trained": "2"}}
    apart = report(local, prices={}, metadata={"models": known, "made": {}})["choice"]
    assert next(row["model"] for row in apart["rows"]) == "dpo"


def test_making_that_is_not_on_record_is_said() -> None:
    made = {"sft": {"needs": [], "seconds": 1.0, "not_counted": ["demonstrations"]}}
    found = report(MODELS, metadata={"models": KNOWN, "made": made})["choice"]
    assert "sft: making demonstrations is not counted" in found["why"]
    assert not any("dpo: making" in said for said in found["why"])


def test_answers_that_were_cut_off_are_said_with_the_choice() -> None:
    """A model without room to answer scores little, and that is not the model."""
    short = [
        replace(case, usage={**case.usage, "cut_off": float(i < 3)}) for i, case in enumerate(MODELS["gpt"])
    ]
    why = report({**MODELS, "gpt": short})["choice"]["why"]
    assert any("gpt: 3 of 40 answers were cut off" in said for said in why)
    assert not any("cut off" in said for said in report(MODELS)["choice"]["why"])


def test_the_steps_share_one_chance_of_error() -> None:
    # Of 40 pairs 5 to 0: mid-p 0.031, which is enough alone and not among four models.
    alone = report({"base": cases(4), "sft": cases(9)})["choice"]
    assert alone["taken"] == "sft"
    among = report({**MODELS, "sft": cases(9), "dpo": cases(4), "gpt": cases(4)})["choice"]
    assert among["taken"] == "base"
    assert among["steps"][0]["level"] == pytest.approx(0.05 / 3)


def test_an_answer_chosen_with_gold_is_never_taken() -> None:
    known = {**KNOWN, "best": {"base": "tieout-base", "kind": "best_of_n", "samples": 4, "temperature": 1.0}}
    known["best"] |= {"selector": "the reward, exact", "reads": ["answer"]}
    found = report(
        {**MODELS, "best": cases(40)},
        prices={**PRICES, "best": "3.6/h"},
        metadata={"models": known, "made": {}},
    )["choice"]
    assert found["taken"] == "gpt"
    assert next(row for row in found["rows"] if row["model"] == "best")["out"].startswith(
        "chosen with the gold"
    )


def test_it_is_recomputed_and_its_rule_is_on_record(tmp_path: Path) -> None:
    metadata = {"models": KNOWN, "made": {}}
    given = {"candidate": "sft", "baseline": "base", "prices": PRICES, "metadata": metadata}
    written = write_report(tmp_path, MODELS, choice=ChoicePolicy(), **given)
    assert verify(tmp_path / "report.json") == []
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**written, "choice": {**written["choice"], "taken": "base"}}))
    assert any("choice" in said and "base" in said for said in verify(path))
    path.write_text(json.dumps(written))
    (line,) = [json.loads(one) for one in (tmp_path / "rule.jsonl").read_text().splitlines()]
    assert line["rule"]["choice"]["answers"] == 100_000
    again = regate(tmp_path, prices={"gpt": "1,2"})
    assert again["choice"]["rows"][0]["model"] == "gpt"


def test_a_report_without_a_rule_chooses_nothing(tmp_path: Path) -> None:
    write_report(tmp_path, {k: MODELS[k] for k in ("base", "sft")}, candidate="sft", baseline="base")
    assert "choice" not in json.loads((tmp_path / "report.json").read_text())
    assert verify(tmp_path / "report.json") == []


def test_a_gain_below_zero_is_no_rule() -> None:
    with pytest.raises(InputError, match=r"min_gain of the choice is -0\.2; expected 0 or more"):
        ChoicePolicy(min_gain=-0.2)


def test_training_that_a_price_says_nothing_of_is_named() -> None:
    by_token = {"base": "1,2", "sft": "1,2"}
    models = {name: MODELS[name] for name in by_token}
    said = "the training of sft counts as nothing, as the price is of tokens: give HOUR/h to count it"
    assert report(models, prices=by_token)["choice"]["why"][-1] == said
    assert said not in report(models)["choice"]["why"]
