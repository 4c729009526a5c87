"""Where a query goes: what rules, guard, session, router and threshold say of it, put before the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from edge_router.callers.register import Callers
from edge_router.chat.request import ChatRequest, Need
from edge_router.config.settings import Config
from edge_router.control import policy
from edge_router.control.answer import Clock
from edge_router.control.lookup import CacheLookup
from edge_router.control.pool import Pool
from edge_router.control.sessions import Session, Sessions
from edge_router.defects import Defects
from edge_router.errors import Blocked, EdgeRouterError, InvalidRequest, Withheld
from edge_router.guard.inspection import NOTHING, Inspection
from edge_router.records import changed
from edge_router.routing.chores import chore_of
from edge_router.routing.routers.base import AsksWeak, checked_score
from edge_router.routing.rules.rule import Verdict
from edge_router.routing.thresholds.purses import Purses
from edge_router.types import Cancel, Decision, Reason


class Decider:
    """Requests in; each with its decision, and the situation that it was made in, out. Loads only routers.

    `failed` records what keeps a query from being asked anywhere.
    """

    def __init__(
        self,
        config: Config,
        pool: Pool,
        callers: Callers,
        sessions: Sessions,
        defects: Defects,
        *,
        failed: Callable[[ChatRequest, Decision, EdgeRouterError, Clock], None],
    ) -> None:
        self._config, self._pool, self._callers = config, pool, callers
        self._sessions, self._defects, self._failed = sessions, defects, failed

    def decided(
        self, request: ChatRequest, clock: Clock, cancel: Cancel, lookup: CacheLookup | None = None
    ) -> tuple[Decision, policy.Situation]:
        """Of a query that is going to be answered. What keeps it from being asked anywhere is recorded."""
        try:
            return self.decide(request, clock, cancel, lookup, counts=True)
        except (Blocked, Withheld) as error:
            reason = Reason.GUARD if isinstance(error, Withheld) and error.rule is None else Reason.RULE
            found = getattr(error, "found", ())
            kept = Decision("weak", reason, found=found, rule=error.rule, caller=request.caller)
            self._failed(request, kept, error, clock)
            raise

    def decide(
        self,
        request: ChatRequest,
        clock: Clock,
        cancel: Cancel | None = None,
        lookup: CacheLookup | None = None,
        *,
        counts: bool = False,
    ) -> tuple[Decision, policy.Situation]:
        """`counts`: the query is going to be answered, so it is part of the strong share that is held."""
        purses, caller = self._callers.purses(request.caller), self._callers.find(request.caller)
        route = policy.parse_model(request.target, self._pool.names())
        verdict = self._verdict(request)
        if route.tier is None and verdict.model is not None:
            route = replace(policy.parse_model(verdict.model.then, self._pool.names()), ruled=True)
        needs = request.needs
        strong = self._pool.strong_for(needs)
        near = policy.strong_here(needs, self._config)
        inspection = self._inspection(request, verdict, strong and not near and route.tier != "weak")
        situation = policy.Situation(
            strong_configured=strong,
            offline=self._config.offline,
            private=request.private,
            kept=Reason.RULE if verdict.local_only else Reason.GUARD if inspection.stays else None,
            needs=needs,
            weak_serves=self._pool.weak_serves,
            budget_spent=purses.exhausted,
            weak_only=self._callers.allowed(request.caller).stays,
            shortens=self._config.weak.overflow == "auto",
            asked=verdict.model.then if route.ruled and verdict.model is not None else None,
            tiers=policy.tiers_for(route, self._config, request.among),
            chore=route == policy.Route() and self._is_chore(request),
            defects_escalate=self._config.weak.on_defect == "escalate",
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
        if route.tier is not None or Need.QUESTIONS in needs or situation.chore:
            return (lookup and lookup.exact(route, situation, egress, decided)) or decided(None), situation
        with self._defects.guard("router"):
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
        with self._defects.guard("router"), clock.scoring():
            score = checked_score(router, request, stays=not situation.strong_allowed)
        decision = by_score(score)
        if lookup is not None and (kept := lookup.similar(router, decision)) is not None:
            return kept, situation
        if counts:
            with self._defects.spare("strong share"):
                self._pool.observe(router, decision, caller.settings)
            with self._defects.spare("spending"):
                budgeted.observe(score)
        return decision, situation

    def _is_chore(self, request: ChatRequest) -> bool:
        able = self._config.router.chores and not request.needs & {Need.TOOLS, Need.QUESTIONS}
        return able and chore_of(request.messages) is not None

    def _session(self, request: ChatRequest) -> Session | None:
        with self._defects.spare("sessions"):
            return self._sessions.look(request)
        return None

    def _verdict(self, request: ChatRequest) -> Verdict:
        """What the user's rules say. Raises `Blocked`."""
        with self._defects.guard("rules"):
            verdict = self._pool.egress.judge(request)
        if verdict.block is not None:
            raise Blocked(verdict.block.name, verdict.block.message)
        return verdict

    def _inspection(self, request: ChatRequest, verdict: Verdict, strong: bool) -> Inspection:
        """What the guard finds, where another machine might be asked."""
        stays = request.private or self._config.offline or verdict.local_only
        if stays or not (strong or self._config.weak.trusted_hosts):
            return NOTHING
        with self._defects.guard("guard"):
            return self._pool.egress.inspect(request, verdict)

    def _stays(self, request: ChatRequest, verdict: Verdict) -> bool:
        """Whether the guard keeps it here, also where nobody is there that it could be sent to."""
        with self._defects.guard("guard"):
            return bool(self._pool.egress.inspect(request, verdict).stays)

    def _refuse_strong(self, request: ChatRequest, verdict: Verdict, inspection: Inspection) -> None:
        """Raises `InvalidRequest` for a request that names the strong model where it must not be asked, and
        `Withheld` where a rule or the guard keeps it here."""
        if request.private or self._config.offline:
            why = "the request is private" if request.private else "the network is switched off"
            raise InvalidRequest("model", f"{request.target!r} would leave this machine, and {why}")
        if verdict.local_only is not None:
            raise Withheld(rule=verdict.local_only.name)
        if inspection.stays:
            raise Withheld(inspection.stays)
