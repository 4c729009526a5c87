"""One endpoint of several, as it is now."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from edge_router.engines.base import EndpointState
from edge_router.engines.fleet.breaker import Breaker
from edge_router.engines.fleet.choosing import EndpointCandidate
from edge_router.engines.fleet.endpoints import StrongEndpoint
from edge_router.engines.fleet.hedging import FirstWords
from edge_router.engines.fleet.limits import EndpointLimits
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.errors import EdgeRouterError, StrongError, StrongRateLimited
from edge_router.routing.thresholds.metering import TokenMeter

Failure = TypeVar("Failure", bound=EdgeRouterError)


class Member:
    """One endpoint as it is now. For one thread; `state` may be read from others."""

    def __init__(
        self, endpoint: StrongEndpoint, engines: Mapping[str, OpenAIEngine], clock: Callable[[], float]
    ) -> None:
        limits = endpoint.limits
        self.endpoint, self.engines = endpoint, engines
        self.breaker = Breaker(clock)
        self.limits = EndpointLimits(
            clock,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrency=limits.concurrency,
        )
        self.first_words = FirstWords()
        self.answered_at = -math.inf  # when its last answer began
        self.last: str | None = None  # the name of the error that it last failed with

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def state(self) -> EndpointState:
        busy, cooling_s = self.limits.in_flight, self.limits.cooling_s
        if self.breaker.state != "closed":
            return EndpointState(self.name, "failing", busy, self.breaker.ready_in or None)
        return EndpointState(self.name, "cooling" if cooling_s else "ready", busy, cooling_s or None)

    def load(self, cost_of: TokenMeter) -> EndpointCandidate:
        prices = self.endpoint.prices
        cost = None if prices is None else prices.cost(cost_of.most())
        return EndpointCandidate(self.endpoint.limits.weight, self.limits.in_flight, cost)

    def blamed(self, error: Failure) -> Failure:
        """So that whoever reads it is told of this one's settings."""
        if isinstance(error, StrongError):
            error.section = self.endpoint.section
        return error

    def failed(self, error: EdgeRouterError) -> None:
        """What is learnt of the endpoint, beside what its breaker learns."""
        self.last = type(error).__name__
        self.blamed(error)
        if isinstance(error, StrongRateLimited):
            self.limits.cool(error.retry_after)
