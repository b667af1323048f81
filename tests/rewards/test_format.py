"""Rewards for form: bounded, blind to what they say they are blind to, and not to be farmed."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieout.rewards.library.format
import tieout.rewards.text.repetition
import tieout.rewards.text.scripts
from tieout.rewards.library.format import language, length, overlong, repetition, tags

TEXT = st.text() | st.text("ab <>/think answer\n.", max_size=80)
WORDS = st.lists(st.sampled_from(["revenue", "cost", "rose", "margin", "cash"]), max_size=60)
ENGLISH = "The revenue of the company rose in the year and the cost of it fell."
GERMAN = "Der Umsatz der Firma ist im Jahr gestiegen und die Kosten sind nicht gefallen."


def test_the_examples_run() -> None:
    for module in (
        tieout.rewards.library.format,
        tieout.rewards.text.repetition,
        tieout.rewards.text.scripts,
    ):
        assert doctest.testmod(module).failed == 0


@given(TEXT)
def test_every_text_has_a_score_in_range(text: str) -> None:
    assert tags([text]) in ([0.0], [1.0])
    for reward in (length, repetition, overlong):
        (value,) = reward([text])
        assert value is not None
        assert -1 <= value <= 0
    (share,) = language([text])
    assert share is None or 0 <= share <= 1


@given(st.text("abc 1.\n", min_size=1), st.text("abc 1.\n", min_size=1))
def test_tags_are_kept_exactly_when_both_hold_words(think: str, answer: str) -> None:
    text = f"<think>{think}</think>\n<answer>{answer}</answer>"
    full = all(any(c.isalnum() for c in part) for part in (think, answer))
    assert tags([text]) == [float(full)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<think></think><answer></answer>",
        "<think> </think><answer>...</answer>",
        "<think>a</think><answer>b",
        "<answer>b</answer><think>a</think>",
        "<think>a</think><answer>b</answer><answer>c</answer>",
        "<think>a<think>b</think></think><answer>c</answer>",
        "<think>a</think>b<answer>c</answer>",
        "<think>a <answer>b</answer></think><answer>c</answer>",
        "<THINK>a</THINK><ANSWER>b</ANSWER>",
        "<think>a</think><answer>b</answer >and more<answer>",
        "Sure! <think>a</think><answer>b</answer>",
    ],
)
def test_farmed_tags_earn_nothing(text: str) -> None:
    assert tags([text]) == [0.0]


def test_language_by_script_and_by_common_words() -> None:
    assert language([ENGLISH, GERMAN, "Выручка выросла", "..", ""]) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert language(["42", "$1,111.5", "42 apples", "٤٢"]) == [None, None, 1.0, None]
    assert language([ENGLISH, GERMAN], language=["de", "de"]) == [0.0, 1.0]
    assert language(["売上高は増えた", "收入增长", "Revenue rose"], language="ja") == [1.0, 0.0, 0.0]
    assert language(["收入增长", ENGLISH], language=["zh", None]) == [1.0, None]
    (mixed,) = language([f"{ENGLISH} Выручка выросла"])
    assert mixed is not None
    assert 0.5 < mixed < 1


@given(WORDS, st.integers(1, 20), st.integers(1, 20))
def test_length_is_free_inside_and_falls_outside(words: list[str], low: int, more: int) -> None:
    high = low + more
    (value,) = length([" ".join(words)], min_words=low, max_words=high)
    assert value is not None
    assert (value == 0) == (low <= len(words) <= high)
    (longer,) = length([" ".join([*words, *["cash"] * (2 * high)])], min_words=low, max_words=high)
    assert longer == -1.0
    assert length([""], min_words=low, max_words=high) == [-1.0]
    assert length(["x" * 16 * (high * 2 + 1)], min_words=low, max_words=high) == [
        -1.0
    ]  # no spaces, no shorter


@given(st.integers(8, 60), st.integers(2, 6))
def test_repeating_a_text_never_helps(count: int, times: int) -> None:
    text = " ".join(f"word{i}" for i in range(count))
    (often,) = repetition([" ".join([text] * times)])
    assert repetition([text]) == [0.0]
    assert often is not None
    assert often <= -0.3 * (1 - 1 / times)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 1500))
def test_overlong_is_flat_then_a_line_then_flat(buffer: int, more: int, size: int) -> None:
    limit = buffer + more
    (value,) = overlong(["x"], [[0] * size], max_tokens=limit, buffer_tokens=buffer)
    assert value is not None
    if size <= limit - buffer:
        assert value == 0
    elif size >= limit:
        assert value == -1
    else:
        (next_value,) = overlong(["x"], [[0] * (size + 1)], max_tokens=limit, buffer_tokens=buffer)
        assert next_value is not None
        assert value - next_value == pytest.approx(1 / buffer)


def test_options_that_mean_nothing_are_errors() -> None:
    for call in (
        lambda: length(["a"], max_words=0),
        lambda: length(["a"], min_words=5, max_words=2),
        lambda: overlong(["a"], max_tokens=5, buffer_tokens=6),
        lambda: repetition(["a"], ngram_size=0),
        lambda: length(["a", "b"], max_words=[1]),
    ):
        with pytest.raises(ValueError, match=r"expected|must be|has 1 values"):
            call()


@pytest.mark.parametrize(
    "text",
    [
        "Revenue per share",
        "I do",
        "per diem",
        "pro rata",
        "de facto",
        "the El Paso plant",
        "Los Angeles",
        "also die",
        "As per",
    ],
)
def test_loanwords_and_names_are_no_other_language(text: str) -> None:
    assert language([text]) == [1.0]


SHORT = {
    "de": ["die Katze schläft", "der Umsatz stieg", "Die Antwort ist fünf.", "Das ist gut"],
    "en": ["the cat", "It rose by 5%", "we expect more", "is it so?"],
    "es": ["la casa blanca", "La respuesta es cinco.", "beneficio por acción"],
    "fr": ["le chat dort", "C'est bon", "La réponse est cinq.", "Chiffre d’affaires"],
    "it": ["il gatto dorme", "La risposta è cinque.", "l'utile della società"],
    "nl": ["Het antwoord is vijf.", "Het is goed", "de omzet steeg"],
    "pt": ["A resposta é cinco.", "lucro por ação", "o que foi dito"],
}


@pytest.mark.parametrize("own", SHORT)
def test_short_pieces_are_of_one_language(own: str) -> None:
    assert language(SHORT[own], own) == [1.0] * len(SHORT[own])
    if own != "en":
        assert language(SHORT[own], "en") == [0.0] * len(SHORT[own])
        assert language(SHORT["en"], own) == [0.0] * len(SHORT["en"])


def test_prose_without_a_common_word_is_of_another_language() -> None:
    indonesian = "semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama"
    english = ["def f(x): return x\n" * 9, "mouse, keyboard, printer, screen " * 3, "Setiap orang"]
    assert language([indonesian, *english]) == [0.0, 1.0, 1.0, 1.0]


def test_texts_of_other_languages_are_found() -> None:
    texts = [
        "Das ist nicht gut",
        "Il gatto è nella casa e non mangia",
        "C'est la vie et les jours",
        "Het is niet van mij",
    ]
    assert language(texts) == [0.0] * 4
