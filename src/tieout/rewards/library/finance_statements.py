"""Score a total of a financial statement that is broken down into the rows that add up to it, with citations.

Credit is for right figures. One that is right counts 1; form, names and citations together less than 1:

| counts | for |
|---|---|
| 1 | each right figure: a component by name and value, or the total |
| 0.10 | the answer is exactly one JSON object, bare or in one fence |
| 0.26 | the schema holds; a quarter of it for each of the three keys that holds its part |
| 0.14 | share of the components that are named, whatever their value |
| 0.40 | share of the figures that are cited, less one for each citation that supports none; not below -0.05 in all |
| 1 | all of the above in full: an answer that is nearly right has to be checked as if it were wrong |

The score is the sum, divided by its highest value: the number of figures + 1.90. Everything right is 1. Figures that
are not asked are added to the number of figures, so guesses do not pay.

Between answers that give no figure too many, one with more right figures always has the higher score, whatever the form
of either; and a wrong citation is worse than none. So figures and citations are read from broken JSON too: in prose,
cut off, with other keys; see `finance_figures`. A citation counts if it is a verbatim piece of one line with the row's
label and the printed figure; see `rewards.text.structured.match_citations`. `finance_ladder` pays for form first.

A row has `statement` (the text), `total` and `components` (name, value and evidence of each): see
`tasks.finance_statements`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from ..scoring.outcomes import ranged
from ..text.structured import holds, match_citations, parse_json
from .finance_figures import count_figures, read_figures
from .finance_parts import parts_of
from .finance_schema import KEYS, SCHEMA

FORM, HOLDS, NAMED, CITED, MISCITED = 0.10, 0.26, 0.14, 0.40, -0.05
"""The counts of the table. From the least to the most that they give is less than 1, the worth of a right figure."""
WHOLE = 1.0
"""For an answer in which nothing is missing or wrong."""
BESIDES = FORM + HOLDS + NAMED + CITED + WHOLE
GRAIN = 2**20
"""Points are whole numbers of 1 / GRAIN, which floats add without an error."""


def score_parts(
    completion: str, statement: str, total: Mapping[str, Any], components: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Part -> the points of it; their sum is the score. Never raises on any string."""
    figures = read_figures(completion)
    counts = count_figures(figures, total, components)
    reply = parse_json(completion).value
    if not isinstance(reply, dict):
        form = schema = 0.0
    elif holds(reply, SCHEMA):
        form, schema = FORM, HOLDS
    else:
        kept = sum(key in reply and holds(reply[key], part) for key, part in KEYS.items())
        form, schema = FORM, HOLDS * kept / 4
    evidence = [row["evidence"] for row in (*components, total)]
    cited, wrong = match_citations(list(figures.citations.elements()), evidence, statement)
    worth = {
        "figures": float(counts.right),
        "names": NAMED * counts.names / len(components),
        "form": form,
        "schema": schema,
        "citations": max(MISCITED, CITED * (cited - wrong) / len(evidence)),
    }
    full = counts.right == counts.whole and form + schema == FORM + HOLDS and cited - wrong == len(evidence)
    worth["whole"] = WHOLE if full else 0.0
    # Rounded as a running sum, so that the parts add up to the score, and to 1 if everything is right.
    sums = [round(max(0.0, s) / (counts.whole + BESIDES) * GRAIN) for s in accumulate(worth.values())]
    return {
        part: (end - start) / GRAIN for part, (start, end) in zip(worth, pairwise([0, *sums]), strict=True)
    }


def score(
    completion: str, statement: str, total: Mapping[str, Any], components: Sequence[Mapping[str, Any]]
) -> float:
    """The reward of one completion; the table is in the module's docstring. Never raises on any string."""
    return sum(score_parts(completion, statement, total, components).values())


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


PARTS = parts_of(score_parts, "form", "schema", "figures", "names", "citations", "whole")
"""Part -> the points that it gave."""


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
    """Share of the figures (components and total) with the right name and value, whatever the form of the answer."""
    shares: list[float | None] = []
    for completion, total_row, component_rows in zip(completions, total, components, strict=True):
        counts = count_figures(read_figures(completion), total_row, component_rows)
        shares.append(counts.right / counts.whole)
    return shares
