"""Points over a logarithmic axis as an SVG file: APGR over labels, APGR over milliseconds.

Self-contained, readable on light and dark grounds, no library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from edge_router.evaluation import Evaluation, Metrics

WIDTH, HEIGHT, MARGIN, LEGEND = 460, 320, 52, 150
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666")
GREY = "#888888"
STEPS = 4  # of the grid


@dataclass(frozen=True, slots=True)
class Point:
    """`x` is positive; `low` and `high` bound `y` where that is known; `label` stands beside it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""


def chart_svg(
    title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[Point]], *, joined: bool = True
) -> str:
    """One panel with a legend. Series without points are left out."""
    shown = {name: points for name, points in series.items() if points}
    scale = _Scale.of([point for points in shown.values() for point in points])
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEGEND}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH + LEGEND} {HEIGHT}" font-family="sans-serif" font-size="11" fill="{GREY}">'
    )
    parts = [head, _text(MARGIN, 24, title, size=13), *scale.grid()]
    parts.append(_text(WIDTH / 2, HEIGHT - 10, x_name, anchor="middle"))
    parts.append(_text(MARGIN, 40, y_name))
    for index, (name, points) in enumerate(shown.items()):
        colour = COLOURS[index % len(COLOURS)]
        parts += _series(points, scale, colour, joined=joined)
        parts.append(_text(WIDTH - MARGIN + 40, MARGIN + 16 * index, name, colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def latency_svg(evaluation: Evaluation, milliseconds: Mapping[str, float]) -> str:
    """APGR over the time of a decision: a series for each benchmark, a point for each router."""
    order = sorted(milliseconds, key=milliseconds.__getitem__)

    def points(found: Mapping[str, Metrics]) -> list[Point]:
        timed = [(name, found[name]) for name in order if name in found]
        return [
            Point(milliseconds[name], one.apgr, one.apgr_low, one.apgr_high, name)
            for name, one in timed
            if one.apgr is not None
        ]

    series = {group: points(found) for group, found in evaluation.groups.items()}
    axis = "milliseconds per decision (median)"
    return chart_svg("Quality and latency", axis, "APGR", series, joined=False)


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places: the ends of both axes."""

    left: float  # log10
    right: float
    low: float
    high: float

    @classmethod
    def of(cls, points: Sequence[Point]) -> _Scale:
        xs = [math.log10(point.x) for point in points] or [0.0, 1.0]
        ys = [y for p in points for y in (p.y, p.low, p.high) if y is not None] or [0.0, 1.0]
        wide, tall = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 0.1
        return cls(min(xs) - wide * 0.08, max(xs) + wide * 0.08, min(ys) - tall * 0.08, max(ys) + tall * 0.08)

    def x(self, log: float) -> float:
        return MARGIN + (log - self.left) / (self.right - self.left) * (WIDTH - 2 * MARGIN)

    def y(self, value: float) -> float:
        return HEIGHT - MARGIN - (value - self.low) / (self.high - self.low) * (HEIGHT - 2 * MARGIN)

    def grid(self) -> list[str]:
        """Lines across at even values, and up at 1, 2 and 5 times the powers of ten within."""
        parts = []
        for step in range(STEPS + 1):
            value = self.low + step / STEPS * (self.high - self.low)
            parts.append(_line(self.x(self.left), self.y(value), self.x(self.right), self.y(value)))
            parts.append(_text(MARGIN - 6, self.y(value) + 4, f"{value:.3f}", anchor="end"))
        decades = range(math.floor(self.left), math.ceil(self.right) + 1)
        for number in (digit * 10.0**decade for decade in decades for digit in (1, 2, 5)):
            log = math.log10(number)
            if self.left <= log <= self.right:
                parts.append(_line(self.x(log), self.y(self.low), self.x(log), self.y(self.high)))
                label = f"{number:,.6g}" if number < 1000 else f"{number:,.0f}"
                parts.append(_text(self.x(log), HEIGHT - MARGIN + 16, label, anchor="middle"))
        return parts


def _series(points: Sequence[Point], scale: _Scale, colour: str, *, joined: bool) -> list[str]:
    places = [(scale.x(math.log10(point.x)), scale.y(point.y)) for point in points]
    parts = []
    if joined:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    for point, (x, y) in zip(points, places, strict=True):
        if point.low is not None and point.high is not None:
            parts.append(_line(x, scale.y(point.low), x, scale.y(point.high), colour, 0.6))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        if point.label:
            parts.append(_text(x + 6, y - 4, point.label, colour=colour))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = GREY, opacity: float = 0.3) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-opacity="{opacity}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = GREY, size: int = 11) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} fill="{colour}" font-size="{size}">{escape(text)}</text>'
