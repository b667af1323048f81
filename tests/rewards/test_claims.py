"""What a passage says: its own sentences, figures as in cells, directions, denials; on real annual reports too."""

from __future__ import annotations

import doctest
import re
import time
from decimal import Decimal
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieout.rewards.text.amounts
import tieout.rewards.text.claims
import tieout.rewards.text.contradiction
import tieout.rewards.text.opposites
import tieout.rewards.text.presentation
import tieout.rewards.text.sentences
from tieout.rewards.text.amounts import Found, amounts, read
from tieout.rewards.text.claims import claims, supports
from tieout.rewards.text.contradiction import opposed
from tieout.rewards.text.figures import figure
from tieout.rewards.text.opposites import CHANGE, opposite

MODULES = [
    tieout.rewards.text.amounts,
    tieout.rewards.text.claims,
    tieout.rewards.text.contradiction,
    tieout.rewards.text.opposites,
    tieout.rewards.text.presentation,
    tieout.rewards.text.sentences,
]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0


# --- figures in running text --------------------------------------------------------------------------------


@st.composite
def shown(draw: st.DrawFn) -> str:
    """A figure as it is printed, without the parser."""
    number = f"{draw(st.integers(0, 10**7)):,}" + draw(st.sampled_from(["", ".5", ".25", ".0"]))
    kind = draw(
        st.sampled_from(["{}", "${}", "€{}", "US${}", "{}%", "{} percent", "{} bps", "{}x", "-{}", "$({})"])
    )
    scale = draw(st.sampled_from(["", " million", "M", "B", "bn", " thousand", "K"])) if "$" in kind else ""
    return kind.format(number) + scale


@given(st.lists(shown(), min_size=1, max_size=4), st.sampled_from([" and ", ", ", "; ", " to ", " versus "]))
def test_a_figure_in_a_sentence_is_the_figure_alone(cells: list[str], joint: str) -> None:
    alone = [figure(cell, footnotes=False) for cell in cells]
    found, marks = read(f"In all it was {joint.join(cells)}.")
    assert [one.figure for one in found] == alone
    assert not marks


def test_every_cell_of_real_tables_reads_alike_in_a_sentence(shared_data: object) -> None:
    import json
    from pathlib import Path

    assert isinstance(shared_data, Path)
    seen = 0
    for page in json.loads((shared_data / "tatqa" / "tatqa_dataset_dev.json").read_text("utf-8")):
        for cell in {cell.strip() for row in page["table"]["table"] for cell in row}:
            alone = figure(cell, footnotes=False)
            # A dash is nil in a cell and punctuation in a sentence; (2) is a note there, and (2019) a year.
            if (
                alone is None
                or not re.search(r"[1-9]", cell)
                or re.fullmatch(r"\(([0-9]{1,2}|20[0-9]{2})\)", cell)
            ):
                continue
            found = read(f"It came to {cell} in all.")[0]
            assert [one.figure.value for one in found] == [alone.value], cell
            seen += 1
    assert seen > 4000


@pytest.mark.parametrize(
    ("text", "values", "marks"),
    [
        ("$2B, not $2M; $929M", [2 * 10**9, 2 * 10**6, 929 * 10**6], []),
        ("in the U.S. and of non-GAAP", [], []),
        ("up $5 million (5%), ($2 million in 2018)", [5 * 10**6, 5, 2 * 10**6, 2018], []),
        ("a 10-year note, the 10-K, Q1, FY19 and the 1990s", [10, 10], ["q1", "fy19", "1990s"]),
        ("5–10% — 2020 - 2024, 2019/2020 and 31.12.2020", [5, 10, 2020, 2024, 2019, 2020], ["31.12.2020"]),
        ("see (1) and [2], of 2019 (2018)", [2, 2019, 2018], ["(1)"]),
        ("a loss of $(9.8) million, or (5%)", [Decimal("-9800000"), -5], []),
        ("2019 US sales; 5 p. m.; 4 b of", [2019, 5, 4], []),
    ],
)
def test_figures_and_marks_of_a_text(text: str, values: list[object], marks: list[str]) -> None:
    figures, others = read(text)
    assert ([one.figure.value for one in figures], list(others)) == (values, marks)


@pytest.mark.parametrize(
    "part", ["1", "1.", "(1", "$ ", "1a", "1,", "- ", "two ", ". A", "\n", "[1] ", "more not "]
)
def test_long_texts_take_no_time(part: str) -> None:
    start = time.process_time()
    text = part * (100_000 // len(part))
    read(text)
    claims(text)
    supports(text[:5000], [text[:20_000]])
    other = text.replace("1", "2").replace("more", "less")
    supports(text[:20_000], [other[:20_000]])
    assert time.process_time() - start < 5


# --- a passage's own sentences ------------------------------------------------------------------------------

PASSAGE = (
    "Sales in the U.S. rose 4% to $2B as higher prices met lower costs. Non-GAAP net income, the company’s “core” "
    "measure, was $929M — up from $810M. Costs did not rise. It was so. We have no debt: none. The $5.2 million loss "
    "(2018: $4.1 million) was due to Acme Corp. Inc.’s 10-K for FY19 (see Note 2(a))."
)
OWN = re.split(r"(?<=[.!?])\s+", PASSAGE)


@pytest.mark.parametrize("sentence", OWN)
def test_a_passages_own_sentence_is_supported(sentence: str) -> None:
    straight = sentence.translate(str.maketrans({"’": "'", "“": '"', "”": '"', "—": "-"}))
    for claim in (
        sentence,
        straight,
        sentence.replace(" ", "\N{NO-BREAK SPACE}"),
        f"{sentence.rstrip('.')} [1].",
    ):
        assert supports(claim, [PASSAGE]), claim
        assert supports(claim, ["Something else.", f"First.\n{straight}\nLast."])
    assert not supports(sentence, ["Something else, of no concern."])


@given(st.lists(st.sampled_from([*OWN, "A word.", "5%."]), min_size=1, max_size=6), st.data())
def test_any_sentence_of_any_passage_is_supported(parts: list[str], data: st.DataObject) -> None:
    passage = data.draw(st.sampled_from([" ", "\n", "  "])).join(parts)
    assert all(supports(part, [passage]) for part in parts)


def test_a_piece_of_a_denial_is_no_sentence() -> None:
    assert not supports("Costs rose.", ["It is not true that costs rose."])


@pytest.mark.parametrize("claim", ["$2B [1].", "4%", "$929M.", "$2,000 million", "2 billion"])
def test_the_shortest_right_answer_is_supported(claim: str) -> None:
    assert supports(claim, [PASSAGE])


@pytest.mark.parametrize("claim", ["$2M [1].", "5%", "€2B", "$929", "-$929M", "", "[1]", "...", "Q1"])
def test_the_shortest_wrong_answer_is_not(claim: str) -> None:
    assert not supports(claim, [PASSAGE])


@given(st.sampled_from(OWN), st.data())
def test_no_changed_digit_is_supported(sentence: str, data: st.DataObject) -> None:
    places = [i for i, character in enumerate(sentence) if character.isdigit()]
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([d for d in "123456789" if d != sentence[place]]))
    assert not supports(sentence[:place] + digit + sentence[place + 1 :], [PASSAGE])


def test_numbers_in_words_ordinals_and_months_are_facts() -> None:
    source = [
        "Two of its twenty-five plants closed in the first quarter of May and in July 2020; March was calm."
    ]
    assert supports("In July 2020 and in the first quarter of May, 2 of its 25 plants closed.", source)
    for wrong in ("Three of its", "Two of its twenty-four"):
        assert not supports(source[0].replace("Two of its twenty-five"[: len(wrong)], wrong), source)
    assert not supports(source[0].replace("first", "second"), source)
    assert not supports(source[0].replace("July", "March"), source)


def test_figures_that_change_places_are_not_supported() -> None:
    source = ["Revenue was $5 million in 2019 and $4 million in 2018."]
    assert supports("In 2018, revenue was $4 million.", source)
    assert not supports("Revenue was $4 million in 2019 and $5 million in 2018.", source)
    assert not supports("Revenue was $5 million in 2019 and $5 million in 2018.", source)


# --- direction and sign -------------------------------------------------------------------------------------


def test_one_word_that_turns_is_found_among_others() -> None:
    source = ["Sales rose as higher prices met lower costs."]
    assert supports("Sales increased as higher prices met lower costs.", source)
    for wrong in (
        "fell as higher prices met lower",
        "rose as lower prices met lower",
        "rose as higher prices met higher",
    ):
        assert not supports(f"Sales {wrong} costs.", source)
    assert not supports("Sales fell as lower prices met higher costs.", source)
    assert not supports(
        "Sales cratered as higher prices met lower costs.", source
    )  # a word that is not known


UP, DOWN = (words.split() for words in CHANGE)


@given(st.sampled_from(UP), st.sampled_from(DOWN), st.booleans())
def test_rise_and_fall_are_a_class(up: str, down: str, turned: bool) -> None:
    said, other = (down, up) if turned else (up, down)
    if opposite(said, other):
        assert not supports(f"Its revenue {said} by 5% in 2019.", [f"Its revenue {other} by 5% in 2019."])
    assert supports(f"Its revenue {said} by 5% in 2019.", [f"In 2019, its revenue {said} by 5%."])


OPPOSITES = [
    *(
        ("rose", "plunged"),
        ("gain", "loss"),
        ("profitable", "unprofitable"),
        ("favorably", "unfavorably"),
    ),
    *(("started", "stopped"), ("faster", "slower"), ("borrowed", "repaid"), ("hired", "dismissed")),
    *(("enhanced", "impaired"), ("suffered", "benefited"), ("shortage", "surplus"), ("required", "optional")),
    *(("inflows", "outflows"), ("above", "below"), ("most", "least"), ("strengthened", "weakened")),
    *(
        ("including", "excluding"),
        ("before", "after"),
        ("acquired", "disposed"),
        ("overstated", "understated"),
    ),
    *(
        ("appreciation", "depreciation"),
        ("improved", "deteriorated"),
        ("maximum", "minimum"),
        ("raised", "cut"),
    ),
    *(
        ("beat", "missed"),
        ("tightened", "loosened"),
        ("tightened", "widened"),
        ("brisk", "sluggish"),
        ("flat", "risen"),
    ),
    *(("surplus", "deficit"), ("tailwinds", "headwinds"), ("net", "gross"), ("exports", "imports")),
]


@pytest.mark.parametrize(
    ("one", "other"), [("loss", "gain"), ("losses", "profits"), ("increase", "decrease")]
)
def test_turned_labels_are_not_supported(one: str, other: str) -> None:
    """`loss (gain)` is not `gain (loss)` where the figure stays, though `losses and gains` are `gains and losses`."""
    assert not supports(
        f"Net {one} ({other}) after tax was $(9.8) million.",
        [f"Net {other} ({one}) after tax was $(9.8) million."],
    )


@pytest.mark.parametrize(
    ("source", "wrong", "right"),
    [
        ("It took a $2.5-million loan.", "It took a $2.5-billion loan.", "It took a $2.5 million loan."),
        ("The unit earned $5 mln then.", "The unit earned $5 bln then.", "The unit earned $5 million then."),
        ("The unit earned $5 m then.", "The unit earned $5 b then.", "The unit earned $5m then."),
        (
            "The unit earned Rs 5 lakh then.",
            "The unit earned Rs 5 crore then.",
            "The unit earned ₹500,000 then.",
        ),
        ("The unit earned SEK 5 then.", "The unit earned $5 then.", "The unit earned 5 SEK then."),
        ("Asian volumes were minus 5% then.", "Asian volumes were 5% then.", "Asian volumes were -5% then."),
        (
            "Asian volumes were 5% then.",
            "Asian volumes were negative 5% then.",
            "Then Asian volumes were 5%.",
        ),
        (
            "Two customers gave 10% of it.",
            "One customer gave 10% of it.",
            "Two customers gave 10 percent of it.",
        ),
        ("Three quarters came from Asia.", "One quarter came from Asia.", "From Asia came three quarters."),
        (
            "Sales were unchanged at $5 million.",
            "Sales rose to $5 million.",
            "Then sales were unchanged at $5 million.",
        ),
        ("Acme acquired Beta in 2019.", "Beta acquired Acme in 2019.", "In 2019 Acme acquired Beta."),
        (
            "Acme Corp sold the plant to Beta Inc.",
            "Beta Inc sold the plant to Acme Corp.",
            "Acme Corp sold the plant.",
        ),
        (
            "It has Acme and Beta as clients.",
            "It has Acme and Gamma as clients.",
            "It has Beta and Acme as clients.",
        ),
    ],
)
def test_what_stands_with_a_figure_or_a_name_is_a_fact(source: str, wrong: str, right: str) -> None:
    assert not supports(wrong, [source])
    assert supports(right, [source])


@pytest.mark.parametrize(("one", "other"), OPPOSITES)
def test_other_opposites_of_finance(one: str, other: str) -> None:
    sentence = "The {} amount of the segment was $5 million in fiscal 2019."
    assert opposite(one, other)
    assert opposite(other, one)
    assert not supports(sentence.format(one), [sentence.format(other)])
    assert not supports(sentence.format(other), [sentence.format(one)])
    assert supports(sentence.format(one), [sentence.format(one)])


@pytest.mark.parametrize(
    ("claim", "source"),
    [
        ("Revenue grew 5% in 2019.", "In 2019 costs fell while revenue increased 5%."),
        ("Costs fell in 2019.", "In 2019 costs fell while revenue increased 5%."),
        ("The loss increased to $5 million.", "The net loss rose to $5 million."),
        (
            "Higher prices raised margins.",
            "Margins increased owing to higher prices, although volumes declined.",
        ),
        ("A decline in costs lifted profit.", "Profit rose as costs declined."),
        ("Actuarial losses and gains are deferred.", "Actuarial gains and losses are deferred."),
    ],
)
def test_right_in_other_words(claim: str, source: str) -> None:
    assert supports(claim, [source])


@pytest.mark.parametrize(
    ("claim", "source", "expected"),
    [
        ("Costs rose.", "Costs did not rise.", True),
        ("Costs did not rise.", "Costs rose.", True),
        ("$5 million", "The $5 million was not yet recognized.", False),
        ("Costs rose in 2019.", "Costs rose in 2019, and no dividend was paid.", False),
        ("A dividend was paid.", "Costs rose in 2019, and no dividend was paid.", True),
    ],
)
def test_a_denial_is_of_what_follows_it(claim: str, source: str, expected: bool) -> None:
    assert opposed(claim, source) == expected


@given(
    st.text() | st.lists(st.sampled_from([*OWN, "not", "5", "(", "[1]", "U.S.", "-"])).map(" ".join),
    st.text(),
)
def test_no_text_raises(text: str, other: str) -> None:
    for claim, passage in ((text, other), (other, text), (text, text)):
        assert supports(claim, [passage]) in (True, False)
        opposed(claim, passage)
    assert all(isinstance(one, Found) and one.shown for one in read(text)[0])
    assert amounts(text) == [one.amount for one in read(text)[0]]


@pytest.mark.parametrize("subject", ["Zorblax", "Birch Rail", "Rail", "Costs of Birch"])
def test_another_subject_is_not_supported(subject: str) -> None:
    """A first word has a capital anyway: it is compared with the first word of what is said."""
    said = "Marlow Foods reported capital expenditure of $590 million in 2020. Birch Rail is a customer."
    assert not supports(f"{subject} reported capital expenditure of $590 million in 2020 [1].", [said])
    for same in ("Marlow", "The company", "It", "In 2020, Marlow Foods", "Total of Marlow:", "In 2020 it"):
        assert supports(f"{same} reported capital expenditure of $590 million [1].", [said])


def test_a_name_is_not_exchanged_for_another_of_the_passage() -> None:
    said = ["The board of Acme approved the sale of Birch in full. Elgin Paper is a customer of Acme."]
    assert supports("The board of Acme approved the sale of Birch.", said)
    assert supports("The board of Acme approved the sale in full.", said)  # a name left out
    assert not supports("The board of Elgin approved the sale of Birch in full.", said)
    assert not supports("The board of Acme approved the sale of Elgin in full.", said)
