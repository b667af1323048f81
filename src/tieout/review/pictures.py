"""Drawings of the first screen, as inline SVG; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, html, joined

WIDTH, LEFT, RIGHT, ROW, TOP = 340, 8, 52, 38, 4


@dataclass(frozen=True)
class Row:
    """A mean with its interval."""

    model: str
    role: str
    """`before`, `after`, or what else the model is."""
    mean: float
    low: float
    high: float


def before_after(rows: Sequence[Row], shares: bool) -> Markup:
    """A line per model on one axis: a dot at the mean, a bar over the interval, the value at the end.

    `shares`: the values are shares of cases, and written in per cent.
    """
    low, high = min([0.0, *(row.low for row in rows)]), max([1.0, *(row.high for row in rows)])

    def x(value: float) -> str:
        return f"{LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT):.1f}"

    bottom = TOP + ROW * len(rows) + 4
    parts = [
        html(
            '<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick" x="{0}" y="{3}" '
            'text-anchor="{4}">{5}</text>',
            x(tick),
            TOP,
            bottom,
            bottom + 13,
            anchor,
            f"{tick:.0%}" if shares else f"{tick:.3g}",
        )
        for tick, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "middle"))
    ]
    for place, row in enumerate(rows):
        y = TOP + ROW * place + 27
        parts.append(
            html(
                '<g class="{role}"><text x="{left}" y="{label}">{model} <tspan class="tick">{role}</tspan></text>'
                '<line class="reach" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
                '<circle cx="{mean}" cy="{y}" r="5"/>'
                '<text class="value" x="{end}" y="{value}" text-anchor="end">{said}</text></g>',
                role=row.role,
                left=LEFT,
                label=y - 11,
                model=row.model,
                low=x(row.low),
                high=x(row.high),
                mean=x(row.mean),
                y=y,
                end=WIDTH,
                value=y + 4,
                said=_value(row.mean, shares),
            )
        )
    label = "; ".join(
        f"{row.model}, {row.role}: {_value(row.mean, shares)}, {_value(row.low, shares)} to "
        f"{_value(row.high, shares)}"
        for row in rows
    )
    return html(
        '<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>',
        WIDTH,
        bottom + 18,
        label,
        joined(parts),
    )


def _value(value: float, shares: bool) -> str:
    return f"{float(f'{value:.3f}'):.1%}" if shares else f"{value:.3f}"  # rounded once, as in the tables
