"""Seeded financial statements as text: what a table in a filing looks like, small enough for a tiny model.

One statement (layout `dotted`, a subtotal that is itself a component, a nil dash, a footnote mark):

    Alder Foods Inc, balance sheet (in thousands)
    2023  2022 (2)
    Cash and equivalents .... 1,234  980
    Notes receivable .... 98  105
    Inventories (1) .... 410  —
    Total current assets .... 1,742  1,085
    Goodwill .... 702  715
    Operating leases .... 58  61
    Total noncurrent assets .... 760  776
    Total assets .... 2,502  1,861
    Employees .... 1,204  1,150

Figures are as printed: the scale in the title is not applied. Every subtotal and total is the signed sum of
the lines named by its `parts`, in every period. Everything is drawn from the `random.Random` that is given.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from ..errors import InputError
from .statement_forms import (
    COMPANIES,
    COUNTS,
    FORMS,
    MAX_PARTS,
    PER_SHARE,
    PERCENTAGES,
    SCALES,
    Block,
    Form,
    Kind,
    split_labels,
)

Role = Literal["item", "subtotal", "total", "distractor"]


class Layout(StrEnum):
    """How a row is printed."""

    ALIGNED = "aligned"
    PIPES = "pipes"
    SLASHES = "slashes"
    DOTTED = "dotted"
    SEMICOLONS = "semicolons"
    KEYED = "keyed"
    BULLETS = "bullets"
    FIGURES_FIRST = "figures_first"


SEEN_LAYOUTS: tuple[Layout, ...] = (
    Layout.ALIGNED,
    Layout.PIPES,
    Layout.SLASHES,
    Layout.DOTTED,
    Layout.SEMICOLONS,
)
"""Layouts that a model may be trained on."""

HELD_OUT_LAYOUTS: tuple[Layout, ...] = (Layout.KEYED, Layout.BULLETS, Layout.FIGURES_FIRST)
"""Layouts kept for out-of-distribution evaluation: neither pretraining nor fine-tuning may use them."""

SEEN_ITEMS: tuple[int, int] = (2, 4)
"""Fewest and most item rows in statements to train on."""

SEEN_DISTRACTORS, HELD_OUT_DISTRACTORS = (0, 1), (2, 3)
"""Fewest and most rows that belong to no sum: in statements to train on, and for out-of-distribution evaluation."""


@dataclass(frozen=True)
class Style:
    """How a statement is printed."""

    layout: Layout
    nil: str = "—"
    """What stands for zero."""
    thousands: bool = True
    """Whether figures have thousands separators."""
    parentheses: bool = True
    """Whether negatives are in parentheses; otherwise they have a hyphen."""

    def cell(self, value: int) -> str:
        """A figure as printed: `1,234`, `(56)`, `—`."""
        if value == 0:
            return self.nil
        digits = f"{abs(value):,}" if self.thousands else str(abs(value))
        if value > 0:
            return digits
        return f"({digits})" if self.parentheses else f"-{digits}"


@dataclass(frozen=True)
class Line:
    """One row of a statement."""

    label: str
    """Without a footnote mark."""
    values: tuple[int | None, ...]
    """One for each period, as printed; 0 where a dash is printed, None in distractor rows."""
    role: Role
    """`subtotal`: a sum that is a part of another sum. `total`: a sum that is not."""
    cells: tuple[str, ...]
    """The figures as printed."""
    mark: str = ""
    """Footnote mark, `(1)`, printed after the label; "" for none."""
    parts: tuple[int, ...] = ()
    """Indices, in the statement, of the lines that it is the sum of; empty unless subtotal or total."""
    text: str = ""
    """The row as printed."""
    spans: tuple[str, ...] = ()
    """For each period the shortest piece of `text` that holds both the label and that period's figure."""


@dataclass(frozen=True)
class Statement:
    """A statement, its text, and the truth about it."""

    kind: Kind
    company: str
    title: str
    periods: tuple[str, ...]
    """As one would ask for them, without footnote marks: `2023`, `Q1 2023`."""
    scale: str
    style: Style
    lines: tuple[Line, ...]
    text: str
    """What a reader sees."""

    @property
    def totals(self) -> list[Line]:
        """Subtotals and totals: the lines that can be broken down."""
        return [line for line in self.lines if line.parts]

    def parts(self, total: Line) -> list[Line]:
        """The lines that `total` is the sum of, in printed order."""
        return [self.lines[index] for index in total.parts]


@dataclass(eq=False)
class _Draft:
    """A line before it has a place and a print."""

    label: str
    values: list[int]
    parts: list[_Draft] = field(default_factory=list)
    cells: tuple[str, ...] = ()


def make_statement(
    rng: random.Random,
    *,
    layouts: Sequence[Layout] = SEEN_LAYOUTS,
    num_items: tuple[int, int] = SEEN_ITEMS,
    num_distractors: tuple[int, int] = SEEN_DISTRACTORS,
    num_periods: int = 2,
    companies: Sequence[str] = COMPANIES["base"],
    kinds: Sequence[Kind] = tuple(Kind),
) -> Statement:
    """One statement with `num_items` (lowest, highest; 2 to 9) item rows, in one or two blocks.

    Every sum has 2 to MAX_PARTS components and is not zero in any period.
    """
    if not 2 <= num_items[0] <= num_items[1] <= 2 * MAX_PARTS - 1:
        raise InputError(
            f"num_items is {num_items}; it must be (lowest, highest) within 2 to {2 * MAX_PARTS - 1}"
        )
    kind = rng.choice(list(kinds))
    form = rng.choice([form for form in FORMS if form.kind == kind])
    drafts = _drafts(rng, form, rng.randint(*num_items), num_periods)
    while any(draft.parts and 0 in draft.values for draft in drafts):
        drafts = _drafts(rng, form, rng.randint(*num_items), num_periods)
    for _ in range(rng.randint(*num_distractors)):
        # A distractor stands anywhere but first: mostly after a sum, as per-share rows do.
        places = [i + 1 for i, draft in enumerate(drafts) if draft.parts or rng.random() < 0.2]
        drafts.insert(rng.choice(places), _distractor(rng, num_periods, {draft.label for draft in drafts}))
    style = Style(
        layout=rng.choice(list(layouts)),
        nil=rng.choice("—-"),
        thousands=rng.random() < 0.9,
        parentheses=rng.random() < 0.9,
    )
    return _print(rng, form, drafts, style, _periods(rng, num_periods), rng.choice(list(companies)))


def _drafts(rng: random.Random, form: Form, count: int, num_periods: int) -> list[_Draft]:
    """Items and sums in printed order: `count` items in one or two blocks."""
    two = count > MAX_PARTS or (count >= 4 and rng.random() < 0.5)
    if not two:
        blocks, sizes = [rng.choice(form.blocks)], [count]
    else:
        # In a chain the second sum also has the first as a component.
        last_limit = MAX_PARTS - 1 if form.chain else MAX_PARTS
        first = rng.randint(max(2, count - last_limit), min(MAX_PARTS, count - 2))
        blocks, sizes = list(form.blocks), [first, count - first]
    base = 10 ** rng.uniform(2.2, 4.4)
    drafts: list[_Draft] = []
    sums: list[_Draft] = []
    for block, size in zip(blocks, sizes, strict=True):
        used = {draft.label for draft in drafts}
        carried = sums[-1:] if form.chain else []
        items = _items(rng, block, size, base, num_periods, used, with_anchor=not carried)
        total = _sum(rng.choice([t for t in split_labels(block.totals) if t not in used]), carried + items)
        drafts += [*items, total]
        sums.append(total)
    if two and form.grand:
        drafts.append(_sum(form.grand, sums))
    return drafts


def _items(
    rng: random.Random,
    block: Block,
    size: int,
    base: float,
    num_periods: int,
    used: set[str],
    with_anchor: bool,
) -> list[_Draft]:
    signs: dict[str, int] = dict.fromkeys(split_labels(block.plus), 1)
    signs |= dict.fromkeys(split_labels(block.minus), -1)
    signs |= dict.fromkeys(split_labels(block.either), 0)
    anchors = [label for label in split_labels(block.anchor) if label not in used] if with_anchor else []
    chosen = set(rng.sample([label for label in signs if label not in used], size - bool(anchors)))
    # What is taken off a large figure is a share of it, so that a profit is the usual case.
    level = base * 1.5 / size if block.anchor else base
    items = [
        _Draft(label, _amounts(rng, level, signs[label], num_periods)) for label in signs if label in chosen
    ]
    if anchors:
        items.insert(
            0, _Draft(rng.choice(anchors), _amounts(rng, base * rng.uniform(1.5, 3.0), 1, num_periods))
        )
    if size >= 3 and rng.random() < 0.2:
        items[rng.randrange(1, size)].values[rng.randrange(num_periods)] = 0
    return items


def _amounts(rng: random.Random, base: float, sign: int, num_periods: int) -> list[int]:
    """One amount for each period, all different, of one order of magnitude; sign 0 draws a sign for each."""
    first = base * rng.uniform(0.03, 1.0)
    amounts: list[int] = []
    while len(amounts) < num_periods:
        amount = max(10, min(99_999, round(first * rng.uniform(0.6, 1.5)))) + len(amounts)
        amount *= sign or rng.choice((1, -1))
        if amount not in amounts:
            amounts.append(amount)
    return amounts


def _sum(label: str, parts: list[_Draft]) -> _Draft:
    return _Draft(label, [sum(column) for column in zip(*(p.values for p in parts), strict=True)], parts)


def _distractor(rng: random.Random, num_periods: int, used: set[str]) -> _Draft:
    """A row that is part of no sum: an amount per share, a count, a percentage."""
    figures: Callable[[], str]
    labels, figures = rng.choice(
        [
            (PER_SHARE, lambda: f"{rng.uniform(0.05, 9.0):.2f}"),
            (COUNTS, lambda: f"{rng.randint(12, 9_999):,}"),
            (PERCENTAGES, lambda: f"{rng.uniform(1.0, 60.0):.1f}%"),
        ]
    )
    label = rng.choice([label for label in labels if label not in used])
    return _Draft(label, [], cells=tuple(figures() for _ in range(num_periods)))


def _periods(rng: random.Random, num_periods: int) -> tuple[str, ...]:
    """Consecutive years, or the same quarter of consecutive years; newest first more often than last."""
    quarter = f"Q{rng.randint(1, 4)} " if rng.random() < 0.2 else ""
    last = rng.randint(2010, 2025)
    periods = [f"{quarter}{last - back}" for back in range(num_periods)]
    return tuple(periods if rng.random() < 0.7 else reversed(periods))


def _print(
    rng: random.Random,
    form: Form,
    drafts: list[_Draft],
    style: Style,
    periods: tuple[str, ...],
    company: str,
) -> Statement:
    marked = rng.randrange(len(drafts)) if rng.random() < 0.3 else None
    place = {id(draft): index for index, draft in enumerate(drafts)}
    inner = {id(part) for draft in drafts for part in draft.parts}
    lines = [
        Line(
            label=draft.label,
            values=tuple(draft.values) or (None,) * len(periods),
            role="distractor"
            if draft.cells
            else ("item" if not draft.parts else "subtotal" if id(draft) in inner else "total"),
            cells=draft.cells or tuple(style.cell(value) for value in draft.values),
            mark="(1)" if index == marked else "",
            parts=tuple(sorted(place[id(part)] for part in draft.parts)),
        )
        for index, draft in enumerate(drafts)
    ]
    marked_period = rng.randrange(len(periods)) if rng.random() < 0.15 else None
    heads = tuple(
        p + (f" ({rng.randint(2, 9)})" if i == marked_period else "") for i, p in enumerate(periods)
    )
    width = max(len(_printed_label(line)) for line in lines)
    lines = [_with_text(line, style.layout, periods, width) for line in lines]
    title, scale = rng.choice(split_labels(form.titles)), rng.choice(SCALES)
    rows = [
        f"{company}, {title} ({scale})",
        _header(style.layout, heads, width),
        *(line.text for line in lines),
    ]
    if marked is not None and rng.random() < 0.5:
        rows.append(f"(1) See note {rng.randint(2, 19)}.")
    return Statement(form.kind, company, title, periods, scale, style, tuple(lines), "\n".join(rows))


def _printed_label(line: Line) -> str:
    return f"{line.label} {line.mark}" if line.mark else line.label


def _header(layout: Layout, heads: Sequence[str], width: int) -> str:
    """The row of periods above the figures."""
    match layout:
        case Layout.ALIGNED:
            return " " * width + "".join(f"{head:>8}" if len(head) < 8 else f" {head}" for head in heads)
        case Layout.PIPES:
            return f"| | {' | '.join(heads)} |"
        case Layout.SLASHES:
            return " / ".join(heads)
        case Layout.SEMICOLONS:
            return "; ".join(heads)
        case Layout.BULLETS:
            return " vs ".join(heads)
        case _:
            return "  ".join(heads)


def _with_text(line: Line, layout: Layout, periods: tuple[str, ...], width: int) -> Line:
    pieces = _pieces(layout, _printed_label(line), line.cells, periods, width)
    text = "".join(piece for piece, _ in pieces)
    where: dict[int, tuple[int, int]] = {}
    position = 0
    for piece, owner in pieces:
        if owner is not None:
            where[owner] = (position, position + len(piece))
        position += len(piece)
    label_start, label_end = where.pop(_LABEL)
    spans = tuple(
        text[min(label_start, start) : max(label_end, end)] for _, (start, end) in sorted(where.items())
    )
    return replace(line, text=text.rstrip(), spans=spans)


_LABEL = -1


def _pieces(
    layout: Layout, label: str, cells: Sequence[str], periods: Sequence[str], width: int
) -> list[tuple[str, int | None]]:
    """A row as (text, owner) pieces; the owner is a period's index, _LABEL, or None for filling.

    `width` is the length of the longest printed label.
    """
    head: tuple[str, int | None] = (label, _LABEL)
    figures: list[tuple[str, int | None]] = [(cell, index) for index, cell in enumerate(cells)]
    match layout:
        case Layout.ALIGNED:
            padded = [
                piece for figure in figures for piece in ((" " * max(1, 8 - len(figure[0])), None), figure)
            ]
            return [head, (" " * (width - len(label)), None), *padded]
        case Layout.PIPES:
            return [("| ", None), head, *_each(figures, " | "), (" |", None)]
        case Layout.SLASHES:
            return [head, (": ", None), *_each(figures, " / ")[1:]]
        case Layout.DOTTED:
            return [head, (" .... ", None), *_each(figures, "  ")[1:]]
        case Layout.SEMICOLONS:
            return [head, *_each(figures, "; ")]
        case Layout.KEYED:
            keyed = zip(periods, figures, strict=True)
            return [head, *(piece for period, figure in keyed for piece in ((f" [{period}] ", None), figure))]
        case Layout.BULLETS:
            return [("- ", None), head, (" = ", None), *_each(figures, " vs ")[1:]]
        case Layout.FIGURES_FIRST:
            return [*_each(figures, "  ")[1:], ("  ", None), head]


def _each(figures: list[tuple[str, int | None]], filling: str) -> list[tuple[str, int | None]]:
    """`filling` before each figure."""
    return [piece for figure in figures for piece in ((filling, None), figure)]
