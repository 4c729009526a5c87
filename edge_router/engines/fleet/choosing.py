"""Which of several endpoints is asked first. Pure: every case is a row of a table in the tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class EndpointCandidate:
    """One of them as it is now. `cost` is of this question, None where it has no price."""

    weight: float = 1.0
    in_flight: int = 0
    cost: float | None = None


def chosen(loads: Sequence[EndpointCandidate], strategy: str, draw: Callable[[], float]) -> int:
    """The place of the one to ask by `strong.strategy`; of equals the first.

    `draw` gives numbers from 0 to below 1. Weight 0 is for those that are asked only where no other is left.
    """

    def rank(place: int) -> float:
        load = loads[place]
        if strategy == "least_busy":
            return (load.in_flight + 1) / load.weight if load.weight else math.inf
        if strategy == "cheapest":
            return math.inf if load.cost is None else load.cost
        return 0.0

    if strategy == "weighted":
        return _drawn([load.weight for load in loads], draw())
    return min(range(len(loads)), key=rank)


def _drawn(weights: Sequence[float], drawn: float) -> int:
    left = drawn * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return max(range(len(weights)), key=weights.__getitem__)
