"""Extracted figures that must tie out: parts add up to subtotals and totals, ratios follow from their figures.

A completion is one JSON object, bare or in one fence:

    {"figures": {"Assets": 9033938000, ...}, "ratios": {"CurrentRatio": 1.78},
     "citations": {"Assets": "Total assets | 9,033,938", ...}}

`ratios` and `citations` only where the row asks for them. Credit is for right figures; the rest together is worth less
than one of them:

| counts | for |
|---|---|
| 1 | each figure that is the source's, and each ratio that follows from the source's figures |
| 0.10 | the answer is exactly one JSON object |
| 0.26 | the schema holds, with exactly the names asked; a share of it for the parts that do |
| 0.40 | share of the figures that are cited, less one for each citation that does not support its figure |
| 1 | all of the above in full: figures that are the source's add up as the source's do |

The score is the sum, divided by its highest value; everything right is 1. Figures that are not asked are added to the
number of figures, so guesses do not pay. Figures are read from broken JSON too: no form outweighs a right one.

`ladder`, registered as `reconciled_ladder`, pays for form first:

| reached | score | in between |
|---|---|---|
| nothing, or not exactly one JSON object | 0 | |
| valid JSON object | 0.2 | + 0.3 x share of its parts that hold their schema, below 0.5 |
| the schema holds: exactly the names asked | 0.5 | + 0.2 x share of figures, relations, ratios that are right |
| every figure is the source's, every relation and ratio holds | 0.7 | + 0.3 x share of figures cited |
| and each figure is cited (or the row has no source) | 1.0 | |

Neither catches figures that are wrong in the row itself, unless a relation of the row contradicts them: then the row
is refused. They pay for right figures however they were found.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

from ...errors import InputError
from ..scoring.outcomes import ranged
from ..text.figures import Number, meant, printed
from ..text.loose_json import Node, Value, number, read_loose
from ..text.structured import cited_share, holds, parse_json
from .statement_identities import sums_of

_log = logging.getLogger("tieout")


@dataclass(frozen=True)
class Relation:
    """`total` is the sum of `parts`, each with its sign."""

    total: str
    parts: Mapping[str, int]
    """Name -> +1 or -1."""

    @property
    def names(self) -> set[str]:
        """The total and its parts."""
        return {self.total, *self.parts}

    def gap(self, values: Mapping[str, Number]) -> float | None:
        """Total minus parts; None where a figure is missing or not finite: that never holds.

        >>> Relation("Assets", {"Liabilities": 1, "Equity": 1}).gap({"Assets": 10, "Liabilities": 6, "Equity": 3})
        1.0
        """
        gap = self._gap(values)
        try:
            return None if gap is None else float(gap)
        except OverflowError:
            return math.inf if gap and gap > 0 else -math.inf

    def _gap(self, values: Mapping[str, Number]) -> Fraction | None:
        given = [values.get(name) for name in (self.total, *self.parts)]
        if not self.parts or any(v is None or isinstance(v, bool) or not math.isfinite(v) for v in given):
            return None
        whole = printed(values[self.total])
        return whole - sum(sign * printed(values[name]) for name, sign in self.parts.items())

    def holds(self, values: Mapping[str, Number], tolerance: float = 0.0) -> bool:
        """Whether all is there and adds up within `tolerance`, in the decimals that are printed."""
        gap = self._gap(values)
        return gap is not None and abs(gap) <= printed(tolerance)


@dataclass(frozen=True)
class Ratio:
    """`numerator / denominator`, rounded to `digits` decimals; times 100 with `percent`."""

    numerator: str
    denominator: str
    digits: int = 2
    percent: bool = False

    def holds(self, value: Number, values: Mapping[str, Number]) -> bool:
        """Whether `value` is within half a unit of the last digit of what the figures give."""
        top, bottom = values.get(self.numerator), values.get(self.denominator)
        if top is None or not bottom or not all(map(math.isfinite, (top, bottom, value))):
            return False
        exact = printed(top) / printed(bottom) * (100 if self.percent else 1)
        return abs(printed(value) - exact) <= Fraction(1, 2 * 10**self.digits)


def identities(figures: Sequence[str] | Mapping[str, Number]) -> list[Relation]:
    """The identities that the figures of these names form; none where no identity of `statement_identities` fits.

    Where filers differ in what a name includes, values say which form this one uses, if they are given.

    >>> [sorted(i.parts) for i in identities(["Assets", "Liabilities", "StockholdersEquity"])]
    [['Liabilities', 'StockholdersEquity']]
    """
    values = figures if isinstance(figures, Mapping) else {}
    found = []
    for candidates in sums_of(figures):
        relations = [Relation(total, parts) for total, parts in candidates]
        found.append(next((one for one in relations if one.holds(values)), relations[0]))
    return found


@lru_cache(maxsize=1024)
def _say_unknown(names: tuple[str, ...]) -> None:
    """Once per process and filer."""
    _log.warning(
        "reward 'reconciled': no identity is known of %s: they are compared with the source, and no sum of them "
        "is. Give sums in column 'relations', as {'total': name, 'parts': {name: 1 or -1}}; [] says that there is none",
        ", ".join(names[:8]) + (", ..." if len(names) > 8 else ""),
    )


# --- rewards ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What one row asks for."""

    figures: Mapping[str, Number]
    relations: Sequence[Relation]
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    source: str | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not self.figures:
            raise InputError("reward 'reconciled': column 'figures' is empty; expected name -> value")
        for relation in self.relations:
            if not relation.holds(self.figures, self.tolerance):
                raise InputError(
                    f"reward 'reconciled': in the row itself, {relation.total} is not the sum of "
                    f"{', '.join(relation.parts)}: the gap is {relation.gap(self.figures)}"
                )
        if self.source is not None and set(self.evidence) != set(self.figures):
            raise InputError("reward 'reconciled': column 'evidence' must have the names of column 'figures'")


Columns = Sequence[Mapping[str, Any] | None] | None
FORM, HOLDS, CITED, MISCITED, WHOLE = 0.10, 0.26, 0.40, -0.05, 1.0
"""The counts of the table. The first three and the fourth are less than 1 apart, the worth of a right figure."""


@ranged(0, 1)
def reconciled(
    completions: Sequence[str],
    figures: Sequence[Mapping[str, Number]],
    relations: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
    ratios: Columns = None,
    source: Sequence[str | None] | None = None,
    evidence: Columns = None,
    tolerance: Sequence[float | None] | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] credit for right figures; the table is in this module's docstring.

    Args:
        completions: [K] texts.
        figures: [K] name -> value of every figure that is asked, as in the source.
        relations: [K] lists of `{"total": name, "parts": {name: 1 or -1}}`; None: `identities` of the figures.
        ratios: [K] name -> `{"numerator", "denominator", "digits", "percent"}`.
        source: [K] the text to cite; None: citations are not asked.
        evidence: [K] name -> the shortest piece of the source that shows its label and figure.
        tolerance: [K] how far sums may be off, for sources that round; None: 0.

    Raises:
        ValueError: the row contradicts itself.
    """
    rows = _rows(len(completions), figures, relations, ratios, source, evidence, tolerance)
    return [_substance(text, asked) for text, asked in zip(completions, rows, strict=True)]


@ranged(0, 1)
def ladder(
    completions: Sequence[str],
    figures: Sequence[Mapping[str, Number]],
    relations: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
    ratios: Columns = None,
    source: Sequence[str | None] | None = None,
    evidence: Columns = None,
    tolerance: Sequence[float | None] | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] credit in the steps of the second table of this module's docstring; arguments as of `reconciled`."""
    rows = _rows(len(completions), figures, relations, ratios, source, evidence, tolerance)
    return [_steps(text, asked) for text, asked in zip(completions, rows, strict=True)]


@ranged(0, 1)
def exact(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """[K] 1 if everything is right: `reconciled` is 1."""
    return [float(score == 1) for score in reconciled(completions, **columns)]


@ranged(0, 1)
def figures_right(
    completions: Sequence[str], figures: Sequence[Mapping[str, Number]], **_: Any
) -> list[float | None]:
    """[K] share of the figures, asked or given, whichever are more, that are the source's, whatever the form."""
    shares: list[float | None] = []
    for text, row in zip(completions, figures, strict=True):
        asked = {(name, _asked_figure(name, value)) for name, value in _given(row).items()}
        given = {(name, _number(value)) for name, value in _said(text)["figures"]}
        shares.append(len(given & asked) / max(len(given), len(asked)))
    return shares


@ranged(0, 1)
def ratios_right(
    completions: Sequence[str], figures: Sequence[Mapping[str, Number]], ratios: Columns = None, **_: Any
) -> list[float | None]:
    """[K] share of the ratios, asked or given, that follow from the source's figures; None where none is asked."""
    shares: list[float | None] = []
    rows = _rows(len(completions), figures, [[]] * len(completions), ratios, None, None, None)
    for text, asked in zip(completions, rows, strict=True):
        given = {(name, _number(value)) for name, value in _said(text)["ratios"]}
        right = sum(value is not None and _follows(asked, name, value) for name, value in given)
        shares.append(right / max(len(given), len(asked.ratios)) if asked.ratios else None)
    return shares


@ranged(0, 1)
def sums_hold(
    completions: Sequence[str], relations: Sequence[Sequence[Mapping[str, Any]] | None], **_: Any
) -> list[float | None]:
    """[K] share of the row's relations that hold in the figures given, right or not; None: the row has none."""
    shares: list[float | None] = []
    for text, row in zip(completions, relations, strict=True):
        read = ((name, _number(value)) for name, value in _said(text)["figures"])
        given = {name: value for name, value in read if value is not None}
        ties = [Relation(one["total"], _given(one["parts"])).holds(given) for one in row or ()]
        shares.append(sum(ties) / len(ties) if ties else None)
    return shares


def _rows(count: int, *columns: Any) -> list[_Asked]:
    return [_asked(*row) for row in zip(*(column or [None] * count for column in columns), strict=True)]


def _asked(
    figures: Mapping[str, Number], relations: Any, ratios: Any, source: Any, evidence: Any, tolerance: Any
) -> _Asked:
    figures = {name: _asked_figure(name, value) for name, value in _given(figures).items()}
    wanted = (
        identities(figures)
        if relations is None
        else [Relation(one["total"], _given(one["parts"])) for one in relations]
    )
    if relations is None and figures and not wanted:
        _say_unknown(tuple(figures))
    of = {name: Ratio(**_given(ratio)) for name, ratio in _given(ratios).items()}
    return _Asked(figures, wanted, of, source, _given(evidence), tolerance or 0.0)


def _given(column: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a row gives: a table of rows with different names fills them up with None."""
    return {name: value for name, value in (column or {}).items() if value is not None}


def _asked_figure(name: str, value: Any) -> Number:
    read = number(value) if isinstance(value, str) else value
    if isinstance(read, bool) or read is None or not math.isfinite(read):
        raise InputError(
            f"reward 'reconciled': column 'figures' has {value!r} for {name!r}; expected a number"
        )
    return meant(read)


def _substance(completion: str, asked: _Asked) -> float:
    reply, schema = parse_json(completion).value, _schema(asked)
    said = _said(completion)
    figures = {(name, _number(value)) for name, value in said["figures"]}
    ratios = {(name, _number(value)) for name, value in said["ratios"]}
    right = len(figures & set(asked.figures.items())) + len(
        {name for name, value in ratios if value is not None and _follows(asked, name, value)}
    )
    whole = max(len(figures), len(asked.figures)) + max(len(ratios), len(asked.ratios))
    form = kept = cited = 0.0
    if isinstance(reply, dict):
        fits = sum(name in reply and holds(reply[name], part) for name, part in schema.items())
        form, kept = FORM, fits / len(schema) if set(reply) == set(schema) else fits / (len(schema) + 1)
    if asked.source is not None:
        cited = _cited(asked, {(name, text) for name, text in said["citations"] if isinstance(text, str)})
    full = right == whole and kept == 1 and (asked.source is None or cited == 1)
    if full:
        return 1.0
    besides = FORM + HOLDS + (CITED if asked.source is not None else 0.0) + WHOLE
    return max(0.0, right + form + HOLDS * kept + max(MISCITED, CITED * cited)) / (whole + besides)


def _follows(asked: _Asked, name: str, value: Number) -> bool:
    return name in asked.ratios and asked.ratios[name].holds(value, asked.figures)


def _cited(asked: _Asked, citations: set[tuple[str, str]]) -> float:
    """Share of the figures whose citation supports them, less the citations that do not support theirs."""
    assert asked.source is not None
    supported = {
        (name, text)
        for name, text in citations
        if name in asked.evidence and cited_share([text], [asked.evidence[name]], asked.source) == 1
    }
    wrong = sum(bool(text) for _, text in citations - supported)
    return (len({name for name, _ in supported}) - wrong) / len(asked.figures)


def _said(completion: str) -> dict[str, list[tuple[str, Value]]]:
    """What a text says of figures, ratios and citations, wherever these keys are in it."""
    found: dict[str, list[tuple[str, Value]]] = {"figures": [], "ratios": [], "citations": []}
    nodes = list(read_loose(completion))
    while nodes:
        for key, value in nodes.pop().items:
            if isinstance(value, Node) and (role := key.casefold()) in found:
                found[role] += value.items
            elif isinstance(value, Node):
                nodes.append(value)
    return found


def _number(value: Value) -> Number | None:
    return number(value) if isinstance(value, str) else None if isinstance(value, Node) else value


def _steps(completion: str, asked: _Asked) -> float:
    parsed = parse_json(completion)
    if parsed.error or not isinstance(parsed.value, dict):
        return 0.0
    reply, schema = parsed.value, _schema(asked)
    kept = [name in reply and holds(reply[name], part) for name, part in schema.items()]
    if not all(kept) or set(reply) != set(schema):
        return 0.2 + 0.3 * sum(kept) / (len(schema) + 1)
    given: dict[str, Number] = {name: meant(value) for name, value in reply["figures"].items()}
    right = [given[name] == value for name, value in asked.figures.items()]
    # A relation of wrong figures may hold by chance, as all zeros do: it counts only where its figures are right.
    ties = [
        relation.holds(given, asked.tolerance) and all(given[n] == asked.figures[n] for n in relation.names)
        for relation in asked.relations
    ]
    ties += [
        ratio.holds(reply["ratios"][name], given)
        and all(given[n] == asked.figures[n] for n in (ratio.numerator, ratio.denominator))
        for name, ratio in asked.ratios.items()
    ]
    checks = [*right, *ties]
    if not all(checks):
        return 0.5 + 0.2 * sum(checks) / len(checks)
    if asked.source is None:
        return 1.0
    order = list(asked.figures)
    cited = [
        cited_share([reply["citations"][name]], [asked.evidence[name]], asked.source) == 1 for name in order
    ]
    return 0.7 + 0.3 * sum(cited) / len(cited)


def _schema(asked: _Asked) -> dict[str, Mapping[str, Any]]:
    """Part -> its JSON schema: exactly the names that were asked."""

    def exactly(names: Mapping[str, Any], of: Mapping[str, Any]) -> Mapping[str, Any]:
        properties = dict.fromkeys(names, of)
        return {
            "type": "object",
            "properties": properties,
            "required": list(names),
            "additionalProperties": False,
        }

    parts = {"figures": exactly(asked.figures, {"type": "number"})}
    if asked.ratios:
        parts["ratios"] = exactly(asked.ratios, {"type": "number"})
    if asked.source is not None:
        parts["citations"] = exactly(asked.figures, {"type": "string", "maxLength": 400})
    return parts
