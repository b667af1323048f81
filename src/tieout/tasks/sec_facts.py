"""Read the SEC's company-facts JSON (`CIK##########.json`): every fact of a company, without statements.

The file has no order of lines, no printed labels, no negated signs and no calculation arcs. So the lines of a filing
are the concepts listed here, in this order and with the file's labels; its relations are the identities that hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..errors import InputError
from .sec_tables import FORMS, FiledLine, FiledStatement, Filing, Key, Kind, known_sums

LINES: Mapping[str, str] = {
    "IS": "Revenues RevenueFromContractWithCustomerExcludingAssessedTax SalesRevenueNet CostOfRevenue "
    "CostOfGoodsAndServicesSold GrossProfit ResearchAndDevelopmentExpense SellingAndMarketingExpense "
    "GeneralAndAdministrativeExpense SellingGeneralAndAdministrativeExpense OperatingExpenses OperatingIncomeLoss "
    "InvestmentIncomeInterest InterestExpense OtherNonoperatingIncomeExpense IncomeTaxExpenseBenefit ProfitLoss "
    "NetIncomeLossAttributableToNoncontrollingInterest NetIncomeLoss EarningsPerShareBasic EarningsPerShareDiluted",
    "BS": "CashAndCashEquivalentsAtCarryingValue ShortTermInvestments AccountsReceivableNetCurrent InventoryNet "
    "AssetsCurrent PropertyPlantAndEquipmentNet OperatingLeaseRightOfUseAsset Goodwill AssetsNoncurrent Assets "
    "AccountsPayableCurrent LiabilitiesCurrent LongTermDebtNoncurrent LiabilitiesNoncurrent Liabilities "
    "TemporaryEquityCarryingAmountAttributableToParent CommonStockValue AdditionalPaidInCapital "
    "AccumulatedOtherComprehensiveIncomeLossNetOfTax RetainedEarningsAccumulatedDeficit StockholdersEquity "
    "MinorityInterest StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest "
    "LiabilitiesAndStockholdersEquity",
    "CF": "NetCashProvidedByUsedInOperatingActivities PaymentsToAcquirePropertyPlantAndEquipment "
    "NetCashProvidedByUsedInInvestingActivities NetCashProvidedByUsedInFinancingActivities",
}  # fmt: skip
"""Kind of statement -> concepts of us-gaap, in the order of their lines."""
_VERSION = "us-gaap"
_DAYS = 365.25 / 4


def read_company_facts(path: Path) -> list[Filing]:
    """The filings of a company, from the facts that each of them reported.

    Raises InputError: the file is not in the format.
    """
    try:
        whole = json.loads(path.read_text("utf-8"), parse_float=Decimal)
        concepts: Mapping[str, Any] = whole["facts"].get("us-gaap", {})
        cik, company = str(whole["cik"]), str(whole["entityName"])
        filings = dict[str, Filing]()
        for tag in (tag for tags in LINES.values() for tag in tags.split() if tag in concepts):
            for unit, facts in concepts[tag]["units"].items():
                for fact in facts:
                    if fact["form"] in FORMS:
                        _add(filings, (tag, _VERSION), unit, fact, cik, company)
        labels = {tag: str(concept.get("label") or tag) for tag, concept in concepts.items()}
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not JSON in UTF-8: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is not a company-facts file of the SEC: {error!r}; expected cik, entityName, and facts by "
            "taxonomy, tag and unit"
        ) from error
    for filing in filings.values():
        filing.statements = list(_statements(filing, labels))
        filing.sums = known_sums(filing)
    return list(filings.values())


def _add(
    filings: dict[str, Filing], key: Key, unit: str, fact: Mapping[str, Any], cik: str, company: str
) -> None:
    filing = filings.setdefault(fact["accn"], Filing(fact["accn"], cik, company, fact["form"], ""))
    end = _month_end(fact["end"])
    quarters = round(_days(fact["start"], fact["end"]) / _DAYS) if "start" in fact else 0
    if "start" in fact and quarters == 0:
        return
    filing.period = max(filing.period, end)
    given = (Decimal(fact["val"]), unit.split("/")[0])
    facts = filing.facts.setdefault(key, {})
    if facts.setdefault((end, quarters), given) != given:
        facts[end, quarters] = (None, given[1])
        filing.ambiguous += 1


def _statements(filing: Filing, labels: Mapping[str, str]) -> Iterator[FiledStatement]:
    for report, (kind, tags) in enumerate(LINES.items(), 1):
        lines = tuple(
            FiledLine(labels[tag], (tag, _VERSION), kind=_kind(tag), instant=kind == "BS")
            for tag in tags.split()
            if (tag, _VERSION) in filing.facts
        )
        if lines:
            yield FiledStatement(kind, str(report), lines)


def _kind(tag: str) -> Kind:
    return "per share" if "PerShare" in tag else "money"


def _days(start: str, end: str) -> int:
    return (date.fromisoformat(end) - date.fromisoformat(start)).days + 1


def _month_end(day: str) -> str:
    """The month's end nearest to a day, as the data sets have it: `2022-09-24` -> `20220930`."""
    given = date.fromisoformat(day)
    this = (given.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    before = given.replace(day=1) - timedelta(days=1)
    nearest = this if this - given <= given - before else before
    return nearest.strftime("%Y%m%d")
