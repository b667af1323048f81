"""The figure parser: what it reads, what it refuses, and a census of real answers and tables."""

from __future__ import annotations

import doctest
import importlib.util
import sys
import time
import unicodedata
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tieout.rewards.library.numeric
import tieout.rewards.text.figures
import tieout.tasks.numeric_qa
from tieout.rewards.text.figures import CURRENCIES, MAX_DIGITS, MEASURES, SCALES, Figure, figure, written

READS = {
    "(5,062)": Figure(Decimal(-5062)),
    "(35,569 )": Figure(Decimal(-35569)),
    "$(9.8) million": Figure(Decimal(-9_800_000), "currency", "$", 6, 1),
    "($9.8) million": Figure(Decimal(-9_800_000), "currency", "$", 6, 1),
    "-$9.8 million": Figure(Decimal(-9_800_000), "currency", "$", 6, 1),
    "$-9.8m": Figure(Decimal(-9_800_000), "currency", "$", 6, 1),
    "£(8.1m)": Figure(Decimal(-8_100_000), "currency", "£", 6, 1),
    "(60)%": Figure(Decimal(-60), "percent"),
    "(8.4%)": Figure(Decimal("-8.4"), "percent", digits=1),
    "(2.1% )": Figure(Decimal("-2.1"), "percent", digits=1),
    "36%": Figure(Decimal(36), "percent"),
    "4.55 per cent": Figure(Decimal("4.55"), "percent", digits=2),
    "25 bps": Figure(Decimal(25), "bps"),
    "+80 bps": Figure(Decimal(80), "bps"),
    "$1,496.5": Figure(Decimal("1496.5"), "currency", "$", 0, 1),
    "$    8,820.3": Figure(Decimal("8820.3"), "currency", "$", 0, 1),
    "US$261,518": Figure(Decimal(261_518), "currency", "US$"),
    "€1.3 billion": Figure(Decimal(1_300_000_000), "currency", "€", 9, 1),
    "S$1.75\N{NO-BREAK SPACE}billion": Figure(Decimal(1_750_000_000), "currency", "SG$", 9, 2),
    "RMB77 million": Figure(Decimal(77_000_000), "currency", "RMB", 6),
    "AU 18 cents": Figure(Decimal("0.18"), "currency", "AU$", -2),
    "445.0p": Figure(Decimal("4.45"), "currency", "", -2, 1),
    "\N{MINUS SIGN}298": Figure(Decimal(-298)),
    "\N{EN DASH}8.7": Figure(Decimal("-8.7"), digits=1),
    "—": Figure(Decimal(0)),
    "–": Figure(Decimal(0)),
    "-": Figure(Decimal(0)),
    "$ —": Figure(Decimal(0), "currency", "$"),
    "—%": Figure(Decimal(0), "percent"),
    "$'000 5,062": Figure(Decimal(5_062_000), "currency", "$", 3),
    "US$’000 5,062": Figure(Decimal(5_062_000), "currency", "US$", 3),
    "2018 (4)": Figure(Decimal(2018)),
    "$130,000 (1)": Figure(Decimal(130_000), "currency", "$"),
    "(60)% (a)": Figure(Decimal(-60), "percent"),
    "2.5x": Figure(Decimal("2.5"), "ratio", digits=1),
    "25 days": Figure(Decimal(25), "days"),
    "2.5-million": Figure(Decimal(2_500_000), "count", "", 6, 1),
    "Rs. 5 crore": Figure(Decimal(50_000_000), "currency", "₹", 7, 0),
    "SEK 2 bln": Figure(Decimal(2_000_000_000), "currency", "SEK", 9, 0),
    "minus 5%": Figure(Decimal(-5), "percent"),
    "5-percent": Figure(Decimal(5), "percent"),
    "1.2 million shares": Figure(Decimal(1_200_000), "shares", "", 6, 1),
    ".5": Figure(Decimal("0.5"), digits=1),
    "0.00": Figure(Decimal(0), digits=2),
    "9" * MAX_DIGITS: Figure(Decimal("9" * MAX_DIGITS)),
}

REFUSES = {
    "nothing": ["", " ", "()", "(", ")", "$", "%", "million", "N/A", "nm", "yes", "(—)", "--", "—5", "- - %"],
    "headers": ["$'000", "US$’000", "£000", "2019 $’000", "2019 €m", "$ in millions", "F19", "2019:", ">360"],
    "ranges and dates": ["2020 – 2024", "1–90", "2017/2018", "11/4/2024", "Dec 29, 2018", "1:1", "3 - 4.35"],
    "more than one": ["41, 42", "41 42", "41\n42", "40 to 44", "42 or 43", "2 0 1 8", "(5)(5,000)", "6*7"],
    "words": [
        "not 42",
        "about 42",
        "Total 5",
        "42?",
        "=42",
        "minus",
        "minus -5",
        "negative (5)",
        "10-K",
        "5-m",
        "2.5 years",
        "$2.79 per share",
    ],
    "no numbers": ["nan", "NaN", "inf", "-inf", "Infinity", "1e309", "1E5", "1_000", "0x1F", "½", "²", "5²"],
    "other scripts": [
        "٤٢",
        "４２",
        "4２",
        "（5）",
        "5％",
        "５",
        "1\N{FULLWIDTH COMMA}000",
        "5\N{KELVIN SIGN}",
    ],
    "hidden characters": ["5\N{ZERO WIDTH SPACE}0", "\N{RIGHT-TO-LEFT OVERRIDE}42", "4\x002", "\ud8005"],
    "too long": ["9" * (MAX_DIGITS + 1), "0." + "9" * MAX_DIGITS, "9" * 5000, "1," + "000," * 20 + "000"],
    "grouping": [
        "007",
        "00",
        "1,23",
        "1,2345",
        "12,34,567",
        "1234,567",
        "2.978,478",
        "1 234",
        "1'234",
        "31,",
    ],
    "points": ["5.", "1.2.3", ".", "1,.5", "1.,5", "1.234,5"],
    "two signs": ["-(5)", "((5))", "+-5", "--5", "-5-", "5-", "$-$5", "-$-5", "(5", "5)", "65.4%)"],
    "two units": ["5%%", "$5%", "€5 bps", "$5 shares", "5% of 20", "18 cents days", "5 x bps"],
    "two scales": [
        "5 million billion",
        "$'000 5 million",
        "5 million cents",
        "5 million %",
        "25 million bps",
    ],
    "other units": ["5 percentage points", "5 kg", "5 pt", "5°", "5 GB"],
}


@pytest.mark.parametrize("text", READS)
def test_figures_are_read_as_an_accountant_reads_them(text: str) -> None:
    assert figure(text) == READS[text]


@pytest.mark.parametrize("kind", REFUSES)
def test_what_is_not_one_figure_is_none(kind: str) -> None:
    assert {text: figure(text) for text in REFUSES[kind]} == dict.fromkeys(REFUSES[kind])


def test_the_examples_in_the_docstrings_run() -> None:
    for module in (tieout.rewards.text.figures, tieout.rewards.library.numeric, tieout.tasks.numeric_qa):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0


def test_a_figure_prints_plainly() -> None:
    assert str(READS["€1.3 billion"].value) == "1300000000"
    assert str(figure("€1.3 billion")) == str(READS["€1.3 billion"])


def test_footnotes_belong_to_cells_not_to_answers() -> None:
    assert figure("2018 (4)") == Figure(Decimal(2018))
    assert figure("2018 (4)", footnotes=False) is None
    assert figure("(4)") == figure("(4)", footnotes=False) == Figure(Decimal(-4))


def test_long_text_takes_no_time() -> None:
    start = time.process_time()
    for part in ("1", "1,111", "(", "(1)", "1(1)", "*", "$ ", " ", "—", "1 million"):
        assert figure(part * 10**5) is None
        assert figure("1" + part * 10**5 + "?") is None
    assert time.process_time() - start < 10


def test_every_digit_of_every_other_script_is_refused() -> None:
    digits = [
        chr(code) for code in range(0x80, sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Nd"
    ]
    assert len(digits) > 600
    for digit in digits:
        assert figure(digit) is None
        assert figure(f"1{digit}.5") is None


@pytest.mark.parametrize("spelling", [*SCALES, *MEASURES, *CURRENCIES])
def test_every_spelling_is_read_in_any_case_and_spacing(spelling: str) -> None:
    for mark in (spelling, spelling.upper(), spelling.title()):
        for text in (f"5{mark}", f"5 {mark}"):
            found = figure(text)
            assert found is not None
            assert found.scale == SCALES.get(spelling, 0)
            assert found.currency == CURRENCIES.get(spelling, "")
            if spelling in MEASURES:
                assert found.unit == MEASURES[spelling]
    if spelling in CURRENCIES:
        assert figure(f"{spelling}5") == figure(f"{spelling} 5") == figure(f"5 {spelling}")


NOISE = st.text(st.sampled_from("0123456789,.()$€%-−–— '’xXmbk\n*"), max_size=MAX_DIGITS)
MARKS = [
    "million",
    "bps",
    "AU",
    "cents",
    "US$",
    "(",
    ")",
    "5",
    "1,234.5",
    "-",
    "—",
    "%",
    "'000",
    "nan",
    "(4)",
]


@settings(max_examples=150)
@given(st.text() | NOISE | st.lists(st.sampled_from(MARKS), max_size=6).map(" ".join))
def test_no_text_raises_and_whatever_is_read_holds_together(text: str) -> None:
    found = figure(text)
    if found is None:
        return
    assert found.value.is_finite()
    last_digit = Decimal(1).scaleb(found.scale - found.digits)
    assert found.half_unit == last_digit / 2
    assert Fraction(found.value) % Fraction(last_digit) == 0  # nothing is left below the last shown digit
    shown = "".join(c for c in text if c in "0123456789")
    assert "".join(map(str, found.value.as_tuple().digits)).strip("0") in shown
    negative = any(mark in text for mark in "(-−–")
    assert negative or found.value >= 0
    rates = ("ratio", "percent", "bps")
    assert not (found.unit in rates and (found.scale or found.currency))


def test_units_convert_exactly_or_not_at_all() -> None:
    share = figure("12.5%")
    assert share is not None
    assert share.to("ratio") == Figure(Decimal("0.125"), "ratio", "", -2, 1)
    assert share.to("bps") == Figure(Decimal(1250), "bps", "", 2, 1)
    assert share.to("currency") is None
    assert share.half_unit == Decimal("0.05")
    ratio = share.to("ratio")
    assert ratio is not None
    assert ratio.half_unit == Decimal("0.0005")
    long = figure("1." + "3" * 39 + "%")
    assert long is not None
    assert long.to("bps") == Figure(Decimal("133." + "3" * 37), "bps", "", 2, 39)  # nothing is rounded away
    bare = figure("5")
    assert bare is not None
    assert bare.to("percent") == Figure(Decimal(5), "percent")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "figures_tatqa.py"
    spec = importlib.util.spec_from_file_location("figures_tatqa", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_works_derivations_out(benchmark: ModuleType) -> None:
    for derivation, expected in {
        "(44.1-56.7)/56.7": (44.1 - 56.7) / 56.7,
        "3 + (13) + 26": 16,
        "-1,421-(-78,816)": 77395,
        "53%*$23,406": 12405.18,
        "[(166+178)/2] - [(57+44)/2]": 121.5,
    }.items():
        assert float(benchmark.evaluate(derivation)[0]) == pytest.approx(expected)
    assert benchmark.evaluate("-(5,062 + 6,533) / 2 ")[1] == [-5062, -6533]
    for derivation in ("2019##2018", "60.3 million + 1", "__import__('os')", "2**9", ""):
        with pytest.raises(ValueError, match="not arithmetic"):
            benchmark.evaluate(derivation)


def test_census_of_tatqa(benchmark: ModuleType, shared_data: Path) -> None:
    """Every gold answer and table cell that looks like a figure; what is not read is named here."""
    counts = benchmark.census(shared_data / "tatqa" / "tatqa_dataset_dev.json")

    # 1,157 of 1,168 gold answers are read: 99.1%.
    assert (counts.golds_read.num_passed, counts.golds_read.total) == (1157, 1168)
    assert sorted(counts.golds_read.failures) == [
        "$3.0 million million",  # the scale twice, in the answer and beside it
        "2.5 years",
        "2.5 years",
        "During 2019",
        "`70.07",  # a rupee sign, lost
        "a total of 866.6 RSUs",
        "approximately 13%",
        "approximately 150,000 square feet",
        "approximately 7%",
        "approximately USD500 million",
        "over 50 countries",
    ]
    # 717 of 718 arithmetic answers are what their derivation gives; 22% are negative.
    assert counts.golds_derived.num_passed == 717
    assert counts.golds_derived.failures == ["92437 thousand = 60.3 million + 32,137 thousand "]
    assert counts.negative_golds.num_passed == 160

    # 5,789 of 5,817 cells are read: 99.5%. Of the others 3 are figures, misprinted in the source.
    assert (counts.cells_read.num_passed, counts.cells_read.total) == (5789, 5817)
    headers = {"$'000", "$’000", "£000", "2019 €m", "2018 €m", "2017 €m", "2019:", "2018:", "F19", "F18"}
    assert set(counts.cells_read.failures) - headers == {">360", "31,", "65.4%)", "2.978,478", "$ 11,54"}

    # 1,166 of 1,170 operands are cells of their table; the others are constants, and two in a row's label.
    assert counts.operands_found.num_passed == 1166
    assert len(counts.operands_found.failures) == 4
    assert counts.negatives_found.num_passed == counts.negatives_found.total == 62


@pytest.mark.parametrize(
    ("text", "value", "currency"),
    [
        ("$5 million USD", 5_000_000, "US$"),
        ("US$5 dollars", 5, "US$"),
        ("(-5)", -5, ""),
        ("(−5%)", -5, ""),
        ("$(-5.0) million", -5_000_000, "$"),
        ("(-$5 million)", -5_000_000, "$"),
    ],
)
def test_what_is_said_twice_is_said_once(text: str, value: int, currency: str) -> None:
    read = figure(text)
    assert read is not None
    assert (read.value, read.currency) == (value, currency)


@pytest.mark.parametrize(
    "text", ["€5 USD", "A$5 USD", "$5 shares", "-(5)", "(-(5))", "(--5)", "(-$-5)", "(-)"]
)
def test_what_contradicts_itself_is_none(text: str) -> None:
    assert figure(text) is None


def test_numbers_of_rows_are_written_in_digits() -> None:
    assert [written(v) for v in (1e-05, 1e22, "2.5E-7", 0.1, 3, "1e", "a", None)] == [
        *("0.00001", "10000000000000000000000", "0.00000025", "0.1", "3", "1e", "a", "None")
    ]
