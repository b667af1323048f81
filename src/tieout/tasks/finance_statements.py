"""Break a total of a financial statement down into the rows that add up to it, and cite every figure.

One row (`task.rows("test")[118]`): what the user says, after the system message SYSTEM, and the completion.

    Break down Cash from financing for Q1 2019.
    Light Bancorp, cash flow statement ($ in thousands)
    | | Q1 2019 | Q1 2018 |
    | Option proceeds | 15,252 | 10,873 |
    | Lease payments | (8,909) | — |
    | Financing fees | (8,433) | (7,209) |
    | Cash from financing | (2,090) | 3,664 |
    | Dividends per share (1) | 3.64 | 2.14 |

    {"components":[{"name":"Option proceeds","value":15252},{"name":"Lease payments","value":-8909},
    {"name":"Financing fees","value":-8433}],"total":-2090,"citations":["Option proceeds | 15,252",
    "Lease payments | (8,909)","Financing fees | (8,433)","Cash from financing | (2,090)"]}

Reward, between 0 and 1, monotone in how good the completion really is:

| reached | score | in between |
|---|---|---|
| nothing, or not exactly one JSON object | 0 | |
| valid JSON object | 0.2 | + 0.08 for each of the three keys that holds its part of the schema |
| the schema holds | 0.5 | + 0.2 x (0.75 x share of right figures + 0.25 x share cited), below 0.7 |
| components and total are exactly the source's, and add up | 0.7 | + 0.3 x share cited |
| and each of these figures is cited, and nothing else is | 1.0 | |

A figure is right if its name and value are the source's, for the total and the period that were asked; the
right name alone counts a quarter; components that do not belong lower the share. A citation counts if it is a
verbatim piece of one line with the row's label and the printed figure; see `rewards.structured.cited_share`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, overload

from ..errors import InputError
from ..rewards.scoring.outcomes import ranged
from ..rewards.text.structured import (
    cited_share,
    holds,
    match_figures,
    normalise_name,
    parse_json,
    reconciles,
)
from ..types import Row
from . import Task
from .splits import split_sizes
from .statements import (
    COMPANIES,
    HELD_OUT_ITEMS,
    HELD_OUT_LAYOUTS,
    MAX_PARTS,
    SEEN_ITEMS,
    SEEN_LAYOUTS,
    Line,
    Statement,
    make_statement,
)

SYSTEM = (
    'Reply in JSON: {"components":[{"name":"","value":0}],"total":0,"citations":[""]}. '
    "Components are the rows that add up directly to the total. Cite each component and the total: copy the "
    "row from label to figure. Parentheses are negative, a dash is zero."
)

SIZES: Mapping[str, int] = {"train": 4000, "calibration": 200, "test": 400, "ood": 150}
"""Split -> number of rows."""

_PARTS: Mapping[str, Mapping[str, Any]] = {
    "components": {
        "type": "array",
        "minItems": 1,
        "maxItems": 4 * MAX_PARTS,
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
        "maxItems": 4 * MAX_PARTS,
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


# --- reward -------------------------------------------------------------------------------------------------


def score(completion: str, statement: str, total: Mapping[str, Any], components: Sequence[Mapping]) -> float:
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
    reply: Mapping[str, Any], total: Mapping[str, Any], components: Sequence[Mapping]
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
    components: Sequence[Sequence[Mapping]],
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
    components: Sequence[Sequence[Mapping]],
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


# --- rows ---------------------------------------------------------------------------------------------------


class StatementRows(Sequence[Row]):
    """The rows of one split, made when asked for. Row i depends on nothing but (seed, split, i)."""

    def __init__(self, split: str, size: int, seed: int) -> None:
        self.split, self.size, self.seed = split, size, seed
        self._row = lru_cache(maxsize=None)(self._make)

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self._row(i) for i in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(f"row {index} of split {self.split!r}, which has {self.size} rows")
        return self._row(index % self.size)

    def _make(self, index: int) -> Row:
        rng = random.Random(f"finance_statements/{self.seed}/{self.split}/{index}")
        held_out = self.split == "ood"
        statement = make_statement(
            rng,
            layouts=HELD_OUT_LAYOUTS if held_out else SEEN_LAYOUTS,
            num_items=HELD_OUT_ITEMS if held_out else SEEN_ITEMS,
            num_distractors=(2, 3) if held_out else (0, 2),
            companies=COMPANIES[self.split],
        )
        return _row(statement, rng.choice(statement.totals), rng.randrange(len(statement.periods)))


def _row(statement: Statement, total: Line, period: int) -> Row:
    def figure(line: Line) -> dict[str, Any]:
        other = 1 - period
        return {
            "name": line.label,
            "value": line.values[period],
            "evidence": " ".join(line.spans[period].split()),
            "other_value": line.values[other],
            "other_evidence": " ".join(line.spans[other].split()),
        }

    asked = f"Break down {total.label} for {statement.periods[period]}."
    row: dict[str, Any] = {
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{asked}\n{statement.text}"},
        ],
        "statement": statement.text,
        "company": statement.company,
        "kind": str(statement.kind),
        "layout": str(statement.style.layout),
        "period": statement.periods[period],
        "total": figure(total),
        "components": [figure(line) for line in statement.parts(total)],
    }
    return {**row, "completion": gold(row)}


def gold(row: Row) -> str:
    """The completion that scores 1: compact JSON."""
    figures = [*row["components"], row["total"]]
    return dump(
        {
            "components": [{"name": part["name"], "value": part["value"]} for part in row["components"]],
            "total": row["total"]["value"],
            "citations": [figure["evidence"] for figure in figures],
        }
    )


def dump(reply: Mapping[str, Any]) -> str:
    """Compact JSON, as completions are written."""
    return json.dumps(reply, separators=(",", ":"), ensure_ascii=False)


def make(seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Task:
    """The task with other rows: `sizes` says how many rows each split has, for the splits to change."""
    counts = split_sizes("finance_statements", SIZES, sizes)
    splits = {split: StatementRows(split, size, seed) for split, size in counts.items()}

    def rows(split: str) -> Sequence[Row]:
        if split not in splits:
            raise InputError(f"no split {split!r}; finance_statements has: {', '.join(splits)}")
        return splits[split]

    return Task(
        name="finance_statements",
        rows=rows,
        reward=reward,
        metrics={"valid_json": valid_json, "exact": exact, "figures_right": figures_right},
        gold=gold,
        corrupt=lambda row, rng: corrupt(row, rng),
        max_new_tokens=384,
    )


task = make()


def check_disjoint(task: Task = task, splits: Sequence[str] = tuple(SIZES)) -> None:
    """Raise if two splits share a company, a statement, or a statement's rows under another title.

    The names make it so by construction (`COMPANIES`); this looks at the rows themselves. It also refuses
    out-of-distribution rows whose layout or number of lines occurs in another split.
    """
    traits: dict[str, Callable[[Row], Any]] = {
        "company": lambda row: row["company"],
        "statement": lambda row: row["statement"],
        "statement below the title": lambda row: row["statement"].split("\n", 1)[1],
        "layout": lambda row: row["layout"],
        "number of lines": lambda row: row["statement"].count("\n") + 1,
    }
    for trait, of in traits.items():
        seen = {split: set(map(of, task.rows(split))) for split in splits}
        for first, second in combinations(splits, 2):
            if trait in ("layout", "number of lines") and "ood" not in (first, second):
                continue
            if shared := seen[first] & seen[second]:
                raise InputError(f"splits {first} and {second} share a {trait}: {min(shared)!r}")


# --- flawed completions -------------------------------------------------------------------------------------

Flaw = Callable[[dict[str, Any], Row, random.Random], None]


def _wrong_column(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    figures = [*row["components"], row["total"]]
    for part, figure in zip(reply["components"], row["components"], strict=True):
        part["value"] = figure["other_value"]
    reply["total"] = row["total"]["other_value"]
    reply["citations"] = [figure["other_evidence"] for figure in figures]


def _sign_flipped(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    part = rng.choice([part for part in reply["components"] if part["value"]])
    part["value"] = -part["value"]


def _dropped_component(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    index = rng.randrange(len(reply["components"]))
    del reply["components"][index], reply["citations"][index]


def _wrong_digit(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    part = rng.choice(reply["components"])
    part["value"] += rng.choice((-1, 1)) * 10 ** rng.randrange(len(str(abs(part["value"]))))


def _total_off(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    reply["total"] += rng.choice((-1, 1)) * 10 ** rng.randrange(len(str(abs(reply["total"]))))


def _plug_line(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    rng.choice(reply["components"])["name"] = "Other"


def _citation_not_in_source(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    index = rng.randrange(len(reply["citations"]))
    citation = reply["citations"][index]
    # A figure with a digit more, or the label alone.
    reply["citations"][index] = rng.choice((f"{citation}{rng.randrange(10)}", citation[: len(citation) // 2]))


def _citation_missing(reply: dict[str, Any], row: Row, rng: random.Random) -> None:
    del reply["citations"][rng.randrange(len(reply["citations"]))]


FLAWS: Mapping[str, Flaw] = {
    "wrong_column": _wrong_column,
    "sign_flipped": _sign_flipped,
    "dropped_component": _dropped_component,
    "wrong_digit": _wrong_digit,
    "total_off": _total_off,
    "plug_line": _plug_line,
    "citation_not_in_source": _citation_not_in_source,
    "citation_missing": _citation_missing,
}


def corrupt(row: Row, rng: random.Random, flaw: str | None = None) -> str:
    """A completion with one flaw (a key of FLAWS, or `truncated`), drawn if not given; scores below gold."""
    flaw = flaw or rng.choice([*FLAWS, "truncated"])
    text = gold(row)
    if flaw == "truncated":
        return text[: rng.randrange(len(text) // 4, len(text))]
    if flaw not in FLAWS:
        raise InputError(f"no flaw {flaw!r}; there are: {', '.join([*FLAWS, 'truncated'])}")
    reply: dict[str, Any] = json.loads(text)
    FLAWS[flaw](reply, row, rng)
    return dump(reply)
