"""Section For the reviewer: sixteen things to ask for, each with what is on record and who must say the rest."""

from __future__ import annotations

from collections.abc import Sequence

from .answers import kept
from .markup import Markup, html, joined, lead, table, ticked
from .reviewer import SAID, review_rows, seen_of
from .stored import Stored


def section(run: Stored) -> Markup:
    """The table."""
    rows = review_rows(run.judged, kept(run.evidence), seen_of(run))
    left = sum(bool(row.open) for row in rows)
    said = f"{SAID} Of {len(rows)} rows {left} wait for a person."
    columns = ["Asked for", "On record", "To be said or done, and by whom"]
    cells = [[f"{row.number}. {row.asked}", _listed(row.found), _listed(row.open)] for row in rows]
    return joined([lead(said), table(columns, cells, kind="reviewer")])


def _listed(said: Sequence[str]) -> Markup:
    return (
        html("<ul>{}</ul>", joined([html("<li>{}</li>", ticked(one)) for one in said]))
        if said
        else Markup("–")
    )
