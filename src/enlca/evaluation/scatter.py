"""A scatter plot as SVG, without a plotting library, which users need not have; points have tooltips."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from enlca.evaluation.intervals import Interval

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48
# Colours that colour-blind readers tell apart (Okabe and Ito 2008), in the order of the data sets.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")


class Point(NamedTuple):
    """One image: its place, its name, and the number of its group."""

    x: float
    y: float
    name: str
    group: int


def scatter(
    points: Sequence[Point], intervals: Sequence[tuple[int, Interval]], *, x_label: str, y_label: str
) -> str:
    """Draw points, a line at zero, and for each group the mean and its interval as a band.

    Points that are not finite are left out. Empty without points.
    """
    shown = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not shown:
        return ""
    bands = [(group, one) for group, one in intervals if all(map(math.isfinite, (one.low, one.high)))]
    ends = [end for _, one in bands for end in (one.low, one.high)]
    across = _Axis.of([point.x for point in shown], LEFT, WIDTH - RIGHT)
    up = _Axis.of([0.0, *(point.y for point in shown), *ends], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg class="scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}">'
    ]
    for tick in up.ticks:
        parts.append(_line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "zero" if tick == 0 else "grid"))
        parts.append(_text(LEFT - 8, up(tick) + 4, up.label(tick), "end"))
    for tick in across.ticks:
        parts.append(_text(across(tick), HEIGHT - BOTTOM + 18, across.label(tick), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text(14, middle, y_label, "middle", f' transform="rotate(-90 14 {middle:.1f})"'))
    for group, one in bands:
        colour, top = COLOURS[group % len(COLOURS)], up(one.high)
        parts.append(
            f'<rect x="{LEFT}" width="{WIDTH - LEFT - RIGHT}" y="{top:.1f}" height="{up(one.low) - top:.1f}" '
            f'fill="{colour}" opacity="0.15"/>'
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(one.mean):.1f}" y2="{up(one.mean):.1f}" '
            f'stroke="{colour}" stroke-dasharray="6 4"/>'
        )
    for point in shown:
        hint = f"{point.name}: {point.x:.2f} dB, {point.y:+.3f} dB"
        parts.append(
            f'<circle cx="{across(point.x):.1f}" cy="{up(point.y):.1f}" r="4" '
            f'fill="{COLOURS[point.group % len(COLOURS)]}"><title>{escape(hint)}</title></circle>'
        )
    return "".join([*parts, "</svg>"])


class _Axis(NamedTuple):
    """A linear map from values to pixels, and round values on it."""

    low: float
    high: float
    start: int
    end: int
    ticks: list[float]
    digits: int

    @classmethod
    def of(cls, values: Sequence[float], start: int, end: int) -> "_Axis":
        """Cover the values with steps of 1, 2 or 5 times a power of ten, about five of them."""
        low, high = min(values), max(values)
        rough = max((high - low) / 5, 1e-3)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first, last = math.floor(low / step - 1e-9), math.ceil(high / step + 1e-9)
        if first == last:
            first, last = first - 1, last + 1
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        ticks = [number * step for number in range(first, last + 1)]
        return cls(ticks[0], ticks[-1], start, end, ticks, digits)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def label(self, tick: float) -> str:
        """Return the value as text, with the digits that the steps need."""
        return f"{tick:.{self.digits}f}"


def _line(x1: int, y1: float, x2: int, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: int | float, y: int | float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
