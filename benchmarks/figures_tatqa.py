"""How much of TAT-QA the figure parser reads, and whether it reads it right. A census, not a sample.

    python benchmarks/figures_tatqa.py tatqa_dataset_dev.json

Whether it reads right is judged by what the annotators wrote beside each question, the derivation, such as
`(44.1-56.7)/56.7`. Worked out on operands that the parser reads, it must give gold; and its operands, where
the answer comes from the table alone, must be values of cells. Annotators often drop the sign of a cost and
never invent one, so a plain operand is compared by its size, and one with a minus must be a negative cell.
"""

from __future__ import annotations

import argparse
import ast
import json
import operator
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from tieout.rewards.text.figures import Figure, figure

# `(13)` is a negative operand, `(13 + 4)` is arithmetic.
OPERAND = re.compile(r"\([0-9][0-9,.]*\)%?|[0-9][0-9,.]*%?")
OPERATIONS: dict[type, Callable[..., Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass
class Tally:
    """How many passed, and the texts that did not."""

    num_passed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Passed or not."""
        return self.num_passed + len(self.failures)

    def add(self, passed: bool, text: str) -> None:
        """Count one."""
        if passed:
            self.num_passed += 1
        else:
            self.failures.append(text)


@dataclass
class Census:
    """Counts over one file."""

    golds_read: Tally = field(default_factory=Tally)
    """Gold answers that look like a figure: read as one."""
    golds_derived: Tally = field(default_factory=Tally)
    """Arithmetic gold answers: what the derivation gives, within half a unit of the last shown digit."""
    cells_read: Tally = field(default_factory=Tally)
    """Table cells that look like a figure: read as one."""
    operands_found: Tally = field(default_factory=Tally)
    """Operands of derivations from the table alone: as large as a cell."""
    negatives_found: Tally = field(default_factory=Tally)
    """The negative ones among them: a negative cell."""
    negative_golds: Tally = field(default_factory=Tally)
    """Arithmetic gold answers: below zero."""


def census(path: Path) -> Census:
    """Read every gold answer and every table cell of the file."""
    counts = Census()
    for document in json.loads(path.read_text("utf-8"), parse_float=Decimal):
        cells = [cell for row in document["table"]["table"] for cell in row]
        read = [figure(cell) for cell in cells]
        for cell, found in zip(cells, read, strict=True):
            if looks_like_figure(cell, num_words=0):
                counts.cells_read.add(found is not None, cell)
        values = {found.value for found in read if found}
        for question in document["questions"]:
            _count(counts, question, values)
    return counts


def _count(counts: Census, question: dict[str, Any], cells: set[Decimal]) -> None:
    answer, scale, derivation = question["answer"], question["scale"], question["derivation"]
    if isinstance(answer, list):
        if len(answer) != 1 or not looks_like_figure(answer[0], num_words=3):
            return
        answer = answer[0]
    text = f"{answer} {scale}".strip()
    gold = figure(text)
    counts.golds_read.add(gold is not None, text)
    if gold is None:
        return
    if question["answer_type"] != "arithmetic":
        return
    counts.negative_golds.add(gold.value < 0, text)
    try:
        derived, operands = evaluate(derivation)
    except ValueError:
        counts.golds_derived.add(False, f"{text} = {derivation}")
        return
    # A percentage is derived as a fraction or as a mean of percentages; other scales are the operands' own.
    shown = [derived, derived * 100] if scale == "percent" else [derived]
    off = min(abs(value - Fraction(answer)) for value in shown)
    counts.golds_derived.add(off <= Fraction(1, 2 * 10**gold.digits), f"{text} = {derivation}")
    if question["answer_from"] == "table":
        for operand in operands:
            where = f"{operand} of {derivation}"
            counts.operands_found.add(operand in cells or -operand in cells, where)
            if operand < 0:
                counts.negatives_found.add(operand in cells, where)


def evaluate(derivation: str) -> tuple[Fraction, list[Decimal]]:
    """The exact value of an annotator's arithmetic, such as `53%*$23,406`, and the figures in it.

    Left out of the figures are small whole numbers that divide or are taken away: `/ 3`, `- 1`.

    Raises:
        ValueError: it is not arithmetic on figures.
    """
    read: list[Figure] = []
    figures: list[Decimal] = []

    def name(match: re.Match[str]) -> str:
        found = figure(match[0])
        if found is None:
            raise ValueError(f"{match[0]!r} in {derivation!r} is no figure")
        read.append(found)
        return f"v{len(read) - 1}"

    def value(node: ast.expr, sign: int = 1, constant: bool = False) -> Fraction:
        match node:
            case ast.Name(id):
                found = read[int(id[1:])]
                if not (constant and found.value in range(1, 13)):
                    figures.append(sign * found.value)
                return Fraction(found.value) / (100 if found.unit == "percent" else 1)
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand, -sign)
            case ast.BinOp(left, operation, right) if type(operation) in OPERATIONS:
                constant = isinstance(operation, ast.Div | ast.Sub)
                return OPERATIONS[type(operation)](value(left, sign), value(right, sign, constant))
        raise ValueError(f"{derivation!r} is not arithmetic on figures")

    plain = derivation.translate(str.maketrans("[]−–", "()--", "$£€")).strip()
    expression = OPERAND.sub(name, plain)
    if not re.fullmatch(r"[v0-9()+*/ -]+", expression):
        raise ValueError(f"{derivation!r} is not arithmetic on figures")
    try:
        return value(ast.parse(expression, mode="eval").body), figures
    except SyntaxError as error:
        raise ValueError(f"{derivation!r} is not arithmetic on figures") from error


def looks_like_figure(text: str, *, num_words: int) -> bool:
    """Judged without the parser: one run of digits, or a dash; few words of two letters or more; no date."""
    words = [word for word in re.findall(r"[^\W\d_]{2,}", text) if word != "bps"]
    numbers = re.findall(r"[0-9][0-9.,]*", text)
    if not numbers:
        return bool(re.fullmatch(r"[\s$£€(]*[-–—―−]+[\s)%]*", text))
    month = re.search(r"\b(?:jan|feb|mar|apr|may|june?|july?|aug|sep|oct|nov|dec)", text, re.IGNORECASE)
    return len(numbers) == 1 and len(words) <= num_words and not month


def main() -> None:
    """Print the census."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="tatqa_dataset_dev.json, of github.com/NExTplusplus/TAT-QA")
    counts = census(parser.parse_args().path)
    for name, tally in vars(counts).items():
        print(f"{name:16}{tally.num_passed:5} of {tally.total:5}  {tally.num_passed / tally.total:6.1%}")
        if name != "negative_golds":
            for text, times in Counter(tally.failures).most_common():
                print(f"    not: {text!r}" + (f", {times} times" if times > 1 else ""))


if __name__ == "__main__":
    main()
