"""The numeric reward: every style of the right answer is paid, and no attack is."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tieout.rewards.library.numeric import numeric, readable
from tieout.rewards.scoring.runner import check_reward, score
from tieout.rewards.text.figures import MAX_DIGITS, Figure, figure


@st.composite
def styled(draw: st.DrawFn) -> tuple[str, Figure]:
    """A figure and one of the many ways to write it. The text is built from parts, never by the parser."""
    digits = draw(st.integers(0, 6))
    units = draw(st.integers(0, 10 ** draw(st.integers(1, 20))))
    size = Decimal(units).scaleb(-digits)
    negative = draw(st.booleans()) and units > 0
    number = f"{size:,.{digits}f}" if draw(st.booleans()) else f"{size:.{digits}f}"

    gap = draw(st.sampled_from(["", " ", "  ", "\N{NO-BREAK SPACE}"]))
    kind = draw(st.sampled_from(["count", "currency", "percent", "bps", "ratio", "shares", "days"]))
    scales = {"": 0, "million": 6, "thousand": 3, "bn": 9, "k": 3, "M": 6, "Trillion": 12}
    word = "" if kind in ("percent", "bps", "ratio") else draw(st.sampled_from(sorted(scales)))
    ends = {"percent": "%", "bps": "bps", "ratio": "x", "shares": "shares", "days": "days"}
    currency = draw(st.sampled_from(["$", "€", "£", "US$"])) if kind == "currency" else ""
    tail = "".join(gap + part for part in (word, ends.get(kind, "")) if part)

    if not negative:
        plus = draw(st.sampled_from(["", "+"]))
        text = plus + currency + gap + number + tail
    elif draw(st.booleans()):
        minus = draw(st.sampled_from(["-", "\N{MINUS SIGN}", "\N{EN DASH}"]))
        text = draw(st.sampled_from([f"{minus}{currency}{number}{tail}", f"{currency}{minus}{number}{tail}"]))
    else:
        forms = [f"{currency}({number}){tail}", f"({currency}{number}){tail}", f"({currency}{number}{tail})"]
        text = draw(st.sampled_from([*forms, f"{currency} ({number}{tail})", f"({currency}{number} ){tail}"]))
    scale = scales[word]
    value = (-size if negative else size) * 10**scale
    return text, Figure(value, kind, currency, scale, digits)  # type: ignore[arg-type]


@given(styled())
def test_figures_survive_being_written_in_any_style(case: tuple[str, Figure]) -> None:
    text, expected = case
    assert figure(text) == expected
    assert figure(f"\t{text}\n") == expected
    assert numeric([text, f"Reasoning.\nAnswer: {text}."], answer=[text, text]) == [1.0, 1.0]


@given(st.text() | st.text("0123456789,.()%-# <>answer:/{}\\\n", max_size=40))
def test_no_text_raises_and_none_is_paid_without_the_digits(text: str) -> None:
    assert numeric([text], answer=["7"]) in ([0.0], [1.0])
    if numeric([text], answer=["7,919"], unit=["count"]) == [1.0]:
        assert "7919" in text.replace(",", "")


HUGE = {
    "digits": "9" * 10**6,
    "parentheses": "(" * 10**6,
    "footnotes": "1(1)" * 10**5,
    "spaces": " " * 10**6,
    "currencies": "Answer: " + "$ " * 10**5,
    "markers": "#### " * 10**5,
    "thoughts": "</think>" * 10**5,
}


@pytest.mark.parametrize("kind", HUGE)
def test_huge_completions_take_no_time(kind: str) -> None:
    start = time.process_time()
    assert numeric([HUGE[kind]], answer=["5"]) == [0.0]
    assert time.process_time() - start < 10  # quadratic time would be minutes


# --- the final answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "completion",
    [
        "-22.22%",
        " (22.22)%\n",
        "-22.22%.",
        "The change is (44.1 - 56.7) / 56.7, so\nAnswer: -22.22%",
        "First 44.1, then 56.7. Final answer: (22.22%)",
        "It fell. <answer> -22.22 % </answer>",
        r"So $-12.6/56.7$ gives \boxed{-22.22\%}",
        "44.1 - 56.7 = -12.6\n#### -22.22%",
        "<think>Answer: 7? <answer>8</answer> #### 9</think>-22.22%",
        "Answer: 7</think>Hence <answer>-22.22%</answer>",
    ],
)
def test_right_answers_are_paid(completion: str) -> None:
    assert numeric([completion], answer=[-22.22], scale=["percent"]) == [1.0]


FORMS = [
    *["**{}**", "__{}__", "*{}*", "`{}`", "**{}.**", "{}.", "  {}\n"],
    *[
        "**Answer:** {}",
        "**Answer**: {}",
        "**Answer: {}**",
        "Answer: **{}**",
        "*Answer:* {}",
        "**Final Answer: {}.**",
    ],
    *[
        "So 5 * 3 = 15.\n\n**Final answer:** {}",
        "It is **bold** here.\n**Answer: {}**",
        "### Final Answer\n{}",
    ],
    *["### Answer:\n\n**{}**", "**Final Answer**\n{}", "Reasoning.\n#### {}", "#### **{}**"],
    *["The answer is {}.", "The final answer is: {}", "So the answer is **{}**.", "Thus, the answer was {}"],
    *["<answer>{}</answer>", "<answer>**{}**</answer>", "<answer> {} </answer>."],
]
BOXES = [
    *[
        r"\boxed{%s}",
        r"$\boxed{%s}$",
        r"$$\boxed{%s}$$",
        "\\[\n\\boxed{%s}\n\\]",
        r"\(\boxed{%s}\)",
        r"**\boxed{%s}**",
    ],
    *[
        r"The answer is $\boxed{%s}$.",
        r"Answer: \boxed{%s}",
        r"#### \boxed{%s}",
        r"<answer>\boxed{%s}</answer>",
    ],
    *[r"So $x = 5$ and $y = 3$: $\boxed{%s}$", r"\boxed{\text{%s}}", r"$\boxed{ %s }$."],
]


@given(styled(), st.sampled_from(FORMS))
def test_every_form_of_an_answer_is_read(case: tuple[str, Figure], form: str) -> None:
    text, gold = case
    assert numeric([form.format(text)], answer=[text]) == [1.0]
    off = f"{gold.value + 2 * gold.half_unit * 2:f}"
    tail = {"percent": "%", "bps": " bps", "ratio": "x"}.get(gold.unit, "")
    assume(abs(gold.value) < 10**25)
    assert numeric([form.format(off + tail)], answer=[text]) == [0.0]


@pytest.mark.parametrize("box", BOXES)
def test_every_box_is_read(box: str) -> None:
    for said in (r"-22.22\%", "-22.22%", r"-22.22 \%", r"(22.22)\%"):
        assert numeric([box % said], answer=["-22.22%"]) == [1.0], box % said
    for wrong in ("22.22%", r"-22.23\%", "-22.22", r"-22.22\% or 5\%", r"-22.22\%} \boxed{5"):
        assert numeric([box % wrong], answer=["-22.22%"]) == [0.0], box % wrong
    if r"\text" not in box:
        assert numeric([box % r"\$1{,}234 \text{ million}"], answer=["$1,234 million"]) == [1.0]


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        *(("12 apples", "12", 1), ("Answer: 12 green apples.", "12", 1), ("The answer is 12 km/h", "12", 0)),
        *(
            ("$2.79 per share", "$2.79", 1),
            ("150,000 square feet", "150000", 1),
            ("2.5 years", "2.5 years", 1),
        ),
        *(
            ("2.5 years", "2.5 months", 0),
            ("5 years", "5 days", 0),
            ("5 days", "5 days", 1),
            ("1 year", "1 years", 1),
        ),
        *(
            ("5 dozen", "5", 0),
            ("5 lakh", "5", 0),
            ("5 lakh", "500,000", 1),
            ("minus 5", "-5", 1),
            ("negative $5m", "-5,000,000", 1),
            ("5 hundred", "5", 0),
            ("5 percentage points", "5", 0),
        ),
        *(("5 more", "5", 0), ("5 or less", "5", 0), ("5 apples or 6", "5", 0), ("5 is wrong", "5", 0)),
        *(
            ("5 million apples", "5 million", 1),
            ("5 apples", "5%", 0),
            ("5 apples", "5 million", 0),
            ("5 not", "5", 0),
        ),
        *(
            ("The answer is not 5.", "5", 0),
            ("The answer is 5. The answer is 6.", "6", 0),
            ("5.5.", "5.5", 1),
        ),
        *(("The answer is 5.\n#### 6", "6", 1), ("The answer is 5, or so.", "5", 0), ("2**3", "23", 0)),
        *(
            ("$5$", "5", 1),
            ("5$", "$5", 1),
            ("**5** or **6**", "5", 0),
            ("**Answer:** 5 **Answer:** 6", "5", 0),
        ),
    ],
)
def test_units_in_words_and_what_is_none(completion: str, answer: str, expected: int) -> None:
    assert numeric([completion], answer=[answer]) == [expected]


ATTACKS = {
    "shell": [
        "",
        " ",
        "{}",
        "<answer></answer>",
        r"\boxed{}",
        "Answer:",
        "####",
        "<answer>",
        "null",
        "()",
        "—",
    ],
    "constant": ["0", "0%", "yes", "-1%", "(22.23)%"],
    "format farming": [
        *["<answer><answer>-22.22%</answer></answer>", "<answer>-22.22%</answer><answer>-22.22%</answer>"],
        *["<think><answer>-22.22%</answer></think>", "<think>-22.22%", "<think>-22.22%</think>"],
        *["<think>Answer: -22.22%", "<think>a</think><think>-22.22%", "<answer>-22.22%"],
        *["</answer>-22.22%<answer>", "Answer: <answer>-22.22%</answer>"],
    ],
    "stuffing": [
        *["-22.22% -12.6", "-22.22%, -12.6", "-12.6 (-22.22%)", "(12.6) (22.22)%", "-22.22% (1)"],
        *[r"\boxed{-12.6} \boxed{-22.22\%}", r"\boxed{-22.22\%} \boxed{-12.6}", r"\boxed{-12.6, -22.22\%}"],
        *["#### -12.6\n#### -22.22%", "#### -22.22%\n#### -12.6", "<answer>-12.6</answer> #### -22.22%"],
        *["Answer: -12.6\nAnswer: -22.22%", "Answer: -22.22%\nAnswer: -12.6", "-22.22% or -12.6%"],
    ],
    "contradiction, hedging": [
        *["not -22.22%", "Answer: not -22.22%", "<think>-22.22%</think>-12.6%", "-23% to -22%"],
        *["<think>Answer: -22.22%</think>Answer: -12.6%", "Answer: -22.22%. No, -12.6%"],
        *["<answer>-22.22%</answer> or rather -12.6%", r"\boxed{-22.22\%} is wrong", "-22.22%?"],
        *["about -22.22%", "-22.22% +/- 1%", "±22.22%"],
    ],
    "length": ["-22.22% " * 100, "-22.22%" + "0" * 5000, "0" * 5000 + "22.22%", "22" * 5000],
    "numeric": [
        *["NaN", "inf", "-inf", "1e309", "-0", "nan%", "-" + "2" * 5000 + "%"],
        *["-２２.２２%", "-22.22％", "-22_2.2%", "-2222e-2%", "-22%", "-22.2%", "-22.23%"],
        *["-22.22", "-0.2222", "-2222 bps", "22.22%", "-22.22 million", "$-22.22", "-22.22x"],
    ],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_earn_nothing(name: str) -> None:
    probes = ATTACKS[name]
    assert numeric(probes, answer=["(22.22)%"] * len(probes)) == [0.0] * len(probes)


@given(
    styled(),
    styled(),
    st.sampled_from([", ", " ", "\n", " or ", " and ", "; ", " to ", "/", " = ", " (", "|"]),
)
def test_two_figures_are_no_answer(first: tuple[str, Figure], second: tuple[str, Figure], joint: str) -> None:
    stuffed = f"{first[0]}{joint}{second[0]}" + ")" * joint.count("(")
    for text in (
        stuffed,
        f"Answer: {stuffed}",
        f"<answer>{stuffed}</answer>",
        f"Answer: {first[0]} #### {second[0]}",
    ):
        assert numeric([text], answer=[first[0]]) == [0.0]
        assert numeric([text], answer=[second[0]]) == [0.0]


# --- the reward ---------------------------------------------------------------------------------------------


@given(styled(), st.integers(-(10**6), 10**6))
def test_the_tolerance_is_half_a_unit_of_the_last_shown_digit(case: tuple[str, Figure], off: int) -> None:
    """`off` is in thousandths of gold's last digit: up to 500 either way is right, and nothing beyond."""
    text, gold = case
    last_digit = Decimal(1).scaleb(gold.scale - gold.digits)
    value = gold.value + off * last_digit / 1000
    assume(abs(value) < 10**27)  # below, Decimal is exact
    tail = {"percent": "%", "bps": " bps"}.get(gold.unit, "")
    assert numeric([f"{value:f}{tail}"], answer=[text]) == [float(abs(off) <= 500)]


def test_scale_completes_gold_and_must_be_said() -> None:
    right = [
        "-12.6 million",
        "(12.6) million",
        "$(12.6)m",
        "-12,600,000",
        "(12,600) thousand",
        "-0.0126 billion",
    ]
    assert numeric(right, answer=[-12.6] * 6, scale=["million"] * 6) == [1.0] * 6
    wrong = ["-12.6", "-12.6 thousand", "-12.6%", "12.6 million", "-12.6 billion", "-12.6 million million"]
    assert numeric(wrong, answer=[-12.6] * 6, scale=["million"] * 6) == [0.0] * 6
    assert numeric(["42 million"], answer=["42"]) == [0.0]
    assert numeric(["42"], answer=["42"], scale=[""]) == numeric(["42"], answer=["42"], scale=[None]) == [1.0]


def test_percent_fraction_and_bps_are_four_different_answers_unless_declared() -> None:
    forms = ["12.5%", "12.5", "0.125", "1250 bps"]
    for i, gold in enumerate(forms):
        assert numeric(forms, answer=[gold] * 4) == [float(i == j) for j in range(4)]
    # Declared: a bare number is in that unit, the rest convert into it.
    assert numeric(forms, answer=["12.5"] * 4, unit=["percent"] * 4) == [1.0, 1.0, 0.0, 1.0]
    assert numeric(forms, answer=["0.125"] * 4, unit=["ratio"] * 4) == [1.0, 0.0, 1.0, 1.0]
    assert numeric(forms, answer=["12.5%"] * 4, unit=["ratio"] * 4) == [1.0, 0.0, 1.0, 1.0]
    assert numeric(forms, answer=["12.5%"] * 4, unit=["bps"] * 4) == [1.0, 0.0, 0.0, 1.0]


def test_a_name_may_be_left_out_but_not_be_wrong() -> None:
    given = ["$5", "5", "US$5", "€5", "5 shares", "5 days", "5x", "5%"]
    assert numeric(given, answer=["$5"] * 8) == [1, 1, 1, 0, 0, 0, 0, 0]
    assert numeric(given, answer=["US$5"] * 8) == [1, 1, 1, 0, 0, 0, 0, 0]
    assert numeric(["S$5", "AU$5", "500 cents"], answer=["US$5"] * 3) == [0, 0, 1]
    assert numeric(given, answer=["5 days"] * 8) == [0, 1, 0, 0, 0, 1, 0, 0]
    assert numeric(given, answer=["5"] * 8) == [1, 1, 1, 1, 1, 1, 1, 0]


@given(st.decimals(-10, 10, places=9), st.integers(2, 8))
def test_gold_of_a_program_is_met_by_its_rounding(gold: Decimal, places: int) -> None:
    """Python rounds half to even, so both neighbours of a half are right: `shown` takes either."""
    rounded = round(gold, places)
    one = Decimal(1).scaleb(-places)
    texts = [f"{rounded:f}", f"{rounded + one:f}", f"{rounded - one:f}", f"{rounded.scaleb(2):f}%"]
    scores = numeric(texts, [f"{gold:f}"] * 4, unit=["ratio"] * 4, tolerance="shown")
    off = [abs(rounded + step - gold) for step in (0, one, -one, 0)]
    assert scores == [float(distance <= one / 2) for distance in off]


@pytest.mark.parametrize(
    ("given_", "answer", "tolerance", "expected"),
    [
        *(
            ("0.14", "0.144643", "shown", 1),
            ("0.15", "0.144643", "shown", 0),
            ("0.1446", "0.144643", "shown", 1),
        ),
        *(("0.1", "0.144643", "shown", 0), ("0", "0.144643", "shown", 0), ("1", "0.6", "shown", 0)),
        *(
            ("0.00", "0.0041", "shown", 1),
            ("0 billion", "12345", "shown", 0),
            ("12 thousand", "12345", "shown", 1),
        ),
        *(("14.46%", "14.4643%", "shown", 1), ("14.5", "14.4643%", "shown", 0), ("5", "5.4", "shown", 0)),
        *(
            ("5.44", "5", "shown", 1),
            ("206588", "206588.0", "shown", 1),
            ("$1.6 billion", "1577 million", "shown", 1),
        ),
        *(
            ("1577", "1577", "1%", 1),
            ("1590", "1577", "1%", 1),
            ("1595", "1577", "1%", 0),
            ("-1577", "1577", "1%", 0),
        ),
        *(("-1590", "-1577", "1%", 1), ("0", "0", "1%", 1), ("0.001", "0", "1%", 0), ("5.4", "5", "1%", 0)),
        *(
            ("12.65 million", "12.6 million", 0.05, 1),
            ("12.66 million", "12.6 million", 0.05, 0),
            ("5", "5", 0, 1),
        ),
        *(
            ("5.1", "5", 0, 0),
            ("12.65%", "12.6%", "0.05", 1),
            ("5 million", "5", "100%", 0),
            ("5.2", "5", None, 1),
        ),
    ],
)
def test_tolerance(given_: str, answer: str, tolerance: str | float | None, expected: int) -> None:
    assert numeric([given_], answer=[answer], tolerance=tolerance) == [expected]
    assert numeric([given_], answer=[answer], tolerance=[tolerance]) == [expected]


def test_a_tolerance_that_says_nothing_is_refused() -> None:
    for wrong in ("near", "-1%", -0.1, float("nan"), "1e", True, "%"):
        with pytest.raises(ValueError, match="expected a number from 0"):
            numeric(["5"], answer=["5"], tolerance=wrong)
    assert numeric(["5.2", "5"], answer=["5"] * 2, unit=["count"] * 2, tolerance=0.5) == [1.0, 1.0]


@pytest.mark.parametrize(
    "gold", [0.1 + 0.2, np.float64(0.1) + np.float64(0.2), np.float32(0.3), Decimal("0.3")]
)
def test_a_float_is_the_decimal_that_it_means(gold: Any) -> None:
    assert numeric(["0.3", "0.34", "0.4"], [gold] * 3) == [1.0, 1.0, 0.0]


def test_a_declared_count_is_exact() -> None:
    assert numeric(["3", "3.4", "2.4", "3.0"], answer=["3"] * 4) == [1, 1, 0, 1]
    assert numeric(["3", "3.4", "2.4", "3.0"], answer=["3"] * 4, unit=["count"] * 4) == [1, 0, 0, 1]


def test_long_figures_are_compared_in_all_their_digits() -> None:
    gold = "1" * MAX_DIGITS
    assert numeric([gold, gold[:-1] + "2"], answer=[gold] * 2) == [1.0, 0.0]
    edge = "1500000." + "0" * 32
    assert numeric([edge + "0", edge + "1"], answer=["1 million"] * 2) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answer": ["see note 4"]}, "'answer' has 'see note 4'"),
        ({"answer": [float("nan")]}, "expected a figure"),
        ({"answer": ["5"], "scale": ["dozen"]}, "scale 'dozen'"),
        ({"answer": ["$5"], "unit": ["percent"]}, "read in percent"),
        ({"answer": ["5"], "unit": ["kg"]}, "expected one of count, ratio, percent"),
        ({"answer": ["5", "6"]}, "zip"),
    ],
)
def test_a_wrong_row_is_an_error_and_not_a_score(columns: dict[str, list], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numeric(["5"], **columns)


def test_it_is_a_reward_like_any_other() -> None:
    check_reward(numeric, ["prompt", "answer"])
    with pytest.raises(ValueError, match="needs column 'answer'"):
        check_reward(numeric, ["prompt", "solution"])
    row = {"prompt": "?", "answer": "(5,062)", "scale": "", "id": "a"}
    assert [o.score for o in score(numeric, ["-5062", "5062"], ["?", "?"], row)] == [1.0, 0.0]
    assert [o.status for o in score(numeric, ["5"], ["?"], {"prompt": "?", "answer": None})] == ["abstained"]
    assert [o.status for o in score(numeric, ["5"], ["?"], {"prompt": "?", "answer": "n/a"})] == ["errored"]
    assert readable(["5", "Answer: 6", "5 or 6", ""], answer=["7"] * 4) == [1.0, 1.0, 0.0, 0.0]


def test_the_names_that_users_rely_on() -> None:
    from tieout.rewards.library import numeric as module

    found = module.figure("(8.4%)")
    assert isinstance(found, module.Figure)
    assert (found.value, found.unit, found.digits) == (Decimal("-8.4"), "percent", 1)
    assert isinstance(found.value, Decimal)
    assert module.figure("about 8.4%") is None
    assert module.numeric(completions=["-8.4%"], answer=["(8.4%)"], prompts=["?"], other=[1]) == [1.0]
    assert set(module.__all__) >= {"Figure", "figure", "numeric"}
