"""Which endpoint is asked, as a table."""

from __future__ import annotations

import random
from collections import Counter

from table import each

from edge_router.engines.fleet.choosing import EndpointCandidate, chosen

EQUAL = (EndpointCandidate(), EndpointCandidate(), EndpointCandidate())
ROWS = (
    ("first", EQUAL, 0.99, 0),
    ("first", (EndpointCandidate(in_flight=9, cost=5.0), EndpointCandidate(cost=1.0)), 0.0, 0),
    ("least_busy", EQUAL, 0.99, 0),
    (
        "least_busy",
        (EndpointCandidate(in_flight=2), EndpointCandidate(in_flight=1), EndpointCandidate(in_flight=3)),
        0.0,
        1,
    ),
    ("least_busy", (EndpointCandidate(1.0, 1), EndpointCandidate(4.0, 6)), 0.0, 1),
    ("least_busy", (EndpointCandidate(1.0, 1), EndpointCandidate(4.0, 7)), 0.0, 0),
    ("least_busy", (EndpointCandidate(1.0, 1), EndpointCandidate(4.0, 8)), 0.0, 0),
    ("least_busy", (EndpointCandidate(0.0, 0), EndpointCandidate(1.0, 50)), 0.0, 1),
    (
        "cheapest",
        (EndpointCandidate(cost=3.0), EndpointCandidate(cost=1.0), EndpointCandidate(cost=2.0)),
        0.0,
        1,
    ),
    ("cheapest", (EndpointCandidate(), EndpointCandidate(cost=9.0)), 0.0, 1),
    ("cheapest", (EndpointCandidate(), EndpointCandidate()), 0.0, 0),
    ("cheapest", (EndpointCandidate(cost=2.0), EndpointCandidate(cost=0.0)), 0.0, 1),
    ("weighted", EQUAL, 0.0, 0),
    ("weighted", EQUAL, 0.34, 1),
    ("weighted", EQUAL, 0.999, 2),
    ("weighted", (EndpointCandidate(3.0), EndpointCandidate(1.0)), 0.74, 0),
    ("weighted", (EndpointCandidate(3.0), EndpointCandidate(1.0)), 0.75, 1),
    ("weighted", (EndpointCandidate(0.0), EndpointCandidate(1.0)), 0.0, 1),
    ("weighted", (EndpointCandidate(0.0), EndpointCandidate(0.0)), 0.9, 0),
)


@each("strategy, loads, drawn, place", ROWS)
def test_the_one_that_is_asked(
    strategy: str, loads: tuple[EndpointCandidate, ...], drawn: float, place: int
) -> None:
    assert chosen(loads, strategy, lambda: drawn) == place


def test_weights_are_shares() -> None:
    draw, loads = (
        random.Random(3).random,
        (EndpointCandidate(1.0), EndpointCandidate(0.0), EndpointCandidate(3.0)),
    )
    counts = Counter(chosen(loads, "weighted", draw) for _ in range(4000))
    assert counts[1] == 0 and 900 < counts[0] < 1100
