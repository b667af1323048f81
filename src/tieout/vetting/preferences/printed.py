"""Print the quality of pairs as a table of checks, and what to do below it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .advice import checks
from .quality import Quality

COLOUR = {"ok": "green", "warn": "yellow", "refuse": "red", "unknown": "dim"}


def print_quality(quality: Quality, console: Console, title: str) -> None:
    """Print a line per check, and the advice of those that did not pass."""
    table = Table(title=f"  quality of {title}", title_justify="left")
    table.add_column("check")
    table.add_column("")
    table.add_column("found", overflow="fold")
    found = checks(quality)
    for check in found:
        table.add_row(check.name, Text(check.status, COLOUR[check.status]), Text(check.said))
    console.print(table)
    for check in found:
        if check.advice and check.status != "unknown":
            console.print(f"  {check.name}: {check.advice}", markup=False, highlight=False)
    if missing := [check for check in found if check.status == "unknown"]:
        names = "; ".join(f"{check.name}: {check.advice}" for check in missing)
        console.print(f"  not known: {names}", markup=False, highlight=False)
