"""From a model name and a score to a decision. Pure: every case is a row of a table in the tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from edge_router.chat.request import LOCAL_NEEDS, MEDIA_NEEDS, ChatRequest, Need
from edge_router.config.settings import Config
from edge_router.config.tiers import TierConfig, chosen, usable
from edge_router.control import sessions
from edge_router.control.sessions import Facts, Session
from edge_router.errors import (
    BudgetSpent,
    Cancelled,
    Closed,
    ContextOverflow,
    DuplicateName,
    EdgeRouterError,
    InternalError,
    InvalidInput,
    InvalidRequest,
    InvalidRules,
    LowConfidence,
    OutOfMemory,
    PluginFailed,
    StrongRefused,
    UnknownModel,
    UnknownName,
    UnsupportedTarget,
    Withheld,
    clipped,
)
from edge_router.records import changed, dataclass
from edge_router.registry import nearest
from edge_router.routing.rules.rule import PROTECTING, Rule
from edge_router.types import LATEST, Decision, Reason, Tier

ROUTER_PREFIX = "router-"


@dataclass(frozen=True, slots=True)
class Route:
    """What a model name asks for: a fixed tier, or a router with its threshold (None: the default one's).

    `ruled`: not the caller named it, but a rule of the user's.
    """

    tier: Tier | None = None
    router: str | None = None
    threshold: float | None = None
    ruled: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """The names that `parse_model` knows."""

    routers: Collection[str]
    weak: Collection[str]  # the ids of the weak model
    strong: Collection[str]

    def all(self) -> tuple[str, ...]:
        routers = (ROUTER_PREFIX + name for name in sorted(self.routers))
        return ("auto", "weak", "strong", *routers, *self.weak, *self.strong)


_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Situation:
    """What, beside the score, decides."""

    strong_configured: bool
    offline: bool = False
    private: bool = False
    kept: Reason | None = None  # why it must stay here, beside the caller's own wish
    needs: frozenset[Need] = frozenset()  # of the request
    weak_serves: frozenset[Need] = frozenset()
    asked: str | None = None  # the model that one of the user's rules names
    tiers: tuple[TierConfig, ...] = ()  # more than two models, where the score chooses among them
    chore: bool = False  # a title, tags or the like, which any model can do
    weak_refused: bool = False  # it was asked, and could not take the request
    budget_spent: bool = False
    weak_only: bool = False  # whoever asks may use nothing else
    shortens: bool = True  # a prompt that is too long may be shortened where nobody else can take it
    strong_here: bool = False  # on this machine, so that nothing leaves it
    defects_escalate: bool = False  # the user wants an answer even where the program is at fault
    session: Session | None = None  # what is known of the conversation
    facts: Facts = _FACTS

    @property
    def strong_allowed(self) -> bool:
        stays = self._must_not_leave is not None or self.budget_spent or self.weak_only
        return self.strong_configured and not stays and not self.needs & LOCAL_NEEDS

    @property
    def unmet(self) -> frozenset[Need]:
        """What the weak model would leave out and another one need not."""
        return self.needs - self.weak_serves - LOCAL_NEEDS

    @property
    def _must_not_leave(self) -> Reason | None:
        if self.strong_here:
            return None
        if self.private:
            return Reason.PRIVATE
        return self.kept or (Reason.OFFLINE if self.offline else None)

    @property
    def why_not_strong(self) -> Reason:
        if (why := self._must_not_leave) is not None:
            return why
        if self.weak_only:
            return Reason.CALLER
        return Reason.BUDGET if self.strong_configured and self.budget_spent else Reason.STRONG_UNAVAILABLE


def strong_here(needs: Collection[Need], config: Config) -> bool:
    """Whether what may be asked instead of the weak model is on this machine, as the user says of an endpoint
    of typed questions."""
    return Need.QUESTIONS in needs and config.questions.local


def parse_model(name: str, names: Names) -> Route:
    """`auto`, `weak`, `strong`, `router-<router>[-<threshold>]` or a model's own id, also with `:latest`.

    Raises `UnknownModel` or, for a router's name, `UnknownName`, with the nearest known ones;
    `InvalidRequest` for a threshold outside 0..1.
    """
    if name == "auto":
        return Route()
    if name == "weak" or name in names.weak:
        return Route(tier="weak")
    if name == "strong" or name in names.strong:
        return Route(tier="strong")
    if name.endswith(LATEST):
        return parse_model(name.removesuffix(LATEST), names)
    if name.startswith(ROUTER_PREFIX):
        return _parse_router(name.removeprefix(ROUTER_PREFIX), names)
    known = names.all()
    raise UnknownModel(name, known, nearest(name, known, cutoff=0.4))


def check_rules(rules: Iterable[Rule], names: Names, file: Path) -> None:
    """Whether each names a model that is known. Raises `InvalidRules`."""
    for rule in rules:
        if rule.then not in PROTECTING:
            try:
                parse_model(rule.then, names)
            except InvalidInput as error:
                raise InvalidRules(file, f"then: {error}, or {', '.join(PROTECTING)}", rule.name) from error


def _parse_router(rest: str, names: Names) -> Route:
    if rest in names.routers:
        return Route(router=rest)
    router, _, number = rest.rpartition("-")
    if router not in names.routers:
        known = tuple(sorted(names.routers))
        wanted = router or rest
        raise UnknownName("router", wanted, known, nearest(wanted, known))
    try:
        threshold = float(number)
    except ValueError:
        raise InvalidRequest(
            "model", f"{clipped(number)!r} is not a threshold; write router-{router}-0.5"
        ) from None
    if not 0 <= threshold <= 1:  # also refuses NaN
        raise InvalidRequest("model", f"the threshold must be between 0 and 1, not {clipped(number)}")
    return Route(router=router, threshold=threshold)


def tiers_for(route: Route, config: Config, among: Collection[str] = ()) -> tuple[TierConfig, ...]:
    """The models that a score may choose among: of the configured router only, whose thresholds they are.

    `among`: the only strong models, endpoints or tags that may answer, where they are named.
    """
    own = route.tier is None and route.threshold is None and route.router in (None, config.router.name)
    return usable(config, among) if own else ()


def own(request: ChatRequest, situation: Situation) -> ChatRequest:
    """`request` as engines get it, once it is `addressed`."""
    # A weak model may be on another machine, which gets nothing private.
    private = request.private or situation.kept is not None
    reader = situation.session.endpoint if situation.session is not None else None
    stronger = tuple(tier.model for tier in situation.tiers[1:])
    target = situation.asked or request.target
    return changed(request, private=private, target=target, alternatives=stronger, reader=reader)


def addressed(request: ChatRequest, decision: Decision) -> ChatRequest:
    """To the one of several stronger models that the decision names: where that cannot answer, those above
    it are asked, upwards, then those below it, downwards.

    Who has read the conversation so far goes before it unless it is below; for the result of a tool always.
    """
    if decision.tier_model is None or decision.tier_model not in request.alternatives:
        return request
    stronger = request.alternatives
    place = stronger.index(decision.tier_model)
    above, below = stronger[place + 1 :], tuple(reversed(stronger[:place]))
    if decision.held == "tool_call":
        above, below = (*above, *below), ()
    return replace(request, target=decision.tier_model, alternatives=above, lesser=below)


def decide(route: Route, score: float | None, threshold: float | None, situation: Situation) -> Decision:
    """The first decision. `score` and `threshold` are None where the route names the tier, for chores,
    and for typed questions, of which the weak model says itself how sure it is."""
    if route.tier is not None and not route.ruled:
        return Decision(route.tier, Reason.FORCED)
    if route.tier is not None:
        wanted = Decision(route.tier, Reason.RULE)
    elif Need.QUESTIONS in situation.needs:
        wanted = Decision("weak", Reason.CONFIDENCE)
    elif situation.chore:
        wanted = Decision("weak", Reason.CHORE)
    else:
        assert score is not None and threshold is not None
        tier: Tier = "strong" if score >= threshold else "weak"
        wanted = Decision(tier, Reason.SCORE, score, threshold, route.router)
        session, facts = situation.session, situation.facts
        held = sessions.decide(session, score, threshold, facts) if session is not None else None
        if held is not None:
            wanted = replace(
                wanted, model=held.tier, reason=Reason.SESSION, held=held.why, held_tokens=held.tokens
            )
    if situation.unmet:
        reason = Reason.NEEDS_MEDIA if situation.unmet & MEDIA_NEEDS else Reason.NEEDS_TOOLS
        wanted = _moved(wanted, "strong", reason)
    if wanted.model == "strong" and not situation.strong_allowed:
        return _instead(wanted, situation.why_not_strong, situation)
    return _tiered(wanted, situation)


def _tiered(decision: Decision, situation: Situation) -> Decision:
    """With the one of several stronger models that the score chooses."""
    if decision.model != "strong" or not situation.tiers:
        return decision
    return replace(decision, tier_model=chosen(situation.tiers, decision.score))


def after_failure(decision: Decision, error: EdgeRouterError, situation: Situation) -> Decision | None:
    """The other model's turn, or None where `error` is the answer.

    That is so where the caller or the configuration is wrong, for no other model mends that, and where the
    program is: a mistake of ours is no reason to send a question away.
    """
    if isinstance(error, InternalError):
        shared = situation.defects_escalate
    elif isinstance(error, InvalidInput):
        shared = isinstance(error, InvalidRequest | UnsupportedTarget)
    else:
        shared = not isinstance(error, Cancelled | Closed | DuplicateName | PluginFailed)
    if not shared:
        return None
    return (_after_weak if decision.model == "weak" else _after_strong)(decision, error, situation)


def _after_weak(decision: Decision, error: EdgeRouterError, situation: Situation) -> Decision | None:
    if decision.reason is Reason.STRONG_UNAVAILABLE:
        return None
    reason = Reason.WEAK_UNAVAILABLE
    if isinstance(error, LowConfidence):
        decision, reason = replace(decision, confidence=error.chance), Reason.LOW_CONFIDENCE
    elif isinstance(error, ContextOverflow):
        reason = Reason.CONTEXT_OVERFLOW
    elif isinstance(error, InvalidRequest):  # it has been checked: only the weak model can't take it
        reason = Reason.NEEDS_TOOLS
    elif isinstance(error, OutOfMemory):
        reason = Reason.NO_MEMORY
    return escalate(decision, reason, situation)


def _after_strong(decision: Decision, error: EdgeRouterError, situation: Situation) -> Decision | None:
    if isinstance(error, InvalidRequest | StrongRefused):
        return None
    if isinstance(error, Withheld):
        return fall_back(decision, Reason.GUARD, situation)
    if isinstance(error, BudgetSpent):
        return fall_back(decision, Reason.BUDGET, situation)
    if decision.reason is Reason.CONTEXT_OVERFLOW and situation.shortens:
        return _instead(decision, Reason.STRONG_UNAVAILABLE, situation)
    return fall_back(decision, Reason.STRONG_UNAVAILABLE, situation)


def escalate(decision: Decision, reason: Reason, situation: Situation) -> Decision | None:
    """The weak model can't: the strong one instead, or None where that is not allowed."""
    if decision.model != "weak" or decision.reason is Reason.FORCED or not situation.strong_allowed:
        return None
    return _tiered(_moved(decision, "strong", reason), situation)


def fall_back(decision: Decision, reason: Reason, situation: Situation) -> Decision | None:
    """The strong model can't: the weak one instead, or None where that would be no answer.

    That is so where the caller named the strong model, where the prompt does not fit the weak one, and
    where the weak one has failed already.
    """
    final = (Reason.FORCED, Reason.CONTEXT_OVERFLOW, Reason.WEAK_UNAVAILABLE, Reason.NO_MEMORY)
    if decision.model != "strong" or decision.reason in final:
        return None
    if situation.unmet or situation.weak_refused:
        return None
    return _instead(decision, reason, situation)


# Why the strong model cannot be asked now, and could be another time; not why it must not be asked.
_PASSING = frozenset({Reason.OFFLINE, Reason.STRONG_UNAVAILABLE, Reason.BUDGET})


def _instead(decision: Decision, reason: Reason, situation: Situation) -> Decision:
    """The weak model's turn, which was to be the strong one's."""
    wanted = reason in _PASSING and not (situation.weak_only or situation.needs & LOCAL_NEEDS)
    return replace(_moved(decision, "weak", reason), would_escalate=wanted, tier_model=None)


def _moved(decision: Decision, tier: Tier, reason: Reason) -> Decision:
    """By something that goes before what the score and the conversation say."""
    return replace(decision, model=tier, reason=reason, held=None, held_tokens=None)
