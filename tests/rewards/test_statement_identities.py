"""Identities of statements: those of 17 real filings, redeemable interests, IFRS, and filers for whom none is known."""

from __future__ import annotations

import csv
import doctest
import json
from pathlib import Path
from typing import Any

import pytest

import tieout.rewards.library.statement_identities
from tieout.rewards.library.reconcile import identities, reconciled
from tieout.rewards.scoring.runner import score

INCLUDING = "StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest"
REDEEMABLE = "RedeemableNoncontrollingInterestEquity"
STOCK = "TemporaryEquityCarryingAmountAttributableToParent"
OTHERS_SHARE = "NetIncomeLossAttributableToNoncontrollingInterest"
REDEEMABLE_SHARE = "NetIncomeLossAttributableToRedeemableNoncontrollingInterest"


def filings(folder: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    """(filer, date, quarters) -> name -> value, of the primary statements of 17 filings."""

    def table(name: str) -> list[dict[str, str]]:
        with (folder / "sec" / "statements" / f"{name}.txt").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))

    filer = {row["adsh"]: f"{row['name']} {row['adsh']}" for row in table("sub")}
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in table("num"):
        if row["uom"] == "USD" and row["value"]:
            sheet = found.setdefault((filer[row["adsh"]], row["ddate"], row["qtrs"]), {})
            sheet.setdefault(row["tag"], float(row["value"]))
    return found


def test_the_example_runs() -> None:
    assert doctest.testmod(tieout.rewards.library.statement_identities).failed == 0


def test_every_identity_holds_on_every_real_statement(shared_data: Path) -> None:
    """Ten filers: with redeemable interests (Tesla, Corsair), with noncontrolling ones, with neither."""
    held = dict.fromkeys(("Assets", "GrossProfit", "OperatingIncomeLoss", "ProfitLoss"), 0)
    redeemable = set()
    for (filer, *_), values in filings(shared_data).items():
        for identity in identities(list(values)):
            assert identity.gap(values) == 0, (filer, identity)
            held[identity.total] = held.get(identity.total, 0) + 1
            if any(name.startswith((REDEEMABLE, "TemporaryEquity")) for name in identity.parts):
                redeemable.add(filer[:5])
    assert redeemable == {"TESLA", "CORSA"}
    assert min(held.values()) >= 6


@pytest.mark.parametrize(
    ("between", "equity"),
    [
        ({f"{REDEEMABLE}CarryingAmount": 5}, {"StockholdersEquity": 35}),
        ({f"{REDEEMABLE}CommonCarryingAmount": 2, f"{REDEEMABLE}PreferredCarryingAmount": 3},
         {"StockholdersEquity": 32, "MinorityInterest": 3}),
        ({STOCK: 4, f"{REDEEMABLE}CarryingAmount": 1},
         {"StockholdersEquity": 30, "MinorityInterest": 5, INCLUDING: 35}),
        ({"TemporaryEquityCarryingAmountIncludingPortionAttributableToNoncontrollingInterests": 5},
         {"PartnersCapital": 35}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "us-gaap:", "us-gaap_"])
def test_what_may_be_redeemed_stands_between_liabilities_and_equity(
    between: dict[str, int], equity: dict[str, int], prefix: str
) -> None:
    values = {prefix + k: v for k, v in {"Assets": 100, "Liabilities": 60, **between, **equity}.items()}
    found = identities(list(values))
    assert [one.gap(values) for one in found] == [0] * len(found)
    (whole,) = [one for one in found if one.total == f"{prefix}Assets"]
    assert {prefix + name for name in between} <= set(whole.parts)


def test_names_of_ifrs_form_identities() -> None:
    values = {
        "Assets": 100, "CurrentAssets": 30, "NoncurrentAssets": 70, "CurrentLiabilities": 20,
        "NoncurrentLiabilities": 35, "EquityAttributableToOwnersOfParent": 41, "NoncontrollingInterests": 4,
        "Equity": 45, "EquityAndLiabilities": 100,
        "Revenue": 50, "CostOfSales": 30, "GrossProfit": 20, "ProfitLossBeforeTax": 10,
        "IncomeTaxExpenseContinuingOperations": 3, "ProfitLoss": 7, "ProfitLossAttributableToOwnersOfParent": 6,
        "ProfitLossAttributableToNoncontrollingInterests": 1,
    }  # fmt: skip
    named = {f"ifrs-full:{name}": value for name, value in values.items()}
    found = identities(list(named))
    assert [one.gap(named) for one in found] == [0] * len(found)
    assert len(found) == 7
    (parent,) = identities(
        ["Assets", "Liabilities", "EquityAttributableToOwnersOfParent", "NoncontrollingInterests"]
    )
    assert set(parent.parts) == {
        "EquityAttributableToOwnersOfParent",
        "Liabilities",
        "NoncontrollingInterests",
    }


@pytest.mark.parametrize("profit", [12, 13])
def test_the_share_of_others_is_read_as_the_filer_means_it(profit: int) -> None:
    """Some give the noncontrolling share with the redeemable part in it, some without."""
    values = {"ProfitLoss": profit, "NetIncomeLoss": 10, OTHERS_SHARE: 2, REDEEMABLE_SHARE: 1}
    (found,) = identities(values)
    assert found.holds(values)


def test_a_filer_of_whom_no_identity_is_known_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def worth(figures: dict[str, int], **columns: Any) -> float | None:
        (outcome,) = score(
            reconciled, [json.dumps({"figures": figures})], ["?"], {"figures": figures, **columns}
        )
        return outcome.score

    for _ in range(2):
        assert worth({"NetCash": 3, "acme:Total": 5}) == 1.0
    (said,) = [record.getMessage() for record in caplog.records]
    assert "no identity is known of NetCash, acme:Total" in said
    caplog.clear()
    assert worth({"NetCash": 3, "acme:Sum": 5}, relations=[]) == 1.0
    assert worth({"Assets": 5, "Liabilities": 3, "StockholdersEquity": 2}) == 1.0
    assert caplog.records == []
