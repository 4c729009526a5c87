"""One request's way past the answers that were given before; what makes them the same stands in
`response_cache/key.py`.

An answer is kept when it has ended by itself and whole: not one that was cut off, shortened, refused,
cancelled or broke, nor one that stood in for the strong model's. What is marked private is never written to
disk, and neither is an answer that holds what the guard would keep from others. Whatever goes wrong here
costs no answer: it is told once, and left alone for a while.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cached_property, partial

from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest
from edge_router.config import Config, ResponseCacheConfig
from edge_router.control.answer import Answer, Clock
from edge_router.control.policy import Route, Situation
from edge_router.control.pool import Pool
from edge_router.defects import Defects
from edge_router.errors import EdgeRouterError, InvalidData, InvalidRouter, StorageError
from edge_router.guard.inspection import Inspection
from edge_router.metrics import Count, Gauge, Labels, Metrics
from edge_router.paths import Paths
from edge_router.response_cache.key import digest, is_kept, key_of
from edge_router.response_cache.similar import nearest, packed, question_of, remainder
from edge_router.response_cache.store import AnswerStore, Entry
from edge_router.response_cache.transcript import Transcript
from edge_router.routers.base import Embeds, Router
from edge_router.rules.rule import Verdict
from edge_router.sizes import parse_size
from edge_router.types import Cancel, Decision, Reason, Tier

_logger = logging.getLogger(__name__)
_REST_S = 30.0  # after something went wrong, in which nothing is looked up
# Settings that change nothing of what a model says.
_WEAK_APART = frozenset(
    {
        *("threads", "device", "max_sequences", "vram_budget", "unload_after_s", "build", "retry_load_s"),
        *("base_url", "trusted_hosts", "api_key_env", "server_timeout_s", "on_defect"),
    }
)
_STRONG = ("engine", "base_url", "model")
_ENDPOINT = ("name", "protocol", "base_url", "models", "tags")


def store_of(settings: ResponseCacheConfig, paths: Paths) -> AnswerStore:
    """Where answers are kept, be it switched on or not."""
    size = parse_size(settings.max_size, key="response_cache.max_size")
    assert isinstance(size, int), "checked with the configuration"
    file = None if settings.mode == "memory" else paths.responses
    return AnswerStore(file, max_bytes=size, max_age_s=settings.max_age_s)


class ResponseCache:
    """Of one controller. Safe to use from several threads. Raises nothing of its own."""

    def __init__(self, config: Config, store: AnswerStore, pool: Pool, defects: Defects) -> None:
        self.settings, self.store = config.response_cache, store
        self._config, self._pool, self.defects = config, pool, defects
        self._lock = threading.Lock()
        self._looks = Counter[str]()
        self._told: set[type[Exception]] = set()
        self._rests_until = 0.0
        self._blind = set[str]()  # routers without vectors

    @classmethod
    def of(
        cls, config: Config, paths: Paths, pool: Pool, defects: Defects, metrics: Metrics
    ) -> ResponseCache | None:
        """None where it is switched off."""
        settings = config.response_cache
        if settings.mode == "off":
            return None
        cache = cls(config, store_of(settings, paths), pool, defects)
        name, about = "edge_router_response_cache_lookups_total", "Questions, by what the response cache had."
        metrics.add(Count(name, about, ("result",), cache.looks))
        metrics.add(Gauge("edge_router_response_cache_answers", "Answers kept.", (), cache.answers))
        metrics.add(Gauge("edge_router_response_cache_bytes", "What they take.", (), cache.bytes))
        return cache

    def lookup(self, request: ChatRequest) -> Lookup | None:
        """None for a request whose answer is neither looked up nor kept."""
        wish, settings = request.response_cache, self.settings
        with self.spared():
            kept = is_kept(request, sampled=settings.sampled, tools=settings.tools)
            if kept and (wish.read or wish.write):
                return Lookup(self, request)
            self.count("left_out")
        return None

    def maker(self, tier: Tier) -> str | None:
        """A hash of who answers as that tier now; None where that is not known before it is loaded."""
        if tier == "strong":
            return self._strong
        weak = self._pool.loaded_weak
        if weak is None:
            return None
        return digest([weak.model_id, weak.capabilities.weights, self._weak_settings])

    @cached_property
    def _weak_settings(self) -> str:
        weak = self._config.weak
        told = {each.name: getattr(weak, each.name) for each in fields(weak) if each.name not in _WEAK_APART}
        return digest([told, self._config.mlc if weak.engine == "mlc" else None])

    @cached_property
    def _strong(self) -> str:
        config = self._config
        endpoints = [[getattr(each, name) for name in _ENDPOINT] for each in config.endpoints]
        strong = [getattr(config.strong, name) for name in _STRONG]
        return digest([self._pool.names().strong, strong, endpoints])

    def is_asked_for(self, answer: Answer) -> bool:
        """Whether it is of the one of several strong models that the score chose, where it did."""
        chosen, endpoint = answer.decision.tier_model, answer.decision.endpoint
        tags = next((each.tags for each in self._config.endpoints if each.name == endpoint), ())
        return chosen is None or chosen in (endpoint, answer.model, *tags)

    def may_be_written(self, request: ChatRequest, text: str) -> bool:
        """Whether an answer of that `text` may be kept where this is kept."""
        if self.store.file is None:
            return True
        return not request.private and self._pool.egress.masked(text) == text

    def vector(self, router: Router, text: str) -> tuple[str, bytes] | None:
        """Of `text`, with the space that it is in; None of a router that makes none, which is told once."""
        if router.name in self._blind:
            return None
        problem = "it makes no vectors of texts"
        if isinstance(router, Embeds):
            try:
                return router.space, packed(router.embed_texts([text]))
            except InvalidRouter as error:
                problem = str(error)
        self._blind.add(router.name)
        _logger.warning(
            "response_cache.similarity has no effect with the router %s: %s", router.name, problem
        )
        return None

    def count(self, result: str) -> None:
        with self._lock:
            self._looks[result] += 1

    def looks(self) -> Iterator[tuple[Labels, float]]:
        """How often an answer was found here, and how often not, since this process began."""
        with self._lock:
            found = dict(self._looks)
        return (((result,), count) for result, count in found.items())

    def answers(self) -> Iterator[tuple[Labels, float]]:
        """How many there are; nothing where nobody can tell."""
        with self.spared():
            yield (), self.store.totals().answers

    def bytes(self) -> Iterator[tuple[Labels, float]]:
        with self.spared():
            yield (), self.store.totals().bytes

    @property
    def rests(self) -> bool:
        return time.monotonic() < self._rests_until

    @contextmanager
    def spared(self) -> Iterator[None]:
        """Nothing is raised within."""
        with self.defects.spare("response cache"):
            try:
                yield
            except (StorageError, InvalidData) as problem:
                self._rests_until = time.monotonic() + _REST_S
                with self._lock:
                    first = type(problem) not in self._told
                    self._told.add(type(problem))
                if first:
                    _logger.warning("the response cache is not used: %s", problem)

    def close(self) -> None:
        self._rests_until = math.inf  # an answer that ends now would open it again
        with self.spared():
            self.store.close()


class Lookup:
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
    ) -> Answer:
        """What was found, in pieces."""
        assert self.found is not None
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
        return Keeping(self) if self._request.response_cache.write and not rests else None

    def ended(self, answer: Answer, error: EdgeRouterError | None) -> None:
        """What was found has been given."""
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


def keeping(events: Iterator[Event], lookup: Lookup | None) -> tuple[Iterator[Event], Keeping | None]:
    """`events`, and what keeps them once they have ended, where that is wanted."""
    kept = None if lookup is None else lookup.keeping()
    return (events, None) if kept is None else (kept.through(events), kept)


class Keeping:
    """One answer on its way to its reader, and what is kept of it."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup, self._transcript = lookup, Transcript()

    def through(self, events: Iterator[Event]) -> Iterator[Event]:
        """`events`, read as they pass."""
        spared, transcript = self._lookup.spared, self._transcript
        try:
            for event in events:
                read = False
                with spared():
                    transcript.read(event)
                    read = True
                if not read:
                    transcript.spoil()
                yield event
        finally:
            if isinstance(events, Generator):
                events.close()

    def ended(self, answer: Answer, error: EdgeRouterError | None) -> None:
        self._lookup.keep(self._transcript, answer, error)


def _facts(verdict: Verdict, inspection: Inspection) -> object:
    hiding = [rule.name for rule in verdict.redact]
    return [verdict.local_only is not None, hiding, inspection.found, inspection.stays]
