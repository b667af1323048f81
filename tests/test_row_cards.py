"""The card of rows: counts, lengths, distinct 4-grams and near neighbours of rows where each is known."""

from __future__ import annotations

import pytest

from tieout.pipelines.doctor.data import data_findings
from tieout.rows.card import COMPARED, Card, cards, shared_entities
from tieout.tasks import Task
from tieout.types import Row


def row(words: str, completion: str | None = "yes", company: str = "A") -> Row:
    prompt = [{"role": "system", "content": "The same in all rows."}, {"role": "user", "content": words}]
    return {"prompt": prompt, "completion": completion, "company": company}


TRAIN = [row("a b c d e f"), row("a b c d e g", "no, not now", "B"), row("h i j", None, "B"), row("h i j")]
TEST = [row("a b c d e f", "yes", "C"), row("p q r s t u", "no", "B")]


def test_counts_lengths_and_grams() -> None:
    train, test = cards({"train": TRAIN, "test": TEST, "ood": []}, entity="company")
    assert (train.split, train.rows, train.entities) == ("train", 4, 2)
    prompts, completions = train.prompts, train.completions
    assert (prompts.distinct, prompts.median, prompts.longest) == (3, 3, 6)
    assert prompts.distinct_grams == 5 / 8  # 3, 1 and 1 new ones of 3, 3, 1 and 1
    assert completions is not None
    assert (completions.distinct, completions.median, completions.longest) == (2, 1, 3)
    assert (test.rows, test.entities, test.prompts.distinct_grams) == (2, 2, 1.0)
    (only,) = cards({"test": [{"prompt": "a", "label": 3}]}, gold=lambda row: None)
    assert (only.entities, only.completions, only.near) == (None, None, 0.0)


def test_a_neighbour_shares_half_of_the_grams_and_is_another_row() -> None:
    near = {card.split: card.near for card in cards({"train": TRAIN, "test": TEST})}
    assert near == {
        "train": 1.0,
        "test": 0.5,
    }  # two of three grams are in both of four; `h i j` is there twice
    train = [row("a b c d e f"), row("a b c d x y"), row("p q r s")]
    assert cards({"train": train})[0].near == 0.0


def test_long_prompts_are_compared_by_a_part_of_their_grams() -> None:
    long = [f"w{i}" for i in range(30 * COMPARED)]
    changed = [*long[: 25 * COMPARED], *(f"v{i}" for i in range(5 * COMPARED))]
    other = [*long[: 10 * COMPARED], *(f"v{i}" for i in range(20 * COMPARED))]
    test = [row(" ".join(words)) for words in (changed, other)]
    (card,) = (c for c in cards({"train": [row(" ".join(long))], "test": test}) if c.split == "test")
    assert card.near == 0.5  # five sixths of one are shared, a third of the other


def test_the_doctor_says_what_is_there_twice() -> None:
    splits = {"train": TRAIN, "test": [*TEST, TEST[0]]}
    task = Task("mine", lambda split: splits.get(split, []), entity="company")
    train, test, entities = data_findings(task)
    assert "train: 4 rows of 2 entities ('company'), 3 distinct prompts of 3 words, at most 6" in train.said
    assert (train.verdict, test.verdict, entities.verdict) == ("pass", "warn", "warn")
    assert entities.said == "entities ('company') in two splits: 1 in train and test, as 'B'"
    assert shared_entities({"train": TRAIN, "test": TEST[:1]}, "company") == {}


@pytest.mark.parametrize("rows", [[], [{"prompt": "", "completion": ""}]])
def test_rows_without_words(rows: list[Row]) -> None:
    found: list[Card] = cards({"train": rows})
    assert [card.prompts.longest for card in found] == [0] * len(rows)
