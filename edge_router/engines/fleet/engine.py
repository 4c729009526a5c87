"""Several endpoints that answer as one strong model.

A question goes to one of those that are ready. Where that fails before anything of the answer came, the next
is asked; where all have failed they are asked once more, as often as `strong.max_retries` says. All of it
runs on one event loop, so nothing here takes a lock.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TypeVar

from edge_router.chat.events import Answering, Event, Finished
from edge_router.chat.request import ChatRequest
from edge_router.config import Config
from edge_router.engines import openai
from edge_router.engines.base import Arriving, Capabilities, EndpointState, Engine, Prompt
from edge_router.engines.fleet.breaker import Breaker, fault_of
from edge_router.engines.fleet.choosing import Load, chosen
from edge_router.engines.fleet.endpoints import StrongEndpoint, strong_endpoints
from edge_router.engines.fleet.limits import Limits, RetryBudget
from edge_router.engines.openai import OpenAIEngine
from edge_router.engines.remote.background import BackgroundLoop
from edge_router.engines.remote.failures import FIRST_WAIT_S, is_passing
from edge_router.errors import (
    EdgeRouterError,
    EngineUnavailable,
    StrongError,
    StrongFailed,
    StrongInterrupted,
    StrongNotConfigured,
    StrongPaused,
    StrongRateLimited,
    StrongUnreachable,
)
from edge_router.paths import Paths
from edge_router.thresholds.metering import Meter
from edge_router.types import LATEST, Cancel, Progress

Failure = TypeVar("Failure", bound=EdgeRouterError)

LONGEST_WAIT_S = 12.0  # for an endpoint that is at its limit: the weak model answers sooner
TRIAL_WAIT_S = 5.0  # for word of the one question that another is tried with, where all have failed


class Member:
    """One endpoint as it is now. For one thread; `state` may be read from others."""

    def __init__(
        self, endpoint: StrongEndpoint, engines: Mapping[str, OpenAIEngine], clock: Callable[[], float]
    ) -> None:
        limits = endpoint.limits
        self.endpoint, self.engines = endpoint, engines
        self.breaker = Breaker(clock)
        self.limits = Limits(
            clock,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrency=limits.concurrency,
        )
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

    def load(self, cost_of: Meter) -> Load:
        prices = self.endpoint.prices
        cost = None if prices is None else prices.cost(cost_of.most())
        return Load(self.endpoint.limits.weight, self.limits.in_flight, cost)

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


class FleetEngine:
    """Safe to use from any number of threads. Reads no key and opens no connection before it is asked."""

    def __init__(
        self,
        endpoints: Sequence[StrongEndpoint],
        *,
        strategy: str = "first",
        offline: bool = False,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Raises `StrongNotConfigured` where there is none."""
        if not endpoints:
            raise StrongNotConfigured
        self._rounds = endpoints[0].settings.max_retries  # which is that of [strong], for all
        self._strategy, self._offline, self._clock, self._draw = strategy, offline, clock, draw
        self._loop = BackgroundLoop("edge_router-strong")
        self._members = tuple(Member(each, self._engines(each), clock) for each in endpoints)
        self._budget = RetryBudget()
        self._changed = asyncio.Event()  # set, and another put in its place, when an endpoint may be free

    def _engines(self, endpoint: StrongEndpoint) -> dict[str, OpenAIEngine]:
        """By model: what one of them does not take is no word on the others."""
        return {
            model: OpenAIEngine(
                replace(endpoint.settings, model=model, max_retries=0),
                offline=self._offline,
                keys=lambda _: endpoint.key(),
                endpoint=endpoint.place,
                loop=self._loop,
            )
            for model in endpoint.models
        }

    @property
    def model_id(self) -> str:
        return self._members[0].endpoint.models[0]

    @property
    def capabilities(self) -> Capabilities:
        return next(iter(self._members[0].engines.values())).capabilities

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        return tuple(member.state for member in self._members)

    def prepare(self, request: ChatRequest) -> Prompt:
        return Prompt(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Arriving[Event]:
        """The answer of one endpoint, told first. Raises what the last one that was asked raised, and
        `StrongPaused` where none may be asked."""
        return self._loop.iterate(lambda: self._events(prompt.request), cancel)

    def close(self) -> None:
        self._loop.close(self._disconnect)

    async def _disconnect(self) -> None:
        for member in self._members:
            for engine in member.engines.values():
                await engine.disconnect()

    def _events(self, request: ChatRequest) -> AsyncGenerator[Event]:
        if self._loop.closed:
            raise EngineUnavailable("openai", "it is closed")
        first = self._members[0]
        if self._offline:
            raise first.blamed(StrongUnreachable(first.endpoint.place.url, "the network is switched off"))
        if request.private:
            raise StrongError(
                first.endpoint.place.url, "the request is private and must not leave this machine"
            )
        return self._answer(request)

    async def _answer(self, request: ChatRequest) -> AsyncGenerator[Event]:
        meter, wanted = Meter(request), self._asked(request.target)
        tokens = meter.most().prompt_tokens
        until = self._clock() + LONGEST_WAIT_S
        self._budget.asked()
        failure: EdgeRouterError | None = None
        untried, rounds, passing = dict(wanted), 0, False
        while True:
            if not untried:
                assert failure is not None
                wait_s = FIRST_WAIT_S * 2.0**rounds * (1 - self._draw() / 4)
                again = passing and rounds < self._rounds and self._clock() + wait_s < until
                if not again or not self._budget.take():
                    raise failure
                await asyncio.sleep(wait_s)
                untried, rounds, passing = dict(wanted), rounds + 1, False
            member = await self._ready(list(untried), tokens, until, meter, failure)
            model = untried.pop(member)
            started = False
            try:
                async with aclosing(self._attempt(member, model, request, tokens)) as events:
                    async for event in events:
                        if not started:
                            started = True
                            yield Answering(model, member.name)
                        yield event
                return
            except (StrongError, EngineUnavailable) as error:
                if started:
                    raise
                failure, passing = error, passing or _is_passing(error)

    async def _attempt(
        self, member: Member, model: str, request: ChatRequest, tokens: int
    ) -> AsyncGenerator[Event]:
        """One endpoint's answer, and what is learnt of the endpoint by it."""
        breaker, limits = member.breaker, member.limits
        attempt, usage, used = breaker.begin(), limits.begin(tokens), None
        try:
            async with aclosing(member.engines[model].events(request)) as events:
                async for event in events:
                    if breaker.trying:
                        breaker.answers(attempt)
                        self._tell()
                    if isinstance(event, Finished) and event.usage is not None:
                        used = event.usage.total_tokens
                    yield event
            breaker.succeeded(attempt)
            limits.answered()
        except (StrongError, EngineUnavailable) as error:
            member.failed(error)
            if (fault := fault_of(error)) is not None:
                breaker.failed(attempt, fault)
            raise
        finally:
            breaker.dropped(attempt)
            limits.end(usage, used)
            self._tell()

    def _tell(self) -> None:
        """Those that wait that something has changed."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _asked(self, target: str) -> dict[Member, str]:
        """Who may answer a request of that `model`, and with which of theirs."""
        named = {member: member.endpoint.model_for(target) for member in self._members}
        found = {member: model for member, model in named.items() if model is not None}
        if not found and target.endswith(LATEST):
            return self._asked(target.removesuffix(LATEST))
        return found or {member: member.endpoint.models[0] for member in self._members}

    async def _ready(
        self,
        untried: Sequence[Member],
        tokens: int,
        until: float,
        meter: Meter,
        failure: EdgeRouterError | None,
    ) -> Member:
        """The one to ask, once it may be asked. Raises `failure`, or `StrongPaused` where there is none."""
        trial_until = self._clock() + TRIAL_WAIT_S
        while True:
            passing = [member for member in untried if member.breaker.passes]
            passing = passing or [member for member in untried if member.breaker.tries_early]
            free = [member for member in passing if not member.limits.ready_in(tokens)]
            if free:
                loads = [member.load(meter) for member in free]
                return free[chosen(loads, self._strategy, self._draw)]
            wait_s = min((member.limits.ready_in(tokens) for member in passing), default=math.inf)
            tried = any(member.breaker.trying for member in untried)
            left_s = (until if passing else trial_until) - self._clock()
            known = wait_s < math.inf
            if not (passing or tried) or left_s <= 0 or (known and wait_s > left_s):
                raise failure or _paused(untried, wait_s if known else None)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, left_s)):
                    await self._changed.wait()


def _is_passing(error: EdgeRouterError) -> bool:
    """Whether the same may go well in a moment. What has timed out has taken its time already."""
    if isinstance(error, StrongFailed):
        return is_passing(error.status)
    return isinstance(error, StrongRateLimited | StrongInterrupted | StrongUnreachable)


def _paused(members: Sequence[Member], wait_s: float | None) -> StrongPaused:
    """Why none of them may be asked now: of the first, for what ails the others is shown by doctor."""
    first = members[0]
    if first.breaker.passes:
        return first.blamed(StrongPaused(first.endpoint.place.url, "it is at its limit", wait_s))
    last = "" if first.last is None else f" ({first.last})"
    again = first.breaker.ready_in
    reason = f"it failed{last} and is left alone for another {math.ceil(again)} s"
    return first.blamed(StrongPaused(first.endpoint.place.url, reason, again))


def load(config: Config, paths: Paths, progress: Progress) -> Engine:
    """The factory of the strong engine "openai": one endpoint by itself, several as a fleet.

    Raises `StrongNotConfigured`, `ConfigError`.
    """
    if not config.endpoints:
        return openai.load(config, paths, progress)
    endpoints = tuple(strong_endpoints(config))
    return FleetEngine(endpoints, strategy=config.strong.strategy, offline=config.offline)
