"""Score a total of a financial statement that is broken down into the rows that add up to it, with citations.

Between 0 and 1, monotone in how good the completion really is:

| reached | score | in between |
|---|---|---|
| nothing, or not exactly one JSON object | 0 | |
| valid JSON object | 0.2 | + 0.08 for each of the three keys that holds its part of the schema |
| the schema holds | 0.5 | + 0.2 x (0.75 x share of right figures + 0.25 x share cited), below 0.7 |
| components and total are exactly the source's, and add up | 0.7 | + 0.3 x share cited |
| and each of these figures is cited, and nothing else is | 1.0 | |

A figure is right if its name and value are the source's, for the total and the period that were asked; the
right name alone counts a quarter; components that do not belong lower the share. A citation counts if it is a
verbatim piece of one line with the row's label and the printed figure; see `rewards.text.structured.cited_share`.

A row has `statement` (the text), `total` and `components` (name, value and evidence of each): see
`tasks.finance_statements`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..scoring.outcomes import ranged
from ..text.structured import cited_share, holds, match_figures, normalise_name, parse_json, reconciles

MAX_ENTRIES = 20
"""More components or citations than that are no answer: four times what a total of the task can have."""

_PARTS: Mapping[str, Mapping[str, Any]] = {
    "components": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_ENTRIES,
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": r"\S", "maxLength": 200},
                "value": {"type": "number"},
            },
            "required": ["name", "value"],
            "additionalProperties": False,
        },
    },
    "total": {"type": "number"},
    "citations": {
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "items": {"type": "string", "maxLength": 400},
    },
}


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": _PARTS,
    "required": list(_PARTS),
    "additionalProperties": False,
}
"""What a completion must look like, as a JSON schema."""


def score(
    completion: str, statement: str, total: Mapping[str, Any], components: Sequence[Mapping[str, Any]]
) -> float:
    """The reward of one completion; the table is in the module's docstring. Never raises on any string."""
    parsed = parse_json(completion)
    if parsed.error or not isinstance(parsed.value, dict):
        return 0.0
    reply: dict[str, Any] = parsed.value
    if not holds(reply, SCHEMA):
        return 0.2 + 0.08 * sum(key in reply and holds(reply[key], part) for key, part in _PARTS.items())
    right, names_only, whole = _count_figures(reply, total, components)
    cited = cited_share(reply["citations"], [row["evidence"] for row in (*components, total)], statement)
    if right == whole and reconciles([part["value"] for part in reply["components"]], reply["total"]):
        return 0.7 + 0.3 * cited
    return 0.5 + 0.2 * (0.75 * (right + 0.25 * names_only) / whole + 0.25 * cited)


def _count_figures(
    reply: Mapping[str, Any], total: Mapping[str, Any], components: Sequence[Mapping[str, Any]]
) -> tuple[int, int, int]:
    """(right figures, right names with a wrong value, figures in all: asked or given, whichever is more)."""
    given = [(normalise_name(part["name"]), part["value"]) for part in reply["components"]]
    asked = [(normalise_name(part["name"]), part["value"]) for part in components]
    right, names_only = match_figures(given, asked)
    return right + (reply["total"] == total["value"]), names_only, max(len(given), len(asked)) + 1


@ranged(0, 1)
def reward(
    completions: Sequence[str],
    statement: Sequence[str],
    total: Sequence[Mapping[str, Any]],
    components: Sequence[Sequence[Mapping[str, Any]]],
    **_: Any,
) -> list[float | None]:
    """Graded credit for a completion, 0 to 1."""
    return [score(*case) for case in zip(completions, statement, total, components, strict=True)]


def valid_json(completions: Sequence[str], **_: Any) -> list[float | None]:
    """1 if the completion is one JSON object."""
    return [float(isinstance(parse_json(completion).value, dict)) for completion in completions]


def exact(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """1 if every figure is right and cited: the reward is 1."""
    return [float(value == 1.0) for value in reward(completions, **columns)]


def figures_right(
    completions: Sequence[str],
    total: Sequence[Mapping[str, Any]],
    components: Sequence[Sequence[Mapping[str, Any]]],
    **_: Any,
) -> list[float | None]:
    """Share of the figures (components and total) with the right name and value; 0 if the schema fails."""
    shares: list[float | None] = []
    for completion, total_row, component_rows in zip(completions, total, components, strict=True):
        reply = parse_json(completion).value
        if holds(reply, SCHEMA):
            right, _names_only, whole = _count_figures(reply, total_row, component_rows)
            shares.append(right / whole)
        else:
            shares.append(0.0)
    return shares
