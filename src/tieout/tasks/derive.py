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
With `calculator` the answer is the calculation, `450 / 1,250 x 100 percent`, and the reward, `calculated`, works it
out. Data and splits are those of `sec_statements`; without a path the statements are made up. A measure is asked only
where its answer is one: each figure is shown with one value, a denominator is positive, and rounding is no tie.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..rewards.library.calculated import calculated
from ..rewards.library.numeric import numeric, readable
from ..types import Row
from . import Task, numeric_qa
from .derive_made import questions
from .measures import MEASURES, SCALES, Form, Measure, Term, rounded
from .sec_excerpts import made_splits
from .sec_print import TITLES, Table
from .sec_statements import read_filings, rows_by_split
from .splits import from_lists, only_made
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
CALCULATION = (
    "Say which figures it takes, and end with the calculation, as in: The answer is 450 / 1,250 x 100 percent. Or: The "
    "answer is 1,000 - 6,062 million. It is worked out for you."
)
CALCULATIONS = (
    "Find the figures that it takes, and end with a sentence like: The answer is 450 / 1,250 x 100 percent. Or: The "
    "answer is 1,000 - 6,062 million. You need not work it out.",
)
THINKING = (
    " The figures stand between <think> and </think>; that sentence, or the answer alone, stands after them between "
    "<answer> and </answer>."
)
WHOLE = "{working} The answer is {answer}."


def load(
    path: str | Path | None = None,
    *,
    max_lines: int | None = None,
    thinking: bool = False,
    calculator: bool = False,
    sizes: Mapping[str, int] | None = None,
    periods: int | None = None,
    seed: int | None = None,
) -> Task:
    """The task over a folder of the SEC's data sets and company facts, or one company-facts file.

    Args:
        path: As of `sec_statements`. None: made-up statements, and other measures: `derive_made`.
        max_lines: Show at most so many lines of a statement, those around the figures that are needed; None: all.
        thinking: Ask for the working in <think> and the answer in <answer>, and pay a tenth for the two tags.
        calculator: Ask for the calculation in place of its result.
        sizes: Without a path: how many rows each split has, for the splits to change; as of `sec_statements`.
        periods: How many columns made-up statements have, 1 or 2; growth takes two. None: 2.
        seed: Of the made-up statements. None: 0.

    Raises:
        InputError: nothing is there, it is not in the format, no measure can be derived, or an option of made-up
            statements stands beside a path.
    """
    if max_lines is not None and max_lines < 2:
        raise InputError(f"max_lines is {max_lines}; expected 2 or more: a measure takes two figures")
    if path is None:
        made = partial(_made, max_lines=max_lines, calculator=calculator)
        found = made_splits("derive", sizes or {}, seed or 0, 2 if periods is None else periods, made)
    else:
        only_made("derive", sizes=sizes, periods=periods, seed=seed)
        filings = read_filings(Path(path))
        found = rows_by_split(filings, partial(_rows, max_lines=max_lines, calculator=calculator))
        if not any(found.values()):
            raise InputError(
                f"{path}: of {len(filings)} filings none has the figures of: {', '.join(MEASURES)}"
            )

    task = Task(
        name="derive",
        rows=from_lists("derive", found),
        reward=calculated if calculator else numeric,
        metrics={} if calculator else {"readable": readable},
        gold=lambda row: str(row["completion"]),
        corrupt=_miscalculated if calculator else corrupt,
        variants={"order": _question_first, "paraphrase": partial(_reworded, calculator=calculator)},
        max_new_tokens=256,
        entity="company",
    )
    return with_thinking(task, _thought, WHOLE, THINKING) if thinking else task


def _thought(row: Row) -> tuple[str, str]:
    """(working, answer) of a completion."""
    working, _, answer = row["completion"].removesuffix(".").rpartition(" The answer is ")
    return working, answer


# --- rows ---------------------------------------------------------------------------------------------------

Place = tuple[Table, int, int]
"""(table, line, column)."""


def _rows(
    printed: Sequence[Table], facts: Mapping[str, str], max_lines: int | None, calculator: bool
) -> Iterator[Row]:
    for name, measure in MEASURES.items():
        for table in printed:
            if table.kind == TITLES[measure.first.statement]:
                for period in table.periods:
                    terms = measure.first, measure.second
                    first, second = (place_of(term, table, period, printed) for term in terms)
                    if first is not None and second is not None:
                        row = _row(name, measure, first, second, facts, max_lines, calculator)
                        if row is not None:
                            yield row


def _made(
    printed: Iterable[Table], facts: Mapping[str, str], max_lines: int | None, calculator: bool
) -> Iterator[Row]:
    nowhere = Term("IS", ())
    for table in printed:
        for asked in questions(table, random.Random(facts["adsh"])):
            form: Form = "ratio" if asked.name == "multiple" else "percent"
            measure = Measure(asked.says, form, nowhere, nowhere, change=asked.name == "growth")
            row = _row(
                asked.name,
                measure,
                (table, *asked.first),
                (table, *asked.second),
                facts,
                max_lines,
                calculator,
            )
            if row is not None:
                yield row


def _row(
    name: str, measure: Measure, first: Place, second: Place, facts: Mapping[str, str], max_lines: int | None,
    calculator: bool,
) -> Row | None:  # fmt: skip
    """A row for the period in which the measure's first figure stands; None: it has no one answer."""
    table, _, column = first
    if table.scale != second[0].scale:  # the figures as printed are not those that are calculated with
        return None
    period = table.periods[column]
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
    scale = {"percent": "percent", "ratio": "", "days": "days"}.get(measure.form, SCALES[table.scale])
    figure = f"{answer}%" if scale == "percent" else f"{answer} {scale}".rstrip()
    named, calculation = _working(measure, first, second)
    said = f"{named}: {calculation} = {figure}. The answer is {figure}."
    if calculator:
        unit = " x 100 percent" if scale == "percent" else f" {scale}".rstrip()
        said = f"{named}. The answer is {calculation}{unit}."
    return {
        "id": f"{facts['adsh']}/{name}/{table.title}/{column}",
        **facts,
        "measure": name,
        "prompt": [
            {"role": "system", "content": CALCULATION if calculator else SYSTEM},
            {"role": "user", "content": "\n\n".join([*texts, asked])},
        ],
        "completion": said,
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


def _working(measure: Measure, first: Place, second: Place) -> tuple[str, str]:
    """(the two figures with their labels, the calculation)."""
    named = ", ".join(f"{table.lines[i].label} {table.lines[i].cells[c]}" for table, i, c in (first, second))
    one, other = (_plain(place) for place in (first, second))
    if measure.form == "amount":
        return named, f"{one} - {other}"
    top = f"({one} - {other})" if measure.change else one
    return named, f"{top} / {other}{' x 365' if measure.form == 'days' else ''}"


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


def _reworded(row: Row, rng: random.Random, calculator: bool) -> Row | None:
    return instructed(row, rng, *((CALCULATION, CALCULATIONS) if calculator else (SYSTEM, WORDINGS)))


def corrupt(row: Row, rng: random.Random) -> str:
    """An answer that scores 0: another digit, the other sign, its scale left out or another. The working stays."""
    working, said, answer = row["completion"].rpartition("The answer is ")
    wrong = numeric_qa.corrupt({**row, "completion": answer.removesuffix(".")}, rng)
    return f"{working}{said}{wrong}."


def _miscalculated(row: Row, rng: random.Random) -> str:
    """A calculation that scores 0: another digit, the other way round, without its unit, one more."""
    named, said, calculation = row["completion"].rpartition("The answer is ")
    places = [i for i, character in enumerate(calculation) if character in "0123456789"]
    place, digit = rng.choice(places), rng.choice("123456789")
    first, _, rest = calculation.partition(" / ")
    second, _, unit = rest.partition(" ")
    flawed = [
        calculation[:place] + digit + calculation[place + 1 :],
        f"{second.rstrip('.')} / {first}{' ' if unit else ''}{unit or '.'}",
        calculation.replace(" x 100 percent", "").replace(f" {row['scale']}", ""),
        f"1 + {calculation}",
    ]
    scores = calculated(flawed, [row["answer"]] * len(flawed), [row["scale"]] * len(flawed))
    wrong = [text for text, score in zip(flawed, scores, strict=True) if score == 0]
    return f"{named}{said}{rng.choice(wrong)}"
