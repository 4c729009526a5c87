"""Typed questions: put to the weak model as long as it is sure, the others to the strong one.

The decision is made as for a chat, by the model's name, rules, guard, privacy and budget, but without a
score: how sure the weak model is of each question is known before anything is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import field, replace
from typing import Protocol

from edge_router.chat.events import Answering, Usage
from edge_router.chat.request import ChatRequest, Need, QuestionsOutput
from edge_router.control import policy
from edge_router.control.answer import Clock
from edge_router.control.guarded_engine import GuardedEngine
from edge_router.control.steps import LONG, Pause
from edge_router.defects import Defects
from edge_router.engines.base import Decides, Engine
from edge_router.engines.worded import written
from edge_router.errors import (
    Cancelled,
    Closed,
    ContextOverflow,
    EdgeRouterError,
    GenerationFailed,
    InternalError,
    InvalidRequest,
    StateOverflow,
)
from edge_router.ledger import Record, message_of
from edge_router.questions.answer import NoAnswer, answer_of
from edge_router.questions.bounds import Bounds
from edge_router.questions.in_words import in_words
from edge_router.questions.inquiry import Answered, Declined, Inquiry, InquiryEvent, StateCut, Truncation
from edge_router.questions.question import Question
from edge_router.questions.result import Answers, Given
from edge_router.records import dataclass
from edge_router.routing.thresholds.spending import Payment
from edge_router.types import Cancel, Decision, Reason

_logger = logging.getLogger(__name__)
_MESSAGES = "messages"  # what engines call the state


@dataclass
class InquiryPart:
    """What one model was asked, and what it has said of that so far."""

    decision: Decision
    questions: tuple[Question, ...]
    model: str = ""
    events: dict[int, Answered | Declined] = field(default_factory=dict)
    usage: Usage | None = None
    cut: int = 0
    error: EdgeRouterError | None = None  # how it ended, where it ended badly
    cause: EdgeRouterError | None = None  # what the model met that was asked before this one

    def read(self, events: Iterator[InquiryEvent | Answering]) -> None:
        """Raises `GenerationFailed` where a question is passed over or answered in another form."""
        for event in events:
            if isinstance(event, Answered | Declined):
                self.events[event.index] = event
            elif isinstance(event, StateCut):
                self.cut = event.tokens
            elif isinstance(event, Answering):
                self.model, self.decision = event.model, replace(self.decision, endpoint=event.endpoint)
            else:
                self.usage = event.usage
        for index, question in enumerate(self.questions):
            found = self.events.get(index)
            if found is None or (isinstance(found, Answered) and len(found.probabilities) != question.size):
                raise GenerationFailed(self.model, f"question {index + 1} got no answer of its form")

    def given(self, index: int) -> Given:
        question, event = self.questions[index], self.events[index]
        if isinstance(event, Declined):
            return Given(NoAnswer(question, event.text), self.decision, self.model)
        answer = answer_of(question, event.probabilities)
        return Given(answer, replace(self.decision, confidence=answer.confidence), self.model)


class Decide(Protocol):
    def __call__(
        self, request: ChatRequest, clock: Clock, cancel: Cancel
    ) -> tuple[Decision, policy.Situation]: ...


class Inquiries:
    """What a controller does for typed questions, by what it does for chats.

    `decide` raises what keeps any model from being asked, and has written that down. `bounds` are what was
    found for a weak model.
    """

    def __init__(
        self,
        defects: Defects,
        *,
        decide: Decide,
        ready: Callable[[Decision, ChatRequest, Cancel], Generator[Pause, None, Engine]],
        payment: Callable[[Decision, ChatRequest], Payment | None],
        record: Callable[[Record], int | None],
        bounds: Callable[[Engine], Bounds],
    ) -> None:
        self._defects, self._decide, self._ready = defects, decide, ready
        self._payment, self._record, self._bounds = payment, record, bounds

    def answering(self, request: ChatRequest, cancel: Cancel) -> Generator[Pause, None, Answers]:
        """The steps to the answers. Raises `EdgeRouterError` where no model can answer."""
        output, clock = request.output, Clock()
        assert isinstance(output, QuestionsOutput)
        decision, situation = self._decide(request, clock, cancel)
        decision = replace(decision, would_escalate=False)  # only words are asked for again
        own = policy.own(request, situation)
        first = yield from self._first(own, decision, situation, clock, cancel)
        given = [first.given(index) for index in range(len(output.questions))]
        parts = [first]
        if first.decision.reason is Reason.CONFIDENCE and first.decision.model == "weak":
            bounds = self._bounds((yield from self._ready(first.decision, own, cancel)))
            given = [_bounded(each, bounds) for each in given]
            if all(each.decision.reason is Reason.UNCALIBRATED for each in given):
                first.decision = replace(first.decision, reason=Reason.UNCALIBRATED)
            unsure = tuple(index for index, each in enumerate(given) if _is_unsure(each))
            higher = policy.escalate(first.decision, Reason.CONFIDENCE, situation)
            if unsure and higher is not None:
                asked = replace(output, questions=tuple(output.questions[index] for index in unsure))
                more = yield from self._asked(replace(own, output=asked), higher, cancel)
                if isinstance(more.error, Cancelled | Closed | InternalError):
                    raise self._failed(own, more, clock)
                parts.append(more)
                for place, index in enumerate(unsure):
                    given[index] = _over(given[index], more, place, situation)
            else:
                for index in unsure:
                    given[index] = _kept(given[index], situation.why_not_strong)
        clock.stop()
        rows = [self._written_down(own, each, clock) for each in parts]
        errors = [error for each in parts for error in (each.error, each.cause) if error is not None]
        return Answers(
            tuple(given),
            _sum([each.usage for each in parts if each.usage is not None]),
            first.cut,
            clock.timings(),
            errors[0] if errors else None,
            rows[-1],
        )

    def _first(
        self,
        request: ChatRequest,
        decision: Decision,
        situation: policy.Situation,
        clock: Clock,
        cancel: Cancel,
    ) -> Generator[Pause, None, InquiryPart]:
        """By the model that was decided on, or by the other one where that can't."""
        cause: EdgeRouterError | None = None
        while True:
            part = yield from self._asked(request, decision, cancel)
            part.cause = cause
            if part.error is None:
                return part
            other = policy.after_failure(decision, part.error, situation)
            if other is None:
                raise self._failed(request, part, clock) from cause or part.error.__cause__
            _logger.info("the %s answers instead: %s", f"{other.model} model", type(part.error).__name__)
            if isinstance(part.error, InvalidRequest) and not isinstance(part.error, ContextOverflow):
                situation = replace(situation, weak_refused=True)
            decision, cause = other, part.error

    def _asked(
        self, request: ChatRequest, decision: Decision, cancel: Cancel
    ) -> Generator[Pause, None, InquiryPart]:
        """One model asked; what it fails with stands in the part."""
        output = request.output
        assert isinstance(output, QuestionsOutput)
        part, payment = InquiryPart(decision, output.questions), None
        try:
            with self._defects.guard(f"{decision.model} model"):
                engine = yield from self._ready(decision, request, cancel)
                part.model = engine.model_id
                part.decision = replace(decision, endpoint=engine.capabilities.endpoint)
                payment = self._payment(part.decision, in_words(request))
                yield LONG
                part.read(answers_of(engine, policy.addressed(request, decision), cancel))
        except EdgeRouterError as error:
            part.error = error
        if payment is not None:
            with self._defects.spare("spending"):
                if part.error is not None and not part.events and part.usage is None:
                    payment.fail(part.error)
                else:
                    payment.settle(part.usage, part.decision.endpoint)
        return part

    def _failed(self, request: ChatRequest, part: InquiryPart, clock: Clock) -> EdgeRouterError:
        """What is to be raised, once it is written down."""
        assert part.error is not None
        clock.stop()
        self._written_down(request, part, clock)
        state = request.name_of(Need.FILES)  # what its caller calls the state
        if type(part.error) is ContextOverflow:
            over = part.error
            assert isinstance(request.output, QuestionsOutput)
            kind = ContextOverflow if request.output.cuts else StateOverflow
            return kind(over.prompt_tokens, over.context_window_size, over.longest, state)
        if type(part.error) is InvalidRequest and part.error.param == _MESSAGES:
            return InvalidRequest(state, part.error.reason)
        return part.error

    def _written_down(self, request: ChatRequest, part: InquiryPart, clock: Clock) -> int | None:
        texts = [message.text for message in request.messages]
        return self._record(
            Record(
                part.decision,
                part.model if part.error is None else "",
                part.usage,
                clock.timings(),
                _name(part.error),
                _name(part.cause),
                request.messages[-1].text,
                cause_message=None if part.cause is None else message_of(part.cause, texts),
            )
        )


def _name(error: EdgeRouterError | None) -> str | None:
    return None if error is None else type(error).__name__


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        sum(usage.reasoning_tokens for usage in usages),
    )


def _bounded(given: Given, bounds: Bounds) -> Given:
    """With the bound that it is held to; it stays where there is none."""
    bound = bounds.of(given.answer.question)
    reason = Reason.UNCALIBRATED if bound is None else given.decision.reason
    return replace(given, decision=replace(given.decision, reason=reason, threshold=bound))


def _is_unsure(given: Given) -> bool:
    if isinstance(given.answer, NoAnswer):
        return True
    bound = given.decision.threshold
    return bound is not None and given.answer.confidence < bound


def _kept(weak: Given, reason: Reason) -> Given:
    """The weak model's own answer, which would not have been enough but for `reason`."""
    return replace(weak, decision=replace(weak.decision, reason=reason))


def _over(weak: Given, more: InquiryPart, place: int, situation: policy.Situation) -> Given:
    """What the strong model says of a question of which the weak one is unsure; the weak one's own answer
    where the strong one has none."""
    if more.error is None and isinstance(more.events[place], Declined):
        return _kept(weak, Reason.STRONG_UNAVAILABLE)
    if more.error is not None:
        fallen = policy.after_failure(more.decision, more.error, situation)
        return _kept(weak, Reason.STRONG_UNAVAILABLE if fallen is None else fallen.reason)
    given = more.given(place)
    asked = replace(
        given.decision, confidence=weak.decision.confidence, threshold=weak.decision.threshold
    )  # why it was sent on
    return replace(given, decision=asked)


def answers_of(engine: Engine, request: ChatRequest, cancel: Cancel) -> Iterator[InquiryEvent | Answering]:
    """What `engine` says of the questions of `request`; in words, where it can't otherwise."""
    if isinstance(engine, GuardedEngine):
        return engine.through(request, lambda inner, released: answers_of(inner, released, cancel))
    output = request.output
    assert isinstance(output, QuestionsOutput)
    if engine.capabilities.decides and isinstance(engine, Decides):
        truncation: Truncation = "middle" if output.cuts else "refuse"
        return engine.decide(Inquiry(request.messages, output.questions, truncation), cancel)
    return written(engine, request, output.questions, cancel)
