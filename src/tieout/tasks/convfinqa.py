"""Read ConvFinQA's files as rows of `numeric_qa`, and FinQA's, whose questions its conversations take apart.

A file of ConvFinQA (github.com/czyssrs/ConvFinQA) is a list of pages of annual reports:

    id                          Single_ACME/2012/page_7.pdf-1: one question taken apart; Double_...: two
    pre_text, table, post_text  sentences, rows of cells, sentences
    annotation.dialogue_break   the questions of the conversation, in turn
    annotation.turn_program     how each is worked out: subtract(44, 40), divide(#0, 40)
    annotation.exe_ans_list     what its program gives, to five decimals: 0.1
    qa, or qa_0 and qa_1        what was taken apart: question, program, exe_ans, and the annotators' answer: 10%
    annotation.turn_ind         only in the files by turn (train_turn.json): the turn that this entry is

FinQA's entries have `qa` alone. Each turn is a row; the turns before it, with their answers, stand in its prompt.

A figure is asked for in the unit that the page prints it in. What is a share may be given either way, 0.1 or 10%: the
row's `unit` is `ratio`. Whether it is one is said by the annotators' answer, where the turn is the question that was
taken apart, else by its program. Left out are turns whose answer is yes or no, turns whose program and annotators
disagree with what follows them, and those of which nothing says whether they are per cent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from ..errors import InputError
from ..types import Message, Row
from .convfinqa_answers import DISAGREE, Gold, Turn, gold_of, plain

SYSTEM = (
    "Answer with the figure alone, in the unit in which the page prints it: no currency, and no scale such as million. "
    "A share may be a decimal or carry a per cent sign, as in: -12.6; 5062; 0.125; 12.5%."
)
WORDINGS = (
    "Reply with nothing but the figure, in the page's own unit, without a currency or a scale such as million. Write a "
    "share as a decimal or with a per cent sign, for example: -12.6; 5062; 0.125; 12.5%.",
    "Give one figure and no other text: as the page counts, so neither a currency nor a scale such as million. Shares "
    "are decimals or have a per cent sign, like -12.6, 5062, 0.125 or 12.5%.",
)
_ID = re.compile(r"(?:(?:Single|Double)_)?(?P<page>.+\.pdf)(?:-[0-9]+)?")


def is_convfinqa(entries: Sequence[Any]) -> bool:
    """Whether a file is in this format, by its first entry."""
    return bool(entries) and isinstance(entries[0], Mapping) and "pre_text" in entries[0]


def read(entries: Sequence[Any], source: str) -> tuple[list[Row], Counter[str]]:
    """The rows, and why how many turns were left out.

    Args:
        entries: The list that the file is, with numbers as int or Decimal.
        source: What errors call the file.

    Raises:
        InputError: an entry lacks a field or has another thing in it; it names the entry, from 1, and the field.
    """
    rows = list[Row]()
    left_out = Counter[str]()
    first = dict[str, int]()
    for number, entry in enumerate(entries, 1):
        for row in _rows(entry, f"{source}: entry {number}", left_out):
            if (seen := first.setdefault(row["id"], number)) != number:
                raise InputError(f"{source}: entries {seen} and {number} have the same id, {row['id']!r}")
            rows.append(row)
    return rows, left_out


def _rows(entry: Any, where: str, left_out: Counter[str]) -> Iterator[Row]:
    name = _get(entry, "id", str, where)
    before, after = (
        " ".join(_texts(_get(entry, key, list, where), key, where)) for key in ("pre_text", "post_text")
    )
    table = [_texts(cells, "table", where) for cells in _get(entry, "table", list, where)]
    turns, only = _turns(entry, where)
    published = dict(_published(entry, where))
    if only is not None:
        name = name.removesuffix(f"_{only}")
    page = found["page"] if (found := _ID.fullmatch(name)) else name
    printed = "\n".join(" | ".join(" ".join(cell.split()) for cell in cells) for cells in table)
    source = "\n\n".join(part for part in (before.strip(), printed, after.strip()) if part.strip(". "))
    prompt: list[Message] = [{"role": "system", "content": SYSTEM}]
    last = len(turns) - 1 if only is None else only
    for place, turn in enumerate(turns[: last + 1]):
        said = turn.question.strip()
        prompt = [*prompt, {"role": "user", "content": said if place else f"{source}\n\n{said}"}]
        gold = gold_of(turn, published.get(turn.program, ""), table)
        if only in (None, place):
            if isinstance(gold, Gold):
                yield {
                    "id": f"{name}_{place}" if "annotation" in entry else name,
                    "document": page,
                    "company": page.partition("/")[0],
                    "prompt": prompt,
                    **gold._asdict(),
                }
            else:
                left_out[gold] += 1
        if gold == DISAGREE and place < last:
            left_out["after such a turn"] += last - place if only is None else 1
            return
        answer = gold.completion if isinstance(gold, Gold) else _as_said(turn.value)
        prompt = [*prompt, {"role": "assistant", "content": answer}]


def _as_said(value: str | int | Decimal) -> str:
    return value if isinstance(value, str) else plain(value)


# --- fields -------------------------------------------------------------------------------------------------


def _turns(entry: Any, where: str) -> tuple[list[Turn], int | None]:
    """The conversation, and the one turn that the entry is of, in a file by turn."""
    if "annotation" not in entry:
        qa = _get(entry, "qa", dict, where)
        return [_turn(_get(qa, "question", str, f"{where}, qa"), qa, f"{where}, qa")], None
    annotation = _get(entry, "annotation", dict, where)
    where = f"{where}, annotation"
    names = ("dialogue_break", "turn_program", "exe_ans_list")
    asked, programs, values = (_get(annotation, name, list, where) for name in names)
    if not len(asked) == len(programs) == len(values):
        counts = ", ".join(f"{name} has {len(annotation[name])}" for name in names)
        raise InputError(f"{where}: {counts}; expected one each for every turn")
    _texts(asked, "dialogue_break", where)
    turns = [
        _turn(question, {"program": program, "exe_ans": value}, f"{where}, turn {turn}")
        for turn, (question, program, value) in enumerate(zip(asked, programs, values, strict=True))
    ]
    if "turn_ind" not in annotation:
        return turns, None
    only = _get(annotation, "turn_ind", int, where)
    if not 0 <= only < len(turns):
        raise InputError(f"{where}: 'turn_ind' is {only}; the conversation has {len(turns)} turns, from 0")
    return turns, only


def _turn(question: str, answered: Mapping[str, Any], where: str) -> Turn:
    program, value = _get(answered, "program", str, where), answered.get("exe_ans")
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InputError(f"{where}: 'exe_ans' is {value!r}; expected a number, or yes or no")
    return Turn(question, program, value)


def _published(entry: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Program -> the annotators' answer, of the questions that were taken apart."""
    for name in ("qa", "qa_0", "qa_1"):
        if name in entry:
            qa = _get(entry, name, dict, where)
            yield _get(qa, "program", str, f"{where}, {name}"), _get(qa, "answer", str, f"{where}, {name}")


_KINDS = {str: "a text", list: "a list", dict: "an object", int: "a whole number"}


def _get(given: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where} is a {type(given).__name__}; expected an object of ConvFinQA's or FinQA's format"
        )
    if name not in given:
        raise InputError(
            f"{where} has no {name!r}; expected {_KINDS[kind]} (files of private tests have no answers)"
        )
    value = given[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: {name!r} is a {type(value).__name__}; expected {_KINDS[kind]}")
    return value


def _texts(given: Any, name: str, where: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise InputError(f"{where}: {name!r} has {given!r:.80}; expected a list of texts")
    return given
