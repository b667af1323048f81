from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards.text.structured import (
    cited_share,
    contains_whole,
    holds,
    match_figures,
    normalise_name,
    normalise_space,
    parse_json,
    printed,
    reconciles,
    resolve_citation,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
SOURCE = (
    "Acme, balance sheet\n2023  2022\nCash (1) .... 1,234  980\nLoss ....  (56)   —\nTotal .... 1,178  980"
)


@given(VALUES.filter(lambda value: "inf" not in json.dumps(value).lower()), st.sampled_from([None, 1, 4]))
def test_what_json_writes_is_read_back(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    for wrapped in (
        text,
        f"  {text}\n",
        f"```json\n{text}\n```",
        f"```\n{text}\n```\n",
        f"~~~json\n{text}\n~~~",
    ):
        parsed = parse_json(wrapped)
        assert parsed.error == ""
        assert parsed.value == value


@given(st.text() | st.text(alphabet='{}[]":,0123456789.eE-`\\ntruefalsNI \n'))
def test_no_text_makes_it_raise(text: str) -> None:
    parsed = parse_json(text)
    if not parsed.error:
        # The standard library's reading, where both read it.
        fenced = text.strip().startswith("```")
        assert fenced or parsed.value == json.loads(text.strip())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("NaN", "NaN"),
        ('{"a": Infinity}', "Infinity"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e309}', "not finite"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('{"b": {"a": 1, "\\u0061": 1}}', "duplicate key 'a'"),
        ('{"a": 1} {"a": 1}', "Extra data"),
        ('{"a": 1}.', "Extra data"),
        ('Here it is: {"a": 1}', "Expecting value"),
        ('```json\n{"a": 1}\n```\nDone.', "Expecting value"),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 1}\n```', "Expecting value"),
        ("1" * 41, "41 characters"),
        ("0." + "1" * 60, "62 characters"),
        ("9" * 5000, "5000 characters"),
        ("[" * 17 + "]" * 17, "nested"),
        ("[" * 9_000 + "]" * 9_000, "nested"),
        ('{"a":' * 3000, "nested"),
        ('"' + "x" * 20_000 + '"', "more than 20000"),
        ("{'a': 1}", "Expecting property name"),
        ('{"a": 1,}', ""),
        ('{"a": １}', "Expecting value"),
    ],
)
def test_refused_with_a_reason(text: str, reason: str) -> None:
    parsed = parse_json(text)
    assert parsed.value is None
    assert parsed.error
    assert reason in parsed.error


def test_depth_is_counted_exactly() -> None:
    assert parse_json("[" * 16 + "]" * 16).error == ""
    assert parse_json('[[{"a": []}]]', max_depth=4).error == ""
    assert parse_json('[[{"a": []}]]', max_depth=3).error


def test_schema_takes_no_bool_for_a_number() -> None:
    schema = {"type": "array", "items": {"type": "number"}}
    assert holds([1, 2.5], schema)
    assert not holds([True], schema)
    assert not holds(["1"], schema)


def test_names_are_compared_without_marks_case_and_space() -> None:
    assert normalise_name(" Goodwill\n (1)") == normalise_name("goodwill") == "goodwill"
    assert normalise_name("Goodwill (net)") != normalise_name("Goodwill")


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1), st.integers(-5, 5))
def test_reconciles_exactly_if_the_sum_is_met(parts: list[int], off: int) -> None:
    assert reconciles(parts, sum(parts) + off) == (off == 0)
    assert reconciles(parts, sum(parts) + off, tolerance=abs(off))


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1), st.integers(0, 6), st.integers(-3, 3))
def test_decimals_reconcile_as_they_are_printed(units: list[int], places: int, off: int) -> None:
    """The parts are whole numbers of the last printed digit: their sum is known without any float."""

    def shown(value: int) -> float:
        return float(Decimal(value).scaleb(-places))

    parts, last_digit = [shown(value) for value in units], shown(1)
    assert reconciles(parts, shown(sum(units) + off)) == (off == 0)
    assert reconciles(parts, shown(sum(units) + off), tolerance=abs(off) * last_digit)
    assert not reconciles(parts, shown(sum(units) + 3), tolerance=2 * last_digit)
    assert printed(last_digit) == Fraction(1, 10**places)


def test_the_error_of_a_sum_of_floats_is_no_difference() -> None:
    assert reconciles([0.1, 0.2], 0.1 + 0.2)
    assert reconciles([Decimal("0.1"), 0.2], 0.3)  # type: ignore[list-item]
    assert not reconciles([0.1, 0.2], 0.3000000001)
    assert reconciles([10**20, 1], 10**20 + 1)
    assert not reconciles([10**20, 1], 10**20)


def test_nothing_does_not_reconcile() -> None:
    assert not reconciles([], 0)
    assert not reconciles([float("nan")], float("nan"))
    assert not reconciles([float("inf")], float("inf"))


FIGURES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1.0, 2.0])), max_size=6)


@given(FIGURES, FIGURES, st.randoms())
def test_matching_is_symmetric_bounded_and_blind_to_order(given_: list, expected: list, rng: object) -> None:
    exact, names_only = match_figures(given_, expected)
    assert match_figures(expected, given_) == (exact, names_only)
    assert exact + names_only <= min(len(given_), len(expected))
    assert (exact == len(given_) == len(expected)) == (sorted(given_) == sorted(expected))
    shuffled = list(given_)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert match_figures(shuffled, expected) == (exact, names_only)


def test_matching_counts_repeats_once() -> None:
    assert match_figures([("a", 1.0), ("a", 1.0)], [("a", 1.0), ("b", 1.0)]) == (1, 0)
    assert match_figures([("a", 2.0), ("b", 1.0)], [("a", 1.0), ("b", 1.0)]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "span", "whole"),
    [
        ("Cash 1,234", "Cash 1,234", True),
        ("Cash 1,234", "Cash 1,2", False),
        ("Cash 1,234", "Cash 1", False),
        ("Cash 1,234", "234", False),
        ("Loss (56)", "Loss (56)", True),
        ("Loss (56)", "Loss (56", False),
        ("Loss -56", "56", False),
        ("Tax 5%", "Tax 5", False),
        ("Cash; 12; 13", "Cash; 12", True),
        ("Total cash 12", "cash 12", True),
        ("Noncash 12", "cash 12", False),
        ("Noncash 12 cash 12", "cash 12", True),
        ("Cash 12", "", False),
    ],
)
def test_whole_pieces(text: str, span: str, whole: bool) -> None:
    assert contains_whole(text, span) == whole


@pytest.mark.parametrize("line", SOURCE.split("\n"))
def test_a_line_is_a_citation_however_it_is_spaced(line: str) -> None:
    assert resolve_citation(line, SOURCE) == normalise_space(line)
    assert resolve_citation("  " + line.replace(" ", "\t \n"), SOURCE) == normalise_space(line)


@pytest.mark.parametrize(
    "citation",
    [
        "",
        " ",
        "C",
        "1,234",
        "Cash",
        SOURCE,
        "1,234 980 Loss .... (56)",
        "Cash (1) .... 1,23",
        "Cash (1) .... 1,235",
        "cash (1) .... 1,234",
        "Cash .... 1,234",
        "Cash (1) .... １,234",
    ],
)
def test_what_is_no_citation(citation: str) -> None:
    assert resolve_citation(citation, SOURCE) is None


@given(st.text())
def test_citations_never_raise_and_resolve_to_where_they_are(text: str) -> None:
    line = resolve_citation(text, SOURCE)
    assert line is None or normalise_space(text) in line


EVIDENCE = ["Cash (1) .... 1,234", "Loss .... (56)", "Total .... 1,178"]
LINES = SOURCE.split("\n")[2:]


def test_each_figure_cited_once_is_one() -> None:
    assert cited_share(EVIDENCE, EVIDENCE, SOURCE) == 1
    assert cited_share(EVIDENCE[::-1], EVIDENCE, SOURCE) == 1
    assert cited_share(LINES, EVIDENCE, SOURCE) == 1


@given(st.lists(st.sampled_from([*EVIDENCE, *LINES, *SOURCE.split("\n"), "Cash", "made up 12", SOURCE, ""])))
def test_share_is_bounded_and_surplus_never_helps(citations: list[str]) -> None:
    share = cited_share(citations, EVIDENCE, SOURCE)
    assert 0 <= share <= 1
    for useless in ("made up 12", SOURCE, "Cash", ""):
        longer = cited_share([*citations, useless], EVIDENCE, SOURCE)
        assert longer < share or longer == share == 0
    repeated = cited_share([*citations, *citations], EVIDENCE, SOURCE)
    assert repeated < share or repeated == share == 0
    if share == 1:
        assert len(citations) == len(EVIDENCE)


def test_a_citation_of_the_label_without_its_figure_supports_nothing() -> None:
    assert cited_share(["Cash (1) ....", "Loss ....", "Total ...."], EVIDENCE, SOURCE) == 0
    assert cited_share(["1,234 980", "(56) —", "1,178 980"], EVIDENCE, SOURCE) == 0


def test_nothing_to_cite_is_not_all_cited() -> None:
    assert cited_share([], [], SOURCE) == 0
