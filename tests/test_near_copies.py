"""Pairs that are there twice: the join misses nothing, and questions on other figures are other questions."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.rows.near_copies import PairText, find_copies, jaccard, join

LETTERS = st.frozensets(st.sampled_from("abcdefghij"), min_size=1)


@settings(max_examples=200)
@given(st.lists(LETTERS, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_join_finds_what_comparing_every_two_sets_finds(sets: list[frozenset[str]], least: float) -> None:
    found = sorted(tuple(sorted(pair)) for pair in join(sets, least))
    every = [(i, j) for i, j in combinations(range(len(sets)), 2) if jaccard(sets[i], sets[j]) >= least]
    assert found == every


def pair(prompt: str, chosen: str, rejected: str) -> PairText:
    return PairText({"prompt": prompt, "chosen": chosen, "rejected": rejected})


LONG = "Revenue of the group rose in the third quarter because the new stores in the north opened early"
WHY = "Because the stores opened early, which the report names as the main reason for the rise of revenue."
OTHER = "The report says nothing about why revenue rose, so nobody could know, and it would be wrong to guess here."


def test_copies_near_copies_and_contradictions_are_named_with_the_first_one() -> None:
    pairs = [
        pair(LONG + "?", WHY, OTHER),
        pair("Another question entirely.", "yes", "no"),
        pair(LONG.upper() + " ?!", WHY, OTHER),  # the same words
        pair(LONG + " here?", WHY + " Yes.", OTHER),
        pair(LONG + "?", OTHER, WHY),
        pair("Another question entirely.", "no", "yes"),
    ]
    found = find_copies(pairs)
    assert found.exact == [(2, 0)]
    assert found.near == [(3, 0)]
    assert found.reversed == [(4, 0), (5, 1)]


def test_other_figures_or_another_completion_make_another_pair() -> None:
    base = (f"In 2021 {LONG}: 1,234?", WHY, OTHER)
    pairs = [
        pair(*base),
        pair(base[0].replace("1,234", "1,235"), *base[1:]),
        pair(base[0], OTHER, "Nobody could say."),
        pair(base[0], WHY, "Nobody could say."),  # a second pair of one prompt
    ]
    found = find_copies(pairs)
    assert (found.exact, found.near, found.reversed) == ([], [], [])


def test_a_template_that_all_prompts_share_makes_no_copies() -> None:
    pairs = [
        pair(f"{LONG}. {LONG.lower()}. Which of them is {chr(97 + i) * 5}?", "yes", "no") for i in range(26)
    ]
    assert jaccard(pairs[0].runs[0], pairs[1].runs[0]) > 0.8
    assert find_copies(pairs).near == []
