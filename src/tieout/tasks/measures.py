"""Measures of finance: what they are made of, their definitions, and how their answers are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ..rewards.library.statement_identities import REVENUE

Form = Literal["percent", "ratio", "days", "amount"]
DECIMALS: Mapping[Form, int] = {"percent": 1, "ratio": 2, "days": 1}
SCALES: Mapping[int, str] = {1: "", 10**3: "thousand", 10**6: "million"}
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
