"""Which endpoint is asked, as a table."""

from __future__ import annotations

import random
from collections import Counter

from table import each

from edge_router.engines.fleet.choosing import Candidate, chosen

EQUAL = (Candidate(), Candidate(), Candidate())
ROWS = (
    ("first", EQUAL, 0.99, 0),
    ("first", (Candidate(in_flight=9, cost=5.0), Candidate(cost=1.0)), 0.0, 0),
    ("least_busy", EQUAL, 0.99, 0),
    ("least_busy", (Candidate(in_flight=2), Candidate(in_flight=1), Candidate(in_flight=3)), 0.0, 1),
    ("least_busy", (Candidate(1.0, 1), Candidate(4.0, 6)), 0.0, 1),
    ("least_busy", (Candidate(1.0, 1), Candidate(4.0, 7)), 0.0, 0),
    ("least_busy", (Candidate(1.0, 1), Candidate(4.0, 8)), 0.0, 0),
    ("least_busy", (Candidate(0.0, 0), Candidate(1.0, 50)), 0.0, 1),
    ("cheapest", (Candidate(cost=3.0), Candidate(cost=1.0), Candidate(cost=2.0)), 0.0, 1),
    ("cheapest", (Candidate(), Candidate(cost=9.0)), 0.0, 1),
    ("cheapest", (Candidate(), Candidate()), 0.0, 0),
    ("cheapest", (Candidate(cost=2.0), Candidate(cost=0.0)), 0.0, 1),
    ("weighted", EQUAL, 0.0, 0),
    ("weighted", EQUAL, 0.34, 1),
    ("weighted", EQUAL, 0.999, 2),
    ("weighted", (Candidate(3.0), Candidate(1.0)), 0.74, 0),
    ("weighted", (Candidate(3.0), Candidate(1.0)), 0.75, 1),
    ("weighted", (Candidate(0.0), Candidate(1.0)), 0.0, 1),
    ("weighted", (Candidate(0.0), Candidate(0.0)), 0.9, 0),
)


@each("strategy, loads, drawn, place", ROWS)
def test_the_one_that_is_asked(strategy: str, loads: tuple[Candidate, ...], drawn: float, place: int) -> None:
    assert chosen(loads, strategy, lambda: drawn) == place


def test_weights_are_shares() -> None:
    draw, loads = random.Random(3).random, (Candidate(1.0), Candidate(0.0), Candidate(3.0))
    counts = Counter(chosen(loads, "weighted", draw) for _ in range(4000))
    assert counts[1] == 0 and 900 < counts[0] < 1100
