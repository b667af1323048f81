"""Summaries of calls: seeded rows, gold that scores 1, flaws and copies that do not, splits without a common name."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from tieout.errors import InputError
from tieout.rewards.library.summary import quiz, quiz_score
from tieout.rewards.scoring.runner import score
from tieout.rewards.text.amounts import amounts
from tieout.rewards.text.sentences import ngrams, sentences, words
from tieout.tasks import load_task, rag, summaries
from tieout.tasks.summaries import SIZES, copied_share, corrupt, make
from tieout.types import Row

TASK = load_task("summaries")


def test_gold_scores_one_and_every_flaw_less() -> None:
    rng = random.Random(0)
    assert TASK.reward is not None
    for row in [*TASK.rows("test")[:25], *TASK.rows("ood")[:15]]:
        outcomes = score(
            TASK.reward, [row["reference"], corrupt(row, rng), row["document"], ""], ["?"] * 4, row
        )
        assert outcomes[0].score == 1.0
        assert (outcomes[1].score or 0.0) < 0.9
        assert (outcomes[2].score or 0.0) < 0.05
        assert outcomes[3].score == 0.0


def test_the_quiz_alone_pays_for_sentences_that_are_copied() -> None:
    rows = TASK.rows("test")[:50]
    references = [row["reference"] for row in rows]
    documents = [row["document"] for row in rows]
    copies = [" ".join(s for s in sentences(document) if amounts(s)) for document in documents]
    paid = [score or 0.0 for score in quiz_score(copies, references)]
    assert sum(paid) / len(paid) > 0.85
    assert min(share or 0.0 for share in copied_share(copies, documents)) > 0.8
    assert max(share or 0.0 for share in copied_share(references, documents)) == 0.0


def test_every_answer_stands_in_the_call() -> None:
    for row in [*TASK.rows("calibration"), *TASK.rows("ood")]:
        questions = quiz(row["reference"])
        assert len(questions) >= 4
        assert all(item["answer"] in row["document"] for item in questions)


def test_demonstrations_have_the_share_of_quotes_that_is_asked_for() -> None:
    def shares(quoted: float) -> list[float | None]:
        rows = make(sizes={"train": 60}, quoted=quoted).rows("train")
        return copied_share([row["completion"] for row in rows], [row["document"] for row in rows])

    assert max(share or 0.0 for share in shares(0.0)) < 0.3  # short facts are said as they are written
    assert min(share or 0.0 for share in shares(1.0)) > 0.8


def test_calls_are_as_long_as_asked_for_and_no_two_are_alike() -> None:
    for asked in (110, 2500):
        rows = make(sizes={"train": 0, "calibration": 0, "test": 8, "ood": 0}, words=asked).rows("test")
        lengths = [len(words(row["document"])) for row in rows]
        assert all(0.8 * asked < length < 1.35 * asked + 10 for length in lengths), lengths
    documents = [row["document"] for row in TASK.rows("train")[:1000]]
    assert len(set(documents)) == 1000
    runs = [run for document in documents[:200] for run in ngrams(words(document), 4)]
    assert len(set(runs)) > 0.45 * len(runs)


@pytest.mark.parametrize("of", [lambda row: [row["company"].split()[0]], lambda row: surnames(row)])
def test_splits_share_no_company_and_no_surname(of: Callable[[Row], Sequence[str]]) -> None:
    seen = [{name for row in TASK.rows(split)[:400] for name in of(row)} for split in SIZES]
    for i, one in enumerate(seen):
        assert one
        assert all(one.isdisjoint(other) for other in seen[:i])


def surnames(row: Row) -> list[str]:
    speakers = [line.split(":")[0].split(",")[0] for line in row["document"].split("\n")[1:]]
    return [speaker.split()[-1] for speaker in speakers]


def test_rows_follow_from_the_seed() -> None:
    assert list(make(1, {"test": 5}).rows("test")) == list(make(1, {"test": 5}).rows("test"))
    assert make(1, {"test": 5}).rows("test") != make(2, {"test": 5}).rows("test")
    assert [len(TASK.rows(split)) for split in SIZES] == list(SIZES.values())


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="no split extra"):
        make(0, {"extra": 1})
    with pytest.raises(InputError, match="words is 20; expected 100 to 5000"):
        make(words=20)
    with pytest.raises(InputError, match=r"quoted is 1\.5; expected 0 to 1"):
        make(quoted=1.5)


def test_the_docstrings_show_real_rows() -> None:
    for module, index, answer in ((rag, 3, "completion"), (summaries, 0, "reference")):
        row = module.make().rows("test")[index]
        shown = " ".join((module.__doc__ or "").split())
        assert " ".join(row["prompt"][1]["content"].split()) in shown
        assert row[answer] in shown
