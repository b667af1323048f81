"""Compare the rewards of `rag` with what people marked in TAT-QA, and what programs without a model get.

    python benchmarks/rag_labels.py tatqa_dataset_dev.json

Annotators named, for each question, the paragraphs that answer it. For every paragraph of the question's document that
could be cited, does `citation_accuracy` of `ANSWER [1].` say the same? It is not given the label. A paragraph that has
the words of the answer by chance counts against it, and so does an answer that is written otherwise in the text.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from tieout.rewards.library.rag import answered, citation_accuracy, rag, refused, right
from tieout.rewards.text.sentences import content, sentences
from tieout.tasks import load_task
from tieout.types import Row

UNKNOWN = "I do not know."


def labels(path: Path) -> list[tuple[bool, bool]]:
    """(marked by people, paid by the reward) of every paragraph, for each question that is answered in the text."""
    found = []
    for document in json.loads(path.read_text("utf-8")):
        for asked in document["questions"]:
            if asked["answer_type"] != "span" or asked["answer_from"] != "text":
                continue
            said = f"{asked['answer'][0].strip().rstrip('.')} [1]."
            for paragraph in document["paragraphs"]:
                (score,) = citation_accuracy([said], [[paragraph["text"]]])
                found.append((str(paragraph["order"]) in asked["rel_paragraphs"], score == 1.0))
    return found


def nearest(row: Row) -> tuple[float, str, int]:
    """(share of the question's words that it has, the sentence of the passages that has most, its passage)."""
    asked = content(row["question"])
    each = [
        (sum((asked & content(said)).values()) / max(1, asked.total()), said, place)
        for place, passage in enumerate(row["context"], 1)
        for said in sentences(passage)
    ]
    return max(each, key=lambda one: (one[0], -len(one[1])))


def extract(row: Row, least: float) -> str:
    """The sentence that has most words of the question, cited; or unknown if it has less than this share of them."""
    share, said, place = nearest(row)
    return UNKNOWN if share < least else f"{said.rstrip('.')} [{place}]."


def programs(train: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Name -> a program that answers a row; the last has its threshold from the training rows."""
    best = max(
        (at / 20 for at in range(21)), key=lambda at: fmean(_right(row, extract(row, at)) for row in train)
    )
    rng = random.Random(0)
    return {
        "always I do not know": lambda row: UNKNOWN,
        "the first passage, cited": lambda row: f"{row['context'][0].rstrip('.')} [1].",
        "a passage by chance, cited": lambda row: (
            lambda place: f"{row['context'][place].rstrip('.')} [{place + 1}]."
        )(rng.randrange(len(row["context"]))),
        "the nearest sentence, cited": lambda row: extract(row, 0.0),
        f"the same, unknown below {best:.2f} of the words": lambda row: extract(row, best),
    }


def _right(row: Row, said: str) -> float:
    (score,) = right([said], [row["question"]], [row["context"]], [row["answer"]])
    return score or 0.0


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path, help="tatqa_dataset_dev.json of github.com/NExTplusplus/TAT-QA")
    parser.add_argument("--max-prompt-chars", type=int, default=1600)
    given = parser.parse_args()
    pairs = labels(given.path)
    for marked, name in ((True, "marked by people, paid"), (False, "not marked, not paid")):
        of = [paid == marked for label, paid in pairs if label == marked]
        print(f"{name}: {sum(of)} of {len(of)}")
    task = load_task("rag", {"path": given.path, "max_prompt_chars": given.max_prompt_chars})
    for split in ("train", "test"):
        rows = task.rows(split)
        known = [row for row in rows if row["answer"]]
        print(
            f"{split}: {len(rows)} rows, {len(known)} with the answer, {len({r['document'] for r in rows})} documents"
        )
    test = task.rows("test")
    for name, program in programs(task.rows("train")).items():
        said = [program(row) for row in test]
        columns = [test_column(test, key) for key in ("question", "context", "answer")]
        question, context, answer = columns
        means = [
            fmean(score for score in scores if score is not None)
            for scores in (
                rag(said, question, context, answer),
                right(said, question, context, answer),
                answered(said, question, context, answer),
                refused(said, answer, question),
            )
        ]
        print(f"{name}: " + ", ".join(f"{mean:.3f}" for mean in means))


def test_column(rows: Sequence[Row], key: str) -> list[object]:
    """A column of rows."""
    return [row[key] for row in rows]


if __name__ == "__main__":
    main()
