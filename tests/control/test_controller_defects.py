"""A mistake in the program sends no question elsewhere, loses no answer, and never hides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_router import AsyncController, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import Event, Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.defects import recorded
from edge_router.engines.base import Engine, Prompt
from edge_router.errors import (
    ArtifactCorrupt,
    BuildFailed,
    ConfigError,
    DuplicateName,
    EngineUnavailable,
    GenerationFailed,
    InternalError,
    InvalidModel,
    InvalidRouter,
    OutOfMemory,
    PluginFailed,
    StrongFailed,
    StrongUnreachable,
    UnknownModel,
    UnknownName,
    UnsupportedTarget,
    WeightsUnavailable,
)
from edge_router.ledger import Ledger, message_of
from edge_router.registry import Registry
from edge_router.routing.confidence.gate import Gate
from edge_router.system.paths import Paths
from edge_router.types import Cancel

HI = "a question about my diary"
MISTAKES = [
    TypeError("my diary"),
    KeyError("my diary"),
    ValueError("my diary"),
    RuntimeError("my diary"),
    AssertionError(),
    RecursionError(),
    OSError(2, "my diary"),
    StopIteration(),
    ModuleNotFoundError("my diary"),
]


def weak(*replies: Any) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", serves=())


def strong(*replies: Any) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="big")


class Broken(ScriptedEngine):
    """Makes a mistake in one of its methods."""

    def __init__(self, where: str, mistake: Exception) -> None:
        super().__init__(model_id="small", serves=(), context_window_size=99)
        self.where, self.mistake = where, mistake

    def _broken(self, where: str) -> None:
        if where == self.where:
            raise self.mistake

    def prepare(self, request: ChatRequest) -> Prompt:
        self._broken("prepare")
        return Prompt(request, 1)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        self._broken("stream")
        return self._deltas()

    def _deltas(self) -> Iterator[Event]:
        self._broken("first delta")
        yield from (TextDelta("W"), Finished("stop"))


WHERE = ["prepare", "stream", "first delta"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: type(mistake).__name__)
@pytest.mark.parametrize("where", WHERE)
def test_no_mistake_of_the_local_engine_sends_a_question_away(
    where: str, mistake: Exception, paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    big = strong()
    with Controller(weak=Broken(where, mistake), strong=big, router=ScriptedRouter(0.1)) as controller:
        for _ in range(3):
            with pytest.raises(InternalError) as caught:
                controller.chat.completions.create(messages=HI)
            assert caught.value.component == "weak model" and "diary" not in str(caught.value)
        rendered = controller.metrics.render()
    assert big.calls == []
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert "edge_router_defects_total" in rendered and "} 3" in rendered
    (defect,) = recorded(paths.defects)
    assert (defect.component, defect.count) == ("weak model", 3)
    assert "diary" not in paths.defects.read_text(encoding="utf-8")
    assert [record.error for record in Ledger(paths.ledger).recent()] == ["InternalError"] * 3


@pytest.mark.parametrize("where", WHERE)
def test_unless_the_user_wants_an_answer_all_the_same(where: str, paths: Paths) -> None:
    settings: dict[str, Any] = {"router": ScriptedRouter(0.1), "weak__on_defect": "escalate"}
    with Controller(weak=Broken(where, TypeError("x")), strong=strong("S"), **settings) as controller:
        reply = controller.chat.completions.create(messages=HI)
        assert (reply.text, str(reply.decision.reason)) == ("S", "weak_unavailable")
        assert isinstance(reply.fallback_cause, InternalError)
        with pytest.raises(InternalError):
            controller.chat.completions.create(messages=HI, private=True)
    assert recorded(paths.defects)[0].count == 2, "it is no less a mistake"


def test_a_mistake_of_the_strong_engine_is_no_reason_to_ask_the_weak_one() -> None:
    small = weak()
    with Controller(weak=small, strong=strong(TypeError("x")), router=ScriptedRouter(0.9)) as controller:
        with pytest.raises(InternalError, match="strong model: TypeError"):
            controller.chat.completions.create(messages=HI)
    assert small.calls == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: type(mistake).__name__)
def test_a_mistake_of_the_router_asks_nobody(mistake: Exception) -> None:
    class Lost(ScriptedRouter):
        def score(self, messages: Sequence[Message]) -> float:
            raise mistake

    small, big = weak(), strong()
    with Controller(weak=small, strong=big, router=Lost(0.5)) as controller:
        for ask in (lambda: controller.chat.completions.create(messages=HI), lambda: controller.route(HI)):
            with pytest.raises(InternalError, match="in the router"):
                ask()
    assert small.calls == big.calls == []


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1, float("inf"), None, "0.5"])
def test_a_score_that_is_none_decides_nothing(score: Any) -> None:
    class Odd(ScriptedRouter):
        def score(self, messages: Sequence[Message]) -> Any:
            return score

    with Controller(weak=weak(), strong=strong(), router=Odd(0.5)) as controller:
        with pytest.raises(InvalidRouter):
            controller.chat.completions.create(messages=HI)


def test_a_mistake_of_the_gate_sends_nothing_away() -> None:
    class Loose(Gate):
        def chance(self, state: Sequence[float], logprobs: Sequence[float]) -> float | None:
            raise ZeroDivisionError

    head: Any = None
    gate, big = Loose(0, (), head, head, head), strong()
    settings: dict[str, Any] = {"router": ScriptedRouter(0.1), "weak__min_confidence": 0.5}
    with Controller(weak=weak("W"), strong=big, gate=gate, **settings) as controller:
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            controller.chat.completions.create(messages=HI)
    assert big.calls == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: type(mistake).__name__)
def test_a_mistake_while_loading_sends_nothing_away(
    mistake: Exception, monkeypatch: pytest.MonkeyPatch, paths: Paths
) -> None:
    def engines() -> Registry[Engine]:
        def load(config: Config, paths: Paths, progress: object) -> Engine:
            raise mistake

        registry: Registry[Engine] = Registry("weak engine")
        registry.add("tvm", load)
        return registry

    monkeypatch.setattr("edge_router.control.pool.weak_engines", engines)
    big = strong()
    settings: dict[str, Any] = {"router": ScriptedRouter(0.1), "weak__engine": "tvm", "weak__device": "cpu"}
    with Controller(strong=big, **settings) as controller:
        for _ in range(2):
            with pytest.raises(InternalError, match="weak model") as caught:
                controller.chat.completions.create(messages=HI)
            assert caught.value.kind == type(mistake).__name__
    assert big.calls == []
    assert recorded(paths.defects)[0].count == 2


ON_PURPOSE = [
    (GenerationFailed("tvm", "boom"), "weak_unavailable"),
    (EngineUnavailable("tvm", "no"), "weak_unavailable"),
    (OutOfMemory("tvm", "full"), "no_memory"),
    (WeightsUnavailable("a wheel", "no network"), "weak_unavailable"),
    (BuildFailed("m", "link", "no"), "weak_unavailable"),
    (ArtifactCorrupt(Path("a"), "short"), "weak_unavailable"),
    (UnsupportedTarget("llvm", "no such feature"), "weak_unavailable"),
]


@pytest.mark.parametrize(("error", "reason"), ON_PURPOSE, ids=lambda value: type(value).__name__)
def test_what_an_engine_raises_on_purpose_escalates_and_says_why(
    error: Exception, reason: str, paths: Paths
) -> None:
    with Controller(weak=weak(error), strong=strong("S"), router=ScriptedRouter(0.1)) as controller:
        reply = controller.chat.completions.create(messages=HI)
    assert (reply.text, str(reply.decision.reason), reply.fallback_cause) == ("S", reason, error)
    (record,) = Ledger(paths.ledger).recent()
    assert (record.cause, record.cause_message) == (type(error).__name__, str(error))
    assert recorded(paths.defects) == ()


MISCONFIGURED = [
    ConfigError("weak.threads", 0, "must be at least 1"),
    UnknownName("quantization", "q5", ("q4f16_1",)),
    UnknownModel("smol", ("SmolLM2",)),
    InvalidModel("m", "no config.json"),
    DuplicateName("weak engine", "x", ("a", "b")),
    PluginFailed("edge_router.weak_engines", "x", "a-package", "TypeError: x"),
]


@pytest.mark.parametrize("error", MISCONFIGURED, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("tier", ["weak", "strong"])
def test_a_wrong_configuration_is_said_and_not_answered_by_the_other_model(
    tier: str, error: Exception
) -> None:
    small = weak(error) if tier == "weak" else weak()
    big = strong(error) if tier == "strong" else strong()
    score = 0.1 if tier == "weak" else 0.9
    with Controller(weak=small, strong=big, router=ScriptedRouter(score)) as controller:
        with pytest.raises(type(error)):
            controller.chat.completions.create(messages=HI)
    assert (big if tier == "weak" else small).calls == []


@pytest.mark.integration
@pytest.mark.parametrize("part", ["ledger", "metrics", "spending", "share"])
def test_a_mistake_of_what_only_watches_loses_no_answer_and_does_not_hide(
    part: str, paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = {
        "ledger": "edge_router.ledger.book.row_of",
        "metrics": "edge_router.metrics.counters.Metrics.record",
        "spending": "edge_router.routing.thresholds.spending.Spending.settle",
        "share": "edge_router.routing.thresholds.tracking.ShareTracker.observe",
    }[part]

    def broken(*arguments: object, **named: object) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr(place, broken)
    overrides: dict[str, object] = {"strong.model": "big"}
    if part == "spending":
        overrides |= {"strong.monthly_budget": 5.0, "strong.price_in": 1.0, "strong.price_out": 1.0}
    elif part == "share":
        overrides |= {"router.strong_share": 0.5}
    config = Config().replace(**overrides)
    with Controller(config, weak=weak(), strong=strong("S", "S"), router=ScriptedRouter(0.9)) as controller:
        assert controller.chat.completions.create(messages=HI).text == "S"
        stream = controller.chat.completions.create(messages=HI, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "S"
        assert "edge_router_defects_total" in controller.metrics.render()
    assert sum(defect.count for defect in recorded(paths.defects)) == 2
    assert "a mistake" in caplog.text


def test_on_an_event_loop_it_is_the_same() -> None:
    big = strong()

    async def main() -> None:
        engine = Broken("first delta", TypeError("x"))
        async with AsyncController(weak=engine, strong=big, router=ScriptedRouter(0.1)) as client:
            with pytest.raises(InternalError):
                await client.chat.completions.create(messages=HI)

    asyncio.run(main())
    assert big.calls == []


@pytest.mark.parametrize(
    ("error", "texts", "said"),
    [
        (StrongUnreachable("http://x/v1", "refused"), ["hello"], "http://x/v1: refused"),
        (
            StrongFailed("http://x", 400, "cannot say: my deepest secret is here"),
            ["My deepest secret"],
            "...",
        ),
        (StrongFailed("http://x", 400, "hello\n big world"), ["say hello   big world now"], "HTTP 400:..."),
        (GenerationFailed("e", "key sk-1234567890abcdefghij"), [], "failed while generating: key ..."),
        (GenerationFailed("e", "http://me:pass@host/ was refused"), [], "http:...host/ was refused"),
        (GenerationFailed("e", "the pin 1234"), ["1234"], "the pin ..."),
        (GenerationFailed("e", "x" * 1000), ["y"], "xxx"),
        (GenerationFailed("e", "half \ud800"), ["\ud800\ud800"], "half"),
    ],
)
def test_the_ledger_keeps_what_was_said_without_the_prompt(
    error: Exception, texts: list[str], said: str
) -> None:
    found = message_of(error, texts)
    assert said in found and len(found) <= 300
    assert not any(text.lower() in found.lower() for text in texts)
    assert not any(secret in found for secret in ("sk-12", "pass", "deepest"))
