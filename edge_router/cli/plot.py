"""The curves of `evaluate` as an SVG file: quality over strong share, one panel per benchmark.

Self-contained, readable on light and dark grounds, no library.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from edge_router.evaluation import Evaluation, Metrics

WIDTH, HEIGHT, MARGIN = 420, 300, 48
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666")
GREY = "#888888"
STEPS = 4  # of the grid


def svg(evaluation: Evaluation) -> str:
    """A column of panels. Routers without a curve are left out."""
    panels = [
        f'<g transform="translate(0 {index * HEIGHT})">{_panel(group, found)}</g>'
        for index, (group, found) in enumerate(evaluation.groups.items())
    ]
    height = max(1, len(panels)) * HEIGHT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 140}" height="{height}" '
        f'viewBox="0 0 {WIDTH + 140} {height}" font-family="sans-serif" font-size="11" fill="{GREY}">'
    )
    return "\n".join([head, *panels, "</svg>"]) + "\n"


def _panel(title: str, found: Mapping[str, Metrics]) -> str:
    curves = {name: metrics.curve for name, metrics in found.items() if metrics.curve}
    values = [quality for curve in curves.values() for _, quality, _ in curve] or [0.0, 1.0]
    low, high = min(values), max(values)
    span = high - low or 1.0

    def place(share: float, quality: float) -> str:
        x = MARGIN + share * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - (quality - low) / span * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f},{y:.1f}"

    parts = [f'<text x="{MARGIN}" y="{MARGIN - 16}" font-size="13">{escape(title)}</text>']
    for step in range(STEPS + 1):
        part = step / STEPS
        parts.append(_line(place(part, low), place(part, high)))
        parts.append(_line(place(0, low + part * span), place(1, low + part * span)))
        x, y = place(part, low).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 16:.1f}" text-anchor="middle">{part:.0%}</text>')
        x, y = place(0, low + part * span).split(",")
        parts.append(f'<text x="{float(x) - 6:.1f}" y="{y}" text-anchor="end">{low + part * span:.2f}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">strong share</text>')
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(place(share, quality) for share, quality, _ in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        beside = MARGIN + 16 * index
        parts.append(f'<text x="{WIDTH - MARGIN + 12}" y="{beside}" fill="{colour}">{escape(name)}</text>')
    return "".join(parts)


def _line(start: str, end: str) -> str:
    (x1, y1), (x2, y2) = start.split(","), end.split(",")
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{GREY}" stroke-opacity="0.3"/>'
