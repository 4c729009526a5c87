"""How the strong model's endpoints fare, for /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge_router.engines.base import EndpointState
from edge_router.metrics.counters import Gauge, Labels


def endpoint_gauges(endpoints: Callable[[], Sequence[EndpointState]]) -> tuple[Gauge, ...]:
    """Nothing before the first question, and where there is only one."""

    def states() -> Iterator[tuple[Labels, float]]:
        yield from (((each.name, each.state), 1) for each in endpoints())

    def under_way() -> Iterator[tuple[Labels, float]]:
        yield from (((each.name,), each.in_flight) for each in endpoints())

    def rest_s() -> Iterator[tuple[Labels, float]]:
        yield from (((each.name,), each.again_s or 0.0) for each in endpoints())

    one = ("endpoint",)
    return (
        Gauge("edge_router_endpoint_state", "1 for the state that it is in.", (*one, "state"), states),
        Gauge("edge_router_endpoint_in_flight", "Questions that it is at.", one, under_way),
        Gauge("edge_router_endpoint_rest_seconds", "Until it is asked again.", one, rest_s),
    )
