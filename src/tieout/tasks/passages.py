"""Read documents, cut into passages, and questions over them: a folder of text, or a file in TAT-QA's format.

A folder holds one document per `*.txt` or `*.md` file, named by its stem, with blank lines between paragraphs; or any
number of `*.jsonl` files with a line `{"document": ..., "text": ...}` per paragraph; and `questions.jsonl`:

    {"question": "When does the lease of the Leeds depot end?", "answer": "31 March 2027", "document": "leases"}

An answer is copied from the document word for word; an empty one says that the documents lack it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards.text.structured import contains_whole, normalise_space
from ..rows import read_rows

QUESTIONS = "questions.jsonl"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"“])")
_SAME_CHARS = 80
"""Characters from which a paragraph of two documents says that they are of one source."""


@dataclass(frozen=True)
class Passage:
    """Sentences of a paragraph."""

    text: str
    paragraph: str
    """Of which paragraph of its document."""


@dataclass(frozen=True)
class Question:
    """What is asked of a document."""

    id: str
    text: str
    answer: str
    """Word for word as in the document; empty: the document lacks it."""
    paragraphs: frozenset[str] | None = None
    """Those that answer it, by people; None: those that have the words of the answer."""


@dataclass(frozen=True)
class Document:
    """Passages in their order, and what is asked of them."""

    id: str
    passages: Sequence[Passage]
    questions: list[Question] = field(default_factory=list)


def read_documents(path: str | Path, passage_chars: int) -> list[Document]:
    """The documents of a folder, or of a JSON file in TAT-QA's format.

    Args:
        path: The folder or file.
        passage_chars: A paragraph that is longer is cut between sentences into passages of at most so many
            characters; a longer sentence is a passage of its own.

    Raises:
        InputError: nothing is there, or it is in neither format.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, passage_chars)
    if path.is_file():
        return list(_tatqa(path, passage_chars))
    raise InputError(
        f"no folder or file {path}; expected a folder of documents with {QUESTIONS}, or TAT-QA's JSON"
    )


def has(text: str, answer: str) -> bool:
    """Whether the words of the answer stand in the text, whatever their case and white space."""
    return contains_whole(normalise_space(text).casefold(), normalise_space(answer).casefold())


def cut(text: str, passage_chars: int) -> list[str]:
    """A paragraph in passages of whole sentences.

    >>> cut("Sales rose. Costs fell. So did debt.", 24)
    ['Sales rose. Costs fell.', 'So did debt.']
    """
    parts = [""]
    for sentence in _SENTENCE.split(" ".join(text.split())):
        longer = f"{parts[-1]} {sentence}".strip()
        if parts[-1] and len(longer) > passage_chars:
            parts.append(sentence)
        else:
            parts[-1] = longer
    return [part for part in parts if part]


def same_source(documents: Sequence[Document]) -> dict[str, str]:
    """Document -> the first of those that share a paragraph with it, or with one that does: they are of one report."""
    first_with: dict[str, str] = {}
    root = {document.id: document.id for document in documents}

    def find(one: str) -> str:
        while root[one] != one:
            one = root[one]
        return one

    for document in documents:
        for passage in document.passages:
            if len(passage.text) >= _SAME_CHARS:
                key = normalise_space(passage.text).casefold()
                one, other = find(first_with.setdefault(key, document.id)), find(document.id)
                root[max(one, other)] = min(one, other)
    return {document.id: find(document.id) for document in documents}


# --- a folder -----------------------------------------------------------------------------------------------


def _folder(folder: Path, passage_chars: int) -> list[Document]:
    asked = folder / QUESTIONS
    if not asked.is_file():
        raise InputError(
            f"{folder} has no {QUESTIONS}; expected a line with question, answer, document for each question"
        )
    paragraphs: dict[str, list[str]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in (".txt", ".md"):
            paragraphs.setdefault(file.stem, []).extend(re.split(r"\n\s*\n", _text(file)))
        elif file.suffix == ".jsonl" and file.name != QUESTIONS:
            for number, row in enumerate(read_rows(file), 1):
                document, text = (_string(row, key, f"{file}, row {number}") for key in ("document", "text"))
                paragraphs.setdefault(document, []).append(text)
    if not paragraphs:
        raise InputError(f"{folder} has no document: no .txt, .md or .jsonl file other than {QUESTIONS}")
    found = {
        name: Document(name, [Passage(t, str(i)) for i, p in enumerate(texts) for t in cut(p, passage_chars)])
        for name, texts in paragraphs.items()
    }
    for number, row in enumerate(read_rows(asked), 1):
        where = f"{asked}, row {number}"
        text, name = _string(row, "question", where), _string(row, "document", where)
        answer = row.get("answer")
        if answer is not None and not isinstance(answer, str):
            raise InputError(
                f'{where}: answer is {answer!r}; expected text as in the document, or "" if it lacks it'
            )
        if name not in found:
            raise InputError(
                f"{where}: there is no document {name!r}; {folder} has: {', '.join(list(found)[:8])}"
            )
        answer = (answer or "").strip()
        if answer and not any(has(passage.text, answer) for passage in found[name].passages):
            raise InputError(
                f"{where}: no passage of {name} has the answer {answer!r}; copy it from the document word for word, "
                'or give "" if the document lacks it'
            )
        found[name].questions.append(Question(f"{name}/{number}", text, answer))
    return list(found.values())


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not text in UTF-8: {error}") from error


def _string(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {key} is {value!r}; expected text")
    return value.strip()


# --- TAT-QA -------------------------------------------------------------------------------------------------


def _tatqa(path: Path, passage_chars: int) -> Iterator[Document]:
    try:
        documents = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not JSON in UTF-8: {error}") from error
    if not isinstance(documents, list):
        raise InputError(f"{path} holds a {type(documents).__name__}; expected TAT-QA's list of documents")
    for number, document in enumerate(documents, 1):
        try:
            passages = [
                Passage(text, str(paragraph["order"]))
                for paragraph in document["paragraphs"]
                for text in cut(paragraph["text"], passage_chars)
            ]
            questions = [
                Question(
                    asked["uid"], asked["question"].strip(), asked["answer"][0].strip().rstrip("."),
                    frozenset(asked["rel_paragraphs"]),
                )
                for asked in document["questions"]
                if asked["answer_type"] == "span" and len(asked["answer"]) == 1 and asked["rel_paragraphs"]
            ]  # fmt: skip
            yield Document(document["table"]["uid"], passages, questions)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: document {number} is not in TAT-QA's format: {error!r}") from error
