"""Answer a question from retrieved passages and cite them, or say that they lack the answer.

One row (`task.rows("test")[3]`): what the user says, after the system message SYSTEM, and the completion.

    [1] Norwood Paper reported research expense of $956 million in 2019. In 2019, net debt of Norwood Paper came to
    $933 million.
    [2] In 2019, Granite Textiles had its largest plant in Ghent. Granite Textiles reported revenue of $569 million
    in 2019.
    [3] Norwood Paper reported free cash flow of $470 million in 2019. Norwood Paper employed 2,986 people at the
    end of 2019.
    [4] Norwood Paper reported capital expenditure of $282 million in 2022. Norwood Paper reported free cash flow of
    $785 million in 2022.

    What was the free cash flow of Norwood Paper in 2019?

    Norwood Paper reported free cash flow of $470 million in 2019 [3].

In half of the rows near misses alone stand there: the completion is "I do not know." Documents and questions of
your own, or those of TAT-QA, are given as `path`: see `tasks.passages` and `tasks.rag_retrieved`. Without it, rows are
about made-up companies, drawn by seed; splits share no company. Rows that are made already: `load("rows.jsonl")`, with
prompt, question, context (a list of passages), answer (empty: not in them) and, for gold, completion. The reward is
`rewards.rag`; `right` is the primary metric, `answered` and `refused` are its two halves.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards.library.rag import (
    answered,
    citation_accuracy,
    faithfulness,
    groundedness,
    hallucination,
    rag,
    refused,
    relevance,
    right,
)
from ..rewards.text.claims import CITATION, cited
from ..rewards.text.figures import written
from ..rewards.text.sentences import sentences
from ..types import Row
from . import Task
from .rag_companies import passages
from .rag_retrieved import MIN_PASSAGES, Retrieval, retrieved
from .splits import Splits, from_file, generated, only_made
from .variants import asked_in, asking, instructed

SYSTEM = (
    "Answer in one sentence from the passages, and cite the passage that says it, like [2]. "
    "If no passage says it, answer: I do not know."
)
UNKNOWN = "I do not know."
SIZES: Mapping[str, int] = {"train": 2000, "calibration": 100, "test": 200, "ood": 100}
"""Split -> number of rows."""


def _row(split: str, index: int, seed: int, withheld: float, short: bool) -> Row:
    rng, share = random.Random(f"rag/{seed}/{split}/{index}"), withheld if split == "train" else 0.5
    context, question, answer, said, place = passages(split, rng, share, short=short)
    row = answered_from(context, question, answer, place)
    return row if place is None else {**row, "completion": f"{said[:-1]} [{place + 1}]."}


def corrupt(row: Row, rng: random.Random) -> str:
    """Gold with one flaw: another figure, another sentence, another citation or none, "I do not know" where
    there is an answer; where there is none, a sentence of a passage."""
    context: Sequence[str] = [row["context"]] if isinstance(row["context"], str) else row["context"]
    answer = written(row["answer"])
    if not answer:
        place = rng.randrange(len(context))
        return f"{rng.choice(sentences(context[place])).rstrip('.')} [{place + 1}]."
    gold: str = row["completion"]
    numbers = cited(gold)
    others = [
        n
        for n, text in enumerate(context, 1)
        if n not in numbers and answer.casefold() not in text.casefold()
    ]
    flawed = [UNKNOWN]
    digits = [place for place, character in enumerate(answer) if character.isdigit()]
    if digits and answer in gold:
        place = rng.choice(digits)
        other = rng.choice([digit for digit in "123456789" if digit != answer[place]])
        flawed.append(gold.replace(answer, answer[:place] + other + answer[place + 1 :]))
    flawed.append(re.sub(rf"\s*{CITATION.pattern}", "", gold))
    if others:
        wrong = rng.choice(others)
        flawed.append(CITATION.sub(f"[{wrong}]", gold))
        flawed.append(f"{rng.choice(sentences(context[wrong - 1])).rstrip('.')} [{wrong}].")
    return rng.choice([text for text in flawed if text != gold])


WORDINGS = (
    "Use the passages only: reply in one sentence with the number of the passage that says it, like [2]. "
    "Where none of them says it, write: I do not know.",
    "One sentence, taken from the passages, and the passage it stands in, like [2]. "
    "If it stands in no passage: I do not know.",
)


def order(row: Row, rng: random.Random) -> Row | None:
    """The passages in another order, with other numbers; None where the prompt is not made of them."""
    context: list[str] = row["context"]
    if len(context) < 2 or asked_in(row) != _said(context, row["question"]):
        return None
    places = rng.sample(range(len(context)), len(context))
    if places == sorted(places):
        places = [*places[1:], places[0]]
    moved = [context[i] for i in places]
    columns: dict[str, Any] = {"context": moved}
    if "completion" in row:
        columns["completion"] = CITATION.sub(lambda found: _moved(found, places), row["completion"])
    return asking(row, _said(moved, row["question"]), **columns)


def _moved(citation: re.Match[str], places: Sequence[int]) -> str:
    """A citation of the same passages after the move; a number of none stays."""
    numbers = [int(number) for number in citation[1].split(",")]
    return f"[{', '.join(str(places.index(n - 1) + 1 if n - 1 in places else n) for n in numbers)}]"


def formatting(row: Row, rng: random.Random) -> Row | None:
    """A blank line between the passages; None where the prompt is not made of them."""
    if len(row["context"]) < 2 or asked_in(row) != _said(row["context"], row["question"]):
        return None
    return asking(row, _said(row["context"], row["question"], "\n\n"))


def paraphrase(row: Row, rng: random.Random) -> Row | None:
    """The instruction in other words; None where it is not the task's."""
    return instructed(row, rng, SYSTEM, WORDINGS)


def _said(context: Sequence[str], question: str, between: str = "\n") -> str:
    """What the user says."""
    listed = between.join(f"[{i}] {passage}" for i, passage in enumerate(context, 1))
    return f"{listed}\n\n{question}"


def make(
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    *,
    short: bool = False,
    path: str | Path | None = None,
    top_k: int | None = None,
    passage_chars: int | None = None,
    max_prompt_chars: int | None = None,
    withheld: float | None = None,
) -> Task:
    """The task, over generated passages or over documents of one's own.

    Args:
        seed: Of the generated rows; of documents, of the order of passages in a prompt.
        sizes: How many generated rows each split has; None: SIZES.
        short: Generate three passages of one sentence, for a model of a few million parameters.
        path: A folder of documents and questions.jsonl, or a JSON file in TAT-QA's format: see `tasks.passages`.
            None: generated passages.
        top_k: Of documents, how many passages BM25 finds for a question, at most; None: 3.
        passage_chars: Of documents, the longest passage that is made of several sentences; None: 400.
        max_prompt_chars: Of documents, leave out rows whose messages together are longer; None: keep all.
        withheld: Of documents, the share of the training questions that are also asked without the paragraph that
            answers, 0 to 1; None: 1. Other splits always have both. Of generated rows, the share of the training rows
            that nothing answers; None: a half, as in other splits.

    Raises:
        InputError: an option is out of range or does not go with `path`, or the documents cannot be read.
    """
    given = {
        "top_k": (top_k, MIN_PASSAGES),
        "passage_chars": (passage_chars, 1),
        "max_prompt_chars": (max_prompt_chars, 1),
        "withheld": (withheld, 0),
    }
    for name, (value, least) in given.items():
        if value is not None and path is None and name != "withheld":
            raise InputError(f"{name} needs path: it says how passages of documents are found")
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; expected {least} or more")
    if withheld is not None and withheld > 1:
        raise InputError(f"withheld is {withheld}; expected a share, 0 to 1")
    if path is None:
        counts = SIZES if sizes is None else sizes
        share = 0.5 if withheld is None else withheld
        return _task(generated("rag", SIZES, counts, lambda split, i: _row(split, i, seed, share, short)))
    only_made("rag", sizes=sizes, short=short or None)
    how = Retrieval(
        top_k or 3, passage_chars or 400, max_prompt_chars, 1.0 if withheld is None else withheld, seed
    )
    return _task(retrieved(path, how, answered_from), entity="document")


def answered_from(context: Sequence[str], question: str, answer: str, place: int | None) -> Row:
    """A row with the shortest gold: the answer and its citation, or UNKNOWN where `place` is None."""
    return {
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": _said(context, question)},
        ],
        "question": question,
        "context": list(context),
        "answer": answer,
        "completion": UNKNOWN if place is None else f"{answer} [{place + 1}].",
    }


def load(path: str | Path) -> Task:
    """The task over a file of rows, all in the split `test`. ValueError: a column is missing."""
    return _task(from_file(path, rag))


def _task(rows: Splits, entity: str = "") -> Task:
    return Task(
        name="rag",
        rows=rows,
        reward=rag,
        metrics={
            f.__name__: f
            for f in (
                right,
                answered,
                refused,
                relevance,
                faithfulness,
                hallucination,
                citation_accuracy,
                groundedness,
            )
        },
        primary="right",
        gold=lambda row: str(row["completion"]) if row.get("completion") else None,
        corrupt=corrupt,
        variants={"order": order, "formatting": formatting, "paraphrase": paraphrase},
        max_new_tokens=64,
        entity=entity,
    )
