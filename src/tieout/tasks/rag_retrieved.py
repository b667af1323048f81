"""Rows of `rag` over documents of one's own: passages found by BM25, with and without the one that answers.

A question makes two rows: with the passages that BM25 finds in its document, and with what it finds once the paragraph
that answers is withheld; `withheld` says of which share of the training questions. Both have as many passages, in an
order drawn by seed, so that neither their number nor a place says which of the two it is. Where BM25 misses the
paragraph, the question makes one row, which cannot be answered. Splits are by document, by a hash of its name;
documents that share a paragraph are in one.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ..errors import InputError
from ..rewards.library.rag import answered, rag
from ..rewards.text.claims import cited
from ..rewards.text.sentences import sentences
from ..types import Row
from .passages import Document, Passage, Question, has, read_documents, same_source
from .splits import Splits, from_lists

SPLITS: Mapping[str, float] = {"train": 0.5, "calibration": 0.1, "test": 0.4}
"""Split -> share of the documents."""
MAX_GOLD_CHARS = 250
"""A longer sentence is no gold: the answer alone is."""
MIN_PASSAGES = 2
"""A row with fewer has nothing to choose from."""
Made = Callable[[Sequence[str], str, str, int | None], Row]
"""(passages, question, answer, place of the passage that has it) -> a row."""
_log = logging.getLogger("tieout")


@dataclass(frozen=True)
class Retrieval:
    """How rows are made of documents."""

    top_k: int
    passage_chars: int
    max_prompt_chars: int | None
    withheld: float
    """Share of the training questions that are also asked without the paragraph that answers."""
    seed: int


def retrieved(path: str | Path, how: Retrieval, made: Made) -> Splits:
    """The rows of documents by split. InputError: bm25s is missing, nothing can be read, or no row is left."""
    documents = read_documents(path, how.passage_chars)
    source, left_out = same_source(documents), Counter[str]()
    rows: dict[str, list[Row]] = {split: [] for split in (*SPLITS, "ood")}
    seen = set[str]()
    for document in documents:
        split = split_of(source[document.id])
        withheld = how.withheld if split == "train" else 1.0
        for row in _rows(document, how, withheld, made, left_out):
            asked, gold = row["prompt"][-1]["content"], _gold(row)
            length = sum(len(message["content"]) for message in row["prompt"])
            if how.max_prompt_chars is not None and length > how.max_prompt_chars:
                left_out["too long"] += 1
            elif asked in seen:
                left_out["there already"] += 1
            elif gold is None:
                left_out["gold that the reward does not pay"] += 1
            else:
                seen.add(asked)
                rows[split].append({**row, "completion": gold, "document": document.id})
    said = ", ".join(f"{count} {why}" for why, count in left_out.items())
    if not any(rows.values()):
        raise InputError(f"{path}: no row is left of {len(documents)} documents: {said or 'no question'}")
    if said:
        _log.warning("rag: rows left out of %s: %s", path, said)
    return from_lists("rag", rows)


def split_of(document: str) -> str:
    """The split that a document is in, by its name.

    >>> split_of("lease")
    'test'
    """
    place = int(hashlib.sha256(document.encode()).hexdigest(), 16) / 2**256
    ends = zip(SPLITS, accumulate(SPLITS.values()), strict=True)
    return next((split for split, end in ends if place < end), "test")


def _gold(row: Row) -> str | None:
    """The sentence that has the answer, cited, if the reward pays it in full and it is right; else the answer alone;
    None: neither."""
    if not row["answer"]:
        return str(row["completion"])
    (number, *_) = cited(row["completion"])
    told = [one for one in sentences(row["context"][number - 1]) if has(one, row["answer"])]
    golds = [f"{one.rstrip('.')} [{number}]." for one in told if len(one) <= MAX_GOLD_CHARS]
    for gold in (*golds, str(row["completion"])):
        columns = [row["question"]], [row["context"]], [row["answer"]]
        if rag([gold], *columns) == answered([gold], *columns) == [1.0]:
            return gold
    return None


def _rows(
    document: Document, how: Retrieval, withheld: float, made: Made, left_out: Counter[str]
) -> Iterator[Row]:
    if not document.questions:
        return
    ranked_for = ranking([passage.text for passage in document.passages])
    for question in document.questions:
        ranked = [document.passages[place] for place in ranked_for(question.text)]
        answering = {
            passage.paragraph
            for passage in document.passages
            if _gives(passage, question)
            and (question.paragraphs is None or passage.paragraph in question.paragraphs)
        }
        without = [p for p in ranked if p.paragraph not in answering and not _gives(p, question)]
        count = min(how.top_k, len(without))
        if question.answer and not answering:
            left_out["answer in no passage"] += 1
        elif count < MIN_PASSAGES:
            left_out["fewer than two other passages"] += 1
        else:
            right = [p for p in ranked[:count] if p.paragraph in answering and _gives(p, question)]
            if right:
                yield _row(f"{question.id}/found", ranked[:count], question, right[0], how, made)
            if not right or random.Random(f"rag/withheld/{question.id}").random() < withheld:
                yield _row(f"{question.id}/withheld", without[:count], question, None, how, made)


def _gives(passage: Passage, question: Question) -> bool:
    return bool(question.answer) and has(passage.text, question.answer)


def _row(
    name: str,
    passages: Sequence[Passage],
    question: Question,
    right: Passage | None,
    how: Retrieval,
    made: Made,
) -> Row:
    shown = random.Random(f"rag/{how.seed}/{name}").sample(passages, len(passages))
    place = None if right is None else shown.index(right)
    row = made([p.text for p in shown], question.text, "" if right is None else question.answer, place)
    return {"id": name, **row}


def ranking(texts: Sequence[str]) -> Callable[[str], list[int]]:
    """BM25 over texts: query -> their places, best first. InputError: the package bm25s is missing."""
    try:
        import bm25s
    except ImportError as error:
        raise InputError("retrieval needs the package bm25s: pip install 'tieout[rag]'") from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it reports every index
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), show_progress=False), show_progress=False)

    def ranked(query: str) -> list[int]:
        tokens = bm25s.tokenize(query, return_ids=False, show_progress=False)[0]
        scores = index.get_scores(tokens)
        return sorted(range(len(texts)), key=lambda place: (-float(scores[place]), place))

    return ranked
