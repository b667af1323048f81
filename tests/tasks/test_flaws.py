"""Flawed copies of gold completions: each rule changes what it says and nothing else, on made and on real texts."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tieout.rewards.text.figures import figure
from tieout.tasks.flaws import RULES, flawed

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GOLD = (
    '{"components":[{"name":"Fees","value":-5.5}],"total":1234,"citations":["Fees | (5.5)","Total | 1,234"]}'
)
PROSE = "Revenue is 1,234 million, up 5.5% [note 3]."


def seen(rule: str, text: str) -> set[str | None]:
    return {RULES[rule].change(text, random.Random(seed)) for seed in range(200)}


def test_figures_get_another_digit_sign_or_scale() -> None:
    digits = seen("another digit", "up 1,234")
    assert len(digits) == 4 * 8
    assert all(
        t is not None and len(t) == 8 and sum(a != b for a, b in zip(t, "up 1,234", strict=True)) == 1
        for t in digits
    )
    assert not any(t and "up 0" in t for t in digits)
    assert seen("another sign", "It fell (5.5) or -3") == {"It fell 5.5 or -3", "It fell (5.5) or 3"}
    assert seen("another sign", "up 7") == {"up -7"}
    assert seen("another scale", "$ 3 Million") == {"$ 3 thousand", "$ 3 billion"}
    assert seen("another scale", "12.5%") == {"125%"}
    assert seen("another scale", "0.5 or 1,200") == {"5 or 1,200", "0.5 or 1,200,000"}


@pytest.mark.parametrize("text", ["no figures", "Q3 of FY23", "0", "—", "A4/B5", ""])
def test_what_is_no_figure_is_left_alone(text: str) -> None:
    for rule in ("another digit", "another sign", "another scale"):
        assert seen(rule, text) == {None}


def test_json_is_cut_off_or_loses_a_key_or_a_citation_and_keeps_its_spacing() -> None:
    for text in seen("JSON cut off", GOLD):
        assert text is not None
        assert GOLD.startswith(text)
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    without = {frozenset(json.loads(text or "")) for text in seen("JSON key left out", GOLD)}
    assert without >= {frozenset({"total", "citations"}), frozenset({"components", "total", "citations"})}
    assert seen("citation left out", GOLD) == {
        GOLD.replace('"Fees | (5.5)",', ""),
        GOLD.replace(',"Total | 1,234"', ""),
    }
    spaced = json.dumps(json.loads(GOLD), indent=2)
    assert all(text and text.count("\n") > 5 for text in seen("JSON key left out", spaced))
    for rule in ("JSON cut off", "JSON key left out"):
        assert seen(rule, PROSE) == {None}


def test_prose_loses_a_citation_or_says_the_opposite() -> None:
    assert seen("citation left out", PROSE) == {"Revenue is 1,234 million, up 5.5%."}
    assert seen("citation left out", "Up (source: page 3), (not this).") == {"Up, (not this)."}
    assert seen("citation left out", '{"a": 1}') == {None}
    assert seen("the opposite", PROSE) == {PROSE.replace("is", "is not"), PROSE.replace("up", "down")}
    assert seen("the opposite", "Yes. It was not higher.") == {
        "No. It was not higher.",
        "Yes. It was higher.",
        "Yes. It was not lower.",
    }
    assert seen("the opposite", "audit") == {None}


def test_a_flaw_says_its_rule_and_a_text_that_holds_nothing_stays() -> None:
    rng = random.Random(0)
    rules = Counter(flawed(GOLD, rng).rule for _ in range(300))
    assert set(rules) == set(RULES) - {"the opposite", "another name"}
    assert min(rules.values()) > 20
    assert all(flawed(GOLD, rng) != GOLD for _ in range(50))
    nothing = flawed("audit", rng)
    assert (nothing, nothing.rule, nothing.form) == ("audit", "", False)
    assert flawed(GOLD, random.Random(3)) == flawed(GOLD, random.Random(3))


@pytest.mark.skipif(not SHARED.exists(), reason="needs shared/data")
def test_real_answers_of_others_are_flawed() -> None:
    rng = random.Random(5)
    lines = (SHARED / "gsm8k" / "train_first_2000.jsonl").read_text("utf-8").splitlines()
    gold = [json.loads(line)["answer"] for line in lines[:300]]
    made = [flawed(text, rng) for text in gold]
    assert all(text != other for text, other in zip(gold, made, strict=True))
    documents = json.loads((SHARED / "tatqa" / "tatqa_dataset_dev.json").read_text("utf-8"))
    answers = [
        str(q["answer"])
        for d in documents
        for q in d["questions"]
        if q["answer_type"] in ("arithmetic", "span")
    ]
    figures = [text for text in answers if (found := figure(text)) is not None and found.value][:300]
    assert len(figures) == 300
    changed = [(figure(text), figure(flawed(text, rng))) for text in figures]
    assert sum(one != other for one, other in changed) >= 297
