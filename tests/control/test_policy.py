"""The policy as a table, and what must hold whatever the inputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import each

from edge_router.chat.message import Message
from edge_router.chat.request import MEDIA_NEEDS, ChatRequest, Need
from edge_router.config.settings import Config
from edge_router.config.tiers import TierConfig
from edge_router.control.policy import (
    Names,
    Route,
    Situation,
    addressed,
    after_failure,
    decide,
    escalate,
    fall_back,
    own,
    parse_model,
    tiers_for,
)
from edge_router.errors import (
    BudgetSpent,
    EdgeRouterError,
    InvalidRequest,
    StrongPaused,
    StrongUnreachable,
    UnknownModel,
    UnknownName,
    Withheld,
)
from edge_router.types import Decision, Reason

NAMES = Names(routers={"mf", "length", "my-router"}, weak={"SmolLM2"}, strong={"gpt-big"})
TOOLS = frozenset({Need.TOOLS})
WITH_STRONG = Situation(strong_configured=True)
ALONE = Situation(strong_configured=False)


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("auto", Route()),
        ("weak", Route(tier="weak")),
        ("strong", Route(tier="strong")),
        ("SmolLM2", Route(tier="weak")),
        ("gpt-big", Route(tier="strong")),
        ("router-mf", Route(router="mf")),
        ("router-mf-0.116", Route(router="mf", threshold=0.116)),
        ("router-mf-0", Route(router="mf", threshold=0.0)),
        ("router-mf-1", Route(router="mf", threshold=1.0)),
        ("router-my-router", Route(router="my-router")),
        ("router-my-router-1e-3", None),
        ("router-my-router-0.5", Route(router="my-router", threshold=0.5)),
        ("auto:latest", Route()),
        ("SmolLM2:latest", Route(tier="weak")),
        ("router-mf-0.116:latest", Route(router="mf", threshold=0.116)),
        ("nothing:latest", None),
    ],
)
def test_model_names(name: str, route: Route | None) -> None:
    if route is None:  # a threshold in exponent form would be split at its own minus sign
        with pytest.raises(UnknownName):
            parse_model(name, NAMES)
    else:
        assert parse_model(name, NAMES) == route


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (Situation(strong_configured=True, budget_spent=True), Reason.BUDGET),
        (Situation(strong_configured=True, budget_spent=True, needs=TOOLS), Reason.BUDGET),
        (Situation(strong_configured=True, budget_spent=True, private=True), Reason.PRIVATE),
        (Situation(strong_configured=True, budget_spent=True, offline=True), Reason.OFFLINE),
        (Situation(strong_configured=False, budget_spent=True), Reason.STRONG_UNAVAILABLE),
    ],
)
def test_when_the_money_is_spent_the_weak_model_answers(situation: Situation, reason: Reason) -> None:
    found = decide(Route(router="mf"), 0.9, 0.5, situation)
    assert (found.model, found.reason, found.score) == ("weak", reason, 0.9)
    weak = Decision("weak", Reason.SCORE, 0.1, 0.5, "mf")
    assert decide(Route(router="mf"), 0.1, 0.5, Situation(True, budget_spent=True)) == weak
    assert escalate(weak, Reason.CONTEXT_OVERFLOW, Situation(True, budget_spent=True)) is None


@pytest.mark.parametrize("number", ["1.01", "-0.5", "nan", "inf", "half", "2"])
def test_a_threshold_outside_its_range_is_refused(number: str) -> None:
    with pytest.raises((InvalidRequest, UnknownName)):
        parse_model(f"router-mf-{number}", NAMES)


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownModel) as caught:
        parse_model("SmolLM3", NAMES)
    assert caught.value.nearest == ("SmolLM2",)
    with pytest.raises(UnknownName) as router:
        parse_model("router-lenght-0.5", NAMES)
    assert router.value.nearest == ("length",)


@pytest.mark.parametrize(
    ("score", "situation", "model", "reason"),
    [
        (0.4, WITH_STRONG, "weak", Reason.SCORE),
        (0.5, WITH_STRONG, "strong", Reason.SCORE),
        (0.9, WITH_STRONG, "strong", Reason.SCORE),
        (0.4, ALONE, "weak", Reason.SCORE),
        (0.9, ALONE, "weak", Reason.STRONG_UNAVAILABLE),
        (0.9, Situation(strong_configured=True, offline=True), "weak", Reason.OFFLINE),
        (0.9, Situation(strong_configured=False, offline=True), "weak", Reason.OFFLINE),
        (0.9, Situation(strong_configured=True, private=True), "weak", Reason.PRIVATE),
        (0.9, Situation(strong_configured=True, private=True, offline=True), "weak", Reason.PRIVATE),
        (0.1, Situation(strong_configured=True, private=True), "weak", Reason.SCORE),
        (0.1, Situation(strong_configured=True, needs=TOOLS), "strong", Reason.NEEDS_TOOLS),
        (0.1, Situation(True, needs=TOOLS, weak_serves=TOOLS), "weak", Reason.SCORE),
        (0.1, Situation(False, needs=TOOLS), "weak", Reason.STRONG_UNAVAILABLE),
        (0.1, Situation(True, needs=frozenset({Need.JSON}), weak_serves=TOOLS), "strong", Reason.NEEDS_TOOLS),
        (0.1, Situation(True, needs=frozenset({Need.IMAGES})), "strong", Reason.NEEDS_MEDIA),
        (0.1, Situation(True, needs=TOOLS | {Need.AUDIO}), "strong", Reason.NEEDS_MEDIA),
        (
            0.1,
            Situation(True, needs=TOOLS | {Need.FILES}, weak_serves=MEDIA_NEEDS),
            "strong",
            Reason.NEEDS_TOOLS,
        ),
        (0.1, Situation(True, needs=frozenset({Need.MASK})), "weak", Reason.SCORE),
        (0.9, Situation(True, needs=frozenset({Need.MASK})), "weak", Reason.STRONG_UNAVAILABLE),
        (0.9, Situation(True, needs=frozenset({Need.GRAMMAR})), "weak", Reason.STRONG_UNAVAILABLE),
        (0.1, Situation(True, needs=TOOLS | {Need.GRAMMAR}), "weak", Reason.STRONG_UNAVAILABLE),
        (0.1, Situation(True, private=True, needs=TOOLS), "weak", Reason.PRIVATE),
    ],
)
def test_first_decision(score: float, situation: Situation, model: str, reason: Reason) -> None:
    decision = decide(Route(router="mf"), score, 0.5, situation)
    assert replace(decision, would_escalate=False) == Decision(model, reason, score, 0.5, "mf")  # type: ignore[arg-type]


AUTO, RULED = Route(router="mf"), Route(tier="strong", ruled=True)


@each(
    "route, score, situation, would",
    [
        (AUTO, 0.9, Situation(True, offline=True), True),
        (AUTO, 0.9, Situation(True, budget_spent=True), True),
        (AUTO, 0.9, ALONE, True),
        (AUTO, 0.1, Situation(False, needs=TOOLS), True),
        (RULED, None, Situation(True, offline=True), True),
        (AUTO, 0.9, WITH_STRONG, False),
        (AUTO, 0.1, Situation(True, offline=True), False),
        (AUTO, 0.9, Situation(True, private=True), False),
        (AUTO, 0.9, Situation(True, private=True, offline=True), False),
        (AUTO, 0.9, Situation(True, kept=Reason.RULE, offline=True), False),
        (AUTO, 0.9, Situation(True, kept=Reason.GUARD), False),
        (AUTO, 0.9, Situation(True, weak_only=True), False),
        (AUTO, 0.9, Situation(True, weak_only=True, offline=True), False),
        (AUTO, 0.9, Situation(True, needs=frozenset({Need.GRAMMAR})), False),
        (Route(tier="weak"), None, Situation(True, offline=True), False),
        (Route(tier="weak", ruled=True), None, Situation(True, offline=True), False),
    ],
)
def test_who_would_have_escalated(
    route: Route, score: float | None, situation: Situation, would: bool
) -> None:
    assert decide(route, score, None if score is None else 0.5, situation).would_escalate is would


def test_a_named_tier_is_taken_without_a_score() -> None:
    assert decide(Route(tier="weak"), None, None, WITH_STRONG) == Decision("weak", Reason.FORCED)
    assert decide(Route(tier="strong"), None, None, ALONE) == Decision("strong", Reason.FORCED)


WEAK = Decision("weak", Reason.SCORE, 0.1, 0.5, "mf")
STRONG = Decision("strong", Reason.SCORE, 0.9, 0.5, "mf")


@each(
    "error, would",
    [
        (StrongUnreachable("http://there", "refused"), True),
        (StrongPaused("http://there", "it is at its limit", 3.0), True),
        (BudgetSpent(1.0), True),
        (Withheld(("a key",)), False),
    ],
)
def test_who_would_have_escalated_after_a_failure(error: EdgeRouterError, would: bool) -> None:
    for reason in (Reason.SCORE, Reason.LOW_CONFIDENCE, Reason.RULE):
        other = after_failure(replace(STRONG, reason=reason), error, WITH_STRONG)
        assert other is not None and other.would_escalate is would, reason


@pytest.mark.parametrize(
    ("decision", "situation", "allowed"),
    [
        (WEAK, WITH_STRONG, True),
        (WEAK, ALONE, False),
        (WEAK, Situation(True, offline=True), False),
        (WEAK, Situation(True, private=True), False),
        (Decision("weak", Reason.FORCED), WITH_STRONG, False),
        (STRONG, WITH_STRONG, False),
    ],
)
def test_escalation(decision: Decision, situation: Situation, allowed: bool) -> None:
    other = escalate(decision, Reason.WEAK_UNAVAILABLE, situation)
    assert (other is not None) == allowed
    if other is not None:
        assert (other.model, other.reason, other.score) == ("strong", Reason.WEAK_UNAVAILABLE, decision.score)


@pytest.mark.parametrize(
    ("reason", "situation", "allowed"),
    [
        (Reason.SCORE, WITH_STRONG, True),
        (Reason.NEEDS_TOOLS, WITH_STRONG, True),
        (Reason.NEEDS_TOOLS, Situation(True, needs=TOOLS), False),
        (Reason.NEEDS_TOOLS, Situation(True, needs=TOOLS, weak_serves=TOOLS), True),
        (Reason.NEEDS_MEDIA, Situation(True, needs=frozenset({Need.FILES})), False),
        (Reason.NEEDS_TOOLS, Situation(True, weak_refused=True), False),
        (Reason.FORCED, WITH_STRONG, False),
        (Reason.CONTEXT_OVERFLOW, WITH_STRONG, False),
        (Reason.WEAK_UNAVAILABLE, WITH_STRONG, False),
    ],
)
def test_fallback(reason: Reason, situation: Situation, allowed: bool) -> None:
    other = fall_back(Decision("strong", reason, 0.9, 0.5, "mf"), Reason.STRONG_UNAVAILABLE, situation)
    assert (other is not None) == allowed
    if other is not None:
        assert (other.model, other.reason) == ("weak", Reason.STRONG_UNAVAILABLE)


needs = st.frozensets(st.sampled_from(Need))
situations = st.builds(
    Situation,
    strong_configured=st.booleans(),
    offline=st.booleans(),
    private=st.booleans(),
    needs=needs,
    weak_serves=needs,
    weak_refused=st.booleans(),
)
unit = st.floats(0, 1)


@given(unit, unit, situations)
def test_nothing_leaves_the_machine_unless_it_may(
    score: float, threshold: float, situation: Situation
) -> None:
    decision = decide(Route(router="mf"), score, threshold, situation)
    if situation.private or situation.offline or not situation.strong_configured:
        assert decision.model == "weak"
        assert escalate(decision, Reason.WEAK_UNAVAILABLE, situation) is None


@given(unit, unit, unit, situations)
def test_a_higher_score_never_turns_strong_into_weak(
    low: float, high: float, threshold: float, situation: Situation
) -> None:
    low, high = sorted((low, high))
    if decide(Route(router="mf"), low, threshold, situation).model == "strong":
        assert decide(Route(router="mf"), high, threshold, situation).model == "strong"


TIERS = tuple(
    TierConfig(at, model) for at, model in ((0, "weak"), (0.3, "small"), (0.6, "big"), (0.9, "huge"))
)
TIERED = Situation(strong_configured=True, tiers=TIERS)


@each(
    "score, threshold, more, model, order",
    (
        (0.29, 0.3, {}, "weak", ()),
        (0.3, 0.3, {}, "strong", ("small", "big", "huge")),
        (0.6, 0.3, {}, "strong", ("big", "huge", "small")),
        (0.95, 0.3, {}, "strong", ("huge", "big", "small")),
        (0.65, 0.7, {}, "weak", ()),  # a budget has raised it
        (0.75, 0.7, {}, "strong", ("big", "huge", "small")),
        (0.1, 0.3, {"needs": TOOLS}, "strong", ("small", "big", "huge")),
        (0.7, 0.3, {"needs": TOOLS}, "strong", ("big", "huge", "small")),
        (0.95, 0.3, {"private": True}, "weak", ()),
        (0.95, 0.3, {"offline": True}, "weak", ()),
        (0.95, 0.3, {"budget_spent": True}, "weak", ()),
    ),
)
def test_the_score_chooses_among_more_than_two(
    score: float, threshold: float, more: dict[str, object], model: str, order: tuple[str, ...]
) -> None:
    situation = replace(TIERED, **more)  # type: ignore[arg-type]
    decision = decide(Route(), score, threshold, situation)
    asked = addressed(own(ChatRequest((Message("user", "hi"),)), situation), decision)
    assert decision.model == model and decision.tier_model == (order[0] if order else None)
    if order:
        assert (asked.target, *asked.alternatives, *asked.lesser) == order
    else:
        assert asked.target == "auto"


def test_who_steps_in_where_there_are_more_than_two() -> None:
    """For the weak model the one above it, or the one that the score chose; for all of those the weak one."""
    weak = decide(Route(), 0.1, 0.3, TIERED)
    higher = escalate(weak, Reason.LOW_CONFIDENCE, TIERED)
    assert higher is not None and higher.tier_model == "small"
    back = fall_back(decide(Route(), 0.95, 0.3, TIERED), Reason.STRONG_UNAVAILABLE, TIERED)
    assert back is not None and (back.model, back.tier_model, back.would_escalate) == ("weak", None, True)


def test_tiers_are_of_the_configured_router() -> None:
    config = Config().replace(
        **{
            "endpoints.a.models": ["small", "big"],
            "tiers": [{"at": 0, "model": "weak"}, {"at": 0.3, "model": "small"}, {"at": 0.6, "model": "big"}],
        }
    )
    assert [tier.model for tier in config.tiers] == ["weak", "small", "big"]
    for name, applies in (
        ("auto", True),
        ("router-mf", True),
        ("router-mf-0.116", False),  # of two models, as ever
        ("router-length", False),
        ("weak", False),
        ("strong", False),
        ("gpt-big", False),
    ):
        assert bool(tiers_for(parse_model(name, NAMES), config)) is applies, name


def test_tiers_are_those_that_a_caller_may_use() -> None:
    """What it may not use answers nothing, so that the answer of another one would stand in for it."""
    told = {
        "strong.model": "own",
        "endpoints.a.models": ["small", "big"],
        "endpoints.b.models": ["big"],
        "endpoints.b.tags": ["eu"],
    }
    config = Config().replace(tiers="0:weak, 0.2:own, 0.3:small, 0.6:big, 0.9:eu", **told)
    for among, left in (
        ((), ["weak", "own", "small", "big", "eu"]),
        (("small",), ["weak", "small"]),
        (("a",), ["weak", "small"]),  # whose first model that means
        (("big",), ["weak", "big", "eu"]),
        (("b",), ["weak", "big", "eu"]),
        (("eu", "own"), ["weak", "own", "big", "eu"]),
        (("else",), []),
    ):
        assert [tier.model for tier in tiers_for(Route(), config, among)] == left, among
