"""Print a statement of a filing as text: lines, labels and signs as filed, the scale in the title, one column a period.

    APPLE INC, income statement, 3 months ended (USD in millions; shares in thousands; per share in USD)
     | Jun. 30, 2023 | Jun. 30, 2022
    Net sales | 81,797 | 82,959
    Cost of sales | 45,384 | 47,074
    Gross margin | 36,413 | 35,885

The scale is the largest that shows every figure to its last digit, so printed sums are exact. A dash is zero; a cell is
empty where the filing has no figure, or nil. A table has periods of one length: a quarterly report with three and nine
months gives two tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from .sec_tables import FiledLine, FiledStatement, Filing, Key, Kind

Period = tuple[str, int]
"""(end date as YYYYMMDD, length in quarters)."""

TITLES: Mapping[str, str] = {
    "BS": "balance sheet", "IS": "income statement", "CI": "comprehensive income", "CF": "cash flow statement",
    "EQ": "equity", "SI": "schedule of investments",
}  # fmt: skip
_MONTHS = ("Jan.", "Feb.", "Mar.", "Apr.", "May", "Jun.", "Jul.", "Aug.", "Sep.", "Oct.", "Nov.", "Dec.")
_SCALED: tuple[Kind, ...] = ("money", "shares")
_SCALES = ((10**6, "millions"), (10**3, "thousands"))
MAX_COLUMNS = 3
SHARE = Decimal("0.5")
"""A period is shown if it has at least this share of the figures of the fullest one: others come from notes."""


@dataclass(frozen=True)
class PrintedLine:
    """A line of a table."""

    label: str
    key: Key
    heading: bool
    cells: tuple[str, ...]
    """[columns] as printed; empty for no figure."""
    values: tuple[Decimal | None, ...]
    """[columns] as printed, with their signs; None for no figure."""
    negated: bool = False

    @property
    def text(self) -> str:
        """The line as printed."""
        return self.label if self.heading else " | ".join((self.label, *self.cells)).rstrip()

    def evidence(self, column: int) -> str:
        """The shortest piece of the line with the label and the figure of a column."""
        return " | ".join((self.label, *self.cells[: column + 1]))


@dataclass(frozen=True)
class Relation:
    """A calculation relation in one column, in printed signs: indices of lines."""

    total: int
    parts: Mapping[int, int]
    """Index of a line -> +1 or -1."""


@dataclass(frozen=True)
class Table:
    """A statement, or its part for periods of one length."""

    title: str
    kind: str
    quarters: int
    periods: tuple[str, ...]
    """As printed."""
    lines: tuple[PrintedLine, ...]
    relations: tuple[tuple[Relation, ...], ...]
    """[columns] the calculation relations whose figures are all on a line."""
    scale: int = 1
    """What a printed unit of money stands for."""

    def text(self, lines: Sequence[PrintedLine] | None = None) -> str:
        """The table, or an excerpt of its lines."""
        shown = self.lines if lines is None else lines
        return "\n".join([self.title, " | ".join(("", *self.periods)), *(line.text for line in shown)])


def tables(filing: Filing) -> Iterator[Table]:
    """The tables of a filing that have a figure, in the order of its statements."""
    for statement in filing.statements:
        for columns in _columns(filing, statement):
            yield _table(filing, statement, columns)


# --- columns ------------------------------------------------------------------------------------------------


def _columns(filing: Filing, statement: FiledStatement) -> Iterator[list[Period]]:
    """For each length of period the periods to show, the latest first."""
    counts = Counter[Period]()
    for line in statement.lines:
        balance = statement.kind == "BS"
        if balance == line.instant and not line.heading:
            counts.update(
                when
                for when in filing.facts.get(line.key, {})
                if (when[1] == 0) == balance
                and when[0] <= filing.period
                and (balance or when[0][4:] == filing.period[4:])
            )
    latest = max(counts, key=lambda when: (when[0], counts[when]), default=None)
    if latest is None or latest[0] != filing.period:
        return
    fullest = max(count for when, count in counts.items() if when[0] == filing.period)
    for quarters in sorted({when[1] for when in counts}):
        enough = [when for when, count in counts.items() if when[1] == quarters and count >= SHARE * fullest]
        found = sorted(enough, reverse=True)[: 2 if statement.kind == "BS" else MAX_COLUMNS]
        if found and found[0][0] == filing.period:
            yield found


def _at(filing: Filing, statement: FiledStatement, index: int, period: Period) -> Decimal | None:
    """The value of a line for a period, as reported; a balance in a statement of flows is opening or closing."""
    line = statement.lines[index]
    facts = filing.facts.get(line.key, {})
    if not line.instant or statement.kind == "BS":
        return facts.get(period, (None, ""))[0]
    same = [i for i, other in enumerate(statement.lines) if other.key == line.key and not other.heading]
    opening = index != same[-1] if len(same) > 1 else "beginning" in line.label.casefold()
    return facts.get((_before(period) if opening else period[0], 0), (None, ""))[0]


def _before(period: Period) -> str:
    """The month's end at which a period begins.

    >>> _before(("20230331", 2))
    '20220930'
    """
    months = int(period[0][:4]) * 12 + int(period[0][4:6]) - 1 - 3 * period[1]
    year, month = divmod(months, 12)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month]
    return f"{year}{month + 1:02}{days}"


# --- print --------------------------------------------------------------------------------------------------


def _table(filing: Filing, statement: FiledStatement, columns: list[Period]) -> Table:
    values = [
        [None if line.heading else _at(filing, statement, i, period) for period in columns]
        for i, line in enumerate(statement.lines)
    ]
    scales: dict[Kind, tuple[int, str]] = {
        kind: _scale(
            [v for line, row in zip(statement.lines, values, strict=True) if line.kind == kind for v in row]
        )
        for kind in _SCALED
    }
    kinds = {
        line.kind
        for line, row in zip(statement.lines, values, strict=True)
        if any(v is not None for v in row)
    }
    lines = tuple(_printed(line, row, scales) for line, row in zip(statement.lines, values, strict=True))
    length = f", {3 * columns[0][1]} months ended" if columns[0][1] else ""
    kind = TITLES.get(statement.kind, "statement")
    return Table(
        title=f"{filing.company}, {kind}{length} ({_units(_currency(filing, statement), kinds, scales)})",
        kind=kind,
        quarters=columns[0][1],
        periods=tuple(f"{_MONTHS[int(date[4:6]) - 1]} {int(date[6:])}, {date[:4]}" for date, _ in columns),
        lines=lines,
        scale=scales["money"][0],
        relations=tuple(
            tuple(_relations(filing, statement, lines, column, period))
            for column, period in enumerate(columns)
        ),
    )


def _currency(filing: Filing, statement: FiledStatement) -> str:
    units = Counter(
        unit
        for line in statement.lines
        if line.kind == "money"
        for _, unit in filing.facts.get(line.key, {}).values()
    )
    return units.most_common(1)[0][0] if units else "USD"


def _scale(values: Sequence[Decimal | None]) -> tuple[int, str]:
    """(what a printed unit stands for, its name), the largest in which every value is whole."""
    given = [value for value in values if value]
    return next(((by, name) for by, name in _SCALES if given and all(v % by == 0 for v in given)), (1, ""))


def _units(currency: str, kinds: set[Kind], scales: Mapping[Kind, tuple[int, str]]) -> str:
    said = []
    if "money" in kinds:
        name = scales["money"][1]
        said.append(f"{currency} in {name}" if name else currency)
    if "shares" in kinds:
        said.append(f"shares in {scales['shares'][1] or 'full'}")
    if "per share" in kinds:
        said.append(f"per share in {currency}")
    return "; ".join(said) or "as given"


def _printed(
    line: FiledLine, values: Sequence[Decimal | None], scales: Mapping[Kind, tuple[int, str]]
) -> PrintedLine:
    by = scales[line.kind][0] if line.kind in scales else 1
    shown = tuple(None if v is None else (-v if line.negated else v) / by + 0 for v in values)
    cells = tuple(_cell(value, line.kind) for value in shown)
    return PrintedLine(line.label, line.key, line.heading, cells, shown, line.negated)


def _cell(value: Decimal | None, kind: Kind) -> str:
    """A figure as printed: `1,234`, `(56)`, `6.10` per share, a dash for zero, nothing for none."""
    if value is None:
        return ""
    if not value:
        return "—"
    digits = f"{abs(value).normalize():,f}"
    if kind == "per share":
        whole, _, decimals = digits.partition(".")
        digits = f"{whole}.{decimals:0<2}"
    return digits if value > 0 else f"({digits})"


# --- relations ----------------------------------------------------------------------------------------------


def _relations(
    filing: Filing, statement: FiledStatement, lines: Sequence[PrintedLine], column: int, period: Period
) -> Iterator[Relation]:
    """The sums that the lines of a column show. A part without a figure counts as none, if the sum holds without it.

    A sum is left out where a part has a figure that is on no line, or is reported by dimension only.
    """
    places = dict[Key, list[int]]()
    for i, line in enumerate(lines):
        if line.values[column:] and line.values[column] is not None:
            places.setdefault(line.key, []).append(i)
    seen = set[int]()
    for one in filing.sums:
        if one.report not in (None, statement.report) or one.total not in places:
            continue
        total = places[one.total][0]
        parts = {
            places[key][0]: _sign(lines, total, places[key][0], w)
            for key, w in one.parts.items()
            if key in places
        }
        hidden = any(
            filing.facts.get(key, {}).get(period, (None, ""))[0] for key in one.parts if key not in places
        )
        if (
            parts
            and not hidden
            and total not in seen
            and total not in parts
            and _holds(lines, column, total, parts)
        ):
            seen.add(total)
            yield Relation(total, parts)


def _sign(lines: Sequence[PrintedLine], total: int, part: int, weight: int) -> int:
    return weight * (-1 if lines[total].negated != lines[part].negated else 1)


def _holds(lines: Sequence[PrintedLine], column: int, total: int, parts: Mapping[int, int]) -> bool:
    whole = lines[total].values[column]
    return whole is not None and whole == sum(
        (sign * (lines[part].values[column] or 0) for part, sign in parts.items()), Decimal(0)
    )
