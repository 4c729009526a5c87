"""One request's way past the answers that were given before: what is found is given, what is made is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial

from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest
from edge_router.control.answer import Answer, Clock
from edge_router.control.policy import Route, Situation
from edge_router.control.response_cache import ResponseCache
from edge_router.control.sessions import Session, Sessions
from edge_router.errors import EdgeRouterError, InvalidData
from edge_router.guard.inspection import Inspection
from edge_router.response_cache.key import key_of
from edge_router.response_cache.similar import nearest, question_of, remainder
from edge_router.response_cache.store import Entry
from edge_router.response_cache.transcript import Transcript
from edge_router.routing.routers.base import Router
from edge_router.routing.rules.rule import Verdict
from edge_router.types import Cancel, Decision, Reason


def looked_up(cache: ResponseCache | None, request: ChatRequest) -> CacheLookup | None:
    """None for a request whose answer is neither looked up nor kept."""
    if cache is None:
        return None
    with cache.spared():
        if cache.is_kept(request) and (request.response_cache.read or request.response_cache.write):
            return CacheLookup(cache, request)
        cache.count("left_out")
    return None


class CacheLookup:
    """One request that may have an answer here. It is asked once; then that was found, or another is kept."""

    def __init__(self, cache: ResponseCache, request: ChatRequest) -> None:
        self._cache, self._request = cache, request
        self.spared = partial(cache.defects.spare, "response cache")
        self._key: str | None = None
        self._context: str | None = None  # of nearly the same questions, where those count
        self._vector: bytes | None = None
        self._weak_only = False  # its caller may ask nothing else
        self._routed: tuple[object, ...] = ()
        self.found: Entry | None = None
        self._events: list[Event] = []

    def exact(
        self,
        route: Route,
        situation: Situation,
        egress: tuple[Verdict, Inspection],
        wanted: Callable[[float | None], Decision],
    ) -> Decision | None:
        """The decision for an answer to the very same; None where there is none.

        `wanted` decides by a score that was given to it.
        """
        self._weak_only = situation.weak_only
        with self._cache.spared():
            named = situation.asked or self._request.target if route.tier == "strong" else None
            self._routed = (route.tier, route.router, named, _facts(*egress))
            self._key = key_of(self._request, *self._routed)
            if self._reads:
                entry = self._cache.store.find(self._key, max_age_s=self._request.response_cache.max_age_s)
                if entry is not None and (route.tier is not None or entry.score is not None):
                    decision = wanted(entry.score)
                    if self._serves(entry, decision):
                        return self._take(entry, decision, "hit")
                if route.tier is not None or self._cache.settings.similarity is None:
                    self._cache.count("miss")
        return None

    def similar(self, router: Router, decision: Decision) -> Decision | None:
        """The decision for an answer to nearly the same question; None where there is none.

        `decision` is where this one would go.
        """
        least, text = self._cache.settings.similarity, question_of(self._request)
        if least is None or self._key is None:
            return None
        with self._cache.spared():
            made = None if text is None else self._cache.vector(router, text)
            if made is not None and text is not None:
                space, self._vector = made
                self._context = key_of(remainder(self._request, text), "similar", space, *self._routed)
            if not self._reads:
                return None
            found = self._nearest(self._request.response_cache.max_age_s)
            if found is not None and found[1] >= least and self._serves(found[0], decision):
                entry = self._cache.store.find(found[0].key)
                if entry is not None:
                    taken = self._take(entry, decision, "similar")
                    return replace(taken, similarity=round(found[1], 6))
            self._cache.count("miss")
        return None

    def _nearest(self, max_age_s: float | None) -> tuple[Entry, float] | None:
        if self._context is None or self._vector is None:
            return None
        return nearest(self._vector, self._cache.store.similar(self._context, max_age_s=max_age_s))

    @property
    def _reads(self) -> bool:
        return self._request.response_cache.read and not self._cache.rests

    def _serves(self, entry: Entry, wanted: Decision) -> bool:
        if entry.tier == "weak":
            good = wanted.model == "weak"
        else:
            good = wanted.tier_model in (None, entry.asked) and not self._weak_only
        return good and entry.maker == self._cache.maker(entry.tier)

    def _take(self, entry: Entry, wanted: Decision, result: str) -> Decision:
        try:
            self._events = entry.events()
        except InvalidData:
            self._cache.store.remove([entry.key])
            raise
        self.found = entry
        self._cache.count(result)
        return replace(
            wanted,
            model=entry.tier,
            reason=Reason.CACHED,
            score=None,
            threshold=None,
            router=None,
            endpoint=entry.endpoint,
            tier_model=entry.asked,
            held=None,
            held_tokens=None,
            would_escalate=wanted.would_escalate and entry.tier == "weak",
            age_s=round(max(0.0, time.time() - entry.time), 3),
        )

    def answer(
        self,
        decision: Decision,
        cancel: Cancel,
        clock: Clock,
        finished: Callable[[Answer, EdgeRouterError | None], None],
        sessions: Sessions,
        session: Session | None,
    ) -> Answer:
        """What was found, in pieces. The conversation goes on as if it had been made now."""
        assert self.found is not None
        with self._cache.defects.spare("sessions"):
            answerer = (self.found.tier, self.found.model, self.found.endpoint)
            sessions.given_again(self._events, session, self._request, answerer)
        clock.first_event()
        return Answer(
            iter(self._events),
            request=self._request,
            decision=decision,
            model=self.found.model,
            cancel=cancel,
            clock=clock,
            finished=finished,
        )

    def keeping(self) -> Keeping | None:
        """What keeps the answer that is made now; None where it is not to be kept."""
        rests = self._cache.rests or self._key is None
        wanted = self._request.response_cache.write and self._cache.may_be_written(self._request)
        return Keeping(self) if wanted and not rests else None

    def ended(self, answer: Answer, error: EdgeRouterError | None) -> None:
        """What was found has been given."""
        if self.found is not None:
            self._cache.given(answer.record_id, self.found.key)
        on_disk = self._cache.store.file is not None
        shown = on_disk and self._request.private  # that it was asked would be written
        if self.found is not None and not shown and not self._cache.rests:
            with self._cache.spared():
                self._cache.store.touch(self.found.key)

    def keep(self, transcript: Transcript, answer: Answer, error: EdgeRouterError | None) -> None:
        """Keep what was made, if it is an answer to be given again."""
        decision, whole = answer.decision, error is None and transcript.whole and not answer.truncated
        stands_in = decision.model == "weak" and answer.fallback_cause is not None
        stands_in = stands_in or not self._cache.is_asked_for(answer)
        if not whole or stands_in or self._key is None or self._cache.rests:
            return
        with self._cache.spared():
            maker = self._cache.maker(decision.model)
            if maker is None or not self._cache.may_be_written(self._request, transcript.text):
                return
            entry = Entry(
                self._key,
                self._request.caller or "",
                time.time(),
                decision.model,
                answer.model,
                maker,
                decision.endpoint,
                decision.tier_model,
                decision.score,
                self._context,
                self._vector,
                transcript.dump(),
            )
            self._cache.store.put(entry)
            self._cache.given(answer.record_id, entry.key)


def keeping(events: Iterator[Event], lookup: CacheLookup | None) -> tuple[Iterator[Event], Keeping | None]:
    """`events`, and what keeps them once they have ended, where that is wanted."""
    kept = None if lookup is None else lookup.keeping()
    return (events, None) if kept is None else (kept.through(events), kept)


class Keeping:
    """One answer on its way to its reader, and what is kept of it."""

    def __init__(self, lookup: CacheLookup) -> None:
        self._lookup, self._transcript = lookup, Transcript()

    def through(self, events: Iterator[Event]) -> Iterator[Event]:
        """`events`, read as they pass."""
        spared, transcript = self._lookup.spared, self._transcript
        try:
            for event in events:
                try:
                    transcript.read(event)
                except Exception:  # a block around each event would take as long as all else does
                    transcript.spoil()
                    with spared():
                        raise
                yield event
        finally:
            if isinstance(events, Generator):
                events.close()

    def ended(self, answer: Answer, error: EdgeRouterError | None) -> None:
        self._lookup.keep(self._transcript, answer, error)


def _facts(verdict: Verdict, inspection: Inspection) -> object:
    hiding = [rule.name for rule in verdict.redact]
    return [verdict.local_only is not None, hiding, inspection.found, inspection.stays]
