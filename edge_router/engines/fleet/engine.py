"""Several endpoints that answer as one strong model.

A question goes to one of those that are ready. Where that fails before anything of the answer came, the next
is asked; where all have failed they are asked once more, as often as `strong.max_retries` says. All of it
runs on one event loop, so nothing here takes a lock.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

from edge_router.chat.events import Answering, Event, Finished
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.engines.base import Arriving, Capabilities, EndpointState, Engine, Prompt
from edge_router.engines.fleet.breaker import fault_of
from edge_router.engines.fleet.choosing import chosen
from edge_router.engines.fleet.course import Candidate, Course, known_first
from edge_router.engines.fleet.endpoints import StrongEndpoint, strong_endpoints
from edge_router.engines.fleet.hedging import HedgedRun, stopped
from edge_router.engines.fleet.limits import RetryBudget
from edge_router.engines.fleet.member import Member
from edge_router.engines.remote import engine as openai
from edge_router.engines.remote.background import BackgroundLoop
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.errors import (
    EngineUnavailable,
    StrongError,
    StrongNotConfigured,
    StrongUnreachable,
)
from edge_router.routing.thresholds.metering import TokenMeter
from edge_router.system.paths import Paths
from edge_router.types import LATEST, Cancel, Progress


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
        self._budget, self._hedging = RetryBudget(), RetryBudget()
        hedge_ms = endpoints[0].settings.hedge_after_ms
        self._hedges, self._hedge_after_s = endpoints[0].settings.hedge, hedge_ms and hedge_ms / 1e3
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
        meter = TokenMeter(request)
        course = Course(
            known_first(self._asked(request), request.reader),
            meter.most().prompt_tokens,
            retries=self._rounds,
            clock=self._clock,
            draw=self._draw,
        )
        self._budget.asked()
        self._hedging.asked()
        while True:
            asked, started = await self._next(course, meter), False
            try:
                answer = self._hedged(asked, course, request, meter) if self._hedges else None
                async with aclosing(answer or self._alone(asked, course, request)) as events:
                    async for event in events:
                        started = True
                        yield event
                return
            except (StrongError, EngineUnavailable):
                if started:
                    raise

    async def _alone(self, asked: Candidate, course: Course, request: ChatRequest) -> AsyncGenerator[Event]:
        """The answer of `asked`. Tells `course` where that fails before its first word."""
        started = False
        try:
            async with aclosing(self._attempt(asked, request, course.tokens)) as events:
                async for event in events:
                    if not started:
                        started = True
                        yield Answering(asked.model, asked.member.name)
                    yield event
        except (StrongError, EngineUnavailable) as error:
            if not started:
                course.failed(asked, error)
            raise

    async def _hedged(
        self, asked: Candidate, course: Course, request: ChatRequest, meter: TokenMeter
    ) -> AsyncGenerator[Event]:
        """The answer of `asked`, or of a second one that speaks before it. Tells `course` who failed."""
        after_s = self._hedge_s(asked.member)
        runs = {asked: HedgedRun(self._attempt(asked, request, course.tokens))}
        try:
            await asyncio.wait([runs[asked].begun], timeout=after_s)
            if not runs[asked].begun.done() and (second := self._second(asked, course, meter)) is not None:
                runs[second] = HedgedRun(self._attempt(second, request, course.tokens))
            listening = dict(runs)
            while not (speaking := [each for each, run in listening.items() if run.speaks]):
                for each in [each for each, run in listening.items() if run.begun.done()]:
                    failure = listening.pop(each).failure
                    if failure is None:
                        return
                    if not isinstance(failure, StrongError | EngineUnavailable):
                        raise failure
                    course.failed(each, failure)
                    if not listening:
                        raise failure
                waiting = [run.begun for run in listening.values()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            first = speaking[0]
            others = [each for each in listening if each is not first]
            for each in others:
                listening[each].cancel()
            yield Answering(first.model, first.member.name, tuple(each.member.name for each in others))
            async with aclosing(runs[first].items()) as events:
                async for event in events:
                    yield event
        finally:
            await stopped(runs.values())

    def _hedge_s(self, member: Member) -> float | None:
        """How long it may be silent before a second one is asked; None: for as long as it likes."""
        return member.first_words.usual_s if self._hedge_after_s is None else self._hedge_after_s

    def _second(self, asked: Candidate, course: Course, meter: TokenMeter) -> Candidate | None:
        """Who is asked beside it: another endpoint that works, and is no less than what is wanted."""
        ready = course.beside(asked)
        if not ready or not self._hedging.take():
            return None
        return ready[chosen([each.member.load(meter) for each in ready], self._strategy, self._draw)]

    async def _next(self, course: Course, meter: TokenMeter) -> Candidate:
        """The one to ask, once it may be asked. Raises what `Course.over` says where there is none."""
        while True:
            ready = course.ready()
            if ready:
                loads = [each.member.load(meter) for each in ready]
                found = ready[chosen(loads, self._strategy, self._draw)]
                if found.fresh or found.recovered or self._budget.take():
                    return found
                course.spare(found)
                continue
            wait_s = course.wait_s()
            if wait_s is None:
                raise course.over()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _attempt(self, asked: Candidate, request: ChatRequest, tokens: int) -> AsyncGenerator[Event]:
        """One endpoint's answer, and what is learnt of the endpoint by it."""
        member, breaker, limits = asked.member, asked.member.breaker, asked.member.limits
        attempt, usage, used = breaker.begin(), limits.begin(tokens), None
        asked_at, silent = self._clock(), True
        try:
            async with aclosing(member.engines[asked.model].events(request)) as events:
                async for event in events:
                    if silent:
                        silent, member.answered_at = False, self._clock()
                        member.first_words.heard(member.answered_at - asked_at)
                    if breaker.trying or usage.probes:
                        breaker.answers(attempt)
                        limits.answers(usage)
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

    def _asked(self, request: ChatRequest) -> Sequence[Candidate]:
        """Who may answer it, and with which of their models; the alternatives rank behind its own. Only those
        `among` which it may be, where they are named, whatever else was asked for."""
        names, above = (request.target, *request.alternatives, *request.lesser), len(request.alternatives)
        found = self._ranked(names, above, request.among) or self._ranked(("",), 0, request.among)
        if not found:
            raise StrongNotConfigured
        return found

    def _ranked(self, names: Sequence[str], above: int, among: Sequence[str]) -> Sequence[Candidate]:
        found: dict[tuple[Member, str], Candidate] = {}
        for rank, name in enumerate(names):
            for each in self._named(name):
                model = _one_of(each, name, among)
                if model is not None:
                    each.model, each.rank, each.lesser = model, rank, rank > above
                    found.setdefault((each.member, model), each)
        return tuple(found.values())

    def _named(self, target: str) -> Sequence[Candidate]:
        """Those that such a `model` means; all of them where it means none."""
        models = [(member, member.endpoint.model_for(target)) for member in self._members]
        found = [Candidate(member, model) for member, model in models if model is not None]
        if not found and target.endswith(LATEST):
            return self._named(target.removesuffix(LATEST))
        every = [Candidate(member, member.endpoint.models[0], any_model=True) for member in self._members]
        return found or every


def _one_of(candidate: Candidate, target: str, among: Sequence[str]) -> str | None:
    """Its model, or another of its endpoint's where only those `among` which it may be are allowed."""
    if not among:
        return candidate.model
    endpoint = candidate.member.endpoint
    models = [model for name in among if (model := endpoint.model_for(name)) is not None]
    wanted = endpoint.model_for(target.removesuffix(LATEST))
    return wanted if wanted in models else next(iter(models), None)


def load(config: Config, paths: Paths, progress: Progress) -> Engine:
    """The factory of the strong engine "openai": one endpoint by itself, several as a fleet.

    Raises `StrongNotConfigured`, `ConfigError`.
    """
    if not config.endpoints:
        return openai.load(config, paths, progress)
    strategy = config.strong.strategy
    endpoints = tuple(strong_endpoints(config, own_prices=strategy != "cheapest"))
    return FleetEngine(endpoints, strategy=strategy, offline=config.offline)
