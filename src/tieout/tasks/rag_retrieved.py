"""Rows of `rag` over documents of one's own: passages found by BM25, with and without the one that answers.

Every question makes two rows: with the passages that BM25 finds in its document, and with what it finds once the
paragraph that answers is withheld. Both have as many passages, in an order drawn by seed, so that neither their number
nor a place says which of the two it is. Where BM25 misses the paragraph, the question makes one row, which cannot be
answered. Splits are by document, by a hash of its name; documents that share a paragraph are in one.
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
from ..rewards.library.rag import rag
from ..types import Row
from .passages import Document, Question, read_documents, same_source
from .splits import Splits, from_lists

SPLITS: Mapping[str, float] = {"train": 0.5, "calibration": 0.1, "test": 0.4}
"""Split -> share of the documents."""
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
    seed: int


def retrieved(path: str | Path, how: Retrieval, made: Made) -> Splits:
    """The rows of documents by split. InputError: bm25s is missing, nothing can be read, or no row is left."""
    documents = read_documents(path, how.passage_chars)
    source, left_out = same_source(documents), Counter[str]()
    rows: dict[str, list[Row]] = {split: [] for split in (*SPLITS, "ood")}
    seen = set[str]()
    for document in documents:
        for row in _rows(document, how, made, left_out):
            asked = row["prompt"][-1]["content"]
            if (
                how.max_prompt_chars is not None
                and sum(len(m["content"]) for m in row["prompt"]) > how.max_prompt_chars
            ):
                left_out["too long"] += 1
            elif asked in seen:
                left_out["there already"] += 1
            elif row["answer"] and rag(
                [row["completion"]], [row["question"]], [row["context"]], [row["answer"]]
            ) != [1.0]:
                left_out["gold that the reward does not pay"] += 1
            else:
                seen.add(asked)
                rows[split_of(source[document.id])].append({**row, "document": document.id})
    said = ", ".join(f"{count} {why}" for why, count in left_out.items())
    if not any(rows.values()):
        raise InputError(f"{path}: no row is left of {len(documents)} documents: {said or 'no question'}")
    if said:
        _log.info("rag: rows left out of %s: %s", path, said)
    return from_lists("rag", rows)


def split_of(document: str) -> str:
    """The split that a document is in, by its name.

    >>> split_of("lease")
    'train'
    """
    place = int(hashlib.sha256(document.encode()).hexdigest(), 16) / 2**256
    ends = zip(SPLITS, accumulate(SPLITS.values()), strict=True)
    return next((split for split, end in ends if place < end), "test")


def _rows(document: Document, how: Retrieval, made: Made, left_out: Counter[str]) -> Iterator[Row]:
    if not document.questions:
        return
    ranked_for = ranking([passage.text for passage in document.passages])
    for question in document.questions:
        ranked = [document.passages[place] for place in ranked_for(question.text)]
        answering = _answering(document, question)
        without = [
            p
            for p in ranked
            if p.paragraph not in answering and not (question.answer and p.has(question.answer))
        ]
        count = min(how.top_k, len(without))
        if question.answer and not answering:
            left_out["answer in no passage"] += 1
        elif count < MIN_PASSAGES:
            left_out["fewer than two other passages"] += 1
        else:
            found = {"withheld": without[:count]}
            if question.answer:
                found["found"] = ranked[:count]
            for form, passages in sorted(found.items()):
                rng = random.Random(f"rag/{how.seed}/{question.id}/{form}")
                shown = rng.sample(passages, count)
                with_answer = [i for i, p in enumerate(shown) if question.answer and p.has(question.answer)]
                right = [i for i in with_answer if shown[i].paragraph in answering]
                if with_answer and not right:
                    left_out["the words of the answer elsewhere only"] += 1
                elif form == "found" and not right:
                    left_out["missed by BM25"] += 1
                else:
                    answer = question.answer if right else ""
                    row = made([p.text for p in shown], question.text, answer, right[0] if right else None)
                    yield {"id": f"{question.id}/{form}", **row}


def _answering(document: Document, question: Question) -> set[str]:
    """The paragraphs that answer a question: those that have its words, of those that people named."""
    return {
        passage.paragraph
        for passage in document.passages
        if question.answer
        and passage.has(question.answer)
        and (question.paragraphs is None or passage.paragraph in question.paragraphs)
    }


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
