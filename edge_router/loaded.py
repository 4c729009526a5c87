"""The models of one controller: made when they are first needed, kept, and closed together."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from edge_router import plugins
from edge_router.confidence.gate import Gate
from edge_router.config import Config
from edge_router.engines import load_weak, strong_engines, weak_engines
from edge_router.engines.base import Engine, Queueing
from edge_router.errors import InvalidData, StrongNotConfigured
from edge_router.paths import Paths
from edge_router.policy import Names
from edge_router.registry import Registry
from edge_router.routers import routers
from edge_router.routers.base import AsksWeak, Router
from edge_router.routers.fitting import default_threshold
from edge_router.thresholds.tracking import ShareTracker
from edge_router.types import Cancel, ChatRequest, Decision, Progress, SilentProgress
from edge_router.vram import Plan


class Loaded:
    """Lazy, and safe to ask from several threads. Engines that were passed in are not closed here twice."""

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
    ) -> None:
        self._config, self._paths = config, paths or Paths.default()
        self._progress: Progress = progress or SilentProgress()
        self._weak, self._strong = weak, strong
        self._weak_given = weak is not None  # by a program: nothing is known of its strength
        self._thresholds: dict[str, float] = {}  # by router, where none is set
        self._default_router = router
        self._gate, self._gate_sought = gate, gate is not None
        self._share: ShareTracker | None = None
        self._routers: dict[str, Router] = {router.name: router} if router else {}
        self._registry: Registry[Router] = plugins.extend(
            routers(self._paths.routers, config.router.provider), plugins.ROUTERS
        )
        self._weak_lock, self._strong_lock, self._router_lock = (
            threading.Lock(),
            threading.Lock(),
            threading.Lock(),
        )

    @property
    def strong_configured(self) -> bool:
        return self._strong is not None or self._config.strong.model is not None

    @property
    def weak_handles_tools(self) -> bool:
        """False until it is loaded: no local engine handles tools, and asking must not load one."""
        return self._weak is not None and self._weak.handles_tools

    def weak_handles(self, request: ChatRequest) -> bool:
        """Whether it can give what is demanded beside text; before it is loaded, whether that is likely."""
        if self.weak_handles_tools or request.response_schema is None:
            return self.weak_handles_tools
        if self._weak is not None:
            return bool(getattr(self._weak, "handles_json", False))
        from edge_router.engines.local.constraint import installed

        return self._config.weak.engine in ("auto", "tvm", "webgpu") and installed()

    @property
    def plan(self) -> Plan | None:
        """The weak model's memory, where it is loaded and was planned."""
        plan = getattr(self._weak, "plan", None)
        return plan if isinstance(plan, Plan) else None

    @property
    def weak_loaded(self) -> bool:
        """Whether it is in memory now; one that was passed in is, unless it says otherwise."""
        return self._weak is not None and bool(getattr(self._weak, "loaded", True))

    def ahead(self, cancel: Cancel) -> int | None:
        """How many answers the weak model makes before the one of `cancel`; None where it does not wait."""
        return self._weak.ahead(cancel) if isinstance(self._weak, Queueing) else None

    def names(self) -> Names:
        weak = self._weak.model_id if self._weak else Path(self._config.weak.model).name
        strong = self._strong.model_id if self._strong else self._config.strong.model
        return Names({*self._registry, *self._routers}, {weak}, {strong} if strong else set())

    def router(self, name: str | None) -> Router:
        """The router of that name; None is the default one. Raises `UnknownName`, `InvalidRouter`."""
        if name is None and self._default_router is not None:
            return self._default_router
        name = name or self._config.router.name
        with self._router_lock:
            if name not in self._routers:
                router = self._registry.get(name)(threads=self._config.router.threads)
                if isinstance(router, AsksWeak):
                    router.use_weak(self.weak)
                self._routers[name] = router
            return self._routers[name]

    def threshold(self, router: Router) -> float:
        """The configured threshold belongs to the configured router; any other has its default."""
        if not self.is_default(router):
            return self._default_threshold(router)
        tracker = self._tracker(router)
        if tracker is not None:
            return tracker.threshold
        configured = self._config.router.threshold
        return configured if configured is not None else self._default_threshold(router)

    def _default_threshold(self, router: Router) -> float:
        """Fits the configured weak model, where there is a strong one that could answer instead."""
        if self._weak_given or not self.strong_configured:
            return router.default_threshold
        with self._router_lock:
            if router.name not in self._thresholds:
                self._thresholds[router.name] = default_threshold(router, self._config)
            return self._thresholds[router.name]

    def observe(self, router: Router, decision: Decision) -> None:
        """A query was decided by `threshold(router)`: what holds a strong share learns from it."""
        tracker = self._tracker(router) if self.is_default(router) else None
        if tracker is not None and decision.score is not None and decision.threshold is not None:
            tracker.observe(decision.score, sent=decision.score >= decision.threshold)

    def is_default(self, router: Router) -> bool:
        """Whether it is the one that the configured threshold belongs to."""
        return self._default_router is router or router.name == self._config.router.name

    def _tracker(self, router: Router) -> ShareTracker | None:
        share = self._config.router.strong_share
        if share is None:
            return None
        with self._router_lock:
            if self._share is None:
                start = router.default_threshold
                self._share = ShareTracker(share, start, router=router.name, file=self._paths.share)
            return self._share

    def weak(self) -> Engine:
        """Raises `EdgeRouterError` where it cannot be had: missing weights, no memory, a failed build."""
        with self._weak_lock:
            if self._weak is None:
                registry = plugins.extend(weak_engines(), plugins.WEAK_ENGINES)
                self._weak = load_weak(registry, self._config, self._paths, self._progress)
            return self._weak

    def gate(self) -> Gate | None:
        """What was calibrated for the weak model; None where nothing was, which is told once."""
        weak = self.weak()
        with self._weak_lock:
            if not self._gate_sought:
                self._gate_sought = True
                self._gate = self._calibrated(getattr(weak, "weights_key", None))
            return self._gate

    def _calibrated(self, weights: str | None) -> Gate | None:
        from edge_router.confidence.place import find

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

    def strong(self) -> Engine:
        """Raises `StrongNotConfigured`."""
        with self._strong_lock:
            if self._strong is None:
                if self._config.strong.model is None:
                    raise StrongNotConfigured
                registry = plugins.extend(strong_engines(), plugins.STRONG_ENGINES)
                factory = registry.get(self._config.strong.engine)
                self._strong = factory(self._config, self._paths, self._progress)
            return self._strong

    def close(self) -> None:
        if self._share is not None:
            self._share.save()
        for engine in (self._weak, self._strong):
            if engine is not None:
                engine.close()
