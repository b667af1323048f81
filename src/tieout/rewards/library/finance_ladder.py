"""The ladder of form and substance for `finance_statements`: credit in steps, most of them for form.

| reached | score | in between |
|---|---|---|
| nothing, or not exactly one JSON object | 0 | |
| valid JSON object | 0.2 | + 0.08 for each of the three keys that holds its part of the schema |
| the schema holds | 0.5 | + 0.2 x (0.75 x share of right figures + 0.25 x share cited), below 0.7 |
| components and total are exactly the source's, and add up | 0.7 | + 0.3 x share cited |
| and each of these figures is cited, and nothing else is | 1.0 | |

A figure is right if its name and value are the source's; the right name alone counts a quarter; components that do not
belong lower the share. A well-formed answer without one right figure gets 0.5, and gold in a sentence 0, so a policy
learns form first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..scoring.outcomes import ranged
from ..text.figures import meant
from ..text.structured import cited_share, holds, match_figures, normalise_name, parse_json, reconciles
from .finance_parts import parts_of
from .finance_schema import KEYS, SCHEMA


def score_parts(
    completion: str, statement: str, total: Mapping[str, Any], components: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Part -> the points of it; their sum is the score. Never raises on any string."""
    points = {"form": 0.0, "schema": 0.0, "figures": 0.0, "citations": 0.0}
    reply = parse_json(completion).value
    if not isinstance(reply, dict):
        return points
    points["form"] = 0.2
    if not holds(reply, SCHEMA):
        points["schema"] = 0.08 * sum(key in reply and holds(reply[key], part) for key, part in KEYS.items())
        return points
    points["schema"] = 0.3
    right, names_only, whole = _count(reply, total, components)
    cited = cited_share(reply["citations"], [row["evidence"] for row in (*components, total)], statement)
    exact = right == whole and reconciles([part["value"] for part in reply["components"]], reply["total"])
    points["figures"] = 0.2 if exact else 0.15 * (right + 0.25 * names_only) / whole
    points["citations"] = (0.3 if exact else 0.05) * cited
    return points


def _count(
    reply: Mapping[str, Any], total: Mapping[str, Any], components: Sequence[Mapping[str, Any]]
) -> tuple[int, int, int]:
    """(right figures, right names with a wrong value, figures in all: asked or given, whichever is more)."""
    given = [(normalise_name(part["name"]), meant(part["value"])) for part in reply["components"]]
    asked = [(normalise_name(part["name"]), meant(part["value"])) for part in components]
    right, names_only = match_figures(given, asked)
    return (
        right + (meant(reply["total"]) == meant(total["value"])),
        names_only,
        max(len(given), len(asked)) + 1,
    )


@ranged(0, 1)
def ladder(
    completions: Sequence[str],
    statement: Sequence[str],
    total: Sequence[Mapping[str, Any]],
    components: Sequence[Sequence[Mapping[str, Any]]],
    **_: Any,
) -> list[float | None]:
    """Credit in the steps of the table, 0 to 1."""
    cases = zip(completions, statement, total, components, strict=True)
    return [min(1.0, round(sum(score_parts(*case).values()), 12)) for case in cases]


PARTS = parts_of(score_parts, "form", "schema", "figures", "citations")
"""Part -> the points that it gave."""
