"""What financial statements are made of: rows that occur together, their labels, and company names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the statement reports."""

    INCOME = "income"
    BALANCE = "balance"
    CASH_FLOW = "cash_flow"
    SEGMENTS = "segments"


@dataclass(frozen=True)
class Block:
    """Items and the sum that closes them."""

    totals: str
    plus: str
    minus: str = ""
    either: str = ""
    anchor: str = ""
    """The large positive figure it starts from (sales, gross profit); in a chain, the sum above."""


@dataclass(frozen=True)
class Form:
    """Blocks that occur together, in this order."""

    kind: Kind
    titles: str
    blocks: tuple[Block, ...]
    grand: str = ""
    """Labels of the sum of the blocks' sums; "" for none."""
    chain: bool = False
    """Whether each block's sum is the first component of the next block's."""


# Labels are separated by semicolons, in the order in which filings print them.
_CURRENT_ASSETS = Block(
    "Total current assets",
    "Cash and equivalents; Restricted cash; Short-term investments; Accounts receivable; Notes receivable; "
    "Inventories; Contract assets; Prepaid expenses; Income taxes receivable; Assets held for sale; Other "
    "current assets",
)
_NONCURRENT_ASSETS = Block(
    "Total noncurrent assets; Total long-term assets",
    "Property and equipment; Operating leases; Goodwill; Intangible assets; Long-term investments; Equity "
    "investments; Deferred tax assets; Pension assets; Long-term receivables; Other noncurrent assets",
)
_CURRENT_LIABILITIES = Block(
    "Total current liabilities",
    "Accounts payable; Accrued expenses; Accrued compensation; Deferred revenue; Short-term debt; Income "
    "taxes payable; Customer deposits; Dividends payable; Current lease liabilities; Other current "
    "liabilities",
)
_NONCURRENT_LIABILITIES = Block(
    "Total noncurrent liabilities; Total long-term liabilities",
    "Long-term debt; Lease liabilities; Deferred tax liabilities; Pension obligations; Warranty reserves; "
    "Long-term deferred revenue; Environmental reserves; Other noncurrent liabilities",
)
_EQUITY = Block(
    "Total equity; Total shareholders' equity",
    "Common stock; Preferred stock; Paid-in capital; Retained earnings; Minority interest",
    minus="Accumulated deficit; Treasury stock; Currency translation losses",
    either="Other comprehensive income",
)
_REVENUE = Block(
    "Total revenue; Net revenue",
    "Product revenue; Service revenue; Subscription revenue; License revenue; Rental income; Maintenance "
    "fees; Advertising revenue; Royalties; Commissions; Consulting revenue; Other revenue",
    minus="Discounts; Returns and allowances",
)
_OPERATING_EXPENSES = Block(
    "Total operating expenses; Total expenses",
    "Cost of services; Research and development; Sales and marketing; General and administrative; "
    "Depreciation; Amortization; Salaries and benefits; Rent and utilities; Restructuring charges; "
    "Impairment; Legal costs; Other expenses",
)
_GROSS_PROFIT = Block(
    "Gross profit",
    "",
    minus="Cost of products; Cost of services; Freight and delivery; Inventory write-downs; Royalty costs; "
    "Warranty costs; Production wages; Factory depreciation",
    anchor="Net sales; Revenue; Sales",
)
_OPERATING_INCOME = Block(
    "Operating income; Operating profit",
    "",
    minus="Research and development; Sales and marketing; General and administrative; Depreciation; "
    "Amortization; Restructuring charges; Impairment; Legal costs; Other expenses",
    either="Gain on disposals",
    anchor="Gross profit",
)
_PRETAX_INCOME = Block(
    "Income before taxes; Profit before tax",
    "Interest income; Dividend income",
    minus="Interest expense; Debt issue costs; Pension costs",
    either="Foreign exchange result; Other income; Equity method result; Fair value changes",
    anchor="Operating income; Operating profit",
)
_OPERATING_CASH = Block(
    "Cash from operations; Operating cash flow",
    "Depreciation; Stock compensation; Bad debt provision; Impairment; Amortization",
    either="Deferred taxes; Change in receivables; Change in inventories; Change in payables; Change in "
    "deferred revenue; Other working capital",
    anchor="Net income; Profit for the year",
)
_INVESTING_CASH = Block(
    "Cash from investing; Investing cash flow",
    "Sales of securities; Sales of equipment; Sales of businesses",
    minus="Capital expenditures; Purchases of securities; Acquisitions; Purchases of licenses; Software "
    "development; Loans to partners",
)
_FINANCING_CASH = Block(
    "Cash from financing; Financing cash flow",
    "Debt issued; Shares issued; Option proceeds; Grants received",
    minus="Debt repaid; Dividends paid; Share buybacks; Lease payments; Financing fees",
)
_REGIONS = Block(
    "Total revenue; Consolidated revenue",
    "North America; United States; Canada; Latin America; Europe; Germany; United Kingdom; Middle East; "
    "Africa; Asia Pacific; China; Japan; India; Rest of world",
    minus="Eliminations",
)
_SEGMENTS = Block(
    "Total segment profit; Segment income",
    "Consumer; Enterprise; Cloud; Devices; Software; Health care; Energy; Industrial; Retail; Wholesale; "
    "Insurance; Logistics; Media",
    minus="Corporate costs; Unallocated items",
    either="Discontinued lines",
)

FORMS: tuple[Form, ...] = (
    Form(Kind.INCOME, "income statement; statement of operations", (_REVENUE, _OPERATING_EXPENSES)),
    Form(Kind.INCOME, "income statement; profit and loss", (_GROSS_PROFIT, _OPERATING_INCOME), chain=True),
    Form(Kind.INCOME, "income statement; earnings", (_OPERATING_INCOME, _PRETAX_INCOME), chain=True),
    Form(
        Kind.BALANCE,
        "balance sheet; financial position",
        (_CURRENT_ASSETS, _NONCURRENT_ASSETS),
        "Total assets",
    ),
    Form(
        Kind.BALANCE,
        "balance sheet; financial position",
        (_CURRENT_LIABILITIES, _NONCURRENT_LIABILITIES),
        "Total liabilities",
    ),
    Form(
        Kind.BALANCE,
        "balance sheet; financial position",
        (_NONCURRENT_LIABILITIES, _EQUITY),
        "Total capital employed",
    ),
    Form(
        Kind.CASH_FLOW,
        "cash flow statement; cash flows",
        (_OPERATING_CASH, _INVESTING_CASH),
        "Free cash flow",
    ),
    Form(
        Kind.CASH_FLOW,
        "cash flow statement; cash flows",
        (_INVESTING_CASH, _FINANCING_CASH),
        "Investing and financing",
    ),
    Form(Kind.SEGMENTS, "segment information; segment table", (_REGIONS, _SEGMENTS)),
)

SCALES = ("in thousands", "in millions", "$ in thousands", "$ in millions", "EUR in millions", "$'000")
PER_SHARE = (
    "Earnings per share",
    "Diluted earnings per share",
    "Dividends per share",
    "Book value per share",
)
COUNTS = ("Employees", "Stores", "Average shares", "Customers", "Patents")
PERCENTAGES = (
    "Gross margin",
    "Operating margin",
    "Effective tax rate",
    "Revenue growth",
    "Return on equity",
)
MAX_PARTS = 5
"""No sum has more components than this."""

_COMPANY_WORDS: Mapping[str, str] = {
    "base": "Amber Birch Cobalt Dover Ember Falcon Garnet Hazel Indigo Juniper Keystone Linden Meadow "
    "Nimbus Orchid Prairie Quarry Ridge Sable Timber Umber Violet Willow Xenon Yarrow Zephyr",
    "train": "Alder Bright Cedar Delta Eagle Fair Golden Harbor Island Jasper King Lake Maple North Ocean "
    "Pine Quick River Silver Tower Union Valley West York Zenith Atlas Beacon Crown Dawn Echo "
    "Forest Grand Hill Iron",
    "calibration": "Anchor Bridge Castle Drift Elm Frost Globe Heron",
    "test": "Arrow Bay Copper Dune Ever Flint Glen High Ivory Jade Kite Light",
    "ood": "Aspen Bold Clear Deep Earth Fern Green Hawk",
}
_COMPANY_ENDINGS = (
    "Foods Inc; Energy Corp; Systems Ltd; Retail Group; Health Inc; Materials plc; Media Corp; Motors AG; "
    "Logistics Ltd; Software Inc; Bancorp; Partners"
)


def split_labels(labels: str) -> list[str]:
    """`"a; b"` -> `["a", "b"]`."""
    return [label for label in labels.split("; ") if label]


COMPANIES: Mapping[str, tuple[str, ...]] = {
    split: tuple(f"{word} {ending}" for word in words.split() for ending in split_labels(_COMPANY_ENDINGS))
    for split, words in _COMPANY_WORDS.items()
}
"""Split -> company names. Disjoint, so statements of different splits are. `base`: pretraining."""
