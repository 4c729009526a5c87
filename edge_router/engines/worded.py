"""Typed questions put to an engine that only writes: by the log probabilities of one word, or as JSON.

A word each where the likeliest tokens that the engine tells hold what can be answered; JSON, all at once, for
what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from edge_router.chat.events import (
    Answering,
    Event,
    Finished,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    Usage,
)
from edge_router.chat.request import (
    ChatRequest,
    QuestionsOutput,
    ReasoningOptions,
    SamplingParams,
    TextOutput,
)
from edge_router.engines.base import Engine
from edge_router.errors import Cancelled, GenerationFailed, StrongRefused
from edge_router.parsing.strict_json import NotJson
from edge_router.prompts.decisions import LETTERS, Wording, asked, by_codes, by_labels
from edge_router.questions.answer import normalized
from edge_router.questions.in_words import in_words, read
from edge_router.questions.inquiry import Answered, Declined, Inquiry, InquiryEvent
from edge_router.questions.question import Question, YesNo
from edge_router.types import Cancel

_FORM = "response_format"  # what endpoints call it
_ENOUGH = 0.5  # of all probability that the options have together; the rest is other words


def written(
    engine: Engine, request: ChatRequest, questions: tuple[Question, ...], cancel: Cancel
) -> Iterator[InquiryEvent | Answering]:
    """The answers to `questions`, the request's own, as JSON; not held to that form where an endpoint takes
    none, for the words ask for it. Raises `GenerationFailed` for what is none, behind its usage."""
    asked = in_words(request)
    try:
        yield from _said(engine, asked, questions, cancel)
    except StrongRefused as error:
        if error.field != _FORM:
            raise
        yield from _said(engine, replace(asked, output=TextOutput()), questions, cancel)


def _said(
    engine: Engine, request: ChatRequest, questions: tuple[Question, ...], cancel: Cancel
) -> Iterator[InquiryEvent | Answering]:
    text, refused, last = "", "", Finished("stop")
    for event in engine.stream(engine.prepare(request), cancel):
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, RefusalDelta):
            refused += event.text
        elif isinstance(event, Answering):
            yield event
        elif isinstance(event, Finished):
            last = event
    if refused:
        yield from (Declined(index, refused) for index in range(len(questions)))
    else:
        try:
            yield from read(text, questions)
        except NotJson as error:
            yield last
            raise GenerationFailed(engine.model_id, f"its answers are not JSON: {error}") from error
    yield last


def by_logprobs(engine: Engine, inquiry: Inquiry, cancel: Cancel, most: int) -> Iterator[InquiryEvent]:
    """The answers of an engine that tells the `most` likeliest tokens. Raises what its `stream` raises."""
    usage, left = Usage(0, 0), []
    for index, question in enumerate(inquiry.questions):
        found, spent = _word(engine, inquiry, question, cancel, most)
        usage = _sum(usage, spent)
        if found is None:
            left.append(index)
        else:
            yield Answered(index, found)
    if left:
        questions = tuple(inquiry.questions[index] for index in left)
        request = ChatRequest(inquiry.state, output=QuestionsOutput(questions))
        for event in written(engine, request, questions, cancel):
            if isinstance(event, Answered | Declined):
                yield replace(event, index=left[event.index])
            elif isinstance(event, Finished):
                usage = _sum(usage, event.usage)
    yield Finished("stop", usage=usage)


def _word(
    engine: Engine, inquiry: Inquiry, question: Question, cancel: Cancel, most: int
) -> tuple[tuple[float, ...] | None, Usage | None]:
    """The probabilities, None where too little of them is told."""
    wording = _wording(question, most)
    if wording is None:
        return None, None
    request = ChatRequest(
        asked(inquiry.state, wording.text)[:-1],
        sampling=SamplingParams(temperature=0.0),
        max_tokens=1,
        reasoning=ReasoningOptions(enabled=False),
        logprobs=True,
        top_logprobs=most,
    )
    first, usage = _first(engine.stream(engine.prepare(request), cancel))
    if cancel.is_set():
        raise Cancelled
    return (None if first is None else _probabilities(wording, first)), usage


def _wording(question: Question, most: int) -> Wording | None:
    if isinstance(question, YesNo):
        return by_labels(question)
    return by_codes(question, LETTERS) if question.size <= min(most, len(LETTERS)) else None


def _first(events: Iterator[Event]) -> tuple[TokenLogprob | None, Usage | None]:
    """The first token, with what might have come in its place."""
    first, usage = None, None
    for event in events:
        if isinstance(event, TextDelta) and event.logprobs and first is None:
            first = event.logprobs[0]
        elif isinstance(event, Finished):
            usage = event.usage
    return first, usage


def _probabilities(wording: Wording, first: TokenLogprob) -> tuple[float, ...] | None:
    told = {entry.token: math.exp(entry.logprob) for entry in (*first.top, first)}
    exact = any(reply.isupper() for reply in wording.replies)
    found = [_mass(reply, told, exact=exact) for reply in wording.replies]
    if math.fsum(found) < _ENOUGH:
        return None
    least = min(told.values())  # what is not among the likeliest has no more
    return normalized([mass or least for mass in found])


def _mass(reply: str, told: Mapping[str, float], *, exact: bool) -> float:
    texts = ((token.strip(), mass) for token, mass in told.items())
    return math.fsum(mass for text, mass in texts if (text if exact else text.casefold()) == reply)


def _sum(one: Usage, other: Usage | None) -> Usage:
    if other is None:
        return one
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
    )
