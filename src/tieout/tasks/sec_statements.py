"""Read a statement of a real filing for one period: every line as JSON, with citations, so that its sums tie out.

One row, of a made-up company: what the user says, after the system message SYSTEM, and the completion.

    Give the figures for Dec. 31, 2023.
    ACME CORP, income statement, 12 months ended (USD in millions)
     | Dec. 31, 2023 | Dec. 31, 2022
    Net sales | 1,250 | 1,100
    Cost of sales | 800 | 720
    Gross profit | 450 | 380

    {"figures":{"Net sales":1250,"Cost of sales":800,"Gross profit":450},"citations":{"Net sales":"Net sales | 1,250",
    "Cost of sales":"Cost of sales | 800","Gross profit":"Gross profit | 450"}}

`path` is a folder with what anyone can download from the SEC: the quarterly Financial Statement Data Sets, unpacked,
and company-facts JSON. Each statement is printed as filed (`sec_print`). Without it statements are made up, as in
`finance_statements`, and printed the same. The reward is `reconciled`, over the filing's own calculation relations, or
`reconciled_ladder` with `credit: ladder`. Splits are by company, by a hash of its CIK: adding companies moves none.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from ..rewards.library import reconcile
from ..types import Row
from . import Task
from .flaws import JSONFlaw, compact, with_flaw
from .sec_excerpts import excerpts, made_rows, made_splits
from .sec_facts import read_company_facts
from .sec_print import PrintedLine, Table, tables
from .sec_tables import Filing, read_data_sets
from .splits import from_lists, only_made
from .variants import asked_in, asking

SYSTEM = (
    'Reply in JSON: {"figures":{"line":0},"citations":{"line":""}}. Give each line that has a figure for the period, '
    "as printed: parentheses are negative, a dash is zero, an empty cell is no figure. Cite each: copy its line from "
    "the label to the figure. The second line with a label is Label (2)."
)
SPLITS: Mapping[str, float] = {"train": 0.6, "calibration": 0.1, "test": 0.3}
"""Split -> share of the companies."""
WORDINGS = (
    "What does the statement show for {period}?",
    "Extract every line of the column {period}.",
    "{period}: read all figures.",
)
_log = logging.getLogger("tieout")


def load(
    path: str | Path | None = None,
    *,
    max_lines: int | None = None,
    max_chars: int | None = None,
    generated: int = 0,
    sizes: Mapping[str, int] | None = None,
    periods: int | None = None,
    seed: int | None = None,
    credit: Literal["figures", "ladder"] = "figures",
) -> Task:
    """The task over a folder of the SEC's data sets and company facts, or one company-facts file.

    Args:
        path: A folder with sub, num, tag, pre (and cal), or of such folders, or with company-facts JSON; or one such
            JSON file. None: every statement is made up, as in `finance_statements`.
        max_lines: Cut statements into excerpts of at most so many lines with figures, so that many sums stay whole;
            None: whole statements.
        max_chars: Leave out rows whose messages and gold together are longer; None: keep all.
        generated: How many rows to add to `train` that are of made-up statements, each of another.
        sizes: Without a path: how many rows each split has, for the splits to change; see `sec_excerpts.SIZES`.
        periods: How many columns made-up statements have, 1 or 2. None: 2.
        seed: Of the made-up statements. None: 0.
        credit: `figures`: a right figure outweighs all form; `ladder`: form first, then figures.

    Raises:
        InputError: nothing is there, it is not in the format, no row is left, or an option of made-up statements stands
            where there are none.
    """
    if max_lines is not None and max_lines < 2:
        raise InputError(
            f"max_lines is {max_lines}; expected 2 or more: one line has nothing to tie out with"
        )
    if max_chars is not None and max_chars < 1:
        raise InputError(f"max_chars is {max_chars}; expected a number of characters, or none")
    if credit not in ("figures", "ladder"):
        raise InputError(f"credit is {credit!r}; expected figures or ladder")
    if generated < 0:
        raise InputError(f"generated is {generated}; expected 0 or more")
    if path is None and generated:
        raise InputError(
            f"generated is {generated}, and without a path every row is; give sizes: {{train: ...}}"
        )
    if path is not None:
        only_made("sec_statements", sizes=sizes, **({} if generated else {"periods": periods, "seed": seed}))
    columns, drawn = 2 if periods is None else periods, seed or 0
    left_out = Counter[str]()

    def rows_of(printed: Sequence[Table], facts: Mapping[str, str]) -> Iterator[Row]:
        for table in printed:
            yield from _rows(table, facts, max_lines, max_chars, left_out)

    if path is None:
        found = made_splits("sec_statements", sizes or {}, drawn, columns, rows_of)
    else:
        filings = read_filings(Path(path))
        left_out["ambiguous facts"] = sum(filing.ambiguous for filing in filings)
        found = rows_by_split(filings, rows_of)
        if not any(found.values()):
            raise InputError(
                f"{path}: no statement with two figures is left of {len(filings)} filings (max_lines={max_lines}, "
                f"max_chars={max_chars}; {_said(left_out)})"
            )
        found["train"] += made_rows(generated, drawn, "train", columns, rows_of)
    found["train"].sort(key=_mixed)
    if path is not None and any(left_out.values()):
        _log.warning("task sec_statements: left out %s", _said(left_out))

    return Task(
        name="sec_statements",
        rows=from_lists("sec_statements", found),
        reward=reconcile.reconciled if credit == "figures" else reconcile.ladder,
        metrics={
            "exact": reconcile.exact,
            "figures_right": reconcile.figures_right,
            "sums_hold": reconcile.sums_hold,
        },
        primary="exact",
        gold=lambda row: str(row["completion"]),
        corrupt=corrupt,
        flaws={name: partial(corrupt, flaw=name) for name in (*FLAWS, "truncated")},
        variants={"formatting": _tabbed, "paraphrase": _reworded},
        max_new_tokens=512 if max_lines else 4096,
        entity="company",
    )


def read_filings(path: Path) -> list[Filing]:
    """The filings of data sets and company-facts files at a path. InputError: there are none, or one is in both."""
    if path.is_file():
        return read_company_facts(path)
    if not path.is_dir():
        raise InputError(
            f"no folder {path}; expected one with the SEC's data sets, unpacked, or company-facts JSON"
        )
    files = sorted(path.glob("*.json"))
    filings = [filing for file in files for filing in read_company_facts(file)]
    if not files or any(path.glob("sub.t*")) or any(path.glob("*/sub.t*")):
        filings += read_data_sets(path)
    if twice := [adsh for adsh, count in Counter(filing.adsh for filing in filings).items() if count > 1]:
        raise InputError(
            f"{path}: filing {twice[0]} is given twice, by company facts and a data set: keep one of them"
        )
    return filings


def rows_by_split(
    filings: Sequence[Filing], rows_of: Callable[[Sequence[Table], Mapping[str, str]], Iterable[Row]]
) -> dict[str, list[Row]]:
    """Split -> the rows of its companies, mixed.

    `rows_of` makes the rows of one filing, from its statements and from `company`, `cik`, `adsh` and `form`.
    """
    found: dict[str, list[Row]] = {split: [] for split in (*SPLITS, "ood")}
    for filing in filings:
        facts = {"company": filing.company, "cik": filing.cik, "adsh": filing.adsh, "form": filing.form}
        found[split_of(filing.cik)] += rows_of(list(tables(filing)), facts)
    for rows in found.values():
        rows.sort(key=_mixed)
    return found


def _mixed(row: Row) -> bytes:
    """A place in the order in which any first part has statements of all kinds."""
    return hashlib.sha256(row["id"].encode()).digest()


def split_of(cik: str) -> str:
    """The split that a company is in, by its CIK.

    >>> split_of("320193"), split_of("1045810")
    ('train', 'test')
    """
    place = int(hashlib.sha256(f"sec_statements/{int(cik)}".encode()).hexdigest(), 16) / 2**256
    ends = zip(SPLITS, accumulate(SPLITS.values()), strict=True)
    return next((split for split, end in ends if place < end), "test")


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing else"


# --- rows ---------------------------------------------------------------------------------------------------


def _rows(
    table: Table,
    facts: Mapping[str, str],
    max_lines: int | None,
    max_chars: int | None,
    left_out: Counter[str],
) -> Iterator[Row]:
    for start, end in excerpts(table, max_lines):
        for column in range(len(table.periods)):
            row = _row(table, start, end, column, facts)
            if row is None:
                left_out["columns with fewer than two figures, or with two of one name"] += 1
            elif max_chars is not None and _chars(row) > max_chars:
                left_out[f"rows longer than {max_chars} characters"] += 1
            else:
                yield row


def _row(table: Table, start: int, end: int, column: int, facts: Mapping[str, str]) -> Row | None:
    """A row; None where fewer than two lines have a figure, or names are not unique (`Label (2)` is a label, too)."""
    lines = table.lines[start:end]
    names = _names(lines, column)
    if len(names) < 2 or len(set(names.values())) < len(names):
        return None
    source = table.text(lines)
    relations = [
        {
            "total": names[one.total - start],
            "parts": {names[part - start]: sign for part, sign in one.parts.items()},
        }
        for one in table.relations[column]
        if {i - start for i in (one.total, *one.parts)} <= set(names)
    ]
    row: dict[str, Any] = {
        "id": f"{facts['adsh']}/{table.title}/{start}/{column}",
        **facts,
        "statement": table.kind,
        "period": table.periods[column],
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"Give the figures for {table.periods[column]}.\n{source}"},
        ],
        "source": source,
        "figures": {name: plain(lines[i].values[column]) for i, name in names.items()},
        "evidence": {name: lines[i].evidence(column) for i, name in names.items()},
        "relations": relations,
        "other": _other(lines, names, column, len(table.periods)),
    }
    return {**row, "completion": compact({"figures": row["figures"], "citations": row["evidence"]})}


def _names(lines: Sequence[PrintedLine], column: int) -> dict[int, str]:
    """Index of each line with a figure -> its label; of the second line with the same label `Label (2)`, and so on.

    Lines count that have no figure in this column, too: they are printed.
    """
    seen = Counter[str]()
    names = dict[int, str]()
    for i, line in enumerate(lines):
        if line.heading:
            continue
        seen[line.label] += 1
        if line.values[column] is not None:
            names[i] = line.label if seen[line.label] == 1 else f"{line.label} ({seen[line.label]})"
    return names


def _other(
    lines: Sequence[PrintedLine], names: Mapping[int, str], column: int, columns: int
) -> dict[str, Any]:
    """What a reader of the wrong column would say; a line without a figure there has its own."""
    other = (column + 1) % columns
    at = {i: column if lines[i].values[other] is None else other for i in names}
    return {
        "figures": {name: plain(lines[i].values[at[i]]) for i, name in names.items()},
        "citations": {name: lines[i].evidence(at[i]) for i, name in names.items()},
    }


def plain(value: Decimal | None) -> int | float:
    """A printed figure as JSON has it."""
    assert value is not None
    return int(value) if value == value.to_integral_value() else float(value)


def _chars(row: Row) -> int:
    return sum(len(message["content"]) for message in row["prompt"]) + len(row["completion"])


# --- variants -----------------------------------------------------------------------------------------------


def _tabbed(row: Row, rng: random.Random) -> Row:
    """Cells between tabs."""
    source = row["source"].replace(" | ", "\t")
    evidence = {name: piece.replace(" | ", "\t") for name, piece in row["evidence"].items()}
    completion = compact({"figures": row["figures"], "citations": evidence})
    said = f"Give the figures for {row['period']}.\n{source}"
    return asking(row, said, source=source, evidence=evidence, completion=completion)


def _reworded(row: Row, rng: random.Random) -> Row:
    """The question in other words."""
    _, _, source = (asked_in(row) or "").partition("\n")
    return asking(row, f"{rng.choice(WORDINGS).format(period=row['period'])}\n{source}")


# --- flawed completions -------------------------------------------------------------------------------------


def _wrong_column(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    reply |= row["other"]
    if reply["figures"] == row["figures"]:  # every figure is the same in both
        _wrong_digit(reply, row, rng)


def _sign_flipped(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    if signed := [name for name, value in reply["figures"].items() if value]:
        name = rng.choice(signed)
        reply["figures"][name] = -reply["figures"][name]
    else:
        _wrong_digit(reply, row, rng)


def _wrong_digit(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    name = rng.choice(list(reply["figures"]))
    value = reply["figures"][name]
    reply["figures"][name] = value + rng.choice((-1, 1)) * 10 ** rng.randrange(len(str(abs(int(value)))))


def _in_full(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    """The scale of the title applied to one figure."""
    if signed := [name for name, value in reply["figures"].items() if value]:
        reply["figures"][rng.choice(signed)] *= 1000
    else:
        _wrong_digit(reply, row, rng)


def _dropped_line(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    name = rng.choice(list(reply["figures"]))
    del reply["figures"][name], reply["citations"][name]


def _citation_not_in_source(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    reply["citations"][rng.choice(list(reply["citations"]))] += str(rng.randrange(10))


def _citation_missing(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    del reply["citations"][rng.choice(list(reply["citations"]))]


FLAWS: Mapping[str, JSONFlaw] = {
    "wrong_column": _wrong_column,
    "sign_flipped": _sign_flipped,
    "wrong_digit": _wrong_digit,
    "in_full": _in_full,
    "dropped_line": _dropped_line,
    "citation_not_in_source": _citation_not_in_source,
    "citation_missing": _citation_missing,
}


def corrupt(row: Row, rng: random.Random, flaw: str | None = None) -> str:
    """A completion with one flaw (a key of FLAWS, or `truncated`), drawn if not given; scores below gold."""
    return with_flaw(str(row["completion"]), row, rng, FLAWS, flaw)
