"""The models of one controller: made when they are first needed, kept, and closed together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from edge_router import plugins
from edge_router.chat.request import Need
from edge_router.config.callers import CallerConfig
from edge_router.config.settings import Config
from edge_router.config.tiers import bound_of
from edge_router.control.egress import Egress
from edge_router.control.guarded_engine import GuardedEngine
from edge_router.control.names import check_callers, check_names, check_router
from edge_router.control.policy import Names
from edge_router.control.router_judge import made_router, put_away
from edge_router.control.rule_source import RuleSource
from edge_router.control.slot import Slot, remembered
from edge_router.defects import Defects
from edge_router.engines import load_weak, strong_engines, weak_engines
from edge_router.engines.base import (
    CHOOSING,
    EndpointState,
    Engine,
    Gathering,
    Queueing,
    Reaching,
    Reloading,
    Resident,
    Restartable,
    Restarts,
    Unloading,
)
from edge_router.engines.choice import DEVICES, SERVED, weak_name
from edge_router.errors import Closed, InvalidData, StrongNotConfigured
from edge_router.guard.inspection import Guard
from edge_router.prompts.infill import likely as infill_likely
from edge_router.questions.bounds import Bounds
from edge_router.registry import Registry
from edge_router.routing.confidence.gate import Gate
from edge_router.routing.routers import routers
from edge_router.routing.routers.base import Router
from edge_router.routing.routers.fitting import default_threshold
from edge_router.routing.thresholds.tracking import ShareTracker
from edge_router.system.paths import Paths
from edge_router.types import Cancel, Decision, Progress, SilentProgress
from edge_router.vram import Plan

if TYPE_CHECKING:
    from edge_router.routing.routers.embedding import Embedders


class Pool:
    """Lazy, and safe to ask from several threads. What was passed in is closed with the rest.

    Whoever waits for a model may give a `cancel`, which is heard at once. After `close` whatever would need
    a model raises `Closed`. Raises `ConfigError` and `UnknownModel` for names that nobody knows.
    """

    def __init__(
        self,
        config: Config,
        *,
        weak: Engine | None = None,
        strong: Engine | None = None,
        router: Router | None = None,
        gate: Gate | None = None,
        paths: Paths | None = None,
        progress: Progress | None = None,
        defects: Defects | None = None,
    ) -> None:
        self._config, self._paths = config, paths or Paths.default()
        self._progress: Progress = progress or SilentProgress()
        self.weak_given = weak is not None  # by a program: nothing is known of its strength
        self.strong_given = strong is not None
        self._thresholds: dict[str, float] = {}  # by router, where none is set
        self._defects = defects or Defects(self._paths.defects)
        self._registry: Registry[Router] = plugins.extend(
            routers(self._paths.routers, config), plugins.ROUTERS
        )
        self._router_names = {*self._registry, *(() if router is None else (router.name,))}
        check_names(config, weak=weak is None, strong=strong is None)
        if router is None:
            check_router(config, self._registry)
        self._remembered = remembered(config.weak.retry_load_s)
        rules = RuleSource(config, self._paths, self.names)
        self.egress = Egress(Guard(config.guard), rules.current)
        self._weak = self._engine_slot("weak model", self._make_weak, weak)
        self._asked = self._engine_slot("endpoint of typed questions", self._make_asked, None)
        guarded = None if strong is None else GuardedEngine(strong, self.egress)
        self._strong = self._engine_slot("strong model", self._make_strong, guarded)
        self._default_router = router
        self._gate, self._gate_sought = gate, gate is not None
        self._shares: dict[str | None, ShareTracker] = {}  # by caller; None: of all others together
        self._routers: dict[str, Slot[Router]] = {}
        self._embedders: Embedders | None = None
        self._bounds: dict[str, Bounds] = {}  # of typed questions, by the weak model's weights
        self._closed = False
        self._lock = threading.Lock()
        if router is not None:
            self._router_slot(router.name).put(router)
        rules.check()
        check_callers(config, self.names(), lambda: self.embedders().names())

    def _engine_slot(self, name: str, make: Callable[[], Engine], given: Engine | None) -> Slot[Engine]:
        slot = Slot(name, make, remember_s=self._remembered, dispose=partial(self._end, name))
        if given is not None:
            slot.put(given)
        return slot

    def _end(self, name: str, engine: Engine) -> None:
        with self._defects.spare(name):
            engine.close()

    def _router_slot(self, name: str) -> Slot[Router]:
        """Raises `UnknownName`, `Closed`."""
        with self._lock:
            if self._closed:
                raise Closed
            if name not in self._routers:
                make = partial(self._make_router, name)
                self._routers[name] = Slot("router", make, remember_s=self._remembered, dispose=put_away)
            return self._routers[name]

    @property
    def strong_configured(self) -> bool:
        return self._strong.value is not None or self._config.has_strong

    @property
    def weak_serves(self) -> frozenset[Need]:
        """What the weak model can do beside plain text; before it is loaded, what it is likely to."""
        weak = self._weak.value
        if weak is not None:
            able = weak.capabilities
            return able.serves | {Need.QUESTIONS} if able.decides else able.serves
        engine = self._config.weak.engine
        if engine == SERVED:  # the server says more, once it is asked
            calls = {Need.TOOLS} if self._likely_calls else set()
            return frozenset({Need.JSON, Need.LOGPROBS, Need.QUESTIONS} | calls)
        forms = {Need.JSON, Need.GRAMMAR} if engine in ("auto", "tvm", "webgpu") else set()
        calls = {Need.TOOLS, Need.TOOL_CALL} if forms and self._likely_calls else set()
        between = {Need.SUFFIX} if forms and infill_likely(self._config.weak.model) else set()
        return CHOOSING | {Need.QUESTIONS} | forms | calls | between

    @cached_property
    def _likely_calls(self) -> bool:
        """Whether the weak model, which is not loaded yet, will be asked to call tools."""
        from edge_router.store.tool_skill import find_of

        if self._config.weak.tools != "auto":
            return self._config.weak.tools == "yes"
        try:
            found = find_of(self._paths, weak_name(self._config))
        except InvalidData:  # told when it is loaded
            return False
        return found is not None and found.passed

    @property
    def weak_may_call_tools(self) -> bool:
        """Whether only a measurement is lacking, or a better one, of a model that is loaded."""
        weak = self._weak.value
        return self._config.weak.tools == "auto" and weak is not None and weak.capabilities.learned_tools

    @property
    def weak_is_known(self) -> bool:
        """Whether `weak_serves` says more than what is likely: it is loaded, or one of ours."""
        return self._weak.value is not None or self._config.weak.engine in DEVICES

    @property
    def loaded_weak(self) -> Engine | None:
        """The weak model's engine, where there is one by now."""
        return self._weak.value

    @property
    def plan(self) -> Plan | None:
        """The weak model's memory, where it is loaded and was planned."""
        weak = self._weak.value
        return weak.plan if isinstance(weak, Resident) else None

    @property
    def weak_loaded(self) -> bool:
        """Whether it is in memory now; one that was passed in is, unless it says otherwise."""
        weak = self._weak.value  # each answer asks twice, and `isinstance` takes 5 us for a protocol
        return weak is not None and bool(getattr(weak, "loaded", True))

    def ahead(self, cancel: Cancel) -> int | None:
        """How many answers the weak model makes before the one of `cancel`; None where it does not wait."""
        weak = self._weak.value
        return weak.ahead(cancel) if isinstance(weak, Queueing) else None

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """How the strong model's endpoints fare, where it has several and was asked for."""
        strong = self._strong.value
        return strong.endpoints if isinstance(strong, Gathering) else ()

    @property
    def weak_restarts(self) -> Restarts | None:
        """How the weak model's process fares, where it is loaded and has one of its own."""
        weak = self._weak.value
        return weak.restarts if isinstance(weak, Restartable) else None

    def names(self) -> Names:
        weak, strong = self._weak.value, self._strong.value
        own = weak.model_id if weak else weak_name(self._config)
        theirs = (strong.model_id,) if strong is not None and self.strong_given else self._config.strong_names
        return Names(self._router_names, (own,), theirs)

    def router(self, name: str | None, cancel: Cancel | None = None) -> Router:
        """The router of that name; None is the default one. Raises `UnknownName`, `InvalidRouter`."""
        if name is None and self._default_router is not None and not self._closed:
            return self._default_router
        return self._router_slot(name or self._config.router.name).get(cancel)

    def _make_router(self, name: str) -> Router:
        return made_router(self._registry.get(name), self._config, self.weak, self.egress)

    def threshold(self, router: Router, caller: CallerConfig | None = None) -> float:
        """The configured threshold, or the caller's own, belongs to the configured router; any other has its
        default."""
        if not self.is_default(router):
            return self._default_threshold(router)
        tracker = self._tracker(router, caller)
        if tracker is not None:
            return tracker.threshold
        own = None if caller is None else caller.threshold
        configured = bound_of(self._config) if own is None else own
        return configured if configured is not None else self._default_threshold(router)

    def _default_threshold(self, router: Router) -> float:
        """Fits the configured weak model, where there is a strong one that could answer instead."""
        if self.weak_given or not self.strong_configured:
            return router.default_threshold
        with self._lock:
            if router.name not in self._thresholds:
                self._thresholds[router.name] = default_threshold(router, self._config)
            return self._thresholds[router.name]

    def observe(self, router: Router, decision: Decision, caller: CallerConfig | None = None) -> None:
        """A query was decided by `threshold(router)`: what holds a strong share learns from it."""
        tracker = self._tracker(router, caller) if self.is_default(router) else None
        if tracker is not None and decision.score is not None and decision.threshold is not None:
            reached = decision.score >= decision.threshold
            sent = reached if decision.held is None else decision.model == "strong"
            tracker.observe(decision.score, sent=sent)

    def is_default(self, router: Router) -> bool:
        """Whether it is the one that the configured threshold belongs to."""
        return self._default_router is router or router.name == self._config.router.name

    def _tracker(self, router: Router, caller: CallerConfig | None = None) -> ShareTracker | None:
        """None where it is a threshold that is set."""
        share, name, file = self._config.router.strong_share, None, self._paths.share
        if caller is not None and caller.threshold is not None:
            return None
        if caller is not None and caller.strong_share is not None:
            share, name, file = (
                caller.strong_share,
                caller.name,
                self._paths.callers / caller.name / file.name,
            )
        if share is None:
            return None
        with self._lock:
            if name not in self._shares:
                start = router.default_threshold
                self._shares[name] = ShareTracker(share, start, router=router.name, file=file)
            return self._shares[name]

    def weak(self, cancel: Cancel | None = None) -> Engine:
        """Raises `EdgeRouterError` where it cannot be had: missing weights, no memory, a failed build.

        A failure is remembered for `weak.retry_load_s`, or until `retry`.
        """
        return self._weak.get(cancel)

    def _make_weak(self) -> Engine:
        registry = plugins.extend(weak_engines(), plugins.WEAK_ENGINES)
        engine = load_weak(registry, self._config, self._paths, self._progress)
        if isinstance(engine, Reaching) and engine.leaves:
            return GuardedEngine(engine, self.egress)
        return engine

    def begin(self, router: str | None, *, scored: bool) -> None:
        """Begin to load the weak model, and a router where one scores. Who asks is told what keeps them."""
        if scored and (router is not None or self._default_router is None):
            self._router_slot(router or self._config.router.name).begin()
        self._weak.begin()

    def load(self) -> None:
        """Have the weak model in memory now, also where it gave that back. Raises what keeps it from that."""
        weak = self.weak()
        if isinstance(weak, Reloading):
            weak.load()

    def unload(self) -> None:
        """Have the weak model give its memory back, where it is loaded and can."""
        weak = self._weak.value
        if isinstance(weak, Unloading):
            weak.unload()

    def embedders(self) -> Embedders:
        """Each is opened when it is first asked."""
        from edge_router.routing.routers.embedding import Embedders

        with self._lock:
            if self._closed:
                raise Closed
            if self._embedders is None:
                self._embedders = Embedders(self._paths.routers, threads=self._config.router.threads)
            return self._embedders

    def gate(self, cancel: Cancel | None = None) -> Gate | None:
        """What was calibrated for the weak model; None where nothing was, which is told once."""
        weak = self.weak(cancel)
        with self._lock:
            if not self._gate_sought:
                self._gate_sought = True
                self._gate = self._calibrated(weak.capabilities.weights)
            return self._gate

    def _calibrated(self, weights: str | None) -> Gate | None:
        from edge_router.routing.confidence.gate_store import find

        found, problem = (
            None,
            "not calibrated for this weak model: edge-router calibrate --confidence --strong-share 0.3",
        )
        try:
            found = find(self._paths, weights) if weights is not None else None
        except InvalidData as error:
            problem = str(error)
        if found is None:
            logging.getLogger(__name__).warning("weak.min_confidence has no effect: %s", problem)
        return found

    def bounds(self, weak: Engine) -> Bounds:
        """How sure `weak` must be of a typed question, as it was measured; no bounds where it was not."""
        weights = weak.capabilities.weights
        if weights is None:
            return Bounds()
        with self._lock:
            if weights not in self._bounds:
                self._bounds[weights] = self._measured(weights)
            return self._bounds[weights]

    def _measured(self, weights: str) -> Bounds:
        from edge_router.routing.thresholds.question_bounds import find

        try:
            found = find(self._paths, weights)
        except InvalidData as error:
            logging.getLogger(__name__).warning("all answers to typed questions stay: %s", error)
            found = None
        return Bounds() if found is None else found.bounds

    def strong(self, cancel: Cancel | None = None, needs: frozenset[Need] = frozenset()) -> Engine:
        """For typed questions the endpoint that is made for them, if there is one. Raises
        `StrongNotConfigured`."""
        if not self.strong_for(needs) and not self._closed:
            raise StrongNotConfigured
        return (self._asked if self._has_asked(needs) else self._strong).get(cancel)

    def strong_for(self, needs: frozenset[Need]) -> bool:
        """Whether there is a strong model for what needs those."""
        return self.strong_configured or self._has_asked(needs)

    def _has_asked(self, needs: frozenset[Need]) -> bool:
        return Need.QUESTIONS in needs and self._config.questions.base_url is not None

    def _make_asked(self) -> Engine:
        from edge_router.engines.remote.question_endpoint import configured

        engine, near = configured(self._config), self._config.questions.local
        return engine if near else GuardedEngine(engine, self.egress)

    def _make_strong(self) -> Engine:
        registry = plugins.extend(strong_engines(), plugins.STRONG_ENGINES)
        engine = registry.get(self._config.strong.engine)(self._config, self._paths, self._progress)
        return GuardedEngine(engine, self.egress)

    def retry(self) -> None:
        """Forget what failed to load: whoever asks next tries again."""
        with self._lock:
            slots: list[Slot[Any]] = [self._weak, self._strong, self._asked, *self._routers.values()]
        for slot in slots:
            slot.retry()

    def close(self) -> None:
        """For good. What is still being loaded is closed when it is there. May be called twice."""
        with self._lock:
            self._closed, self._embedders = True, None
            slots: list[Slot[Any]] = [self._weak, self._strong, self._asked, *self._routers.values()]
        for share in self._shares.values():
            with self._defects.spare("strong share"):
                share.save()
        for slot in slots:
            slot.close()
