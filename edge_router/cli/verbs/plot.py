"""The curves of `evaluate` as a picture: quality over strong share, one panel per benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.cli.terminal.chart import ticks
from edge_router.cli.terminal.picture import COLOURS, Mark, Picture, Polyline, TextMark, below
from edge_router.routing.evaluation import Evaluation, RouterMetrics

WIDTH, HEIGHT, MARGIN, LEGEND = 420, 300, 48, 140
STEPS = 4  # of the shares


def curves(evaluation: Evaluation) -> Picture:
    """A column of panels. Routers without a curve are left out."""
    return below([_panel(group, found) for group, found in evaluation.groups.items()])


def _panel(title: str, found: Mapping[str, RouterMetrics]) -> Picture:
    shown = {name: metrics.curve for name, metrics in found.items() if metrics.curve}
    values = [quality for curve in shown.values() for _, quality, _ in curve] or [0.0, 1.0]
    low, high = min(values), max(values)
    span = high - low or 1.0

    def place(share: float, quality: float) -> tuple[float, float]:
        x = MARGIN + share * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - (quality - low) / span * (HEIGHT - 2 * MARGIN)

    marks: list[Mark] = [TextMark(MARGIN, MARGIN - 16, title, size=13)]
    for step in range(STEPS + 1):
        part = step / STEPS
        marks.append(Polyline((place(part, low), place(part, low + span)), opacity=0.3))
        x, bottom = place(part, low)
        marks.append(TextMark(x, bottom + 16, f"{part:.0%}", "middle"))
    for quality, label in ticks(low, low + span):
        marks.append(Polyline((place(0, quality), place(1, quality)), opacity=0.3))
        left, y = place(0, quality)
        marks.append(TextMark(left - 6, y + 4, label, "end"))
    marks.append(TextMark(WIDTH / 2, HEIGHT - 12, "strong share", "middle"))
    for index, (name, curve) in enumerate(shown.items()):
        colour = COLOURS[index % len(COLOURS)]
        marks.append(Polyline(tuple(place(share, quality) for share, quality, _ in curve), colour, 1.8))
        marks.append(TextMark(WIDTH - MARGIN + 12, MARGIN + 16 * index, name, colour=colour))
    return Picture(WIDTH + LEGEND, HEIGHT, tuple(marks))
