"""Figures that tie out: on real facts of a filer with minority interest, and against answers that only seem to."""

from __future__ import annotations

import doctest
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieout.rewards.library.reconcile
from tieout.rewards.library.reconcile import Ratio, Relation, identities, ladder, reconciled
from tieout.rewards.scoring.runner import score
from tieout.types import Reward
from tieout.vetting.check import prove

FIGURES = {"Assets": 100, "Liabilities": 60, "StockholdersEquity": 37, "MinorityInterest": 3, "Current": 40}
SOURCE = "\n".join(f"{name} | {value:,} | {value + 1:,}" for name, value in FIGURES.items())
ROW: dict[str, Any] = {
    "prompt": "?",
    "figures": FIGURES,
    "relations": None,
    "ratios": {"share": {"numerator": "Current", "denominator": "Assets", "digits": 1, "percent": True}},
    "source": SOURCE,
    "evidence": {name: f"{name} | {value:,}" for name, value in FIGURES.items()},
}


def gold(row: dict[str, Any]) -> dict[str, Any]:
    reply: dict[str, Any] = {"figures": dict(row["figures"])}
    if row.get("ratios"):
        reply["ratios"] = {
            name: round(100 * row["figures"][r["numerator"]] / row["figures"][r["denominator"]], 1)
            for name, r in row["ratios"].items()
        }
    if row.get("source"):
        reply["citations"] = dict(row["evidence"])
    return reply


def worth(reply: Any, row: dict[str, Any] = ROW, reward: Reward = reconciled) -> float:
    text = reply if isinstance(reply, str) else json.dumps(reply)
    (outcome,) = score(reward, [text], ["?"], row)
    assert outcome.score is not None, outcome.reason
    return outcome.score


def test_the_examples_run() -> None:
    assert doctest.testmod(tieout.rewards.library.reconcile).failed == 0


# ---- real facts


def facts(folder: Path) -> dict[str, dict[str, int]]:
    """Date -> name -> value of Snowflake's balance sheets, as its 10-K and 10-Q say them."""
    filed = json.loads((folder / "sec" / "companyfacts_SNOW.json").read_text())["facts"]["us-gaap"]
    names = {
        "Assets", "AssetsCurrent", "Liabilities", "LiabilitiesCurrent", "LiabilitiesAndStockholdersEquity",
        "StockholdersEquity", "MinorityInterest", "TemporaryEquityCarryingAmountAttributableToParent",
        "StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest",
    }  # fmt: skip
    dates: dict[str, dict[str, int]] = {}
    for name in sorted(names & set(filed)):
        for fact in filed[name]["units"]["USD"]:
            if fact["form"] in ("10-K", "10-Q"):
                dates.setdefault(fact["end"], {})[name] = fact["val"]
    return {date: values for date, values in dates.items() if {"Assets", "Liabilities"} <= set(values)}


def test_snowflakes_balance_sheets_tie_out_with_minority_interest_and_not_without(shared_data: Path) -> None:
    naive = Relation("Assets", {"Liabilities": 1, "StockholdersEquity": 1})
    sheets = facts(shared_data)
    with_minority = {date: v for date, v in sheets.items() if v.get("MinorityInterest")}
    assert len(sheets) >= 15
    assert len(with_minority) >= 8
    for values in sheets.values():
        found = identities(list(values))
        assert any(relation.total == "Assets" for relation in found)
        assert all(relation.gap(values) == 0 for relation in found), values
    before_listing = sheets["2020-01-31"]  # preferred stock that could be redeemed is neither debt nor equity
    assert (
        naive.gap(before_listing) == before_listing["TemporaryEquityCarryingAmountAttributableToParent"] > 0
    )
    for values in with_minority.values():
        assert naive.gap(values) == values["MinorityInterest"]


def test_the_reward_proves_itself_on_snowflakes_filings(shared_data: Path) -> None:
    rows = []
    for date, values in sorted(facts(shared_data).items()):
        lines = {name: f"{name} | {value:,}" for name, value in values.items()}
        row = {"prompt": date, "figures": values, "source": "\n".join(lines.values()), "evidence": lines}
        rows.append({**row, "completion": json.dumps(gold(row))})
    proof = prove(reconciled, rows)
    assert proof.holds, [check for check in proof.checks if not check.holds]
    assert proof.checks[0].passed == len(rows)
    naive = {
        **rows[-1],
        "relations": [{"total": "Assets", "parts": {"Liabilities": 1, "StockholdersEquity": 1}}],
    }
    (outcome,) = score(reconciled, [rows[-1]["completion"]], ["?"], naive)
    assert outcome.status == "errored"
    assert "in the row itself, Assets is not the sum" in outcome.reason


# ---- credit: for right figures, and in steps


@pytest.mark.parametrize("reward", [reconciled, ladder])
def test_gold_is_one_in_any_form(reward: Reward) -> None:
    shuffled = {key: gold(ROW)[key] for key in ("citations", "ratios", "figures")}
    fenced = f"```json\n{json.dumps(gold(ROW))}\n```"
    for reply in (gold(ROW), json.dumps(gold(ROW), indent=3), fenced, shuffled):
        assert worth(reply, ROW, reward) == 1.0
    assert worth({"figures": FIGURES}, {"prompt": "?", "figures": FIGURES}, reward) == 1.0


def test_the_ladder_rises_with_what_is_right() -> None:
    uncited = {**gold(ROW), "citations": dict.fromkeys(FIGURES, "")}
    one_wrong = {**gold(ROW), "figures": {**FIGURES, "Current": 41}}
    zeros = {**gold(ROW), "figures": dict.fromkeys(FIGURES, 0), "ratios": {"share": 0}}
    steps = ["", "{}", {"figures": FIGURES}, zeros, one_wrong, uncited, gold(ROW)]
    scores = [worth(reply, ROW, ladder) for reply in steps]
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)
    assert scores[1] == 0.2
    assert scores[2] < 0.5 == scores[3]
    assert scores[5] == 0.7


@given(
    st.lists(st.tuples(st.integers(-(10**7), 10**7), st.sampled_from([1, -1])), min_size=1, max_size=8),
    st.integers(0, 4),
    st.integers(-2, 2),
)
def test_sums_are_compared_in_printed_decimals(parts: list[tuple[int, int]], places: int, off: int) -> None:
    def shown(value: int) -> float:
        return float(Decimal(value).scaleb(-places))

    figures = {str(i): shown(value) for i, (value, _) in enumerate(parts)}
    figures["total"] = shown(sum(value * sign for value, sign in parts) + off)
    signs = {str(i): sign for i, (_, sign) in enumerate(parts)}
    row = {"prompt": "?", "figures": figures, "relations": [{"total": "total", "parts": signs}]}
    for reward in (reconciled, ladder):
        (outcome,) = score(reward, [json.dumps({"figures": figures})], ["?"], row)
        assert outcome.score == (1.0 if off == 0 else None)
        (outcome,) = score(
            reward,
            [json.dumps({"figures": figures})],
            ["?"],
            {**row, "tolerance": float(Decimal(2).scaleb(-places))},
        )
        assert outcome.score == 1.0


def test_a_sum_that_the_row_worked_out_in_floats_is_the_printed_one() -> None:
    row = {
        "prompt": "?",
        "figures": {"a": 0.1, "b": 0.2, "c": 0.1 + 0.2},
        "relations": [{"total": "c", "parts": {"a": 1, "b": 1}}],
    }
    for reward in (reconciled, ladder):
        assert worth('{"figures": {"a": 0.1, "b": 0.20, "c": 0.3}}', row, reward) == 1.0
        assert worth('{"figures": {"a": 0.1, "b": 0.2, "c": 0.31}}', row, reward) < 1.0
        assert worth({"figures": row["figures"]}, row, reward) == 1.0, "as json.dumps writes the row"


@pytest.mark.parametrize("reward", [reconciled, ladder])
@pytest.mark.parametrize(
    "shown",
    [Decimal, np.float64, np.float32, str, lambda text: f"${text}", lambda text: float(text) * 3 / 3],
)
def test_figures_of_a_row_are_what_they_print(shown: Any, reward: Reward) -> None:
    figures = {"a": shown("0.1"), "b": shown("0.2"), "c": shown("0.3"), "of another row": None}
    parts = {"a": 1, "b": 1, "of another row": None}
    row = {"prompt": "?", "figures": figures, "relations": [{"total": "c", "parts": parts}]}
    assert worth('{"figures": {"a": 0.1, "b": 0.2, "c": 0.3}}', row, reward) == 1.0
    assert worth('{"figures": {"a": 0.1, "b": 0.2, "c": 0.4}}', row, reward) < 1.0
    for wrong in (True, float("nan"), "n/a"):
        (outcome,) = score(reward, ["{}"], ["?"], {**row, "figures": {**figures, "b": wrong}})
        assert outcome.status == "errored", wrong
        assert "for 'b'; expected a number" in outcome.reason


def test_a_ratio_of_decimals_is_that_of_the_printed_ones() -> None:
    assert Ratio("a", "b", digits=0).holds(3, {"a": 0.3, "b": 0.1})
    assert Ratio("a", "b", digits=1).holds(0.3, {"a": 0.1 + 0.2, "b": 1})
    # 0.15 is half way between 0.1 and 0.2: either is a rounding of it, and the float below it is no reason.
    assert all(Ratio("a", "b", digits=1).holds(value, {"a": 0.15, "b": 1}) for value in (0.1, 0.2))


ATTACKS = {
    "omission": [{**gold(ROW), "figures": {n: v for n, v in FIGURES.items() if n != "MinorityInterest"}}],
    "surplus": [{**gold(ROW), "figures": {**FIGURES, "Other": 0}}, {**gold(ROW), "note": "trust me"}],
    "plug": [{**gold(ROW), "figures": {**FIGURES, "MinorityInterest": 0, "StockholdersEquity": 40}}],
    "null": [
        {**gold(ROW), "figures": dict.fromkeys(FIGURES)},
        {"figures": {}, "ratios": {}, "citations": {}},
    ],
    "text": [{**gold(ROW), "figures": {n: str(v) for n, v in FIGURES.items()}}],
    "boolean": [{**gold(ROW), "figures": {**FIGURES, "MinorityInterest": True}}],
    "swapped": [{**gold(ROW), "figures": {**FIGURES, "Liabilities": 37, "StockholdersEquity": 60}}],
    "scaled": [{**gold(ROW), "figures": {n: v * 1000 for n, v in FIGURES.items()}}],
    "citations": [
        {**gold(ROW), "citations": dict.fromkeys(FIGURES, SOURCE[:400])},
        {**gold(ROW), "citations": dict.fromkeys(FIGURES, "A")},
        {**gold(ROW), "citations": dict.fromkeys(FIGURES, "Assets | 100")},
    ],
    "json": [
        json.dumps(gold(ROW)) + json.dumps(gold(ROW)),
        json.dumps(gold(ROW))[:-1] + ', "figures": {}}',
        json.dumps(gold(ROW)).replace("100", "NaN", 1),
        "[" + json.dumps(gold(ROW)) + "]",
    ],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_stay_below_what_is_earned(name: str) -> None:
    for reply in ATTACKS[name]:
        limit = 0.95 if name == "citations" else 0.7
        assert worth(reply, ROW, ladder) < limit, reply
        assert worth(reply) < 0.9, reply


@given(st.text() | st.text('{}[]":,figures 0123', max_size=60))
def test_no_text_raises(text: str) -> None:
    assert 0 <= worth(text, ROW, ladder) <= 0.5
    assert 0 <= worth(text) <= 0.5


OFF = st.sets(st.sampled_from(sorted(FIGURES)))
FORMS = st.sampled_from(
    [
        json.dumps,
        lambda reply: f"Here it is: {json.dumps(reply)}. Ask me.",
        lambda reply: json.dumps(reply)[:-1],
        lambda reply: json.dumps({**reply, "note": "as asked"}),
        lambda reply: json.dumps({**reply, "citations": {}}),
        lambda reply: json.dumps({**reply, "citations": dict.fromkeys(FIGURES, "Sales | 7")}),
        lambda reply: json.dumps({"figures": {name: str(v) for name, v in reply["figures"].items()}}),
    ]
)


@given(OFF, OFF, FORMS, FORMS)
def test_more_right_figures_outweigh_any_form(off: set[str], more: set[str], form: Any, other: Any) -> None:
    """Two answers, one with fewer wrong figures: it is ahead, whatever the form of either."""
    row = {**ROW, "ratios": None}
    if not more - off:
        return

    def reply(wrong: set[str]) -> dict[str, Any]:
        figures = {name: value + (1000 if name in wrong else 0) for name, value in FIGURES.items()}
        return {"figures": figures, "citations": dict(ROW["evidence"])}

    assert worth(form(reply(off)), row) > worth(other(reply(off | more)), row)


def test_figures_that_are_not_asked_and_second_guesses_do_not_pay() -> None:
    row = {"prompt": "?", "figures": FIGURES}
    one_wrong = {"figures": {**FIGURES, "Current": 41}}
    both = json.dumps(one_wrong)[:-2] + ', "Current": 40}}'
    assert worth(both, row) < worth(json.dumps(one_wrong), row) < worth({"figures": FIGURES}, row)
    many = {"figures": {**FIGURES, **{f"x{i}": i for i in range(50)}}}
    assert worth(many, row) < 0.2


@pytest.mark.parametrize("reward", [reconciled, ladder])
@given(st.dictionaries(st.sampled_from(sorted(FIGURES)), st.integers(-100, 200)), st.randoms())
def test_more_right_figures_never_score_less(
    reward: Reward, changes: dict[str, int], rng: random.Random
) -> None:
    changed = {**FIGURES, **changes}
    wrong = [name for name in FIGURES if changed[name] != FIGURES[name]]
    before = worth({**gold(ROW), "figures": changed}, ROW, reward)
    if wrong:
        mended = {**changed, (name := rng.choice(wrong)): FIGURES[name]}
        assert worth({**gold(ROW), "figures": mended}, ROW, reward) > before
    else:
        assert before == 1.0


# ---- relations and ratios


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=6), st.integers(-3, 3))
def test_a_relation_holds_exactly_if_the_signed_sum_is_met(values: list[int], off: int) -> None:
    signs = [1 if v % 2 else -1 for v in values]
    parts = {f"p{i}": sign for i, sign in enumerate(signs)}
    figures = {f"p{i}": v for i, v in enumerate(values)}
    relation = Relation("t", parts)
    figures["t"] = sum(s * v for s, v in zip(signs, values, strict=True)) + off
    assert relation.gap(figures) == off
    assert relation.holds(figures, tolerance=abs(off))
    del figures["p0"]
    assert relation.gap(figures) is None
    assert not relation.holds(figures, tolerance=float("inf"))


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6), st.integers(0, 4))
def test_a_ratio_holds_if_it_is_the_rounded_quotient(top: int, bottom: int, digits: int) -> None:
    ratio, values = Ratio("a", "b", digits), {"a": top, "b": bottom}
    assert ratio.holds(round(top / bottom, digits), values)
    assert not ratio.holds(round(top / bottom, digits) + 1.1 * 10**-digits, values)
    assert not ratio.holds(1.0, {"a": top, "b": 0})
    assert not ratio.holds(float("nan"), values)


def test_figures_beyond_floats_are_wrong_and_no_error() -> None:
    huge = {name: sign * 1e308 for name, sign in zip(FIGURES, (1, -1, -1, -1, 1), strict=True)}
    assert 0.5 <= worth({**gold(ROW), "figures": huge}, ROW, ladder) < 0.7
    assert worth({**gold(ROW), "figures": huge}) < 0.3
    assert Relation("a", {"b": 1, "c": 1}).gap({"a": 1e308, "b": -1e308, "c": -1e308}) == float("inf")


def test_a_row_that_says_too_little_is_an_error() -> None:
    for row in ({"figures": {}}, {"figures": FIGURES, "source": SOURCE}):
        (outcome,) = score(reconciled, ["{}"], ["?"], {"prompt": "?", **row})
        assert (outcome.status, outcome.cause) == ("errored", "reward")
