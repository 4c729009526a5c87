"""A second endpoint asked where the first is silent: one answer, the other one cancelled and paid."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import Answering
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import answered
from edge_router.engines.fleet.engine import FleetEngine, load
from edge_router.engines.fleet.hedging import ENOUGH, FirstWords
from edge_router.errors import StrongFailed, StrongInterrupted, StrongTimeout
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

Make = Callable[..., FleetEngine]
SOON = {"strong.hedge": True, "strong.hedge_after_ms": 50}
SILENT_S = 600.0  # nobody waits for that


@pytest.fixture
def settings(strong_server: Any) -> Callable[..., dict[str, object]]:
    def settings(*scripts: str, **more: object) -> dict[str, object]:
        found: dict[str, object] = {"strong.timeout_s": SILENT_S, "strong.max_retries": 0, **SOON, **more}
        for name, script in zip("abc", scripts, strict=False):
            found |= {
                f"endpoints.{name}.base_url": strong_server.url(script),
                f"endpoints.{name}.models": ["m"],
            }
        return found

    return settings


@pytest.fixture
def make(paths: Paths, settings: Callable[..., dict[str, object]]) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(*scripts: str, **more: object) -> FleetEngine:
            engine = load(Config().replace(**settings(*scripts, **more)), paths, SilentProgress())
            assert isinstance(engine, FleetEngine)
            return stack.enter_context(closing(engine))

        yield make


def run(engine: FleetEngine, **fields: Any) -> tuple[Answering, str]:
    request = ChatRequest((Message("user", "hi"),), **fields)
    who, *events = answered(engine, request, threading.Event())
    assert isinstance(who, Answering)
    return who, collect(events).text


def asked(strong_server: Any) -> list[str]:
    return [each["path"].split("/")[1] for each in strong_server.requests()]


def test_a_silent_one_is_not_waited_for(make: Make, strong_server: Any) -> None:
    fleet = make("silent", "ok", "ok")
    who, text = run(fleet)
    assert (who.endpoint, who.hedged) == ("b", ("a",)) and text.count("strong: hi") == 1
    assert asked(strong_server) == ["silent", "ok"]  # and no third one
    until = time.monotonic() + 60
    while not strong_server.requests()[0]["gone"] and time.monotonic() < until:
        time.sleep(0.01)
    assert strong_server.requests()[0]["gone"], "the one that was silent is let go"
    while any(each.in_flight for each in fleet.endpoints) and time.monotonic() < until:
        time.sleep(0.01)
    assert [(each.state, each.in_flight) for each in fleet.endpoints] == [("ready", 0)] * 3


def test_one_that_speaks_is_heard_to_its_end(make: Make, strong_server: Any) -> None:
    """However long it takes: what has begun is nobody else's."""
    who, _ = run(make("slow", "ok", **{"strong.hedge_after_ms": 60_000}))
    assert (who.endpoint, who.hedged) == ("a", ()) and asked(strong_server) == ["slow"]
    fleet = make("cut-2", "ok", **{"strong.hedge_after_ms": 60_000})
    with pytest.raises(StrongInterrupted):
        run(fleet)
    assert asked(strong_server) == ["slow", "cut-2"]


def test_failures_go_their_way(make: Make, strong_server: Any) -> None:
    for scripts, endpoint, hedged in (
        (("500", "ok"), "b", ()),  # at once, which is no silence
        (("silent", "500", "ok"), "c", ()),  # both fail, the first by its time-out
        (("silent", "silent", "ok"), "c", ()),
    ):
        fleet = make(*scripts, **{"strong.timeout_s": 1.0})
        who, text = run(fleet)
        assert who.endpoint == endpoint and who.hedged == hedged, scripts
        assert text.count("strong: hi") == 1, scripts
    with pytest.raises((StrongTimeout, StrongFailed)):
        run(make("silent", "500", **{"strong.timeout_s": 1.0}))


def test_nobody_is_asked_beside_it_unless_it_may_be(make: Make, strong_server: Any) -> None:
    for more, fields in (
        ({"strong.hedge": False}, {}),  # as it is by default
        ({"strong.hedge_after_ms": None}, {}),  # too few answers are known to tell what is usual
        ({}, {"target": "a"}),  # who names it wants no other
        ({}, {"target": "a", "lesser": ("b",)}),
        ({"endpoints.b.concurrency": 1}, {}),  # and that one is taken
    ):
        strong_server.forget()
        fleet = make("silent", "stall-1", **{**more, "strong.timeout_s": 1.0})
        cancel = threading.Event()
        if "endpoints.b.concurrency" in more:
            busy = answered(fleet, ChatRequest((Message("user", "hi"),), "b"), cancel)
            next(busy)
        before = len(asked(strong_server))
        with pytest.raises((StrongTimeout, StrongInterrupted)):
            run(fleet, **fields)
        found = asked(strong_server)[before:]
        assert found[0] == "silent", more
        if fields.get("target") == "a" and "lesser" not in fields:
            assert found == ["silent"], more
        cancel.set()


def test_what_is_usual_of_an_endpoint() -> None:
    words = FirstWords()
    for number in range(ENOUGH - 1):
        words.heard(1.0 + number / 100)
    assert words.usual_s is None
    words.heard(30.0)
    assert words.usual_s == pytest.approx(1.18)
    for _ in range(100):
        words.heard(2.0)
    assert words.usual_s == 2.0


def test_the_one_that_was_cancelled_is_paid(
    paths: Paths, settings: Callable[..., dict[str, object]], strong_server: Any
) -> None:
    """What it has read, at its own price, beside the answer at the other one's: 7 tokens in and 4 out."""
    prices = {f"endpoints.{name}.price_{way}": 1e6 for name in "ab" for way in ("in", "out")}
    config = Config().replace(**settings("silent", "ok", **prices, **{"strong.monthly_budget": 1e9}))
    with Controller(config, weak=ScriptedEngine(), router=ScriptedRouter(0.9)) as controller:
        reply = controller.chat.completions.create(messages="hello there")
        assert reply.decision.endpoint == "b"
        spending = controller.callers.purses(None).common
        assert spending is not None and spending.spent == pytest.approx(11 + 4)  # its estimate: 11 bytes
        before = len(asked(strong_server))
        controller.chat.completions.create(messages="hello there", private=True)
        assert len(asked(strong_server)) == before
