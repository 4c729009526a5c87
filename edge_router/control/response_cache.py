"""The answers that one controller keeps: where they lie, who made them, what of them may be written, and what
happens where something goes wrong with them. What makes a request the same stands in `response_cache/key.py`.

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
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property

from edge_router.chat.request import ChatRequest
from edge_router.config.sections import ResponseCacheConfig
from edge_router.config.settings import Config
from edge_router.control.answer import Answer
from edge_router.control.pool import Pool
from edge_router.control.weights_fingerprint import weights_of
from edge_router.defects import Defects
from edge_router.errors import InvalidData, InvalidRouter, StorageError
from edge_router.metrics.counters import Count, Gauge, Labels, Metrics
from edge_router.parsing.sizes import parse_size
from edge_router.response_cache.key import digest, is_kept
from edge_router.response_cache.similar import packed
from edge_router.response_cache.store import AnswerStore
from edge_router.routing.routers.base import Embeds, Router
from edge_router.system.paths import Paths
from edge_router.types import Tier

_logger = logging.getLogger(__name__)
_REMEMBERED = 1000  # answers that may still be rated
_REST_S = 30.0  # after something went wrong, in which nothing is looked up
# Settings that change nothing of what a model says.
_WEAK_APART = frozenset(
    {
        *("threads", "device", "max_sequences", "vram_budget", "unload_after_s", "build", "retry_load_s"),
        *("trusted_hosts", "api_key_env", "server_timeout_s", "on_defect"),
        *("keep_prefix", "keep_max_size"),
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

    def __init__(
        self, config: Config, paths: Paths, store: AnswerStore, pool: Pool, defects: Defects
    ) -> None:
        self.settings, self.store, self._paths = config.response_cache, store, paths
        self._config, self._pool, self.defects = config, pool, defects
        self._lock = threading.Lock()
        self._looks = Counter[str]()
        self._told: set[type[Exception]] = set()
        self._rests_until = 0.0
        self._keys: OrderedDict[int, str] = OrderedDict()  # of the last answers, by their rows in the ledger
        self._blind = set[str]()  # routers without vectors

    @classmethod
    def of(
        cls, config: Config, paths: Paths, pool: Pool, defects: Defects, metrics: Metrics
    ) -> ResponseCache | None:
        """None where it is switched off."""
        settings = config.response_cache
        if settings.mode == "off":
            return None
        cache = cls(config, paths, store_of(settings, paths), pool, defects)
        name, about = "edge_router_response_cache_lookups_total", "Questions, by what the response cache had."
        metrics.add(Count(name, about, ("result",), cache.looks))
        metrics.add(Gauge("edge_router_response_cache_answers", "Answers kept.", (), cache.answers))
        metrics.add(Gauge("edge_router_response_cache_bytes", "What they take.", (), cache.bytes))
        return cache

    def is_kept(self, request: ChatRequest) -> bool:
        """Whether its answer may be given again, by the request and the settings."""
        return is_kept(request, sampled=self.settings.sampled, tools=self.settings.tools)

    def maker(self, tier: Tier) -> str | None:
        """A hash of who answers as that tier now; None where that is not known before it is loaded."""
        if tier == "strong":
            return self._strong
        weak = self._pool.loaded_weak
        weights = self._weights_to_load if weak is None else weak.capabilities.weights or weak.model_id
        return None if weights is None else digest([weights, self._weak_settings])

    @cached_property
    def _weights_to_load(self) -> str | None:
        return weights_of(self._config, self._paths)

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

    def may_be_written(self, request: ChatRequest, text: str = "") -> bool:
        """Whether an answer of that `text` may be kept where this is kept."""
        if self.store.file is None:
            return True
        return not request.private and (not text or self._pool.egress.masked(text) == text)

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

    def given(self, row: int | None, key: str) -> None:
        """The answer of that key has been given, now or again; `row`: of the ledger, where it has one."""
        with self._lock:
            if row is not None:
                self._keys[row] = key
            if len(self._keys) > _REMEMBERED:
                self._keys.popitem(last=False)

    def forget(self, row: int) -> None:
        """The answer of that row was no good: it is not given again."""
        with self._lock:
            key = self._keys.pop(row, None)
        if key is not None:
            with self.spared():
                self.store.remove([key])

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
