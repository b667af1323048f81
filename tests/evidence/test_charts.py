"""Small charts: round ticks that span the data, nothing outside the frame, no spike lost."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from tieout.evidence.charts import (
    BINS,
    COLUMNS,
    HEIGHT,
    MAX_POINTS,
    WIDTH,
    bands,
    curve,
    heat,
    interval,
    nice_ticks,
    running_mean,
    thinned,
)

VALUES = st.floats(-1e9, 1e9)


@given(VALUES, VALUES)
def test_ticks_span_the_data_and_are_few(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    ticks = nice_ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-300)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 6
    assert all(b > a for a, b in pairwise(ticks))


def test_what_is_always_0_lies_on_the_axis_with_nothing_below() -> None:
    assert nice_ticks(0.0, 0.0) == [0.0, 0.5, 1.0]


@given(st.lists(st.tuples(st.integers(0, 1000), VALUES), min_size=2, max_size=60))
def test_a_curve_stays_in_its_frame(points: list[tuple[int, float]]) -> None:
    svg = curve([(float(x), y) for x, y in sorted(points)], 'a "label" & <more>')
    assert "&quot;label&quot; &amp; &lt;more&gt;" in svg
    for line in re.findall(r'points="([^"]*)"', svg):
        for pair in line.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_values_that_are_not_finite_are_left_out() -> None:
    assert curve([(0.0, float("nan")), (1.0, 1.0)], "loss") == ""
    assert "nan" not in curve([(0.0, float("inf")), (1.0, 1.0), (2.0, 2.0)], "loss")


@given(st.lists(VALUES, min_size=1, max_size=3000))
def test_thinning_keeps_ends_and_extremes(values: list[float]) -> None:
    points = [(float(i), y) for i, y in enumerate(values)]
    kept = thinned(points)
    assert len(kept) <= MAX_POINTS
    assert set(kept) <= set(points)
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert min(y for _, y in kept) == min(values)
    assert max(y for _, y in kept) == max(values)


def test_a_running_mean_keeps_a_line_straight_and_a_level_level() -> None:
    line = [(float(i), 2.0 * i) for i in range(50)]
    smooth = running_mean(line, 3)
    assert all(abs(a[1] - b[1]) < 1e-9 for a, b in zip(smooth[3:-3], line[3:-3], strict=True))
    assert running_mean(line, 0) == line


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_an_interval_is_coloured_by_its_side_of_the_mark(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    assume(abs(low) > 1e-9)
    assume(abs(high) > 1e-9)
    svg = interval(value, low, high, (-1.0, 1.0), mark=0.0)
    assert ('class="interval above"' in svg) == (low > 0)
    assert ('class="interval below"' in svg) == (high < 0)


def cells(svg: str) -> list[tuple[float, float, float]]:
    """Left edge, top edge and shade of each cell of a histogram."""
    found = re.findall(
        r'x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="[\d.]+" fill-opacity="([\d.]+)"', svg
    )
    return [(float(x), float(y), float(shade)) for x, y, shade in found]


STEPS = st.lists(st.lists(VALUES, max_size=8), min_size=2, max_size=120)


@given(STEPS)
def test_a_histogram_stays_in_its_frame_and_shades_are_shares(steps: list[list[float]]) -> None:
    svg = heat([(float(i), values) for i, values in enumerate(steps)], "scores")
    found = cells(svg)
    assert bool(found) == any(steps)
    assert all(0 <= x < WIDTH and 0 <= y < HEIGHT for x, y, _ in found)
    columns: dict[float, list[float]] = {}
    for x, _, shade in found:
        columns.setdefault(x, []).append(shade**2)
    assert len(columns) <= COLUMNS
    assert all(len(shares) <= BINS and abs(sum(shares) - 1) < 0.1 for shares in columns.values())


def test_a_histogram_shows_scores_that_go_from_zero_to_one() -> None:
    svg = heat([(float(t), [1.0] * t + [0.0] * (10 - t)) for t in range(11)], "scores")
    found = cells(svg)
    top, bottom = min(y for _, y, _ in found), max(y for _, y, _ in found)
    assert {y for _, y, _ in found} == {top, bottom}  # two heaps, where the mean alone is a rising line
    assert [shade for _, y, shade in found if y == bottom] == sorted(
        (s for _, y, s in found if y == bottom), reverse=True
    )
    assert [shade for _, y, shade in found if y == top][-1] == 1.0


@given(st.lists(st.lists(st.floats(0, 1e6), min_size=5, max_size=5).map(sorted), min_size=2, max_size=600))
def test_bands_stay_in_their_frame_and_lie_in_each_other(steps: list[list[float]]) -> None:
    svg = bands([(float(i), five) for i, five in enumerate(steps)], "length")
    outer, inner = (
        [tuple(map(float, pair.split(","))) for pair in line.split()]
        for line in re.findall(r'<polygon class="\w+" points="([^"]*)"', svg)
    )
    assert len(outer) == len(inner) <= 2 * MAX_POINTS
    half = len(outer) // 2
    # y grows downwards: the outer band starts below the inner one and ends above it.
    assert all(a[1] >= b[1] for a, b in zip(outer[:half], inner[:half], strict=True))
    assert all(a[1] <= b[1] for a, b in zip(outer[half:], inner[half:], strict=True))
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in outer)
