"""Answer a question over a table and its text with one figure: TAT-QA, ConvFinQA, or any file in their formats.

One row of TAT-QA's development set:

    id          c72f2f6d-3d88-406d-a482-0736ae4846b0
    document    aea0cfae-19e9-4aec-a577-de0230696ce0
    prompt      system: the SYSTEM of this file
                user: the table, the paragraphs that bear on the question (here none), the question:

                 | 31 March 2019 | 31 March 2018
                 | $M | $M
                Americas | 273.6 | 288.2
                EMEA | 413.0 | 434.2
                APJ | 98.7 | 103.6
                 | 785.3 | 826.0

                What was the change in the amount in APJ in 2019 from 2018?

    completion  -4.9 million
    answer      -4.9
    scale       million

Rows are the questions that one figure answers: arithmetic, and spans that are a figure and not a year; 1,061
of the 1,668. Paragraphs are those that the data set marks as relevant, so results do not compare with its
leaderboard; in 41 rows nothing in the prompt says the scale. Nothing is cut: a row whose prompt is too long
is left out, as a question without its evidence has no answer.

Splits are by document (a table with its text), by a hash of its id, so that adding documents moves none. The
file does not say which report a document is from: two splits may have documents of the same report.

A file of pages with `pre_text` is ConvFinQA's or FinQA's: `tieout.tasks.convfinqa` says how it is read. Its splits are
by company.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards.library.numeric import figure, numeric, readable
from ..types import Row
from . import Task, convfinqa
from .splits import from_lists
from .variants import asked_in, asking, instructed

SYSTEM = (
    "Answer with the figure alone. State its scale or per cent sign, "
    "as in: -12.6 million; (5,062) thousand; $1.3 billion; 4.55%."
)

SPLITS: Mapping[str, float] = {"train": 0.6, "calibration": 0.1, "test": 0.3}
"""Split -> share of the documents."""

_log = logging.getLogger("tieout")
YEAR = re.compile(r"(?:19|20)[0-9]{2}")


def load(path: str | Path, *, max_prompt_chars: int | None = None) -> Task:
    """The task over a JSON file: TAT-QA's list of documents (`table`, `paragraphs`, `questions`), or ConvFinQA's or
    FinQA's of pages (`pre_text`, `table`, `post_text`, and `annotation` or `qa`). Which it is, is told by the first.

    Args:
        path: The file.
        max_prompt_chars: Leave out questions whose messages together are longer; None: keep all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not in this format, or no question is left.
    """
    rows: dict[str, list[Row]] = {split: [] for split in (*SPLITS, "ood")}
    documents = _documents(Path(path))
    if convfinqa.is_convfinqa(documents):
        asked, left_out = convfinqa.read(documents, str(path))
    else:
        asked, left_out = list(_tatqa(documents, path)), Counter[str]()
    for row in asked:
        if max_prompt_chars is None or _chars(row) <= max_prompt_chars:
            rows[split_of(row.get("company", row["document"]))].append(row)
        else:
            left_out["too long"] += 1
    told = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
    if not any(rows.values()):
        raise InputError(
            f"{path}: no question that one figure answers, max_prompt_chars={max_prompt_chars}"
            + (f"; left out: {told}" if told else "")
        )
    if told:
        _log.warning("numeric_qa: rows left out of %s: %s", path, told)

    return Task(
        name="numeric_qa",
        rows=from_lists("numeric_qa", rows),
        reward=numeric,
        metrics={"readable": readable},
        gold=lambda row: str(row["completion"]),
        corrupt=corrupt,
        variants={"order": _question_first, "formatting": _tabbed, "paraphrase": _reworded},
        max_new_tokens=48,
        entity="document",
    )


def split_of(document: str) -> str:
    """The split that a document is in, by its id.

    >>> split_of("3ffd9053-a45d-491c-957a-1b2fa0af0570")
    'train'
    """
    place = int(hashlib.sha256(document.encode()).hexdigest(), 16) / 2**256
    ends = zip(SPLITS, accumulate(SPLITS.values()), strict=True)
    return next((split for split, end in ends if place < end), "test")


def corrupt(row: Row, rng: random.Random) -> str:
    """Gold with one flaw, so that it scores 0: another digit, the other sign, its scale left out or another."""
    gold, answer = row["completion"], row["answer"]
    place = rng.choice([i for i, character in enumerate(gold) if character in "0123456789"])
    digit = rng.choice([digit for digit in "123456789" if digit != gold[place]])
    signless = gold.translate(str.maketrans("", "", "-−()"))
    flawed = [
        gold[:place] + digit + gold[place + 1 :],
        signless if signless != gold else f"-{gold}",
        answer,
        *(_complete(answer, scale) for scale in ("thousand", "million", "percent")),
    ]
    columns = ("answer", "scale", "unit", "tolerance")
    scores = numeric(flawed, **{name: [row.get(name)] * len(flawed) for name in columns})
    return rng.choice([text for text, score in zip(flawed, scores, strict=True) if score == 0])


# --- variants -----------------------------------------------------------------------------------------------

WORDINGS = (
    "Reply with nothing but the figure, and say its scale or that it is a percentage, for example: -12.6 million; "
    "(5,062) thousand; $1.3 billion; 4.55%.",
    "Give one figure and no other text. Where it has a scale or a per cent sign, write that too, like -12.6 million, "
    "(5,062) thousand, $1.3 billion or 4.55%.",
)


def _question_first(row: Row, rng: random.Random) -> Row | None:
    """The question above the table and its text."""
    source, between, question = (asked_in(row) or "").rpartition("\n\n")
    return asking(row, f"{question}\n\n{source}") if between else None


def _tabbed(row: Row, rng: random.Random) -> Row | None:
    """Cells of the table between tabs."""
    said = asked_in(row) or ""
    return asking(row, said.replace(" | ", "\t")) if " | " in said else None


def _reworded(row: Row, rng: random.Random) -> Row | None:
    if row["prompt"][0].get("content") == convfinqa.SYSTEM:
        return instructed(row, rng, convfinqa.SYSTEM, convfinqa.WORDINGS)
    return instructed(row, rng, SYSTEM, WORDINGS)


# --- the file -----------------------------------------------------------------------------------------------


def _documents(path: Path) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}; expected TAT-QA's JSON (github.com/NExTplusplus/TAT-QA) or ConvFinQA's "
            "(github.com/czyssrs/ConvFinQA)"
        )
    try:
        documents = json.loads(path.read_text("utf-8"), parse_float=Decimal)  # a float might print otherwise
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not JSON in UTF-8: {error}") from error
    if not isinstance(documents, list):
        raise InputError(
            f"{path} holds a {type(documents).__name__}; expected TAT-QA's list of documents, or ConvFinQA's of pages"
        )
    return documents


def _tatqa(documents: list[Any], path: str | Path) -> Iterator[Row]:
    for number, document in enumerate(documents, 1):
        try:
            yield from _rows(document)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: document {number} is not in TAT-QA's format: {error!r}") from error


def _rows(document: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each question of the document that one figure answers."""
    table = "\n".join(
        " | ".join(" ".join(cell.split()) for cell in row) for row in document["table"]["table"]
    )
    paragraphs = {str(paragraph["order"]): paragraph["text"] for paragraph in document["paragraphs"]}
    for question in document["questions"]:
        answer = _answer(question)
        if answer is None:
            continue
        relevant = [paragraphs[order] for order in question["rel_paragraphs"]]
        yield {
            "id": question["uid"],
            "document": document["table"]["uid"],
            "prompt": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": "\n\n".join([table, *relevant, question["question"].strip()])},
            ],
            "completion": _complete(answer, question["scale"]),
            "answer": answer,
            "scale": question["scale"],
        }


def _answer(question: Mapping[str, Any]) -> str | None:
    """Gold as it is printed, without its scale; None if it is not one figure, or is a year."""
    gold = question["answer"]
    if question["answer_type"] == "span" and len(gold) == 1 and not YEAR.fullmatch(gold[0]):
        answer = str(gold[0])
    elif question["answer_type"] == "arithmetic":
        answer = str(gold)
    else:
        return None
    return answer if figure(_complete(answer, question["scale"]), footnotes=False) else None


def _complete(answer: str, scale: str) -> str:
    """Gold as a completion: `-22.22%`, `$1,496.5 million`."""
    return answer + ("%" if scale == "percent" else f" {scale}" if scale else "")


def _chars(row: Row) -> int:
    return sum(len(message["content"]) for message in row["prompt"])
