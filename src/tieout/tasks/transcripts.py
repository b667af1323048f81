"""Transcripts of your own for the task `summaries`: a folder of text files, or JSONL.

A folder has pairs of `NAME.txt`, turns as `Speaker: Good morning.`, and `NAME.summary.txt`, a good summary. JSONL has
`transcript`, `summary` and, if you like, `name` and your own questions `quiz` (`question` with a gap `____`, `answer`).
The part of a name before the first `_` (`acme_2024q1`) is the company: all its calls are in one split, which depends on
it alone. Three fifths of the companies are `train`, a tenth `calibration`, the others `test`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..rewards.library.summary import GAP, quiz
from ..rows import read_rows
from ..types import Row
from .splits import Splits, from_lists

SYSTEM = "Summarise the call in your own words: a short sentence for each figure or name that matters."
_TURN = re.compile(r"^[^\s:][^:\n]{0,80}:[ \t]+\S", re.MULTILINE)
SPLITS = {"train": 0.6, "calibration": 0.7, "test": 1.0}
"""Split -> where its part of the companies ends, by hash."""


def conversation(transcript: str) -> list[dict[str, str]]:
    """The prompt for a transcript."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": transcript}]


def transcripts(path: str | Path) -> Splits:
    """Rows of a folder of text files or of a JSONL file: prompt, company, document, reference, completion, and `quiz`.

    InputError: a file that is missing or empty, a transcript without turns or there twice, a summary in which nothing
    can be asked, no row to train on or to test on; the message names it.
    """
    given = list(_folder(Path(path)) if Path(path).is_dir() else _lines(path))
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    seen: dict[str, str] = {}
    for place, row in given:
        if (first := seen.setdefault(row["document"], place)) != place:
            raise InputError(f"{place}: its transcript is that of {first}; drop one of them")
        if not _TURN.search(row["document"]):
            raise InputError(f"{place}: no turn was found; expected lines like `Operator: Good morning.`")
        if not row["reference"].strip():
            raise InputError(f"{place}: the summary is empty; write what a good one says")
        if not row.get("quiz") and not quiz(row["reference"]):
            raise InputError(
                f"{place}: the summary has no figure and no name that a question could ask for; add some, or a `quiz`"
            )
        rows[split_of(row["company"])].append(row)
    for split in ("train", "test"):
        if not rows[split]:
            raise InputError(
                f"{path}: none of {len({row['company'] for _, row in given})} companies falls into {split}; "
                "give transcripts of more companies (twenty or so), or names whose part before `_` differs"
            )
    return from_lists("summaries", {**rows, "ood": []})


def split_of(company: str) -> str:
    """The split of a company: it depends on its name alone, whatever else is there."""
    at = int.from_bytes(hashlib.sha256(company.casefold().encode()).digest()[:4]) / 2**32
    return next(split for split, end in SPLITS.items() if at < end)


def _folder(folder: Path) -> Iterator[tuple[str, Row]]:
    texts = [path for path in sorted(folder.glob("*.txt")) if not path.name.endswith(".summary.txt")]
    if not texts:
        raise InputError(f"{folder} has no transcripts; expected NAME.txt with NAME.summary.txt next to it")
    known = {path.stem for path in texts}
    for path in sorted(folder.glob("*.summary.txt")):
        if path.name.removesuffix(".summary.txt") not in known:
            name = path.name.replace(".summary.txt", ".txt")
            raise InputError(f"{path} has no transcript; expected {name} next to it")
    for path in texts:
        summary = path.with_suffix(".summary.txt")
        if not summary.is_file():
            raise InputError(f"{path} has no summary; expected {summary.name} next to it")
        yield str(path), _row(path.stem, _read(path), _read(summary))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error


def _lines(path: str | Path) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(read_rows(path), 1):
        place = f"{path}, row {number}"
        for column in ("transcript", "summary"):
            if not isinstance(line.get(column), str):
                raise InputError(f"{place}: column {column!r} is {line.get(column)!r}; expected a text")
        name = line.get("name")
        row = _row(str(number if name is None else name), line["transcript"], line["summary"])
        yield place, {**row, "quiz": _quiz(line["quiz"], place)} if line.get("quiz") else row


def _quiz(asked: object, place: str) -> Sequence[Row]:
    if not isinstance(asked, list):
        raise InputError(f"{place}: quiz is {asked!r}; expected a list of {{question, answer}}")
    for item in asked:
        texts = [item.get(key) for key in ("question", "answer")] if isinstance(item, dict) else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts) or GAP not in item["question"]:
            raise InputError(
                f"{place}: quiz has {item!r}; expected a question with a gap `{GAP}` and the answer that fills it"
            )
    return asked


def _row(name: str, transcript: str, summary: str) -> Row:
    return {
        "prompt": conversation(transcript),
        "company": name.split("_")[0],
        "document": transcript,
        "reference": summary,
        "completion": summary,
    }
