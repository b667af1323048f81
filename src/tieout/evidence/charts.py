"""Small charts as inline SVG: curves of a stage, intervals in a table. Colours come from the page's CSS."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, isfinite, log10

Point = tuple[float, float]

WIDTH, HEIGHT = 300, 132
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 20
MAX_POINTS = 240


def curve(points: Sequence[Point], label: str) -> str:
    """A line over steps: faint as measured, bold as a running mean where there are many points."""
    points = [(x, y) for x, y in points if isfinite(x) and isfinite(y)]
    if len(points) < 2:
        return ""
    ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points))
    low, high = min(ticks[0], *(y for _, y in points)), max(ticks[-1], *(y for _, y in points))
    first, last = min(x for x, _ in points), max(x for x, _ in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        y = place(first, tick)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short(tick)}</text>')
    bottom = HEIGHT - 5
    parts.append(f'<text x="{LEFT}" y="{bottom}">{short(first)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{bottom}" text-anchor="end">step {short(last)}</text>')
    smooth = running_mean(points, max(1, len(points) // 16))
    if len(points) >= 32:
        parts.append(_line("raw", [place(x, y) for x, y in thinned(points)]))
        parts.append(_line("smooth", [place(x, y) for x, y in thinned(smooth)]))
    else:
        parts.append(_line("smooth", [place(x, y) for x, y in points]))
    return "".join(parts) + "</svg>"


def interval(
    value: float, low: float, high: float, axis: tuple[float, float], mark: float | None = None
) -> str:
    """A bar from low to high with a tick at value, on an axis; `mark` draws a line across, such as zero."""

    def x(v: float) -> float:
        return 100 * (min(max(v, axis[0]), axis[1]) - axis[0]) / (axis[1] - axis[0])

    side = "" if mark is None else " above" if low > mark else " below" if high < mark else ""
    width = max(0.8, x(high) - x(low))
    parts = [
        f'<svg class="interval{side}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
    ]
    parts.append('<line class="axis" x1="0" x2="100" y1="5" y2="5"/>')
    if mark is not None:
        parts.append(f'<line class="mark" x1="{x(mark):.2f}" x2="{x(mark):.2f}" y1="0" y2="10"/>')
    parts.append(f'<rect x="{x(low):.2f}" y="3" width="{width:.2f}" height="4"/>')
    parts.append(f'<line class="value" x1="{x(value):.2f}" x2="{x(value):.2f}" y1="1" y2="9"/>')
    return "".join(parts) + "</svg>"


def nice_ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About `count` round numbers that span low to high; always at least two different ones."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread, high + spread
    raw = (high - low) / count
    magnitude = 10.0 ** floor(log10(raw))
    step = next(s * magnitude for s in (1.0, 2.0, 5.0, 10.0) if s * magnitude >= raw * 0.999)
    first = floor(low / step)
    ticks = [first * step]
    while ticks[-1] < high - 1e-9 * step:
        ticks.append((first + len(ticks)) * step)
    return ticks


def running_mean(points: Sequence[Point], half: int) -> list[Point]:
    """Each point averaged with up to `half` neighbours on either side."""
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    smooth = []
    for i, (x, _) in enumerate(points):
        start, stop = max(0, i - half), min(len(points), i + half + 1)
        smooth.append((x, (sums[stop] - sums[start]) / (stop - start)))
    return smooth


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MAX_POINTS` points: the ends, and of each stretch its lowest and highest; no spike is lost."""
    if len(points) <= MAX_POINTS:
        return list(points)
    size = -(-len(points) // (MAX_POINTS // 2 - 1))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        kept |= {min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept)]


def short(value: float) -> str:
    """A number for an axis: few digits, no noise."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


def _line(name: str, points: Sequence[Point]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{name}" points="{path}"/>'
