"""Read figures from two statements of a real filing, and the ratios that follow from them, as JSON with citations.

One row, of a made-up company: what the user says, after the system message SYSTEM, and the completion, shortened.

    Give for Dec. 31, 2023: Net sales; Cost of sales; Gross profit; Total current assets; Total current liabilities.
    Ratios: gross margin (Gross profit / Net sales, in per cent); current ratio (Total current assets / Total ...).

    ACME CORP, income statement, 12 months ended (USD in millions)
     | Dec. 31, 2023 | Dec. 31, 2022
    Net sales | 1,250 | 1,100
    ...

    ACME CORP, balance sheet (USD in millions)
    ...

    {"figures":{"Net sales":1250,"Cost of sales":800,"Gross profit":450,...},"ratios":{"gross margin":36.0,...},
    "citations":{"Net sales":"Net sales | 1,250",...}}

The measures are those of `derive` whose two figures stand in one statement and are divided. What such a figure is the
total of, by the filing's own calculation, is asked too, if it has few parts. The reward is `reconciled`: a ratio counts
as a figure does, and follows from the source's figures, not from those of the answer. Data and splits are those of
`sec_statements`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..rewards.library import reconcile
from ..types import Row
from . import Task, sec_statements
from .derive import excerpt, place_of, value_of
from .flaws import JSONFlaw, compact, with_flaw
from .measures import DECIMALS, MEASURES, rounded
from .sec_print import TITLES, Table
from .sec_statements import plain, read_filings, rows_by_split
from .splits import from_lists

SYSTEM = (
    'Reply in JSON: {"figures":{"line":0},"ratios":{"ratio":0},"citations":{"line":""}}. Give the figures as printed: '
    "parentheses are negative, a dash is zero. Percentages have one decimal, ratios two. Cite each figure: copy its "
    "line from the label to the figure."
)
ASKED = tuple(
    (name, one)
    for name, one in MEASURES.items()
    if one.form in DECIMALS
    and one.form != "days"
    and not one.change
    and one.first.statement == one.second.statement
)
"""Measures that `reconciled` can compute again: two figures of one statement, divided."""
MAX_PARTS = 4
"""Of a total whose parts are asked too."""
Figures = dict[str, tuple[Table, int, int]]
"""Label -> where it stands: (table, line, column)."""


def load(path: str | Path, *, max_lines: int | None = None) -> Task:
    """The task over a folder of the SEC's data sets and company facts, or one company-facts file.

    Args:
        path: As of `sec_statements`.
        max_lines: Show at most so many lines of a statement, those around the figures that are asked; None: all.

    Raises:
        InputError: nothing is there, it is not in the format, or no two statements of a filing have a ratio each.
    """
    if max_lines is not None and max_lines < 2:
        raise InputError(f"max_lines is {max_lines}; expected 2 or more: a ratio takes two figures")
    filings = read_filings(Path(path))
    found = rows_by_split(filings, lambda printed, facts: _rows(printed, facts, max_lines))
    if not any(found.values()):
        raise InputError(
            f"{path}: of {len(filings)} filings none has an income statement and a balance sheet of one date with the "
            f"figures of: {', '.join(name for name, _ in ASKED)}"
        )
    return Task(
        name="ratios",
        rows=from_lists("ratios", found),
        reward=reconcile.reconciled,
        metrics={
            "exact": reconcile.exact,
            "figures_right": reconcile.figures_right,
            "ratios_right": reconcile.ratios_right,
            "sums_hold": reconcile.sums_hold,
        },
        primary="exact",
        gold=lambda row: str(row["completion"]),
        corrupt=corrupt,
        flaws={name: partial(corrupt, flaw=name) for name in (*FLAWS, "truncated")},
        max_new_tokens=768,
        entity="company",
    )


def _rows(printed: Sequence[Table], facts: Mapping[str, str], max_lines: int | None) -> Iterator[Row]:
    income, balance = ([one for one in printed if one.kind == TITLES[kind]] for kind in ("IS", "BS"))
    for first in income:
        for period in first.periods:
            second = [one for one in balance if period in one.periods]
            row = _row(first, second[0], period, facts, max_lines) if len(second) == 1 else None
            if row is not None:
                yield row


def _row(
    income: Table, balance: Table, period: str, facts: Mapping[str, str], max_lines: int | None
) -> Row | None:
    """A row; None where one of the two statements has no ratio, or a label that is asked stands twice."""
    figures: Figures = {}
    ratios = dict[str, dict[str, Any]]()
    answers = dict[str, float]()
    for table in (income, balance):
        own = list(_ratios(table, period))
        if not own:
            return None
        for name, numerator, denominator, ratio, value in own:
            figures |= {label_of(place): place for place in (numerator, denominator)}
            ratios[name], answers[name] = ratio, value
    relations = _sums(figures)
    labels = [line.label for table in (income, balance) for line in table.lines if not line.heading]
    if any(labels.count(label) > 1 for label in figures):
        return None
    texts = [
        excerpt(
            table, {i for one, i, _ in figures.values() if one is table}, _room(table, figures, max_lines)
        )
        for table in (income, balance)
    ]
    source = "\n\n".join(texts)
    row: dict[str, Any] = {
        "id": f"{facts['adsh']}/{income.title}/{period}",
        **facts,
        "period": period,
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{_question(figures, ratios, period)}\n\n{source}"},
        ],
        "source": source,
        "figures": {name: plain(table.lines[i].values[c]) for name, (table, i, c) in figures.items()},
        "ratios": ratios,
        "evidence": {name: table.lines[i].evidence(c) for name, (table, i, c) in figures.items()},
        "relations": relations,
    }
    reply = {"figures": row["figures"], "ratios": answers, "citations": row["evidence"]}
    return {**row, "completion": compact(reply)}


def _ratios(table: Table, period: str) -> Iterator[tuple[str, Any, Any, dict[str, Any], float]]:
    """(name, numerator's place, denominator's place, column of the reward, value) of each measure of a table."""
    for name, measure in ASKED:
        if TITLES[measure.first.statement] != table.kind:
            continue
        first, second = (place_of(term, table, period, [table]) for term in (measure.first, measure.second))
        if first is None or second is None or first == second:
            continue
        if any(one.lines[i].negated for one, i, _ in (first, second)):
            continue  # what is printed has another sign than what is divided
        exact = measure.value(value_of(first), value_of(second))
        shown = None if exact is None else rounded(exact, measure.form, table.scale)
        if shown is None:
            continue
        ratio = {
            "numerator": label_of(first),
            "denominator": label_of(second),
            "digits": DECIMALS[measure.form],
            "percent": measure.form == "percent",
        }
        yield name, first, second, ratio, float(shown.replace(",", ""))


def _sums(figures: Figures) -> list[dict[str, Any]]:
    """The filing's relations whose total is asked and has few parts; those are added to the figures."""
    found = []
    for table, total, column in list(figures.values()):
        for relation in table.relations[column]:
            if relation.total == total and len(relation.parts) <= MAX_PARTS:
                places = {part: (table, part, column) for part in (total, *relation.parts)}
                figures |= {label_of(place): place for place in places.values()}
                signs = {label_of(places[part]): sign for part, sign in relation.parts.items()}
                found.append({"total": label_of(places[total]), "parts": signs})
    return found


def label_of(place: tuple[Table, int, int]) -> str:
    """The label of a line."""
    table, index, _ = place
    return table.lines[index].label


def _room(table: Table, figures: Figures, max_lines: int | None) -> int | None:
    """Lines to show: all that are asked, at least."""
    return None if max_lines is None else max(max_lines, sum(one is table for one, _, _ in figures.values()))


def _question(figures: Figures, ratios: Mapping[str, Mapping[str, Any]], period: str) -> str:
    said = [
        f"{name} ({one['numerator']} / {one['denominator']}{', in per cent' if one['percent'] else ''})"
        for name, one in ratios.items()
    ]
    return f"Give for {period}: {'; '.join(figures)}.\nRatios: {'; '.join(said)}."


# --- flawed completions -------------------------------------------------------------------------------------


def _wrong_ratio(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    name = rng.choice(list(reply["ratios"]))
    reply["ratios"][name] = round(reply["ratios"][name] + rng.choice((-1, 1)) * rng.randrange(1, 20), 2)


def _turned_ratio(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    """Denominator over numerator."""
    name = rng.choice(list(reply["ratios"]))
    ratio = row["ratios"][name]
    top, bottom = (row["figures"][ratio[key]] for key in ("denominator", "numerator"))
    turned = round(top / bottom * (100 if ratio["percent"] else 1), ratio["digits"]) if bottom else 0.0
    if turned == reply["ratios"][name]:
        _wrong_ratio(reply, row, rng)
    else:
        reply["ratios"][name] = turned


FLAWS: Mapping[str, JSONFlaw] = {
    **{name: flaw for name, flaw in sec_statements.FLAWS.items() if name != "wrong_column"},
    "wrong_ratio": _wrong_ratio,
    "turned_ratio": _turned_ratio,
}


def corrupt(row: Row, rng: random.Random, flaw: str | None = None) -> str:
    """A completion with one flaw (a key of FLAWS, or `truncated`), drawn if not given; scores below gold."""
    return with_flaw(str(row["completion"]), row, rng, FLAWS, flaw)
