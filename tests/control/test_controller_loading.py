"""Loading a model on demand: once for all who ask, heard when they leave, closed for good."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from edge_router import AsyncController, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import TextDelta
from edge_router.config.settings import Config
from edge_router.control.steps import LONG
from edge_router.engines.base import Engine
from edge_router.errors import Cancelled, Closed, EdgeRouterError, InvalidRouter, OutOfMemory
from edge_router.registry import Registry
from edge_router.routing.routers.base import Router
from edge_router.surfaces.openai.parse import parse_chat
from edge_router.system.paths import Paths

PATIENCE_S = 30
REQUEST = parse_chat({"messages": [{"role": "user", "content": "hello"}]}).request


class Depot:
    """Stands for the weak engines, the strong ones and the routers: `open_` lets loading end."""

    def __init__(self) -> None:
        self.begun, self.open_ = threading.Event(), threading.Event()
        self.open_.set()
        self.failures: list[Exception] = []
        self.made: list[ScriptedEngine] = []
        self.loads = 0

    def load(self, *arguments: object, **named: object) -> Any:
        self.loads += 1
        self.begun.set()
        assert self.open_.wait(PATIENCE_S)
        if self.failures:
            raise self.failures.pop(0)
        self.made.append(ScriptedEngine("W", model_id="made", serves=()))
        return self.made[-1]

    def router(self, *arguments: object, **named: object) -> Router:
        self.load()
        return ScriptedRouter(0.1)


@pytest.fixture
def depot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Depot]:
    depot = Depot()

    def engines() -> Registry[Engine]:
        registry: Registry[Engine] = Registry("engine")
        registry.add("openai", depot.load)
        registry.add("tvm", depot.load)
        return registry

    monkeypatch.setattr("edge_router.control.pool.weak_engines", engines)
    monkeypatch.setattr("edge_router.control.pool.strong_engines", engines)
    yield depot
    depot.open_.set()


def with_slow(tier: str, monkeypatch: pytest.MonkeyPatch, depot: Depot) -> Controller:
    """A controller that has to load its weak model, strong model or router for `REQUEST`."""
    config = Config().replace(**{"weak.engine": "tvm", "weak.device": "cpu", "weak.retry_load_s": 60})
    if tier == "weak":
        return Controller(config, router=ScriptedRouter(0.1))
    if tier == "strong":
        return Controller(config.replace(**{"strong.model": "big"}), router=ScriptedRouter(0.9))

    def routers(*arguments: object) -> Registry[Router]:
        registry: Registry[Router] = Registry("router")
        registry.add("mf", depot.router)
        return registry

    monkeypatch.setattr("edge_router.control.pool.routers", routers)
    return Controller(config, weak=ScriptedEngine("W", serves=()))


TIERS = ["weak", "strong", "router"]


def together(count: int, ask: Callable[[], object]) -> tuple[list[threading.Thread], list[object]]:
    found: list[object] = []

    def run() -> None:
        try:
            found.append(ask())
        except EdgeRouterError as error:
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, found


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE_S)


def eventually(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(PATIENCE_S * 500):
        if condition():
            return
        tick.wait(0.002)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("tier", TIERS)
def test_one_load_for_all_who_ask(tier: str, monkeypatch: pytest.MonkeyPatch, depot: Depot) -> None:
    with with_slow(tier, monkeypatch, depot) as controller:
        threads, found = together(6, lambda: controller.start(REQUEST).decision.model)
        joined(threads)
    assert len(found) == 6 and not any(isinstance(item, Exception) for item in found)
    assert depot.loads == 1


@pytest.mark.parametrize("tier", ["weak", "router"])
def test_one_failed_load_for_all_who_ask(tier: str, monkeypatch: pytest.MonkeyPatch, depot: Depot) -> None:
    wrong = OutOfMemory("tvm", "full") if tier == "weak" else InvalidRouter("r", "no")
    depot.failures = [wrong]
    with with_slow(tier, monkeypatch, depot) as controller:
        threads, found = together(6, lambda: controller.start(REQUEST))
        joined(threads)
        assert {type(item) for item in found} == {type(wrong)} and len(found) == 6
        with pytest.raises(type(wrong)):
            controller.start(REQUEST)
        assert depot.loads == 1
        controller.warm()
        answer = controller.start(REQUEST)
        assert depot.loads >= 2 and answer.decision.model == "weak"
        answer.close()


@pytest.mark.parametrize("tier", TIERS)
def test_a_cancel_is_heard_while_it_loads(tier: str, monkeypatch: pytest.MonkeyPatch, depot: Depot) -> None:
    depot.open_.clear()
    with with_slow(tier, monkeypatch, depot) as controller:
        cancel = threading.Event()
        leaving = together(1, lambda: controller.start(REQUEST, cancel))
        staying = together(1, lambda: controller.start(REQUEST).decision.model)
        assert depot.begun.wait(PATIENCE_S)
        cancel.set()
        joined(leaving[0])
        assert [type(item) for item in leaving[1]] == [Cancelled] and staying[1] == []
        depot.open_.set()
        joined(staying[0])
        assert staying[1] == ["strong" if tier == "strong" else "weak"]
    assert depot.loads == 1


def test_who_waits_for_the_weak_model_says_so_before_and_a_cancelled_answer_asks_no_model(
    monkeypatch: pytest.MonkeyPatch, depot: Depot
) -> None:
    with with_slow("weak", monkeypatch, depot) as controller:
        assert next(controller.starting(REQUEST, threading.Event())) is LONG and depot.loads == 0
    cancel = threading.Event()
    cancel.set()
    for tier in ("weak", "strong"):
        with with_slow(tier, monkeypatch, depot) as controller, pytest.raises(Cancelled):
            controller.start(REQUEST, cancel)
    assert depot.loads == 0


@pytest.mark.parametrize("tier", TIERS)
def test_closing_while_it_loads_leaves_nothing_behind(
    tier: str, monkeypatch: pytest.MonkeyPatch, depot: Depot
) -> None:
    depot.open_.clear()
    controller = with_slow(tier, monkeypatch, depot)
    threads, found = together(3, lambda: controller.start(REQUEST))
    assert depot.begun.wait(PATIENCE_S)
    controller.close()
    joined(threads)
    assert [type(item) for item in found] == [Closed] * 3
    depot.open_.set()
    if tier != "router":  # which has nothing to be closed
        eventually(lambda: [engine.closed for engine in depot.made] == [True])
    assert depot.loads == 1


CALLS: list[Callable[[Controller], object]] = [
    lambda controller: controller.start(REQUEST),
    lambda controller: controller.chat.completions.create(messages="x"),
    lambda controller: controller.chat.completions.create(messages="x", model="strong"),
    lambda controller: controller.chat.completions.create(messages="x", stream=True),
    lambda controller: controller.decision(REQUEST),
    lambda controller: controller.route("x"),
    lambda controller: controller.warm(),
    lambda controller: controller.rate(1, 1),
    lambda controller: controller.__enter__(),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("used", [False, True])
def test_closed_stays_closed(
    call: Callable[[Controller], object], used: bool, monkeypatch: pytest.MonkeyPatch, depot: Depot
) -> None:
    controller = with_slow("strong", monkeypatch, depot)
    if used:
        list(controller.start(REQUEST))
    controller.close()
    loads = depot.loads
    for _ in range(2):
        with pytest.raises(Closed):
            call(controller)
    with pytest.raises(RuntimeError):  # as other clients' users write it
        call(controller)
    assert depot.loads == loads and all(engine.closed for engine in depot.made)
    controller.close()


def test_an_answer_that_is_under_way_ends_with_the_controller() -> None:
    gate = threading.Event()
    engine = ScriptedEngine(["a", gate, "b"], serves=())
    controller = Controller(weak=engine, router=ScriptedRouter(0.1))
    answer = controller.start(REQUEST)
    next(answer)
    controller.close()
    with pytest.raises(EdgeRouterError):
        next(answer)


def test_on_an_event_loop_it_is_the_same(monkeypatch: pytest.MonkeyPatch, depot: Depot, paths: Paths) -> None:
    depot.open_.clear()

    async def main() -> None:
        client = AsyncController(with_slow("weak", monkeypatch, depot))
        leaving = asyncio.create_task(client.start(REQUEST))
        while not depot.begun.is_set():
            await asyncio.sleep(0.002)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        waiting = asyncio.create_task(client.start(REQUEST))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Closed):
            await asyncio.wait_for(waiting, PATIENCE_S)
        for call in (lambda: client.start(REQUEST), lambda: client.route("x"), client.warm):
            with pytest.raises(Closed):
                await call()

    asyncio.run(main())
    depot.open_.set()
    eventually(lambda: [engine.closed for engine in depot.made] == [True])


def test_what_a_question_may_need_is_begun_side_by_side(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal's user types while it loads; what is known to go to the strong model loads nothing here."""

    def routers(*arguments: object) -> Registry[Router]:
        registry: Registry[Router] = Registry("router")
        registry.add("mf", depot.router)
        return registry

    monkeypatch.setattr("edge_router.control.pool.routers", routers)
    config = Config().replace(**{"weak.engine": "tvm", "weak.device": "cpu", "strong.model": "big"})
    for target, loads in (("strong", 0), ("weak", 1), ("auto", 2), ("router-mf-0.5", 2)):
        depot.loads = 0
        depot.open_.clear()
        with Controller(config) as controller:
            controller.begin(target)
            controller.begin(target)  # once, however often it is asked for
            eventually(partial(lambda wanted: depot.loads == wanted, loads))
            depot.open_.set()
            if target != "strong":
                answer = controller.start(replace(REQUEST, target=target))
                assert [event.text for event in answer if isinstance(event, TextDelta)] == ["W"], target
            assert depot.loads == loads, target
