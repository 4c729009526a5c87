"""Pictures of points over a logarithmic axis."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from edge_router.cli.chart import HEIGHT, WIDTH, Point, chart, latency_chart
from edge_router.cli.picture import svg
from edge_router.routing.evaluation import Evaluation, Metrics

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
    found = {"mf": Metrics(9, 0, 1, 0.6), "flat": Metrics(9, 0, 1), "oracle": Metrics(9, 0, 1, 1.0)}
    drawn = ElementTree.fromstring(svg(latency_chart(Evaluation({"one": found}), {"mf": 0.8, "flat": 0.1})))
    assert len(list(drawn.iter(f"{SVG}circle"))) == 1 and not list(drawn.iter(f"{SVG}polyline"))
    assert "mf" in {text.text for text in drawn.iter(f"{SVG}text")}
