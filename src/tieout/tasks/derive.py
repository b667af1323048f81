"""Derive a measure from statements of a real filing: a margin, growth, free cash flow, leverage, days of sales.

One row, of a made-up company: what the user says, after the system message SYSTEM, and the completion.

    ACME CORP, income statement, 12 months ended (USD in millions)
     | Dec. 31, 2023 | Dec. 31, 2022
    Net sales | 1,250 | 1,100
    Cost of sales | 800 | 720
    Gross profit | 450 | 380

    What is the gross margin (gross profit as a percentage of total revenue), 12 months ended Dec. 31, 2023?

    Gross profit 450, Net sales 1,250: 450 / 1,250 = 36.0%. The answer is 36.0%.

The answer is computed from the facts of the filing, in exact fractions. The reward is `numeric`, on the answer alone.
Data and splits are those of `sec_statements`. A measure is asked only where its answer is one: each figure is shown
with one value, a denominator is positive, and rounding is no tie.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..rewards.library.numeric import numeric, readable
from ..rewards.library.statement_identities import REVENUE
from ..types import Row
from . import Task, numeric_qa
from .sec_print import TITLES, Table
from .sec_statements import read_filings, rows_by_split
from .splits import from_lists
from .thinking import thinking as with_thinking
from .variants import asked_in, asking, instructed

SYSTEM = (
    "Compute what is asked from the statements. Percentages and days have one decimal, ratios two, amounts their "
    "scale. Show the figures that you use, and end as in: The answer is -12.6%. Or: The answer is (5,062) million."
)
WORDINGS = (
    "Work it out from the statements, show the figures that it takes, and end with a sentence like: The answer is "
    "-12.6%. Or: The answer is (5,062) million. Give percentages and days to one decimal, ratios to two, amounts with "
    "their scale.",
)
THINKING = (
    " The figures stand between <think> and </think>; that sentence, or the answer alone, stands after them between "
    "<answer> and </answer>."
)
WHOLE = "{working} The answer is {answer}."
Form = Literal["percent", "ratio", "days", "amount"]
DECIMALS: Mapping[Form, int] = {"percent": 1, "ratio": 2, "days": 1}
_SCALES: Mapping[int, str] = {1: "", 10**3: "thousand", 10**6: "million"}
_TIMES: Mapping[Form, int] = {"percent": 100, "ratio": 1, "days": 365}


@dataclass(frozen=True)
class Term:
    """A figure of a statement: what it shows of these concepts, which must be one value."""

    statement: Literal["IS", "BS", "CF"]
    concepts: tuple[str, ...]
    year_before: bool = False
    first: bool = False
    """The first of the concepts that is shown, whatever the others are: a total before its parts."""


@dataclass(frozen=True)
class Measure:
    """Of two terms: their quotient, their relative change, or their difference."""

    says: str
    """Its definition, as the question gives it."""
    form: Form
    first: Term
    second: Term
    change: bool = False
    """(first - second) / second in place of first / second."""

    def value(self, first: Fraction, second: Fraction) -> Fraction | None:
        """Before rounding; None where it has no meaning: a denominator that is not positive."""
        if self.form == "amount":  # payments are reported as positive
            return first - second if second >= 0 else None
        if second <= 0:
            return None
        return _TIMES[self.form] * (first - second * self.change) / second


_REVENUE = Term("IS", REVENUE, first=True)
_CAPEX = ("PaymentsToAcquirePropertyPlantAndEquipment", "PaymentsToAcquireProductiveAssets")
MEASURES: Mapping[str, Measure] = {
    "gross margin": Measure(
        "gross profit as a percentage of total revenue", "percent", Term("IS", ("GrossProfit",)), _REVENUE
    ),
    "operating margin": Measure(
        "operating income as a percentage of total revenue", "percent", Term("IS", ("OperatingIncomeLoss",)), _REVENUE
    ),
    "net margin": Measure(
        "net income as a percentage of total revenue", "percent", Term("IS", ("NetIncomeLoss", "ProfitLoss")), _REVENUE
    ),
    "growth of revenue": Measure(
        "change from the same period a year before, in per cent", "percent", _REVENUE,
        Term("IS", REVENUE, year_before=True, first=True), change=True,
    ),
    "free cash flow": Measure(
        "cash from operating activities less purchases of property and equipment", "amount",
        Term("CF", ("NetCashProvidedByUsedInOperatingActivities",)), Term("CF", _CAPEX),
    ),
    "current ratio": Measure(
        "current assets divided by current liabilities", "ratio", Term("BS", ("AssetsCurrent",)),
        Term("BS", ("LiabilitiesCurrent",)),
    ),
    "leverage": Measure(
        "total liabilities as a percentage of total assets", "percent", Term("BS", ("Liabilities",)),
        Term("BS", ("Assets",)),
    ),
    "days of sales in receivables": Measure(
        "receivables at the end of the year, divided by total revenue of the year, times 365 days", "days",
        Term("BS", ("AccountsReceivableNetCurrent", "ReceivablesNetCurrent")), _REVENUE,
    ),
}  # fmt: skip


def load(path: str | Path, *, max_lines: int | None = None, thinking: bool = False) -> Task:
    """The task over a folder of the SEC's data sets and company facts, or one company-facts file.

    Args:
        path: As of `sec_statements`.
        max_lines: Show at most so many lines of a statement, those around the figures that are needed; None: all.
        thinking: Ask for the working in <think> and the answer in <answer>, and pay a tenth for the two tags.

    Raises:
        InputError: nothing is there, it is not in the format, or no measure can be derived.
    """
    if max_lines is not None and max_lines < 2:
        raise InputError(f"max_lines is {max_lines}; expected 2 or more: a measure takes two figures")
    filings = read_filings(Path(path))
    found = rows_by_split(filings, lambda printed, facts: _rows(printed, facts, max_lines))
    if not any(found.values()):
        raise InputError(f"{path}: of {len(filings)} filings none has the figures of: {', '.join(MEASURES)}")

    task = Task(
        name="derive",
        rows=from_lists("derive", found),
        reward=numeric,
        metrics={"readable": readable},
        gold=lambda row: str(row["completion"]),
        corrupt=corrupt,
        variants={"order": _question_first, "paraphrase": _reworded},
        max_new_tokens=256,
    )
    return with_thinking(task, _thought, WHOLE, THINKING) if thinking else task


def _thought(row: Row) -> tuple[str, str]:
    """(working, answer) of a completion."""
    working, _, answer = row["completion"].removesuffix(".").rpartition(" The answer is ")
    return working, answer


# --- rows ---------------------------------------------------------------------------------------------------

Place = tuple[Table, int, int]
"""(table, line, column)."""


def _rows(printed: Sequence[Table], facts: Mapping[str, str], max_lines: int | None) -> Iterator[Row]:
    for name, measure in MEASURES.items():
        for table in printed:
            if table.kind == TITLES[measure.first.statement]:
                for column in range(len(table.periods)):
                    row = _row(name, measure, table, column, printed, facts, max_lines)
                    if row is not None:
                        yield row


def _row(
    name: str, measure: Measure, table: Table, column: int, printed: Sequence[Table], facts: Mapping[str, str],
    max_lines: int | None,
) -> Row | None:  # fmt: skip
    """A row for the column in which the measure's first figure stands; None: it has no one answer."""
    period = table.periods[column]
    first, second = (place_of(term, table, period, printed) for term in (measure.first, measure.second))
    if first is None or second is None:
        return None
    exact = measure.value(value_of(first), value_of(second))
    answer = None if exact is None else rounded(exact, measure.form, table.scale)
    if answer is None:
        return None
    shown = {id(one): one for one, _, _ in (first, second)}
    texts = [
        excerpt(one, {line for of, line, _ in (first, second) if of is one}, max_lines)
        for one in shown.values()
    ]
    months = 3 * second[0].quarters
    asked = f"What is the {name} ({measure.says}), {f'{months} months ended ' if months else ''}{period}?"
    scale = {"percent": "percent", "ratio": "", "days": "days"}.get(measure.form, _SCALES[table.scale])
    figure = f"{answer}%" if scale == "percent" else f"{answer} {scale}".rstrip()
    return {
        "id": f"{facts['adsh']}/{name}/{table.title}/{column}",
        **facts,
        "measure": name,
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "\n\n".join([*texts, asked])},
        ],
        "completion": f"{_working(measure, first, second)} = {figure}. The answer is {figure}.",
        "answer": answer,
        "scale": scale,
    }


def place_of(term: Term, table: Table, period: str, printed: Sequence[Table]) -> Place | None:
    """Where a term of a measure of this table and period stands; None: nowhere, or with more than one value.

    What a balance sheet is compared with is the year that ends on its date.
    """
    if term.year_before:
        period = f"{period[:-4]}{int(period[-4:]) - 1}"
    if table.kind != TITLES[term.statement]:
        years = [one for one in printed if one.kind == TITLES[term.statement] and one.quarters == 4]
        if len(years) != 1:
            return None
        table = years[0]
    if period not in table.periods:
        return None
    column = table.periods.index(period)
    shown = [
        (table, i, column)
        for concept in term.concepts
        for i, line in enumerate(table.lines)
        if line.key[0] == concept and not line.heading and line.values[column] is not None
    ]
    if term.first:
        shown = [place for place in shown if table.lines[place[1]].key == table.lines[shown[0][1]].key]
    return shown[0] if len({value_of(place) for place in shown}) == 1 else None


def value_of(place: Place) -> Fraction:
    """In full units, as reported: without the sign that the line is printed with."""
    table, index, column = place
    line = table.lines[index]
    value = line.values[column]
    assert value is not None
    return Fraction(value) * table.scale * (-1 if line.negated else 1)


def rounded(exact: Fraction, form: Form, scale: int) -> str | None:
    """As the answer shows it; None for a tie, which may be rounded either way, and for a scale in no word."""
    decimals = DECIMALS.get(form, 0)
    steps = (exact if form != "amount" else exact / scale) * 10**decimals
    if abs(steps - round(steps)) == Fraction(1, 2):
        return None
    value = Fraction(round(steps), 10**decimals)
    shown = f"{float(abs(value)):,.{decimals}f}"
    if value >= 0:
        return shown
    return f"({shown})" if form == "amount" else f"-{shown}"


def _working(measure: Measure, first: Place, second: Place) -> str:
    named = ", ".join(f"{table.lines[i].label} {table.lines[i].cells[c]}" for table, i, c in (first, second))
    one, other = (_plain(place) for place in (first, second))
    if measure.form == "amount":
        return f"{named}: {one} - {other}"
    top = f"({one} - {other})" if measure.change else one
    return f"{named}: {top} / {other}{' x 365' if measure.form == 'days' else ''}"


def _plain(place: Place) -> str:
    """A figure as reported, in the scale of its table."""
    value = value_of(place) / place[0].scale
    return f"{int(value):,}" if value.denominator == 1 else f"{float(value):,}"


def excerpt(table: Table, needed: set[int], max_lines: int | None) -> str:
    """A table, or the lines nearest to those that are needed, which come first."""
    if max_lines is None:
        return table.text()
    near = sorted(
        (i for i, line in enumerate(table.lines) if any(line.cells)),
        key=lambda i: (min(abs(i - one) for one in needed), i),
    )
    return table.text([table.lines[i] for i in sorted(near[:max_lines])])


# --- variants and flawed completions ------------------------------------------------------------------------


def _question_first(row: Row, rng: random.Random) -> Row:
    """The question above the statements."""
    source, _, question = (asked_in(row) or "").rpartition("\n\n")
    return asking(row, f"{question}\n\n{source}")


def _reworded(row: Row, rng: random.Random) -> Row | None:
    return instructed(row, rng, SYSTEM, WORDINGS)


def corrupt(row: Row, rng: random.Random) -> str:
    """An answer that scores 0: another digit, the other sign, its scale left out or another. The working stays."""
    working, said, answer = row["completion"].rpartition("The answer is ")
    wrong = numeric_qa.corrupt({**row, "completion": answer.removesuffix(".")}, rng)
    return f"{working}{said}{wrong}."
