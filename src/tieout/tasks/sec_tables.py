"""Read filings from the SEC's Financial Statement Data Sets: tab-separated `sub`, `num`, `tag`, `pre`, and `cal`.

The quarterly sets have the files as `.txt`; the larger "Financial Statement and Notes" sets have them as `.tsv`, with
the calculation arcs (`cal`). Facts of a segment, of a co-registrant or with any other dimension are left out: a
statement shows the consolidated registrant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..rewards.library.reconcile import identities

Key = tuple[str, str]
"""A concept: (tag, version)."""
Kind = Literal["money", "shares", "per share", "other"]
"""What a concept's figures count."""

FORMS = ("10-K", "10-Q", "20-F", "40-F", "10-K/A", "10-Q/A", "10-KT")
NO_DIMENSION = {"", "0x00000000"}


@dataclass(frozen=True)
class FiledLine:
    """A line of a statement, in the order in which it is printed."""

    label: str
    key: Key
    negated: bool = False
    """Printed with the opposite sign."""
    heading: bool = False
    """A heading without figures."""
    kind: Kind = "money"
    instant: bool = False
    """A balance at a date; otherwise of a period."""


@dataclass(frozen=True)
class FiledStatement:
    """A primary statement of a filing."""

    kind: str
    """BS balance sheet, IS income, CI comprehensive income, CF cash flows, EQ equity, UN not classified."""
    report: str
    lines: tuple[FiledLine, ...]


@dataclass(frozen=True)
class FiledSum:
    """A calculation relation of a filing: the total is the sum of weight x part, in values that are not negated."""

    total: Key
    parts: Mapping[Key, int]
    """Concept -> +1 or -1."""
    report: str | None = None
    """The statement that it belongs to; None: not said."""


Facts = dict[Key, dict[tuple[str, int], tuple[Decimal | None, str]]]
"""Concept -> (end date as YYYYMMDD, length in quarters; 0 = at that date) -> (value, None where it is nil; unit)."""


@dataclass
class Filing:
    """One filing: statements, facts in full units, and calculation relations."""

    adsh: str
    """Accession number."""
    cik: str
    company: str
    form: str
    period: str
    """Date of the balance sheet, YYYYMMDD."""
    statements: list[FiledStatement] = field(default_factory=list)
    sums: list[FiledSum] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)
    ambiguous: int = 0
    """Facts given twice with different values; they are left out."""


def read_data_sets(path: Path, forms: Collection[str] = FORMS) -> list[Filing]:
    """The filings of a folder with the files of one data set, or of all its folders that have them.

    Raises InputError: a file or a column is missing, or a value is no number (file and line are named).
    """
    folders = (
        [path] if _file(path, "sub") else sorted(f for f in path.iterdir() if f.is_dir() and _file(f, "sub"))
    )
    if not folders:
        raise InputError(
            f"{path}: no sub.txt (or sub.tsv); expected a folder with sub, num, tag, pre and, where there is one, cal "
            "of the SEC's Financial Statement Data Sets, or a folder of such folders: unpack the ZIP first"
        )
    found = dict[str, Filing]()
    for folder in folders:
        for filing in _read(folder, forms):
            if filing.adsh in found:
                raise InputError(
                    f"{folder}: filing {filing.adsh} is in two of the folders of {path}; keep one"
                )
            found[filing.adsh] = filing
    return list(found.values())


def _read(folder: Path, forms: Collection[str]) -> list[Filing]:
    filings = {
        row["adsh"]: Filing(row["adsh"], row["cik"], row["name"], row["form"], row["period"])
        for _, row in _rows(folder, "sub", "adsh cik name form period")
        if row["form"] in forms
    }
    if not filings:
        raise InputError(f"{folder}: sub has no filing of the forms {', '.join(forms)}")
    concepts = {
        (row["tag"], row["version"]): row
        for _, row in _rows(folder, "tag", "tag version abstract datatype iord tlabel")
    }
    lines = defaultdict[tuple[str, str, str], list[tuple[int, FiledLine]]](list)
    for at, row in _rows(folder, "pre", "adsh report line stmt inpth tag version plabel negating"):
        if row["adsh"] not in filings or row["inpth"] == "1" or row["stmt"] in ("", "CP"):
            continue
        key = (row["tag"], row["version"])
        concept = concepts.get(key)
        if concept is None:
            raise InputError(
                f"{at}: tag {key[0]} of version {key[1]} is not in tag; the files must be of one data set"
            )
        label = " ".join((row["plabel"] or concept["tlabel"] or key[0]).split())
        line = FiledLine(
            label,
            key,
            row["negating"] == "1",
            concept["abstract"] == "1",
            _kind(concept),
            concept["iord"] == "I",
        )
        lines[row["adsh"], row["report"], row["stmt"]].append((_whole(row["line"], "line", at), line))
    for (adsh, report, kind), numbered in lines.items():
        ordered = tuple(line for _, line in sorted(numbered, key=lambda pair: pair[0]))
        filings[adsh].statements.append(FiledStatement(kind, report, ordered))
    _add_sums(folder, filings)
    _add_facts(folder, filings)
    for filing in filings.values():
        filing.sums = filing.sums or known_sums(filing)
    return list(filings.values())


def _add_sums(folder: Path, filings: Mapping[str, Filing]) -> None:
    if not _file(folder, "cal"):
        return
    sums = defaultdict[tuple[str, str, Key], dict[Key, int]](dict)
    reports = dict[tuple[str, str], str | None]()
    for _, row in _rows(folder, "cal", "adsh grp negative ptag pversion ctag cversion"):
        if row["adsh"] in filings:
            weight = -1 if row["negative"] == "1" else 1
            sums[row["adsh"], row["grp"], (row["ptag"], row["pversion"])][row["ctag"], row["cversion"]] = (
                weight
            )
            reports[row["adsh"], row["grp"]] = row.get("report")
    for (adsh, group, total), parts in sums.items():
        filings[adsh].sums.append(FiledSum(total, parts, reports[adsh, group]))


def _add_facts(folder: Path, filings: Mapping[str, Filing]) -> None:
    wanted = {
        adsh: {line.key for one in filing.statements for line in one.lines}
        | {key for one in filing.sums for key in (one.total, *one.parts)}
        for adsh, filing in filings.items()
    }
    clashes = set[tuple[str, Key, tuple[str, int]]]()
    for at, row in _rows(folder, "num", "adsh tag version ddate qtrs uom value"):
        key = (row["tag"], row["version"])
        dimension = row.get("coreg") or row.get("segments") or ""
        if key not in wanted.get(row["adsh"], ()) or dimension or row.get("dimh", "") not in NO_DIMENSION:
            continue
        when = (row["ddate"], _whole(row["qtrs"], "qtrs", at))
        fact = (_number(row["value"], at), row["uom"])
        facts = filings[row["adsh"]].facts.setdefault(key, {})
        if facts.setdefault(when, fact) != fact:
            clashes.add((row["adsh"], key, when))
    for adsh, key, when in clashes:
        del filings[adsh].facts[key][when]
        filings[adsh].ambiguous += 1


def known_sums(filing: Filing) -> list[FiledSum]:
    """Sums of a filing without calculation arcs: the identities of `rewards.library.statement_identities` that hold in
    every period for which all their figures are given.
    """
    keys = {key[0]: key for key in filing.facts}
    found = []
    for identity in identities(list(keys)):
        parts = {keys[name]: sign for name, sign in identity.parts.items()}
        total = keys[identity.total]
        complete = [when for when in filing.facts[total] if all(when in filing.facts[key] for key in parts)]
        if complete and all(
            identity.holds({name: _plain(filing.facts[keys[name]][when][0]) for name in identity.names})
            for when in complete
        ):
            found.append(FiledSum(total, parts))
    return found


def _plain(value: Decimal | None) -> float | int:
    return 0 if value is None else int(value) if value == value.to_integral_value() else float(value)


def _kind(concept: Mapping[str, str]) -> Kind:
    datatype = concept["datatype"].casefold()
    if datatype in ("monetary", ""):
        return "money"
    return "per share" if datatype.startswith("pershare") else "shares" if datatype == "shares" else "other"


# --- files --------------------------------------------------------------------------------------------------


def _file(folder: Path, name: str) -> Path | None:
    return next((path for end in ("txt", "tsv") if (path := folder / f"{name}.{end}").is_file()), None)


def _rows(folder: Path, name: str, columns: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, column -> cell) for each row. The files neither quote nor escape."""
    path = _file(folder, name)
    if path is None:
        raise InputError(
            f"{folder}: no {name}.txt (or {name}.tsv), which the SEC's data sets have next to sub"
        )
    with path.open(encoding="utf-8", newline="\n") as file:
        try:
            header = next(file, "").rstrip("\r\n").split("\t")
            if lacking := [column for column in columns.split() if column not in header]:
                raise InputError(
                    f"{path}: no column {', '.join(lacking)}; the first line has: {', '.join(header)}"
                )
            for number, line in enumerate(file, 2):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) != len(header):
                    raise InputError(
                        f"{path}:{number}: {len(cells)} cells; the header has {len(header)} columns"
                    )
                yield f"{path}:{number}", dict(zip(header, cells, strict=True))
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8: {error}") from error


def _whole(text: str, column: str, at: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{at}: {column} is {text!r}; expected a whole number") from error


def _number(text: str, at: str) -> Decimal | None:
    if not text:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise InputError(f"{at}: value is {text!r}; expected a number, or nothing for nil") from error
    if not value.is_finite():
        raise InputError(f"{at}: value is {text!r}; expected a finite number")
    return value
