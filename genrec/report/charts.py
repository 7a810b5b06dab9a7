"""Charts as inline SVG: lines over a numeric axis, an interval on a bar, shares that fill a bar.

Colours are CSS classes (`series-1`, `group-1`, ...), so that one drawing serves a light and a dark page. Every chart
has a description in words for screen readers (`role="img"` and a title), and the page shows its numbers as a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 44
"""The chart's size and margins in its own units; it is scaled to the page, and its text is legible on a phone."""

SERIES_COLOURS = 8
"""The number of colours; the ninth series has the first colour again, dashed."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        name: what it shows.
        points: (x, y), x ascending.
        number: the number of its colour, from 1.
        strong: drawn thicker and on top.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    number: int
    strong: bool = False

    @property
    def css(self) -> str:
        """The classes that give it its colour and dashes."""
        colour = (self.number - 1) % SERIES_COLOURS + 1
        return f"series-{colour}{' dashed' if self.number > SERIES_COLOURS else ''}{' strong' if self.strong else ''}"


def line_chart(series: Sequence[Series], *, title: str, x_label: str, y_label: str, y_from_zero: bool = True) -> Markup:
    """Return a line chart.

    Args:
        series: at least one line with at least one point.
        title: the chart in words, for screen readers.
        x_label: the label of the horizontal axis.
        y_label: the label of the vertical axis.
        y_from_zero: whether the vertical axis starts at 0; False for losses, whose zero has no meaning.
    """
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    y_ticks = _ticks(0 if y_from_zero else min(ys), max(ys), 5)
    x_range, y_range = (min(xs), max(xs)), (y_ticks[0], y_ticks[-1])
    x_ticks = [tick for tick in _ticks(*x_range, 6) if x_range[0] <= tick <= x_range[1]]
    parts = [_axis_y(y_ticks, y_range), _axis_x(x_ticks, x_range), _labels(x_label, y_label)]
    parts += [_line(line, x_range, y_range) for line in sorted(series, key=lambda line: line.strong)]
    return Markup('<svg class="line-chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )


def interval_bar(value: float, low: float, high: float, largest: float, css: str) -> Markup:
    """Return a dot at the value on a line from low to high, on a bar that ends at `largest`; it fills its cell."""

    def place(figure: float) -> str:
        return f"{100 * figure / largest if largest > 0 else 0:.2f}%"

    return Markup(
        '<svg class="interval {css}" role="presentation" aria-hidden="true">'
        '<line class="rail" x1="0" x2="100%" y1="50%" y2="50%"/>'
        '<line class="whisker" x1="{low}" x2="{high}" y1="50%" y2="50%"/>'
        '<circle cx="{value}" cy="50%" r="5"/></svg>'
    ).format(css=css, low=place(low), high=place(high), value=place(value))


def share_bar(shares: Sequence[float], names: Sequence[str]) -> Markup:
    """Return a bar divided into shares of 1, the first group leftmost; a tooltip shows each share."""
    pieces, start = [], 0.0
    for group, (share, name) in enumerate(zip(shares, names, strict=True), 1):
        pieces.append(
            Markup('<rect class="group-{}" x="{}%" width="{}%" height="100%"><title>{}: {:.1%}</title></rect>').format(
                group, f"{100 * start:.3f}", f"{100 * share:.3f}", name, share
            )
        )
        start += share
    return Markup('<svg class="shares" role="presentation" aria-hidden="true">{}</svg>').format(Markup("").join(pieces))


def _labels(x_label: str, y_label: str) -> Markup:
    return Markup(
        '<text class="axis-label" x="{x}" y="{bottom}" text-anchor="middle">{x_label}</text>'
        '<text class="axis-label" transform="translate(13 {y}) rotate(-90)" text-anchor="middle">{y_label}</text>'
    ).format(
        x=(LEFT + WIDTH - RIGHT) / 2,
        y=(TOP + HEIGHT - BOTTOM) / 2,
        bottom=HEIGHT - 6,
        x_label=x_label,
        y_label=y_label,
    )


def _line(line: Series, x_range: tuple[float, float], y_range: tuple[float, float]) -> Markup:
    places = [(_x(x, x_range), _y(y, y_range)) for x, y in line.points]
    if len(places) == 1:
        return Markup('<circle class="{}" data-series="{}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(
            line.css, line.name, *places[0]
        )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Markup('<polyline class="{}" data-series="{}" points="{}"><title>{}</title></polyline>').format(
        line.css, line.name, path, line.name
    )


def _axis_x(ticks: Sequence[float], span: tuple[float, float]) -> Markup:
    return Markup("").join(
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            _x(tick, span), HEIGHT - BOTTOM + 18, _number(tick)
        )
        for tick in ticks
    )


def _axis_y(ticks: Sequence[float], span: tuple[float, float]) -> Markup:
    return Markup("").join(
        Markup(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="tick" x="{text}" y="{y:.1f}" dy="4" text-anchor="end">{number}</text>'
        ).format(left=LEFT, right=WIDTH - RIGHT, y=_y(tick, span), text=LEFT - 6, number=_number(tick))
        for tick in ticks
    )


def _x(value: float, span: tuple[float, float]) -> float:
    return LEFT + _part(value, span) * (WIDTH - LEFT - RIGHT)


def _y(value: float, span: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - _part(value, span) * (HEIGHT - TOP - BOTTOM)


def _part(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return 0.5 if high == low else (value - low) / (high - low)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Return evenly spaced round numbers; the first is at most `low` and the last at least `high`."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / most
    scale = 10 ** math.floor(math.log10(rough))
    step = next(step * scale for step in (1, 2, 2.5, 5, 10) if step * scale >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
