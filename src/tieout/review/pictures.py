"""Drawings of the first screen, as inline SVG; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .markup import Markup, html, joined

WIDTH, LEFT, RIGHT, ROW, TOP = 340, 10, 46, 40, 6


Kind = Literal["before", "after", "other"]


@dataclass(frozen=True)
class Row:
    """A mean with its interval."""

    model: str
    kind: Kind
    mean: float
    low: float
    high: float


def before_after(rows: Sequence[Row]) -> Markup:
    """A line per model on one axis: a dot at the mean, a bar over the interval, the value at the end."""
    low, high = min([0.0, *(row.low for row in rows)]), max([1.0, *(row.high for row in rows)])

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts, bottom = [], TOP + ROW * len(rows)
    for tick in (low, (low + high) / 2, high):
        parts.append(
            html(
                '<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick" x="{0}" y="{3}" '
                'text-anchor="middle">{4}</text>',
                f"{x(tick):.1f}",
                TOP,
                bottom,
                bottom + 13,
                f"{tick:.3g}",
            )
        )
    for place, row in enumerate(rows):
        y = TOP + ROW * place + 26
        parts.append(
            html(
                '<g class="{kind}"><text x="{left}" y="{label}">{model}</text>'
                '<line class="reach" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
                '<circle cx="{mean}" cy="{y}" r="5"/>'
                '<text class="value" x="{end}" y="{value}" text-anchor="end">{said}</text></g>',
                kind=row.kind,
                left=LEFT,
                label=y - 11,
                model=row.model,
                low=f"{x(row.low):.1f}",
                high=f"{x(row.high):.1f}",
                mean=f"{x(row.mean):.1f}",
                y=y,
                end=WIDTH,
                value=y + 4,
                said=f"{row.mean:.3f}",
            )
        )
    label = "; ".join(f"{row.model} {row.mean:.3f}, {row.low:.3f} to {row.high:.3f}" for row in rows)
    return html(
        '<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>',
        WIDTH,
        bottom + 18,
        label,
        joined(parts),
    )
