"""A data set of made-up filings in the layout of the SEC's Financial Statement Data Sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TRAIN, TEST = "320193", "1045810"
"""CIKs of the splits `train` and `test`."""
GAAP = "us-gaap/2023"

SUB = ["adsh cik name form period", *(f"{cik}-24 {cik} ACME 10-K 20231231" for cik in (TRAIN, TEST))]
TAG = [
    "tag version abstract datatype iord tlabel",
    f"IncomeStatementAbstract {GAAP} 1 monetary D Income",
    f"Revenues {GAAP} 0 monetary D Revenues",
    f"CostOfRevenue {GAAP} 0 monetary D Cost",
    f"GrossProfit {GAAP} 0 monetary D Gross",
    f"IncomeTaxExpenseBenefit {GAAP} 0 monetary D Tax",
    f"NetIncomeLoss {GAAP} 0 monetary D Net",
    f"EarningsPerShareBasic {GAAP} 0 perShare D EPS",
    f"Shares {GAAP} 0 shares D Shares",
    f"Cash {GAAP} 0 monetary I Cash",
    f"Change {GAAP} 0 monetary D Change",
]
_LINES = [
    ("2", "1", "IS", "0", "IncomeStatementAbstract", "Income Statement", "0"),
    ("2", "2", "IS", "0", "Revenues", "Net sales", "0"),
    ("2", "3", "IS", "0", "CostOfRevenue", "Cost of sales", "0"),
    ("2", "4", "IS", "0", "GrossProfit", "Gross profit", "0"),
    ("2", "5", "IS", "0", "IncomeTaxExpenseBenefit", "Income tax", "1"),
    ("2", "6", "IS", "0", "NetIncomeLoss", "Net income (loss)", "0"),
    ("2", "7", "IS", "0", "EarningsPerShareBasic", "Basic", "0"),
    ("2", "8", "IS", "0", "Shares", "Shares", "0"),
    ("3", "1", "IS", "1", "Revenues", "In parentheses", "0"),
    ("4", "1", "CF", "0", "Cash", "Cash, beginning of year", "0"),
    ("4", "2", "CF", "0", "Change", "Change in cash", "0"),
    ("4", "3", "CF", "0", "Cash", "Cash, end of year", "0"),
]
_FACTS = [
    ("Revenues", "20231231", "4", "USD", "1250000000.0000"),
    ("CostOfRevenue", "20231231", "4", "USD", "800000000"),
    ("GrossProfit", "20231231", "4", "USD", "450000000"),
    ("IncomeTaxExpenseBenefit", "20231231", "4", "USD", "500000000"),
    ("NetIncomeLoss", "20231231", "4", "USD", "-50000000"),
    ("EarningsPerShareBasic", "20231231", "4", "USD", "-0.5000"),
    ("Shares", "20231231", "4", "shares", "100000000"),
    ("Revenues", "20221231", "4", "USD", "1100000000"),
    ("CostOfRevenue", "20221231", "4", "USD", "720000000"),
    ("GrossProfit", "20221231", "4", "USD", "380000000"),
    ("IncomeTaxExpenseBenefit", "20221231", "4", "USD", "0.0000"),
    ("NetIncomeLoss", "20221231", "4", "USD", "380000000"),
    ("EarningsPerShareBasic", "20221231", "4", "USD", ""),
    ("Cash", "20231231", "0", "USD", "70000"),
    ("Cash", "20221231", "0", "USD", "50000"),
    ("Change", "20231231", "4", "USD", "20000"),
]
_ARCS = [
    ("1", "1", "0", "GrossProfit", "Revenues"),
    ("1", "2", "1", "GrossProfit", "CostOfRevenue"),
    ("1", "3", "0", "NetIncomeLoss", "GrossProfit"),
    ("1", "4", "1", "NetIncomeLoss", "IncomeTaxExpenseBenefit"),
]


def write(folder: Path, *, end: str = "txt", cal: bool = True, facts: Sequence[tuple[str, ...]] = ()) -> Path:
    """The folder with the files; `facts` are rows of num after those of each company, in its columns."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("sub", SUB), ("tag", TAG)):
        (folder / f"{name}.{end}").write_text("".join("\t".join(line.split()) + "\n" for line in lines))
    tables = {
        "pre": (
            "adsh report line stmt inpth tag version plabel negating",
            [(*line[:5], GAAP, *line[5:]) for line in _LINES],
        ),
        "num": (
            "adsh tag version ddate qtrs uom segments coreg value",
            [(tag, GAAP, day, qtrs, uom, "", "", value) for tag, day, qtrs, uom, value in _FACTS] + [*facts],
        ),
        "cal": (
            "adsh grp arc negative ptag pversion ctag cversion",
            [(*arc[:4], GAAP, arc[4], GAAP) for arc in _ARCS],
        ),
    }
    for name, (header, rows) in tables.items():
        if name != "cal" or cal:
            every = ["\t".join((f"{cik}-24", *row)) for cik in (TRAIN, TEST) for row in rows]
            (folder / f"{name}.{end}").write_text("\n".join(["\t".join(header.split()), *every, ""]))
    return folder


INCOME = """\
ACME, income statement, 12 months ended (USD in millions; shares in millions; per share in USD)
 | Dec. 31, 2023 | Dec. 31, 2022
Income Statement
Net sales | 1,250 | 1,100
Cost of sales | 800 | 720
Gross profit | 450 | 380
Income tax | (500) | —
Net income (loss) | (50) | 380
Basic | (0.50) |
Shares | 100 |"""
CASH = """\
ACME, cash flow statement, 12 months ended (USD in thousands)
 | Dec. 31, 2023
Cash, beginning of year | 50
Change in cash | 20
Cash, end of year | 70"""
