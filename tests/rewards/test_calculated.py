"""The reward of a calculation: what is one, what it comes to, and that it compares as `numeric` does."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards.library.calculated import calculated, calculation
from tieout.rewards.library.numeric import numeric


def value(said: str) -> Fraction | None:
    """What a calculation comes to after which nothing follows."""
    found = calculation(said)
    return found[0] if found and not found[1] else None


Tree = int | tuple["Tree", str, "Tree"]
INTEGERS = st.integers(0, 10**7)
TREES = st.recursive(
    st.tuples(INTEGERS, st.sampled_from("+-*/"), INTEGERS),
    lambda inner: st.tuples(inner | INTEGERS, st.sampled_from("+-*/"), inner | INTEGERS),
    max_leaves=6,
)


def written(tree: Tree, signs: dict[str, str]) -> str:
    """With thousands separators, every operation in parentheses."""
    if isinstance(tree, int):
        return f"{tree:,}"
    one, sign, other = tree
    return f"({written(one, signs)} {signs[sign]} {written(other, signs)})"


def comes_to(tree: Tree) -> Fraction | None:
    if isinstance(tree, int):
        return Fraction(tree)
    one, other = comes_to(tree[0]), comes_to(tree[2])
    if one is None or other is None or (tree[1] == "/" and not other):
        return None
    return {"+": one + other, "-": one - other, "*": one * other, "/": one / (other or 1)}[tree[1]]


@given(tree=TREES, typeset=st.booleans())
def test_a_calculation_comes_to_its_exact_value(tree: Tree, typeset: bool) -> None:
    signs = dict(zip("+-*/", "+−×÷" if typeset else "+-*/", strict=True))
    assert value(written(tree, signs)) == comes_to(tree)


@given(st.text("0123456789.,()[]+-*/x ", max_size=40) | st.text(max_size=40))
def test_nothing_that_is_said_raises(said: str) -> None:
    value(said)
    assert calculated([said], ["36.0"], ["percent"])[0] in (0.0, 1.0)


@given(st.decimals(-(10**9), 10**9, places=2), st.sampled_from(["", "percent", "million", "%", "days"]))
def test_a_figure_alone_is_worth_what_numeric_pays(number: object, unit: str) -> None:
    texts = [f"{number} {unit}".strip(), f"The answer is ({number}){unit}."]
    for gold, scale in ((str(number), unit), ("36.0", "percent")):
        assert calculated(texts, [gold] * 2, [scale] * 2) == numeric(texts, [gold] * 2, [scale] * 2)


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("Gross profit 450, Net sales 1,250. The answer is 450 / 1,250 x 100 percent.", 1.0),
        ("<think>450 of 1,250</think>\n<answer>450 / 1,250 * 100%</answer>", 1.0),
        ("100 * 450 / 1250 percent", 1.0),
        (r"\boxed{[450 / 1,250] × 100\%}", 1.0),
        ("The answer is 450 / 1,250.", 0.0),  # a share is not said to be a percentage
        ("The answer is 450 / 1,250 percent.", 0.0),
        ("The answer is 1,250 / 450 x 100 percent.", 0.0),
        ("The answer is 450 / 1,25 x 100 percent.", 0.0),  # 1,25 is no number
        ("The answer is 450 / 1,250 x 100 percent, or 451 / 1,250 x 100 percent.", 0.0),
        ("The answer is 450 / 0 x 100 percent.", 0.0),
        ("The answer is 6 ** 2 percent.", 0.0),
        ("The answer is 72 // 2 percent.", 0.0),
        ("The answer is 36.0 + 0.0 percent.", 1.0),
        ("<think>450 / 1,250 x 100 percent", 0.0),
    ],
)
def test_what_is_paid(said: str, score: float) -> None:
    assert calculated([said], ["36.0"], ["percent"]) == [score]


@pytest.mark.parametrize(
    "said", ["3 + (13)", "3 + (  13)", "450 - (50)", "-(450) / 5", "(450) / 5", "1 + (.5)"]
)
def test_a_figure_alone_in_parentheses_is_refused(said: str) -> None:
    """It is negative to accountants, and to others it is not."""
    assert value(said) is None


def test_other_parentheses_group() -> None:
    said = ["450 / (1,250) x (100)", "2 * (1 + 2)", "-(3 - 1) + [4]", "3 + (-13)", "((2 - 1)) - 1"]
    assert [value(one) for one in said] == [36, 6, 2, -10, 0]
    assert calculated(["(50) million"], ["(50)"], ["million"]) == [1.0]  # no calculation


@pytest.mark.parametrize(
    "said",
    [
        "Answer: 5 - 4. The answer is 36%",
        "Answer: 1 - 1 \\boxed{36%}",
        "#### 1 / 2 percent. Answer: 36%",
        "The answer is 1/2, no: the answer is 36%",
        "<think>a</think>\n<answer>1 - 1 #### 36%</answer>",
        "007.0 + 29 percent",
        "29 + 07 percent",
        "450 / 1,250 x 100 = 37 percent",
        "450 / 1,251 x 1 = 36 percent",
        "450 / 1,250 x 100 = 36.0",
    ],
)
def test_a_second_answer_and_other_numerals_are_not_paid(said: str) -> None:
    assert calculated([said], ["36.0"], ["percent"]) == [0.0]


@pytest.mark.parametrize(
    "said",
    [
        ".36 x 100 percent",
        "+450 / 1,250 x 100 percent",
        "(1,100 – 704) / 1,100 × 100 percent",
        "450 / 1,250 X 100 percent",
        "450 / 1,250 · 100 percent",
        "450 /\n1,250 x\u00a0100 percent",
        "= 450 / 1,250 x 100 percent",
        "The answer is 450 / 1,250 x 100 = 36.0%.",
        "18 + 18 per cent",
    ],
)
def test_the_ways_in_which_people_write_it(said: str) -> None:
    assert calculated([said], ["36.0"], ["percent"]) == [1.0]


def test_a_unit_is_no_sign() -> None:
    assert calculated(["5 / 2 x"], ["2.50"]) == [1.0]
    assert calculated(["10 / 4 million"], ["2.5"], ["million"]) == [1.0]


def test_no_digit_is_lost() -> None:
    said = ["The answer is 90,071,992,547,409,930 + 3.", "The answer is 90,071,992,547,409,930 + 4."]
    assert calculated(said, ["90,071,992,547,409,933"] * 2) == [1.0, 0.0]
    assert value("12345678901234567.5 - 12345678901234567") == Fraction(1, 2)
    assert calculated(["2" + ",000" * 9 + " + 0"], ["2" + "0" * 27]) == [1.0]
    assert calculated(["The answer is 9" + "0" * 90 + " * 9" + "0" * 90 + "."], ["1"]) == [0.0]
    assert calculated(["The answer is 1 / 3" + " / 3" * 40 + "."], ["0"]) == [1.0]


def test_gold_that_is_no_figure_is_the_rows_fault() -> None:
    with pytest.raises(ValueError, match="column 'answer'"):
        calculated(["450 / 1,250"], ["a third"])
    assert calculated(["450 / 1,250"], [None]) == [None]


def test_what_annotators_of_tat_qa_derived_comes_to_their_answers(shared_data: Path) -> None:
    """718 derivations; those with $, % or words inside, and two with a figure alone in parentheses, are none here."""
    units = {"": "", "percent": " x 100 percent"}
    found = Counter[str]()
    for document in json.loads((shared_data / "tatqa" / "tatqa_dataset_dev.json").read_text()):
        for question in document["questions"]:
            if question["answer_type"] == "arithmetic":
                scale, derived = question["scale"], f"({question['derivation'].strip()})"
                said = [
                    f"The answer is {derived}{unit}." for unit in {units.get(scale, f" {scale}"), f" {scale}"}
                ]
                paid = any(calculated(said, [question["answer"]] * len(said), [scale] * len(said)))
                found["right" if paid else "none" if value(derived) is None else "wrong"] += 1
    assert found == {"right": 641, "none": 77}
