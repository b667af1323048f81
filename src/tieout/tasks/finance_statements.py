"""Break a total of a financial statement down into the rows that add up to it, and cite every figure.

One row (`task.rows("test")[58]`): what the user says, after the system message SYSTEM, and the completion.

    Break down Operating cash flow for Q2 2011.
    High Partners, cash flows (in millions)
    | | Q2 2011 | Q2 2010 |
    | Profit for the year | 2,238 | 1,342 |
    | Change in inventories | (232) | 274 |
    | Change in deferred revenue | — | (145) |
    | Operating cash flow | 2,006 | 1,471 |
    | Book value per share | 0.07 | 1.40 |

    {"components":[{"name":"Profit for the year","value":2238},{"name":"Change in inventories","value":-232},
    {"name":"Change in deferred revenue","value":0}],"total":2006,"citations":["Profit for the year | 2,238",
    "Change in inventories | (232)","Change in deferred revenue | —","Operating cash flow | 2,006"]}

The reward is `rewards.library.finance_statements`: between 0 and 1, and more right figures always score more. With the
option `credit: ladder` it is `rewards.library.finance_ladder`: form first, in steps of 0.2, 0.5, 0.7 and 1.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, overload

from ..errors import InputError
from ..rewards.library import finance_ladder, finance_statements
from ..types import Row
from . import Task, statement_variants
from .flaws import JSONFlaw, compact, with_flaw
from .splits import split_sizes
from .statement_forms import COMPANIES
from .statements import (
    HELD_OUT_DISTRACTORS,
    HELD_OUT_LAYOUTS,
    SEEN_DISTRACTORS,
    SEEN_LAYOUTS,
    Line,
    Statement,
    make_statement,
)
from .thinking import thinking as with_thinking
from .variants import Vary

SYSTEM = (
    'Reply in JSON: {"components":[{"name":"","value":0}],"total":0,"citations":[""]}. '
    "Components are the rows that add up directly to the total. Cite each component and the total: copy the "
    "row from label to figure. Parentheses are negative, a dash is zero."
)

SIZES: Mapping[str, int] = {"train": 4000, "calibration": 200, "test": 400, "ood": 150}
"""Split -> number of rows."""


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
        # Out of distribution are, in turn, layouts and numbers of distractors that no other split has.
        other_layout, distracted = (
            self.split == "ood" and index % 2 == 1,
            self.split == "ood" and index % 2 == 0,
        )
        statement = make_statement(
            rng,
            layouts=HELD_OUT_LAYOUTS if other_layout else SEEN_LAYOUTS,
            num_distractors=HELD_OUT_DISTRACTORS if distracted else SEEN_DISTRACTORS,
            companies=COMPANIES[self.split],
        )
        # Readers ask for the first column more often than for the one that it is compared with.
        return _row(statement, rng.choice(statement.totals), int(rng.random() < 0.25))


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
        "distractors": sum(line.role == "distractor" for line in statement.lines),
        "period": statement.periods[period],
        "total": figure(total),
        "components": [figure(line) for line in statement.parts(total)],
    }
    return {**row, "completion": gold(row)}


def gold(row: Row) -> str:
    """The completion that scores 1: compact JSON."""
    figures = [*row["components"], row["total"]]
    return compact(
        {
            "components": [{"name": part["name"], "value": part["value"]} for part in row["components"]],
            "total": row["total"]["value"],
            "citations": [figure["evidence"] for figure in figures],
        }
    )


def make(
    seed: int = 0,
    sizes: Mapping[str, int] = SIZES,
    credit: Literal["figures", "ladder"] = "figures",
    thinking: bool = False,
) -> Task:
    """The task with other rows or another reward.

    Args:
        seed: of the rows.
        sizes: how many rows each split has, for the splits to change.
        credit: `figures`: a right figure outweighs all form; `ladder`: form first, then figures.
        thinking: Ask for the sum in <think> and the JSON in <answer>, and pay a tenth for the two tags.
    """
    if credit not in ("figures", "ladder"):
        raise InputError(f"credit is {credit!r}; expected figures or ladder")
    counts = split_sizes("finance_statements", SIZES, sizes)
    splits = {split: StatementRows(split, size, seed) for split, size in counts.items()}

    def rows(split: str) -> Sequence[Row]:
        if split not in splits:
            raise InputError(f"no split {split!r}; finance_statements has: {', '.join(splits)}")
        return splits[split]

    task = Task(
        name="finance_statements",
        rows=rows,
        reward=finance_statements.reward if credit == "figures" else finance_ladder.ladder,
        metrics={
            "exact": finance_statements.exact,
            "figures_right": finance_statements.figures_right,
            "valid_json": finance_statements.valid_json,
        },
        primary="exact",
        parts=finance_statements.PARTS if credit == "figures" else finance_ladder.PARTS,
        gold=gold,
        corrupt=corrupt,
        flaws={name: partial(corrupt, flaw=name) for name in (*FLAWS, "truncated")},
        variants={
            vary.__name__: partial(_varied, vary=vary)
            for vary in (
                statement_variants.order,
                statement_variants.formatting,
                statement_variants.paraphrase,
            )
        },
        max_new_tokens=384,
        entity="company",
    )
    return with_thinking(task, _thought) if thinking else task


def _thought(row: Row) -> tuple[str, str]:
    """(the rows and their sum, the completion): `Fees, Taxes: 200 - 50 = 150`."""
    names = ", ".join(part["name"] for part in row["components"])
    terms = "".join(
        f" {'-' if part['value'] < 0 else '+'} {abs(part['value']):,}" for part in row["components"]
    )
    return f"{names}: {terms.removeprefix(' + ').strip()} = {row['total']['value']:,}", row["completion"]


def _varied(row: Row, rng: random.Random, vary: Vary) -> Row | None:
    """A variant of a row with the gold that it has."""
    found = vary(row, rng)
    return None if found is None else {**found, "completion": gold(found)}


# --- flawed completions -------------------------------------------------------------------------------------


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


FLAWS: Mapping[str, JSONFlaw] = {
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
    return with_flaw(gold(row), row, rng, FLAWS, flaw)


# --- the task with its defaults --------------------------------------------------------------------------------

task = make()
