"""Small charts as inline SVG: curves, bands and histograms over steps, intervals. Colours come from the page's CSS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from math import floor, isfinite, log10, sqrt
from statistics import median

Point = tuple[float, float]

WIDTH, HEIGHT = 300, 132
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 20
MAX_POINTS = 240
COLUMNS, BINS = 48, 12
"""Of a histogram over steps, at most."""


def curve(points: Sequence[Point], label: str, alarms: Sequence[float] = ()) -> str:
    """A line over steps: faint as measured, bold as a running mean where there are many points."""
    points = [(x, y) for x, y in points if isfinite(x) and isfinite(y)]
    if len(points) < 2:
        return ""
    place, parts = _frame([x for x, _ in points], [y for _, y in points], label, alarms)
    smooth = running_mean(points, max(1, len(points) // 16))
    if len(points) >= 32:
        parts.append(_line("raw", [place(x, y) for x, y in thinned(points)]))
        parts.append(_line("smooth", [place(x, y) for x, y in thinned(smooth)]))
    else:
        parts.append(_line("smooth", [place(x, y) for x, y in points]))
    return "".join(parts) + "</svg>"


def bands(steps: Sequence[tuple[float, Sequence[float]]], label: str, alarms: Sequence[float] = ()) -> str:
    """Least, quartiles and most over steps: two bands around the line of the median."""
    steps = [(x, five) for x, five in steps if isfinite(x) and all(map(isfinite, five))]
    if len(steps) < 2:
        return ""
    place, parts = _frame([x for x, _ in steps], [y for _, five in steps for y in five], label, alarms)
    size = -(
        -len(steps) // MAX_POINTS
    )  # of many steps the bands span stretches: nothing that was reached is lost
    stretches = [steps[i : i + size] for i in range(0, len(steps), size)]
    picks: Sequence[Callable[[Iterable[float]], float]] = (min, min, median, max, max)
    lines = [
        [place(stretch[0][0], pick(five[i] for _, five in stretch)) for stretch in stretches]
        for i, pick in enumerate(picks)
    ]
    for name, low, high in (("span", lines[0], lines[4]), ("quartiles", lines[1], lines[3])):
        parts.append(f'<polygon class="{name}" points="{_path([*low, *reversed(high)])}"/>')
    return "".join(parts) + _line("smooth", lines[2]) + "</svg>"


def heat(steps: Sequence[tuple[float, Sequence[float]]], label: str, alarms: Sequence[float] = ()) -> str:
    """A histogram per stretch of steps: the darker a cell, the more of the stretch's values lie there."""
    steps = [(x, [y for y in values if isfinite(y)]) for x, values in steps if isfinite(x)]
    seen = [y for _, values in steps for y in values]
    if len(steps) < 2 or not seen:
        return ""
    low, high = _span(seen)
    _, parts = _frame([x for x, _ in steps], seen, label, alarms)
    size = -(-len(steps) // COLUMNS)
    stretches = [[y for _, values in steps[i : i + size] for y in values] for i in range(0, len(steps), size)]
    width, tall = (WIDTH - LEFT - RIGHT) / len(stretches), (HEIGHT - TOP - BOTTOM) / BINS
    for column, values in enumerate(stretches):
        cells = Counter(min(BINS - 1, int((y - low) / (high - low) * BINS)) for y in values)
        for cell, count in sorted(cells.items()):
            x, y = LEFT + column * width, HEIGHT - BOTTOM - (cell + 1) * tall
            shade = sqrt(count / len(values))  # so that a few per cent are seen
            parts.append(
                f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{tall:.1f}" '
                f'fill-opacity="{shade:.2f}"/>'
            )
    return "".join(parts) + "</svg>"


def reliability(bins: Sequence[Mapping[str, float]], label: str) -> str:
    """The share that is right over the mean score of each bin, with its interval."""
    if not bins:
        return ""
    ends = [one[key] for one in bins for key in ("right_low", "right_high")]
    place, parts = _frame([one["mean_score"] for one in bins], [0.0, 1.0, *ends], label, (), "score ")
    for one in bins:
        (x, low), (_, high) = (place(one["mean_score"], one[key]) for key in ("right_low", "right_high"))
        parts.append(f'<line class="error" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    dots = [place(one["mean_score"], one["right"]) for one in bins]
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in dots]
    return "".join(parts) + _line("smooth", dots) + "</svg>"


def _frame(
    xs: Sequence[float], ys: Sequence[float], label: str, alarms: Sequence[float], unit: str = "step "
) -> tuple[Callable[[float, float], Point], list[str]]:
    """Axes that span the values, with a line at each alarm: where a point stands, and the SVG so far."""
    first, last, ticks = min(xs), max(xs), nice_ticks(min(ys), max(ys))
    low, high = _span(ys)

    def place(x: float, y: float) -> Point:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        y = place(first, tick)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short(tick)}</text>')
    for step in sorted(set(alarms)):
        if first <= step <= last:
            x = place(step, low)[0]
            parts.append(f'<line class="alarm" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    bottom = HEIGHT - 5
    parts.append(f'<text x="{LEFT}" y="{bottom}">{short(first)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{bottom}" text-anchor="end">{unit}{short(last)}</text>')
    return place, parts


def _span(values: Sequence[float]) -> Point:
    """The ends of the axis of these values."""
    ticks = nice_ticks(min(values), max(values))
    return min(ticks[0], *values), max(ticks[-1], *values)


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
    """About `count` round numbers that span low to high; always at least two different ones, of 0 alone up to 1."""
    if low == high == 0:
        high = 1.0  # a share or a count that is never seen: nothing is below 0
    elif high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
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
    return f'<polyline class="{name}" points="{_path(points)}"/>'


def _path(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
