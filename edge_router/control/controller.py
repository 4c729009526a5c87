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
from edge_router.chat.events import Answering, Usage
from edge_router.chat.model import ModelInfo
from edge_router.chat.request import FORM_NEEDS, LOCAL_NEEDS, ChatRequest, Need
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.control import policy
from edge_router.control.answer import Answer, Clock, by_whom, primed
from edge_router.control.background_upgrades import BackgroundUpgrades
from edge_router.control.inquiries import Inquiries
from edge_router.control.inventory import chat_models, embedding_models
from edge_router.control.lacks import check_handles
from edge_router.control.lookup import Keeping, Lookup, keeping, looked_up
from edge_router.control.pool import Pool
from edge_router.control.recording import Heard, Recorder
from edge_router.control.response_cache import ResponseCache
from edge_router.control.sessions import Session, Sessions
from edge_router.control.steps import LONG, Pause, done
from edge_router.control.truncation import truncated
from edge_router.control.upgrading import Upgrader
from edge_router.defects import Defects
from edge_router.engines.base import Arriving, EndpointState, Engine, Prompt, Restarts
from edge_router.engines.fleet.gauges import endpoint_gauges
from edge_router.errors import (
    Blocked,
    Cancelled,
    Closed,
    ContextOverflow,
    EdgeRouterError,
    InternalError,
    InvalidRequest,
    LowConfidence,
    StrongNotConfigured,
    Withheld,
)
from edge_router.guard.inspection import NOTHING, Inspection
from edge_router.ledger import Record
from edge_router.metrics.counters import Gauge, Labels, Metrics
from edge_router.metrics.memory import memory_gauges
from edge_router.questions.bounds import Bounds
from edge_router.questions.result import Answers
from edge_router.records import changed
from edge_router.routing.confidence.buffer import ConfidenceBuffer
from edge_router.routing.confidence.gate import Gate
from edge_router.routing.routers.base import AsksWeak, Router, checked_score
from edge_router.routing.rules.rule import Verdict
from edge_router.routing.thresholds.metering import Meter
from edge_router.routing.thresholds.prices import Prices
from edge_router.routing.thresholds.purses import Purses
from edge_router.routing.thresholds.spending import Payment
from edge_router.system.paths import Paths
from edge_router.types import Cancel, Decision, Progress, Reason

if TYPE_CHECKING:
    from edge_router.routing.routers.embedding import Embeddings

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
        self._recorder = Recorder(self.config.ledger, paths, self.metrics, self.defects, egress)
        self.callers = Callers(self.config, paths, self._pool.names, self.metrics.refused)
        self._upgrader = Upgrader(
            self.config,
            self._recorder.ledger,
            egress,
            self.start,
            strong=lambda: self._pool.names().strong,
            allowed=self.callers.allowed,
        )
        self._background = BackgroundUpgrades(self.config.ledger, self._upgrader, self.defects)
        self._responses = ResponseCache.of(self.config, paths, self._pool, self.defects, self.metrics)
        self._inquiries = Inquiries(
            self.defects,
            decide=self._decided,
            ready=self._ready,
            payment=self._payment,
            record=self._recorder.record,
            bounds=lambda weak: bounds or self._pool.bounds(weak),
        )
        self._sessions = Sessions(self.config.sessions, Prices.highest(self.config, own=True))
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
        decision, situation = self._decided(request, clock, cancel, lookup)
        if lookup is not None and lookup.found is not None:
            ended = partial(self._finished, None, visit, lookup, None)
            return lookup.answer(decision, cancel, clock, ended, self._sessions, situation.session)
        return (yield from self._asking(request, decision, situation, lookup, visit, cancel, clock))

    def _asking(
        self,
        request: ChatRequest,
        decision: Decision,
        situation: policy.Situation,
        lookup: Lookup | None,
        visit: Visit,
        cancel: Cancel,
        clock: Clock,
    ) -> Generator[Pause, None, Answer]:
        """One model, or the other where that cannot."""
        own = policy.own(request, situation)
        cause: EdgeRouterError | None = None
        spent: Usage | None = None
        while True:
            component = f"{decision.model} model"
            payment: Payment | None = None
            try:
                with self.defects.guard(component):
                    engine = yield from self._ready(decision, request, cancel)
                    asked = policy.addressed(own, decision)
                    prompt, left_out = self._fitting(engine, decision, asked, situation)
                    holding = self._holding(decision, prompt.request, situation, cancel)
                    payment = self._payment(decision, prompt.request)
                    if holding is not None:
                        prompt = replace(prompt, request=holding.request)
                    events = engine.stream(prompt, cancel)
                    # Whoever is held back is read in more than one piece before anything shows.
                    arriving = events if holding is None and isinstance(events, Arriving) else None
                    if holding is not None:
                        events = holding.sure(events)
                    if payment is not None:
                        events = payment.metered(events, partial(self.defects.spare, "spending"))
                    events = visit.metered(events)
                    events, kept = keeping(events, lookup)
                    spare = partial(self.defects.spare, "sessions")
                    answerer = (decision.model, engine.model_id)
                    events = self._sessions.noted(events, situation.session, own, answerer, spare)
                    yield LONG if arriving is None else Pause(arriving)
                    model, answering = engine.model_id, list[Answering]()
                    events = primed(events, clock, model, component=component, found=answering.append)
                    model, decision = by_whom(answering, model, decision)
                    if holding is not None:
                        decision = replace(decision, confidence=holding.chance)
                break
            except EdgeRouterError as error:
                if payment is not None:
                    payment.fail(error)
                other = policy.after_failure(decision, error, situation)
                if other is None:
                    self._recorder.failed(request, decision, error, clock, cause=cause, spent=spent)
                    raise error from cause or error.__cause__
                _logger.info("the %s answers instead: %s", f"{other.model} model", type(error).__name__)
                if isinstance(error, LowConfidence):
                    spent = Usage(prompt.count or 0, error.tokens)
                elif isinstance(error, InvalidRequest) and not isinstance(error, ContextOverflow):
                    situation = replace(situation, weak_refused=True)
                decision, cause = other, error
        heard = self._recorder.listening(decision)
        return Answer(
            events if heard is None else heard.through(events),
            request=request,
            decision=decision,
            model=model,
            cancel=cancel,
            clock=clock,
            fallback_cause=cause,
            truncated=left_out,
            spent=spent,
            finished=partial(self._finished, payment, visit, kept, heard),
            arriving=arriving,
        )

    def _payment(self, decision: Decision, request: ChatRequest) -> Payment | None:
        """What is put down for a strong answer, where a budget is set. Raises `BudgetSpent`."""
        paid = decision.model == "strong"
        return self.callers.purses(request.caller).begin(request, decision.endpoint) if paid else None

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
            return self._decide(self.callers.asked(request), Clock())[0]

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
        return Meter(request).most().prompt_tokens if tokens is None else tokens

    def embed(self, texts: Sequence[str], model: str, *, truncate: bool = True) -> Embeddings:
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
        return self._recorder.rate(record_id, rating)

    def close(self) -> None:
        """Ends what is running and releases the models, for good. May be called twice."""
        self._closed = True
        self._background.close()
        self._pool.close()
        with self.defects.spare("spending"):
            self.callers.budgets.close()
        self._recorder.close()
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

    def _decided(
        self, request: ChatRequest, clock: Clock, cancel: Cancel, lookup: Lookup | None = None
    ) -> tuple[Decision, policy.Situation]:
        """Of a query that is going to be answered. What keeps it from being asked anywhere is recorded."""
        try:
            return self._decide(request, clock, cancel, lookup, counts=True)
        except (Blocked, Withheld) as error:
            reason = Reason.GUARD if isinstance(error, Withheld) and error.rule is None else Reason.RULE
            found = getattr(error, "found", ())
            kept = Decision("weak", reason, found=found, rule=error.rule, caller=request.caller)
            self._recorder.failed(request, kept, error, clock)
            raise

    def _decide(
        self,
        request: ChatRequest,
        clock: Clock,
        cancel: Cancel | None = None,
        lookup: Lookup | None = None,
        *,
        counts: bool = False,
    ) -> tuple[Decision, policy.Situation]:
        """`counts`: the query is going to be answered, so it is part of the strong share that is held."""
        purses, caller = self.callers.purses(request.caller), self.callers.find(request.caller)
        route = policy.parse_model(request.target, self._pool.names())
        verdict = self._verdict(request)
        if route.tier is None and verdict.model is not None:
            route = replace(policy.parse_model(verdict.model.then, self._pool.names()), ruled=True)
        needs = request.needs
        strong = self._pool.strong_for(needs)
        near = policy.strong_here(needs, self.config)
        inspection = self._inspection(request, verdict, strong and not near and route.tier != "weak")
        situation = policy.Situation(
            strong_configured=strong,
            offline=self.config.offline,
            private=request.private,
            kept=Reason.RULE if verdict.local_only else Reason.GUARD if inspection.stays else None,
            needs=needs,
            weak_serves=self._pool.weak_serves,
            budget_spent=purses.exhausted,
            weak_only=self.callers.allowed(request.caller).stays,
            shortens=self.config.weak.overflow == "auto",
            asked=verdict.model.then if route.ruled and verdict.model is not None else None,
            tiers=policy.tiers_for(route, self.config, request.among),
            defects_escalate=self.config.weak.on_defect == "escalate",
            strong_here=near,
            session=self._session(request) if strong else None,  # one model keeps them all anyway
            facts=self._sessions.facts,
        )
        if route.tier == "strong" and not (route.ruled or near):
            self._refuse_strong(request, verdict, inspection)

        def told(decision: Decision) -> Decision:
            named = verdict.local_only or (verdict.model if route.ruled else None)
            would = decision.would_escalate and not self._stays(request, verdict)
            found, rule = inspection.found, named.name if named else None
            return changed(decision, found=found, rule=rule, caller=request.caller, would_escalate=would)

        def decided(score: float | None, threshold: float | None = None) -> Decision:
            return told(policy.decide(route, score, threshold, situation))

        egress = (verdict, inspection)
        if route.tier is not None or Need.QUESTIONS in needs:
            return (lookup and lookup.exact(route, situation, egress, decided)) or decided(None), situation
        with self.defects.guard("router"):
            router = self._pool.router(route.router, cancel)
            if cancel is not None and not self._pool.weak_loaded and isinstance(router, AsksWeak):
                self._pool.weak(cancel)  # scoring would wait for it and hear no cancel
            threshold = route.threshold
            if threshold is None:
                threshold = self._pool.threshold(router, caller.settings)
        counts = counts and route.threshold is None
        budgeted = purses if route.threshold is None and self._pool.is_default(router) else Purses()
        threshold = budgeted.threshold(threshold)
        route = policy.Route(None, router.name, route.threshold, route.ruled)
        by_score = partial(decided, threshold=threshold)
        if lookup is not None and (kept := lookup.exact(route, situation, egress, by_score)) is not None:
            return kept, situation
        with self.defects.guard("router"), clock.scoring():
            score = checked_score(router, request, stays=not situation.strong_allowed)
        decision = by_score(score)
        if lookup is not None and (kept := lookup.similar(router, decision)) is not None:
            return kept, situation
        if counts:
            with self.defects.spare("strong share"):
                self._pool.observe(router, decision, caller.settings)
            with self.defects.spare("spending"):
                budgeted.observe(score)
        return decision, situation

    def _session(self, request: ChatRequest) -> Session | None:
        with self.defects.spare("sessions"):
            return self._sessions.look(request)
        return None

    def _verdict(self, request: ChatRequest) -> Verdict:
        """What the user's rules say. Raises `Blocked`."""
        with self.defects.guard("rules"):
            verdict = self._pool.egress.judge(request)
        if verdict.block is not None:
            raise Blocked(verdict.block.name, verdict.block.message)
        return verdict

    def _inspection(self, request: ChatRequest, verdict: Verdict, strong: bool) -> Inspection:
        """What the guard finds, where another machine might be asked."""
        stays = request.private or self.config.offline or verdict.local_only
        if stays or not (strong or self.config.weak.trusted_hosts):
            return NOTHING
        with self.defects.guard("guard"):
            return self._pool.egress.inspect(request, verdict)

    def _stays(self, request: ChatRequest, verdict: Verdict) -> bool:
        """Whether the guard keeps it here, also where nobody is there that it could be sent to."""
        with self.defects.guard("guard"):
            return bool(self._pool.egress.inspect(request, verdict).stays)

    def _refuse_strong(self, request: ChatRequest, verdict: Verdict, inspection: Inspection) -> None:
        """Raises `InvalidRequest` for a request that names the strong model where it must not be asked, and
        `Withheld` where a rule or the guard keeps it here."""
        if request.private or self.config.offline:
            why = "the request is private" if request.private else "the network is switched off"
            raise InvalidRequest("model", f"{request.target!r} would leave this machine, and {why}")
        if verdict.local_only is not None:
            raise Withheld(rule=verdict.local_only.name)
        if inspection.stays:
            raise Withheld(inspection.stays)

    def _ready(
        self, decision: Decision, request: ChatRequest, cancel: Cancel
    ) -> Generator[Pause, None, Engine]:
        """What answers; others do not wait behind who waits for it to load. Raises what `_engine` does."""
        if cancel.is_set():  # nobody wants it any more: nothing is loaded, sent or paid for
            raise Cancelled
        if decision.model == "weak" and not self._pool.weak_loaded:
            yield LONG
        return self._engine(decision, request, cancel)

    def _engine(self, decision: Decision, request: ChatRequest, cancel: Cancel) -> Engine:
        """Raises `UnsupportedRequest`, `Withheld` where the weak model would leave out what is asked for."""
        if decision.model == "strong":
            for need in LOCAL_NEEDS & request.needs:
                told = 'only the weak model can be held to it: ask for model="weak"'
                raise InvalidRequest(request.name_of(need), told)
            return self._pool.strong(cancel, request.needs)
        if self._pool.loaded_weak is None and self._pool.weak_is_known:  # nothing is loaded for an error
            self._check_weak_handles(request, decision)
        weak = self._pool.weak(cancel)
        self._check_weak_handles(request, decision)
        return weak

    def _check_weak_handles(self, request: ChatRequest, decision: Decision) -> None:
        check_handles(
            request, decision, self._pool.weak_serves, may_call_tools=self._pool.weak_may_call_tools
        )

    def _fitting(
        self, engine: Engine, decision: Decision, request: ChatRequest, situation: policy.Situation
    ) -> tuple[Prompt, int]:
        """`request` as the engine reads it and can take it, and how many messages were left out for that.

        Raises `ContextOverflow` where it is too long and may be escalated, or can't be shortened.
        """
        prompt, able = engine.prepare(request), engine.capabilities
        window = able.context_window
        if decision.model == "strong" or prompt.count is None or window is None or prompt.count < window:
            return prompt, 0
        overflow = ContextOverflow(prompt.count, window, able.trained_context)
        way = self.config.weak.overflow
        escalates = way == "auto" and policy.after_failure(decision, overflow, situation) is not None
        shorter = None if escalates or way == "escalate" else truncated(request, engine.prepare, window)
        if shorter is None:
            raise overflow
        return shorter

    def _holding(
        self, decision: Decision, request: ChatRequest, situation: policy.Situation, cancel: Cancel
    ) -> ConfidenceBuffer | None:
        """What holds the answer's beginning back; None where it would be shown anyway."""
        bound = self.config.weak.min_confidence
        scored = decision.reason is Reason.SCORE or decision.held == "prompt"
        # A form that is forced on a model makes it look unsure of its words.
        if bound is None or not scored or request.needs & (FORM_NEEDS | LOCAL_NEEDS):
            return None
        if policy.escalate(decision, Reason.LOW_CONFIDENCE, situation) is None:
            return None
        gate = self._pool.gate(cancel)
        return None if gate is None else ConfidenceBuffer(gate, bound, request)

    def _finished(
        self,
        payment: Payment | None,
        visit: Visit,
        kept: Keeping | Lookup | None,
        heard: Heard | None,
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
        answer.record_id = self._recorder.finished(answer, error, heard)
        if kept is not None:
            kept.ended(answer, error)
        if answer.decision.model == "strong" and error is None and anew:
            self._background.wake()
