"""Identities of financial statements: which reported figures add up to which, in the names of us-gaap and ifrs-full.

An identity is a total and its parts. Filers report a part in one of several forms, written here in order of preference:
names that all must be reported, `?` after one that is added where it is, `-` before one that is subtracted. A filer's
form is the first whose names are reported; for the parts in DIFFER it may be a later one.

`Assets = Liabilities + StockholdersEquity` alone is no identity: StockholdersEquity is the parent's share, without what
others own of its subsidiaries, and without stock and noncontrolling interests that may have to be redeemed, which stand
between liabilities and equity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product

Forms = tuple[str, ...]
Identity = tuple[Forms, tuple[Forms, ...]]
"""(forms of the total, each one name; forms of each part)."""

INCLUDING = "IncludingPortionAttributableToNoncontrollingInterest"
REDEEMABLE = "RedeemableNoncontrollingInterestEquity"

LIABILITIES = (
    "Liabilities",
    "LiabilitiesCurrent LiabilitiesNoncurrent",
    "CurrentLiabilities NoncurrentLiabilities",
)
EQUITY = (
    f"StockholdersEquity{INCLUDING}",
    "StockholdersEquity MinorityInterest?",
    f"PartnersCapital{INCLUDING}",
    "PartnersCapital MinorityInterest?",
    "MembersEquity MinorityInterest?",
    "Equity",
    "EquityAttributableToOwnersOfParent NoncontrollingInterests?",
)
REDEEMABLE_STOCK = ("TemporaryEquityCarryingAmountAttributableToParent",)
REDEEMABLE_INTERESTS = (
    f"{REDEEMABLE}CarryingAmount",
    *(
        " ".join(
            f"{REDEEMABLE}{kind}CarryingAmount{'?' * (kind != first)}"
            for kind in ("Common", "Preferred", "Other")
        )
        for first in ("Common", "Preferred", "Other")
    ),
    f"{REDEEMABLE}FairValue",
    f"{REDEEMABLE}RedemptionValue",
)
BETWEEN = (
    "TemporaryEquityCarryingAmountIncludingPortionAttributableToNoncontrollingInterests",
    *(f"{stock} {interests}" for stock in REDEEMABLE_STOCK for interests in REDEEMABLE_INTERESTS),
    *REDEEMABLE_STOCK,
    *REDEEMABLE_INTERESTS,
    "",
)
"""Between liabilities and equity; nothing for most filers."""
REVENUE = (
    "Revenues",
    "RevenueFromContractWithCustomerExcludingAssessedTax",
    "RevenueFromContractWithCustomerIncludingAssessedTax",
    "SalesRevenueNet",
    "Revenue",
)
COST = ("-CostOfRevenue", "-CostOfGoodsAndServicesSold", "-CostOfGoodsSold", "-CostOfSales")
OTHERS_SHARE = (
    "NetIncomeLossAttributableToNoncontrollingInterest",
    "NetIncomeLossAttributableToNoncontrollingInterest NetIncomeLossAttributableToRedeemableNoncontrollingInterest",
    "NetIncomeLossAttributableToNonredeemableNoncontrollingInterest "
    "NetIncomeLossAttributableToRedeemableNoncontrollingInterest?",
    "NetIncomeLossAttributableToRedeemableNoncontrollingInterest",
)
"""Of the profit. Filers give the first with and without the part that may have to be redeemed."""
DIFFER = (REVENUE, COST, OTHERS_SHARE)

IDENTITIES: tuple[Identity, ...] = (
    (("Assets",), (("AssetsCurrent AssetsNoncurrent", "CurrentAssets NoncurrentAssets"),)),
    (("Liabilities",), (LIABILITIES[1:],)),
    ((f"StockholdersEquity{INCLUDING}",), (("StockholdersEquity MinorityInterest",),)),
    ((f"PartnersCapital{INCLUDING}",), (("PartnersCapital MinorityInterest",),)),
    (("Equity",), (("EquityAttributableToOwnersOfParent NoncontrollingInterests",),)),
    (("LiabilitiesAndStockholdersEquity", "EquityAndLiabilities"), (("Assets",),)),
    (("Assets", "LiabilitiesAndStockholdersEquity", "EquityAndLiabilities"), (LIABILITIES, BETWEEN, EQUITY)),
    (("GrossProfit",), (REVENUE, COST)),
    (("OperatingIncomeLoss",), (("GrossProfit",), ("-OperatingExpenses",))),
    (("ProfitLoss",), (("NetIncomeLoss",), OTHERS_SHARE)),
    (
        ("ProfitLoss",),
        (("ProfitLossAttributableToOwnersOfParent ProfitLossAttributableToNoncontrollingInterests",),),
    ),
    (
        ("ProfitLoss",),
        (
            ("ProfitLossBeforeTax",),
            ("-IncomeTaxExpenseContinuingOperations ProfitLossFromDiscontinuedOperations?",),
        ),
    ),
)

Sum = tuple[str, dict[str, int]]
"""(total, name -> 1 or -1), in the names that were given."""


def sums_of(names: Iterable[str]) -> list[list[Sum]]:
    """[identity][candidate] the sums that figures of these names form, the likeliest first; a prefix of a name, as in
    `us-gaap:Assets`, is kept and does not matter.

    >>> [found] = sums_of(["us-gaap:Assets", "us-gaap:Liabilities", "us-gaap:StockholdersEquity"])
    >>> found[0]
    ('us-gaap:Assets', {'us-gaap:Liabilities': 1, 'us-gaap:StockholdersEquity': 1})
    """
    given: dict[str, str] = {}
    for name in names:
        given.setdefault(name.replace("_", ":").rpartition(":")[2], name)
    found = [list(_candidates(identity, given)) for identity in IDENTITIES]
    return [candidates for candidates in found if candidates]


def _candidates(identity: Identity, given: Mapping[str, str]) -> Iterator[Sum]:
    totals, parts = identity
    forms = [[names for form in part if (names := _read(form, given)) is not None] for part in parts]
    forms = [found if part in DIFFER else found[:1] for part, found in zip(parts, forms, strict=True)]
    total = next((given[name] for name in totals if name in given), None)
    if total is not None:
        for chosen in product(*forms):
            yield total, {name: sign for form in chosen for name, sign in form.items()}


def _read(form: str, given: Mapping[str, str]) -> dict[str, int] | None:
    """The names of a form with their signs; None: one that must be reported is not."""
    found: dict[str, int] = {}
    for word in form.split():
        name = word.strip("-?")
        if name in given:
            found[given[name]] = -1 if word.startswith("-") else 1
        elif not word.endswith("?"):
            return None
    return found
