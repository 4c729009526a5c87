"""Points over a logarithmic axis: APGR over labels, APGR over milliseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edge_router.cli.terminal.picture import COLOURS, GREY, Mark, Marker, Picture, Polyline, TextMark, below
from edge_router.records import dataclass
from edge_router.routing.evaluation import Evaluation, RouterMetrics

WIDTH, HEIGHT, MARGIN, LEGEND = 460, 320, 52, 150
LINES, LABELS = 6, 7  # of the grid, at most: across, and up


@dataclass(frozen=True, slots=True)
class Point:
    """`x` is positive; `low` and `high` bound `y` where that is known."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


def chart(title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[Point]]) -> Picture:
    """One panel with a legend. Series without points are left out."""
    shown = {name: points for name, points in series.items() if points}
    scale = _Scale.of([point for points in shown.values() for point in points])
    marks: list[Mark] = [TextMark(MARGIN, 24, title, size=13), *scale.grid()]
    marks.append(TextMark(WIDTH / 2, HEIGHT - 10, x_name, "middle"))
    marks.append(TextMark(MARGIN, 40, y_name))
    for index, (name, points) in enumerate(shown.items()):
        colour = COLOURS[index % len(COLOURS)]
        marks += _series(points, scale, colour)
        marks.append(TextMark(WIDTH - MARGIN + 40, MARGIN + 16 * index, name, colour=colour))
    return Picture(WIDTH + LEGEND, HEIGHT, tuple(marks))


def latency_chart(evaluation: Evaluation, milliseconds: Mapping[str, float]) -> Picture:
    """APGR over the time of a decision: a panel for each benchmark, a point for each router."""

    def points(one: RouterMetrics, time: float) -> list[Point]:
        return [] if one.apgr is None else [Point(time, one.apgr, one.apgr_low, one.apgr_high)]

    axis = "milliseconds per decision (median)"
    panels = []
    for group, found in evaluation.groups.items():
        timed = {name: points(found[name], time) for name, time in milliseconds.items() if name in found}
        panels.append(chart(group, axis, "APGR", timed))
    return below(panels)


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

    def grid(self) -> list[Mark]:
        """Lines across at round values, and up at round powers of ten."""
        marks: list[Mark] = []
        for value, label in ticks(self.low, self.high):
            marks.append(_line(self.x(self.left), self.y(value), self.x(self.right), self.y(value)))
            marks.append(TextMark(MARGIN - 6, self.y(value) + 4, label, "end"))
        for log, label in log_ticks(self.left, self.right):
            marks.append(_line(self.x(log), self.y(self.low), self.x(log), self.y(self.high)))
            marks.append(TextMark(self.x(log), HEIGHT - MARGIN + 16, label, "middle"))
        return marks


def ticks(low: float, high: float, most: int = LINES) -> list[tuple[float, str]]:
    """Values from `low` to `high` that are whole steps of 1, 2 or 5 times a power of ten, `most` at most, and
    how they are written: all with as many places as the step takes.
    """
    power = math.floor(math.log10((high - low) / most))
    for step, places in ((digit * 10.0**at, max(0, -at)) for at in (power, power + 1) for digit in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [(n * step, f"{n * step:,.{places}f}") for n in range(first, last + 1)]
    raise AssertionError("ten times the step is enough")


def log_ticks(left: float, right: float, most: int = LABELS) -> list[tuple[float, str]]:
    """Logarithms from `left` to `right` of 1, 2 and 5 times the powers of ten, or of 1 and 3 times, or of
    some powers alone, so that there are `most` at most, and the numbers as they are written. Of less than a
    power of ten, round values as on any axis.
    """
    powers = range(math.floor(left), math.ceil(right) + 1)
    choices = [[d * 10.0**p for p in powers for d in digits] for digits in ((1, 2, 5), (1, 3), (1,))]
    choices += [[10.0**p for p in powers if p % every == 0] for every in range(2, len(powers) + 1)]
    for numbers in choices:
        found = [(math.log10(n), n) for n in numbers if left - 1e-9 <= math.log10(n) <= right + 1e-9]
        if 2 <= len(found) <= most:
            return [(log, f"{n:,.0f}" if n >= 1000 else f"{n:,.6g}") for log, n in found]
    return [(math.log10(value), label) for value, label in ticks(10**left, 10**right, most)]


def _series(points: Sequence[Point], scale: _Scale, colour: str) -> list[Mark]:
    places = [(scale.x(math.log10(point.x)), scale.y(point.y)) for point in points]
    marks: list[Mark] = [Polyline(tuple(places), colour, 1.8)] if len(places) > 1 else []
    for point, (x, y) in zip(points, places, strict=True):
        if point.low is not None and point.high is not None:
            marks.append(_line(x, scale.y(point.low), x, scale.y(point.high), colour, 0.6))
        marks.append(Marker(x, y, colour))
    return marks


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = GREY, opacity: float = 0.3) -> Polyline:
    return Polyline(((x1, y1), (x2, y2)), colour, opacity=opacity)
