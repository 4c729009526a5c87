"""Pictures of points over a logarithmic axis."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

from table import each

from edge_router.cli.terminal.chart import (
    HEIGHT,
    LABELS,
    WIDTH,
    Point,
    chart,
    latency_chart,
    log_ticks,
    ticks,
)
from edge_router.cli.terminal.picture import svg
from edge_router.routing.evaluation import Evaluation, RouterMetrics

SVG = "{http://www.w3.org/2000/svg}"


def test_equal_steps_of_the_logarithm_are_equal_steps_on_the_page():
    points = [Point(100, 0.5, 0.4, 0.6), Point(1000, 0.6), Point(10_000, 0.7)]
    drawn = ElementTree.fromstring(svg(chart("<title>", "labels", "APGR", {"a & b": points, "none": []})))
    places = [(float(c.get("cx")), float(c.get("cy"))) for c in drawn.iter(f"{SVG}circle")]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert abs((x1 - x0) - (x2 - x1)) < 0.2 and y0 > y1 > y2
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places)
    words = {text.text for text in drawn.iter(f"{SVG}text")}
    assert {"<title>", "labels", "APGR", "a & b", "100", "1,000", "10,000"} <= words and "none" not in words
    assert len(list(drawn.iter(f"{SVG}polyline"))) == 1


def test_one_point_and_none_at_all_are_pictures_too():
    for series in ({"a": [Point(0.2, 0.5)]}, {}):
        ElementTree.fromstring(svg(chart("t", "x", "y", series)))


def test_a_router_without_a_time_or_an_apgr_has_no_point():
    found = {
        "mf": RouterMetrics(9, 0, 1, 0.6),
        "flat": RouterMetrics(9, 0, 1),
        "oracle": RouterMetrics(9, 0, 1, 1.0),
    }
    drawn = ElementTree.fromstring(svg(latency_chart(Evaluation({"one": found}), {"mf": 0.8, "flat": 0.1})))
    assert len(list(drawn.iter(f"{SVG}circle"))) == 1 and not list(drawn.iter(f"{SVG}polyline"))
    assert "mf" in {text.text for text in drawn.iter(f"{SVG}text")}


@each(
    "low, high, labels",
    (
        (0.574, 0.661, "0.58 0.60 0.62 0.64 0.66"),
        (0.0, 1.0, "0.0 0.2 0.4 0.6 0.8 1.0"),
        (0.1234, 0.1250, "0.1235 0.1240 0.1245 0.1250"),
        (-3.2, 14.8, "0 5 10"),
        (3.0, 3.5, "3.0 3.1 3.2 3.3 3.4 3.5"),
        (980.0, 12_300.0, "2,000 4,000 6,000 8,000 10,000 12,000"),
    ),
)
def test_lines_across_are_at_round_values(low, high, labels):
    assert " ".join(label for _, label in ticks(low, high)) == labels


@each(
    "low, high, labels",
    (
        (50, 5000, "50 100 200 500 1,000 2,000 5,000"),
        (0.1, 40, "0.1 0.3 1 3 10 30"),
        (0.001, 10_000, "0.01 1 100 10,000"),
        (0.8, 4.5, "1 2"),
        (120, 180, "120 130 140 150 160 170 180"),
    ),
)
def test_lines_up_are_at_round_numbers_of_which_none_covers_another(low, high, labels):
    found = log_ticks(math.log10(low), math.log10(high))
    assert " ".join(label for _, label in found) == labels and len(found) <= LABELS
