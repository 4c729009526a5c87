"""One answer from one model: the decided one's, or the other's where that cannot begin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial

from edge_router.callers.register import Callers, Visit
from edge_router.chat.events import Answering, Usage
from edge_router.chat.request import FORM_NEEDS, LOCAL_NEEDS, ChatRequest
from edge_router.config.settings import Config
from edge_router.control import policy
from edge_router.control.answer import Answer, Clock, by_whom, primed
from edge_router.control.lacks import check_handles
from edge_router.control.lookup import CacheLookup, Keeping, keeping
from edge_router.control.pool import Pool
from edge_router.control.recording import AnswerTranscript, Recorder
from edge_router.control.sessions import Sessions
from edge_router.control.steps import LONG, Pause
from edge_router.control.truncation import truncated
from edge_router.defects import Defects
from edge_router.engines.base import Arriving, Engine, Prompt
from edge_router.errors import (
    Cancelled,
    ContextOverflow,
    EdgeRouterError,
    InvalidRequest,
    LowConfidence,
)
from edge_router.routing.confidence.buffer import ConfidenceBuffer
from edge_router.routing.thresholds.spending import Payment
from edge_router.types import Cancel, Decision, Reason

_logger = logging.getLogger(__name__)

Finished = Callable[
    [
        Payment | None,
        Visit,
        Keeping | CacheLookup | None,
        AnswerTranscript | None,
        Answer,
        EdgeRouterError | None,
    ],
    None,
]


class Answerer:
    """A decided request in, its answer out, begun; `finished` hears of its end, and of what was paid."""

    def __init__(
        self,
        config: Config,
        pool: Pool,
        callers: Callers,
        sessions: Sessions,
        defects: Defects,
        recorder: Recorder,
        *,
        finished: Finished,
    ) -> None:
        self._config, self._pool, self._callers = config, pool, callers
        self._sessions, self._defects, self._recorder = sessions, defects, recorder
        self._finished = finished

    def asking(
        self,
        request: ChatRequest,
        decision: Decision,
        situation: policy.Situation,
        lookup: CacheLookup | None,
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
                with self._defects.guard(component):
                    engine = yield from self.ready(decision, request, cancel)
                    asked = policy.addressed(own, decision)
                    prompt, left_out = self._fitting(engine, decision, asked, situation)
                    holding = self._holding(decision, prompt.request, situation, cancel)
                    payment = self.payment(decision, prompt.request)
                    if holding is not None:
                        prompt = replace(prompt, request=holding.request)
                    events = engine.stream(prompt, cancel)
                    # Whoever is held back is read in more than one piece before anything shows.
                    arriving = events if holding is None and isinstance(events, Arriving) else None
                    if holding is not None:
                        events = holding.sure(events)
                    if payment is not None:
                        events = payment.metered(events, partial(self._defects.spare, "spending"))
                    events = visit.metered(events)
                    events, kept = keeping(events, lookup)
                    spare = partial(self._defects.spare, "sessions")
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

    def payment(self, decision: Decision, request: ChatRequest) -> Payment | None:
        """What is put down for a strong answer, where a budget is set. Raises `BudgetSpent`."""
        paid = decision.model == "strong"
        return self._callers.purses(request.caller).begin(request, decision.endpoint) if paid else None

    def ready(
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
        way = self._config.weak.overflow
        escalates = way == "auto" and policy.after_failure(decision, overflow, situation) is not None
        shorter = None if escalates or way == "escalate" else truncated(request, engine.prepare, window)
        if shorter is None:
            raise overflow
        return shorter

    def _holding(
        self, decision: Decision, request: ChatRequest, situation: policy.Situation, cancel: Cancel
    ) -> ConfidenceBuffer | None:
        """What holds the answer's beginning back; None where it would be shown anyway."""
        bound = self._config.weak.min_confidence
        scored = decision.reason is Reason.SCORE or decision.held == "prompt"
        # A form that is forced on a model makes it look unsure of its words.
        if bound is None or not scored or request.needs & (FORM_NEEDS | LOCAL_NEEDS):
            return None
        if policy.escalate(decision, Reason.LOW_CONFIDENCE, situation) is None:
            return None
        gate = self._pool.gate(cancel)
        return None if gate is None else ConfidenceBuffer(gate, bound, request)
