"""`rag` over documents: what BM25 finds, what is withheld, splits by document, and refusals."""

from __future__ import annotations

import doctest
import json
import random
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from tieout.errors import InputError
from tieout.rewards.scoring.runner import score
from tieout.tasks import Task, load_task, passages, rag_retrieved
from tieout.tasks.passages import Document, Passage, cut, same_source
from tieout.tasks.rag import UNKNOWN, corrupt
from tieout.tasks.rag_retrieved import SPLITS, ranking

LEASE = """The lease of the Leeds depot ends on 31 March 2027. It may be renewed twice.

The rent of the Leeds depot is $40,000 a year. The rent is paid every quarter.

The depot has a roof of slate. The tenant repairs the roof.

Notices are sent to the landlord by post."""
ASKED = {
    "question": "When does the lease of the Leeds depot end?",
    "answer": "31 March 2027",
    "document": "lease",
}


def test_the_examples_run() -> None:
    assert doctest.testmod(passages).failed == doctest.testmod(rag_retrieved).failed == 0


def folder(at: Path, questions: Sequence[Mapping[str, object]], **documents: str) -> Path:
    for name, text in documents.items():
        (at / f"{name}.txt").write_text(text)
    (at / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in questions))
    return at


def all_rows(task: Task) -> list[Mapping[str, object]]:
    return [row for split in SPLITS for row in task.rows(split)]


def test_a_question_is_asked_with_the_passage_that_answers_and_without_it(tmp_path: Path) -> None:
    task = load_task("rag", {"path": str(folder(tmp_path, [ASKED], lease=LEASE)), "top_k": 2})
    found, withheld = all_rows(task)
    assert found["answer"] == "31 March 2027"
    assert withheld["answer"] == ""
    assert withheld["completion"] == UNKNOWN
    assert "ends on 31 March 2027" in str(found["context"])
    assert "2027" not in str(withheld["context"])
    assert len(found["context"]) == len(withheld["context"]) == 2  # type: ignore[arg-type]
    cited = int(str(found["completion"]).split("[")[1][0])
    assert "31 March 2027" in found["context"][cited - 1]  # type: ignore[index]


def test_a_share_of_the_training_questions_is_asked_without_the_paragraph(tmp_path: Path) -> None:
    named = {
        split: next(f"d{i}" for i in range(99) if rag_retrieved.split_of(f"d{i}") == split)
        for split in SPLITS
    }
    # Each document in other words: those that share a paragraph would be in one split.
    texts = {
        name: LEASE.replace("Leeds", f"{name} Leeds").replace("depot", f"{name} depot")
        for name in named.values()
    }
    texts = {name: text.replace("Notices are", f"Notices of {name} are") for name, text in texts.items()}
    given = folder(tmp_path, [{**ASKED, "document": name} for name in named.values()], **texts)
    for share, expected in ((0.0, [1, 2, 2]), (1.0, [2, 2, 2])):
        task = load_task("rag", {"path": str(given), "withheld": share})
        assert [len(task.rows(split)) for split in SPLITS] == expected
    with pytest.raises(InputError, match="expected a share, 0 to 1"):
        load_task("rag", {"path": str(given), "withheld": 1.5})


def test_gold_is_the_sentence_unless_it_has_another_figure(tmp_path: Path) -> None:
    text = LEASE.replace("$40,000 a year", "$40,000 in 2024, and was $35,000 in 2023")
    asked = [
        ASKED,
        {"question": "What is the rent of the Leeds depot?", "answer": "$40,000", "document": "lease"},
    ]
    rows = all_rows(load_task("rag", {"path": str(folder(tmp_path, asked, lease=text))}))
    golds = [str(row["completion"]).partition(" [")[0] for row in rows if row["answer"]]
    assert golds == ["The lease of the Leeds depot ends on 31 March 2027", "$40,000"]


def test_what_the_document_lacks_is_one_row_and_so_is_what_bm25_misses(tmp_path: Path) -> None:
    lacks = {"question": "Who insures the depot?", "answer": "", "document": "lease"}
    misses = {
        "question": "What is paid for the roof of the depot every quarter?",
        "answer": "by post",
        "document": "lease",
    }
    rows = all_rows(
        load_task("rag", {"path": str(folder(tmp_path, [lacks, misses], lease=LEASE)), "top_k": 2})
    )
    assert [row["answer"] for row in rows] == ["", ""]


def test_paragraphs_in_jsonl_are_the_same_rows(tmp_path: Path) -> None:
    given = folder(tmp_path, [ASKED], lease=LEASE)
    text = list(all_rows(load_task("rag", {"path": str(given)})))
    (given / "lease.txt").unlink()
    lines = [{"document": "lease", "text": paragraph} for paragraph in LEASE.split("\n\n")]
    (given / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert all_rows(load_task("rag", {"path": str(given)})) == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "1 April 2027"}, "row 1: no passage of lease has the answer '1 April 2027'; copy it"),
        ({"document": "leese"}, "row 1: there is no document 'leese'; .* has: lease"),
        ({"question": ""}, "row 1: question is ''; expected text"),
        ({"answer": 2027}, "row 1: answer is 2027; expected text as in the document"),
    ],
)
def test_a_question_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        load_task("rag", {"path": str(folder(tmp_path, [{**ASKED, **change}], lease=LEASE))})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 1}, "top_k is 1; expected 2 or more"),
        ({"passage_chars": 0}, "passage_chars is 0; expected 1 or more"),
        ({"max_prompt_chars": 20}, "no row is left of 1 documents: 2 too long"),
        ({"sizes": {"train": 3}}, "sizes is of the rows that it makes up"),
    ],
)
def test_options_that_cannot_be_right_are_refused(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    given = folder(tmp_path, [ASKED], lease=LEASE)
    with pytest.raises(InputError, match=said):
        load_task("rag", {"path": str(given), **options})


def test_rows_that_are_left_out_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = folder(
        tmp_path, [ASKED, {**ASKED, "question": ASKED["question"] + " " * 3 + "?" * 500}], lease=LEASE
    )
    rows = all_rows(load_task("rag", {"path": str(given), "max_prompt_chars": 600}))
    assert len(rows) == 2
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", f"rag: rows left out of {given}: 2 too long")
    ]


def test_without_path_the_options_of_documents_are_refused() -> None:
    with pytest.raises(InputError, match="top_k needs path"):
        load_task("rag", {"top_k": 5})
    with pytest.raises(InputError, match="task rag: short is of the rows that it makes up"):
        load_task("rag", {"short": True, "path": "documents"})


def test_a_folder_without_questions_or_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder or file .*nothing"):
        load_task("rag", {"path": str(tmp_path / "nothing")})
    with pytest.raises(InputError, match=r"has no questions.jsonl"):
        load_task("rag", {"path": str(tmp_path)})
    with pytest.raises(InputError, match="has no document"):
        load_task("rag", {"path": str(folder(tmp_path, [ASKED]))})


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(InputError, match=r"pip install 'tieout\[rag\]'"):
        ranking(["a passage"])


def test_rare_words_of_the_query_rank_first() -> None:
    ranked = ranking(
        ["the rent is paid", "the roof is slate and the rent is due", "the landlord of the depot"]
    )
    assert ranked("is the rent of slate?")[0] == 1
    assert sorted(ranked("nothing of it")) == [0, 1, 2]


def test_sentences_stay_whole_where_a_paragraph_is_cut() -> None:
    text = "Revenue was $1.2 million. It rose by 3.5% (2019: 2%). " * 5
    for size in (10, 60, 200):
        parts = cut(text, size)
        assert " ".join(parts) == text.strip()
        assert all(part.endswith(".") for part in parts)
    assert len(cut(text, 10)) == 10


def test_documents_that_share_a_paragraph_are_of_one_source() -> None:
    long = "The same paragraph of a report that is given with each of its tables, word for word, again."
    texts = {"c": [long, "x"], "a": ["y"], "b": [long.upper()], "d": ["x"]}
    documents = [Document(name, [Passage(t, "0") for t in said]) for name, said in texts.items()]
    assert same_source(documents) == {"c": "b", "a": "a", "b": "b", "d": "d"}


@pytest.fixture(scope="module")
def tatqa(request: pytest.FixtureRequest) -> Task:
    data = request.getfixturevalue("shared_data")
    return load_task(
        "rag", {"path": str(data / "tatqa" / "tatqa_dataset_dev.json"), "max_prompt_chars": 1600}
    )


def test_real_questions_make_rows_whose_gold_is_paid_and_whose_flaws_are_not(tatqa: Task) -> None:
    rng = random.Random(0)
    rows = tatqa.rows("test")
    assert len(rows) > 200
    for row in rows[:40]:
        assert tatqa.reward is not None
        gold, flawed, empty = score(tatqa.reward, [row["completion"], corrupt(row, rng), ""], ["?"] * 3, row)
        assert gold.score == 1.0
        assert (flawed.score or 0.0) < 1.0
        assert empty.score == 0.0


def test_real_splits_share_no_document_and_no_paragraph(tatqa: Task) -> None:
    for one, other in combinations(SPLITS, 2):
        ours, theirs = tatqa.rows(one), tatqa.rows(other)
        assert not {row["document"] for row in ours} & {row["document"] for row in theirs}
        texts = [
            {text for row in rows for text in row["context"] if len(text) > 100} for rows in (ours, theirs)
        ]
        assert not texts[0] & texts[1]
