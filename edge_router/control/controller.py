"""The one orchestrator: score, decide, generate, record.

`Controller.start` returns once the first event is there. Until then the decision may still change (a weak
model that can't start, a strong one that can't be reached); after it never: one answer, one model.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, Unpack

from edge_router.callers.register import Callers, Visit
from edge_router.chat.model import ModelInfo
from edge_router.chat.request import ChatRequest
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.control import policy
from edge_router.control.answer import Answer, Clock
from edge_router.control.answering import Answerer
from edge_router.control.background_upgrades import BackgroundUpgrades
from edge_router.control.deciding import Decider
from edge_router.control.inquiries import Inquiries
from edge_router.control.inventory import chat_models, embedding_models
from edge_router.control.lookup import CacheLookup, Keeping, looked_up
from edge_router.control.pool import Pool
from edge_router.control.recording import AnswerTranscript, Recorder
from edge_router.control.response_cache import ResponseCache
from edge_router.control.sessions import Sessions
from edge_router.control.steps import Pause, done
from edge_router.control.upgrading import Upgrader
from edge_router.defects import Defects
from edge_router.engines.base import EndpointState, Engine, Restarts
from edge_router.engines.fleet.gauges import endpoint_gauges
from edge_router.errors import (
    Closed,
    EdgeRouterError,
    InternalError,
    StrongNotConfigured,
)
from edge_router.ledger import Record
from edge_router.metrics.counters import Gauge, Labels, Metrics
from edge_router.metrics.memory import memory_gauges
from edge_router.questions.bounds import Bounds
from edge_router.questions.result import Answers
from edge_router.routing.confidence.gate import Gate
from edge_router.routing.routers.base import Router
from edge_router.routing.thresholds.metering import TokenMeter
from edge_router.routing.thresholds.prices import Prices
from edge_router.routing.thresholds.spending import Payment
from edge_router.system.paths import Paths
from edge_router.types import Cancel, Decision, Progress, Reason

if TYPE_CHECKING:
    from edge_router.routing.routers.embedding import EmbeddedTexts

_logger = logging.getLogger(__name__)


class CoreController:
    """Sends each query to the weak or the strong model and answers it. Safe to use from several threads.

    `weak`, `strong` and `router` replace what the configuration names: a program that embeds this passes
    its own engines, a test passes scripted ones. `gate` is what `weak.min_confidence` goes by, and `bounds`
    what keeps answers to typed questions here; of a model that was built here both are found. Nothing is
    loaded before it is needed, or `warm` is called. Settings are configuration keys with two underscores:
    `Controller(weak__threads=2)`. Raises `ConfigError`, and `UnknownModel` for a `weak.model` that nobody
    knows. After `close` everything raises `Closed`.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        weak: Engine | None = None,
        strong: Engine | None = None,
        router: Router | None = None,
        gate: Gate | None = None,
        bounds: Bounds | None = None,
        paths: Paths | None = None,
        progress: Progress | None = None,
        **settings: Unpack[SettingArguments],
    ) -> None:
        self.config = configured(config, settings)
        paths = paths or Paths.default()
        self.metrics = Metrics()
        self.defects = Defects(
            paths.defects, self.metrics.defect, lambda text: self._pool.egress.masked(text)
        )
        self._pool = Pool(
            self.config,
            weak=weak,
            strong=strong,
            router=router,
            gate=gate,
            paths=paths,
            progress=progress,
            defects=self.defects,
        )
        self.metrics.add(*memory_gauges(lambda: self._pool.plan, lambda: self._pool.weak_loaded))
        self.metrics.add(*endpoint_gauges(lambda: self._pool.endpoints))
        restarts = "Times that the weak model's process was started again."
        self.metrics.add(Gauge("edge_router_weak_restarts", restarts, (), self._restarts))
        egress = self._pool.egress
        self.recorder = Recorder(self.config.ledger, paths, self.metrics, self.defects, egress)
        self.callers = Callers(self.config, paths, self._pool.names, self.metrics.refused)
        self._upgrader = Upgrader(
            self.config,
            self.recorder.ledger,
            egress,
            self.start,
            strong=lambda: self._pool.names().strong,
            allowed=self.callers.allowed,
        )
        self._background = BackgroundUpgrades(self.config.ledger, self._upgrader, self.defects)
        self._responses = ResponseCache.of(self.config, paths, self._pool, self.defects, self.metrics)
        self._sessions = Sessions(self.config.sessions, Prices.highest(self.config, own=True))
        self._decider = Decider(
            self.config,
            self._pool,
            self.callers,
            self._sessions,
            self.defects,
            failed=self.recorder.failed,
        )
        self._answerer = Answerer(
            self.config,
            self._pool,
            self.callers,
            self._sessions,
            self.defects,
            self.recorder,
            finished=self._finished,
        )
        self._inquiries = Inquiries(
            self.defects,
            decide=self._decider.decided,
            ready=self._answerer.ready,
            payment=self._answerer.payment,
            record=self.recorder.record,
            bounds=lambda weak: bounds or self._pool.bounds(weak),
        )
        self.metrics.add(*self._sessions.gauges())
        self._created = int(time.time())
        self._closed = False

    def start(self, request: ChatRequest, cancel: Cancel | None = None) -> Answer:
        """Score, decide and begin to generate. Raises `EdgeRouterError` where no model can answer."""
        return done(self.starting(request, cancel or threading.Event()))

    def starting(self, request: ChatRequest, cancel: Cancel) -> Generator[Pause, None, Answer]:
        """The steps of `start`. All of them have to be done, also once `cancel` is set."""
        self._check_open()
        with self.defects.guard("controller"):
            request = self.callers.asked(request)
            with self.callers.begin(request) as visit:
                return (yield from self._starting(request, cancel, visit))

    def _starting(self, request: ChatRequest, cancel: Cancel, visit: Visit) -> Generator[Pause, None, Answer]:
        clock = Clock()
        lookup = looked_up(self._responses, request)
        decision, situation = self._decider.decided(request, clock, cancel, lookup)
        if lookup is not None and lookup.found is not None:
            ended = partial(self._finished, None, visit, lookup, None)
            return lookup.answer(decision, cancel, clock, ended, self._sessions, situation.session)
        return (yield from self._answerer.asking(request, decision, situation, lookup, visit, cancel, clock))

    def answering(self, request: ChatRequest, cancel: Cancel) -> Generator[Pause, None, Answers]:
        """The steps to the answers of `request`, whose output is typed questions.

        Raises `EdgeRouterError` where no model can answer.
        """
        self._check_open()
        with self.defects.guard("controller"):
            request = self.callers.asked(request)
            with self.callers.begin(request) as visit:
                answers = yield from self._inquiries.answering(request, cancel)
                visit.end(answers.usage.total_tokens)
                return answers

    def decision(self, request: ChatRequest) -> Decision:
        """Where `request` would go; no model is loaded and none is asked whether it can be reached."""
        self._check_open()
        with self.defects.guard("controller"):
            return self._decider.decide(self.callers.asked(request), Clock())[0]

    def warm(self) -> None:
        """Load the router and the weak model now, as `serve` does before it listens.

        What could not be loaded a moment ago is tried again.
        """
        self._check_open()
        self._pool.retry()
        self._background.wake()
        with self.defects.guard("controller"):
            self._pool.router(None)
            self._pool.load()

    def begin(self, target: str = "auto") -> None:
        """Begin to load what a request with this `target` may need, and return at once: it is on its way.

        What could not be loaded is told to who asks for it. Raises `UnknownModel`, `UnknownName`.
        """
        self._check_open()
        with self.defects.guard("controller"):
            route = policy.parse_model(target, self._pool.names())
            if route.tier != "strong":
                self._pool.begin(route.router, scored=route.tier is None)

    def router(self, name: str | None = None) -> Router:
        """The router of that name, loaded; None is the default one. Raises `UnknownName`, `InvalidRouter`."""
        self._check_open()
        with self.defects.guard("router"):
            return self._pool.router(name)

    def model_names(self) -> tuple[str, ...]:
        """Everything that may stand in a request's `model`."""
        return self._pool.names().all()

    def models(self) -> tuple[ModelInfo, ...]:
        """The same names with what is known of each, and those of `embed`."""
        chats = chat_models(self._pool, self.config, self._created)
        return (*chats, *embedding_models(self._pool.embedders().names(), self._created))

    def model(self, name: str) -> ModelInfo:
        """Of one of them, or of a router's with a threshold behind it.

        Raises what a request with `name` as its `model` would: `UnknownModel`, `UnknownName`, ...
        """
        known = {info.name: info for info in self.models()}
        if name not in known and policy.parse_model(name, self._pool.names()).tier == "strong":
            raise StrongNotConfigured
        return known.get(name) or replace(known["auto"], name=name)

    def count_tokens(self, request: ChatRequest) -> int:
        """Of the prompt as the weak model would read it; an estimate where only its engine could say.

        Raises what keeps the weak model from loading.
        """
        self._check_open()
        with self.defects.guard("weak model"):
            tokens = self._pool.weak().prepare(request).count
        return TokenMeter(request).most().prompt_tokens if tokens is None else tokens

    def embed(self, texts: Sequence[str], model: str, *, truncate: bool = True) -> EmbeddedTexts:
        """A vector of each text, by one of the models that `models` lists with a dimension.

        Raises `UnknownModel`, `InvalidRouter`, and without `truncate` `InvalidRequest` for a text too long.
        """
        self._check_open()
        with self.defects.guard("embedding model"):
            return self._pool.embedders().embed(texts, model, truncate=truncate)

    def load(self, model: str) -> None:
        """Have all ready that an answer of `model` may take. Raises what kept it from loading."""
        self._check_open()
        route = policy.parse_model(model, self._pool.names())
        with self.defects.guard("controller"):
            if route.tier is None:
                self._pool.router(route.router)
            if route.tier != "strong":
                self._pool.load()

    def unload(self, model: str) -> None:
        """Give the weak model's memory back once it is idle, if `model` names it, until it is asked again."""
        if policy.parse_model(model, self._pool.names()).tier != "strong":
            self._pool.unload()

    def ahead(self, cancel: Cancel) -> int | None:
        """How many answers are made before the one of `cancel`; None where it does not wait for others."""
        return self._pool.ahead(cancel)

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """How the strong model's endpoints fare; none before it is asked, and where it has only one."""
        return self._pool.endpoints

    @property
    def weak_restarts(self) -> Restarts | None:
        """How the weak model's process fares; None where it has none of its own, or is not loaded."""
        return self._pool.weak_restarts

    def _restarts(self) -> list[tuple[Labels, float]]:
        return [] if (found := self.weak_restarts) is None else [((), found.count)]

    def check_model(self, name: str) -> None:
        """Raises what a request with `name` as its `model` would: `UnknownModel`, `UnknownName`, ..."""
        policy.parse_model(name, self._pool.names())

    def rate(self, record_id: int, rating: Literal[1, -1]) -> Record | None:
        """Thumbs up (1) or down (-1) for an answer by its `Answer.record_id`; None where there is none.

        Raises `StorageError`, `InvalidData` of the ledger.
        """
        self._check_open()
        if rating < 0 and self._responses is not None:
            self._responses.forget(record_id)
        return self.recorder.rate(record_id, rating)

    def close(self) -> None:
        """Ends what is running and releases the models, for good. May be called twice."""
        self._closed = True
        self._background.close()
        self._pool.close()
        with self.defects.spare("spending"):
            self.callers.budgets.close()
        self.recorder.close()
        if self._responses is not None:
            self._responses.close()
        self.defects.save()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def _finished(
        self,
        payment: Payment | None,
        visit: Visit,
        kept: Keeping | CacheLookup | None,
        heard: AnswerTranscript | None,
        answer: Answer,
        error: EdgeRouterError | None,
    ) -> None:
        anew = answer.decision.reason is not Reason.CACHED  # else no model has read or written anything
        visit.end(None if answer.usage is None else answer.usage.total_tokens * anew)
        if isinstance(error, InternalError):
            self.defects.note(error)
        if payment is not None:
            with self.defects.spare("spending"):
                payment.settle(answer.usage, answer.decision.endpoint)
                if self._closed:  # it has opened the file again
                    self.callers.budgets.close()
        answer.record_id = self.recorder.finished(answer, error, heard)
        if kept is not None:
            kept.ended(answer, error)
        if answer.decision.model == "strong" and error is None and anew:
            self._background.wake()
