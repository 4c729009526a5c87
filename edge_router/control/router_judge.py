"""The model at an endpoint that says how hard a query is: what is sent there, and when it is left alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.control.egress import Egress
from edge_router.control.guarded_engine import GuardedEngine
from edge_router.engines.base import Decides, Engine
from edge_router.engines.fleet.breaker import Attempt, Breaker, Fault, fault_of
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.place import Resolve
from edge_router.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    StrongError,
    StrongTimeout,
    Withheld,
)
from edge_router.questions.inquiry import Inquiry, InquiryEvent
from edge_router.questions.question import Question
from edge_router.routing.routers.base import AsksEndpoint, AsksWeak, Router
from edge_router.routing.routers.text import LONGEST, conversation_text, shorten
from edge_router.types import Cancel

SETTING = "judge.base_url"

logger = logging.getLogger(__name__)


def made_router(
    make: Callable[..., Router], config: Config, weak: Callable[[], Engine], egress: Egress
) -> Router:
    """A router that has what it needs beside itself."""
    router = make(threads=config.router.threads)
    if isinstance(router, AsksWeak):
        router.use_weak(weak)
    if isinstance(router, AsksEndpoint):
        router.use_judge(RouterJudge(config, egress))
    return router


def put_away(router: Router) -> None:
    if isinstance(router, AsksEndpoint):
        router.close()


class RouterJudge:
    """An endpoint at `judge.base_url`: on this machine, where all is sent that is asked, or elsewhere, where
    only what the rules and the guard release goes, and nothing private.

    It gets the text that the other routers score, without the system prompt, images and tools. One that keeps
    failing is left alone for a while. Safe to use from any number of threads. Raises `ConfigError` for an
    unusable address.
    """

    def __init__(
        self,
        config: Config,
        egress: Egress,
        *,
        clock: Callable[[], float] = time.monotonic,
        resolve: Resolve | None = None,
    ) -> None:
        from edge_router.engines.remote.question_endpoint import QuestionEndpoint, ways_here

        own, self._limit_s = config.judge.endpoint, config.judge.timeout_s
        place = Endpoint.parse(own.base_url, SETTING)
        ways = ways_here(own, place, resolve)
        self.here, self._url, self._egress = bool(ways), place.url, egress
        self._engine = QuestionEndpoint(config, own, setting=SETTING, ways=ways, retries=0)
        self._breaker, self._lock = Breaker(clock), threading.Lock()
        self._complained = False  # a name or a key that is wrong lets nobody rest

    @staticmethod
    def described(config: Config) -> str:
        """In words, for people; nobody is asked."""
        from edge_router.engines.remote.question_endpoint import ways_here

        place = Endpoint.parse(config.judge.base_url, SETTING)
        near = ways_here(config.judge.endpoint, place)
        where = "on this machine" if near else "on another machine, which gets nothing private"
        return f"{config.judge.model} at {place.url} ({config.judge.protocol}), {where}"

    def ask(
        self, request: ChatRequest, question: Question, cancel: Cancel, *, stays: bool
    ) -> Sequence[InquiryEvent]:
        """Raises `Withheld`, and the `StrongError` that fits."""
        if stays and not self.here:
            raise EngineUnavailable(SETTING, "the request must not leave this machine")
        with self._lock:
            if not self._breaker.passes:
                raise EngineUnavailable(SETTING, f"{self._url} is left alone, for it failed")
            attempt = self._breaker.begin()
        try:
            found = self._asked(request, question, cancel)
        except Cancelled:
            late = StrongTimeout(self._url, self._limit_s, "judge.timeout_s")
            self._failed(attempt, late, Fault(slow=True))
            raise late from None
        except BaseException as error:
            self._failed(attempt, error, fault_of(error) if isinstance(error, EngineError) else None)
            raise
        with self._lock:
            self._breaker.succeeded(attempt)
        return found

    def _failed(self, attempt: Attempt, error: BaseException, fault: Fault | None) -> None:
        with self._lock:
            if fault is None:
                self._breaker.dropped(attempt)
            else:
                self._breaker.failed(attempt, fault)
            rests = fault is not None and not self._breaker.passes
            first = (
                not self._complained and isinstance(error, StrongError) and not isinstance(error, Withheld)
            )
            self._complained = self._complained or first
        if rests:
            logger.warning("the router decision: %s; meanwhile a learned router scores queries", error)
        elif first:
            logger.warning("the router decision: %s; a learned router has scored the query", error)

    def _asked(self, request: ChatRequest, question: Question, cancel: Cancel) -> Sequence[InquiryEvent]:
        def inquire(inner: Engine, released: ChatRequest) -> Sequence[InquiryEvent]:
            assert isinstance(inner, Decides)
            return list(inner.decide(Inquiry(gist(released.messages), [question], "middle"), cancel))

        if self.here:
            return inquire(self._engine, request)
        guarded = GuardedEngine(self._engine, self._egress)
        return list(guarded.through(request, lambda inner, released: iter(inquire(inner, released))))

    def close(self) -> None:
        self._engine.close()


def gist(messages: Sequence[Message]) -> str:
    """What is asked, in a bounded text. Made of what may leave: a cut through a key would hide it."""
    return shorten(conversation_text(messages), LONGEST)
