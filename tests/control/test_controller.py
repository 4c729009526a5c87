"""Score, decide, generate, with scripted models: who answers, why, and what is never done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge_router.api.client import Controller
from edge_router.chat.events import Event, TextDelta
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, Need, TokenMask, Tool, Vocabulary
from edge_router.config.settings import Config
from edge_router.engines.base import Capabilities, Prompt
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import (
    Cancelled,
    Closed,
    ContextOverflow,
    EdgeRouterError,
    GenerationFailed,
    InternalError,
    InvalidRequest,
    OutOfMemory,
    StrongEmpty,
    StrongFailed,
    StrongInterrupted,
    StrongNotConfigured,
    StrongQuotaExceeded,
    StrongRefused,
    StrongUnauthorized,
    StrongUnreachable,
    UnknownModel,
    UnsupportedRequest,
    WeightsUnavailable,
)
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.surfaces.openai.parse import parse_chat
from edge_router.types import Reason


def weak(*replies: Reply, window: int | None = None) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", serves=(), context_window_size=window)


def strong(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="big")


EASY, HARD = 0.1, 0.9
HELLO = [{"role": "user", "content": "hello there"}]


def ask(controller: Controller, **fields: object) -> tuple[str, str, str]:
    """Text, answering model and reason."""
    reply = controller.chat.completions.create(**{"messages": HELLO, **fields})  # type: ignore[call-overload]
    assert reply.decision.model == {"small": "weak", "big": "strong"}[reply.model]
    return reply.text, reply.model, str(reply.decision.reason)


@pytest.mark.parametrize(("score", "model"), [(EASY, "small"), (HARD, "big"), (0.5, "big")])
def test_the_score_decides(score: float, model: str) -> None:
    router = ScriptedRouter(score)
    with Controller(weak=weak("W"), strong=strong("S"), router=router) as controller:
        assert ask(controller) == ("W" if model == "small" else "S", model, "score")
    assert [message.text for message in router.calls[0]] == ["hello there"]


def test_the_threshold_in_the_name_comes_before_all_others() -> None:
    config = Config.load(environ={}, overrides={"router.threshold": 0.95})
    with Controller(config, weak=weak(), strong=strong(), router=ScriptedRouter(HARD)) as controller:
        assert controller.route("x").model == "weak"
        assert controller.route("x", model="router-scripted-0.2").model == "strong"
        assert controller.route("x", model="router-scripted").threshold == 0.95


def test_a_decision_says_all() -> None:
    with Controller(weak=weak(), router=ScriptedRouter(HARD)) as controller:
        decision = controller.route("x")
    assert decision.to_dict() == {
        "score": 0.9,
        "threshold": 0.5,
        "model": "weak",
        "reason": "strong_unavailable",
        "would_escalate": True,
    }
    assert decision.router == "scripted"


def test_routing_needs_neither_model() -> None:
    small, big = weak(), strong()
    with Controller(weak=small, strong=big, router=ScriptedRouter(HARD)) as controller:
        controller.route("x")
    assert small.calls == big.calls == []


def test_no_strong_model_means_the_weak_one_answers() -> None:
    with Controller(weak=weak("W"), router=ScriptedRouter(HARD)) as controller:
        assert ask(controller) == ("W", "small", "strong_unavailable")


@pytest.mark.parametrize(
    "error",
    [
        StrongUnreachable("http://x", "refused"),
        StrongUnauthorized("http://x", 401, "OPENAI_API_KEY"),
        StrongFailed("http://x", 500, "oops"),
        StrongQuotaExceeded("http://x", 429, "no credits"),
        StrongEmpty("http://x"),
    ],
)
def test_a_strong_model_that_fails_before_its_first_token_is_replaced(error: EdgeRouterError) -> None:
    with Controller(weak=weak("W"), strong=strong(error), router=ScriptedRouter(HARD)) as controller:
        answer = controller.start(parse_chat({"messages": HELLO}).request)
        assert collect(answer).text == "W"
        assert answer.decision.reason is Reason.STRONG_UNAVAILABLE
        assert answer.fallback_cause is error


def test_a_strong_model_that_refuses_what_is_configured_is_not_replaced() -> None:
    error = StrongRefused("http://x", 404, "model", "no such model")
    small = weak("W", window=8)
    with Controller(weak=small, strong=strong(error), router=ScriptedRouter(HARD)) as controller:
        with pytest.raises(StrongRefused):
            ask(controller)
        assert small.calls == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (GenerationFailed("tvm", "boom"), Reason.WEAK_UNAVAILABLE),
        (WeightsUnavailable("a wheel", "no network"), Reason.WEAK_UNAVAILABLE),
        (OutOfMemory("tvm", "full"), Reason.NO_MEMORY),
        (ContextOverflow(9, 8), Reason.CONTEXT_OVERFLOW),
    ],
)
def test_a_weak_model_that_fails_before_its_first_token_is_replaced(error: Exception, reason: Reason) -> None:
    with Controller(weak=weak(error), strong=strong("S"), router=ScriptedRouter(EASY)) as controller:
        assert ask(controller) == ("S", "big", str(reason))


def test_a_prompt_that_does_not_fit_is_escalated_before_the_weak_model_is_asked() -> None:
    small = weak(window=4)
    long = [{"role": "user", "content": "one two three four five"}]
    with Controller(weak=small, strong=strong("S"), router=ScriptedRouter(EASY)) as controller:
        assert ask(controller, messages=long) == ("S", "big", "context_overflow")
    assert small.calls == []
    with (
        Controller(weak=small, router=ScriptedRouter(EASY)) as controller,
        pytest.raises(ContextOverflow) as caught,
    ):
        ask(controller, messages=long)
    assert caught.value.over_by == 2


LONG = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one two three"},
    {"role": "assistant", "content": "four five six"},
    {"role": "user", "content": "seven eight"},
]


def test_a_conversation_that_outgrows_the_context_escalates_where_that_is_possible() -> None:
    small = weak(window=8)
    with Controller(weak=small, strong=strong("S"), router=ScriptedRouter(EASY)) as controller:
        answer = controller.start(parse_chat({"messages": LONG}).request)
        assert (answer.decision.reason, answer.truncated) == (Reason.CONTEXT_OVERFLOW, 0)
        answer.close()
    assert small.calls == []


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"overflow": "truncate"}, {}),
        ({}, {"model": "weak"}),
        ({}, {"private": True}),
        ({"offline": True}, {}),
    ],
    ids=["asked for", "named", "private", "offline"],
)
def test_else_its_oldest_turns_are_left_out_and_it_is_told(
    settings: dict[str, object], fields: dict[str, object]
) -> None:
    small = weak("W", window=8)
    given = {key if key == "offline" else f"weak__{key}": value for key, value in settings.items()}
    router = ScriptedRouter(EASY)
    with Controller(weak=small, strong=strong("S"), router=router, **given) as controller:  # type: ignore[arg-type]
        request = parse_chat({"messages": LONG, "model": fields.get("model", "auto")}).request
        answer = controller.start(replace(request, private=bool(fields.get("private"))))
        assert collect(answer).text == "W"
    assert answer.truncated == 2
    assert [message.text for message in small.calls[0].messages] == ["be brief", "seven eight"]
    assert answer.request is not small.calls[0], "the ledger keeps what was asked"


def test_a_strong_model_that_cannot_be_reached_leaves_the_shortened_conversation_here() -> None:
    error = StrongUnreachable("http://x", "refused")
    with Controller(
        weak=weak("W", window=8), strong=strong(error), router=ScriptedRouter(EASY)
    ) as controller:
        answer = controller.start(parse_chat({"messages": LONG}).request)
        assert (answer.decision.model, answer.decision.reason) == ("weak", Reason.STRONG_UNAVAILABLE)
        assert (answer.truncated, answer.fallback_cause) == (2, error)
        answer.close()


def test_escalate_alone_never_shortens() -> None:
    small = weak(window=8)
    settings = {"router": ScriptedRouter(EASY), "weak__overflow": "escalate"}
    with Controller(weak=small, **settings) as alone, pytest.raises(ContextOverflow):  # type: ignore[arg-type]
        ask(alone, messages=LONG)
    big = strong(StrongUnreachable("http://x", "refused"))
    with (
        Controller(weak=small, strong=big, **settings) as controller,  # type: ignore[arg-type]
        pytest.raises(StrongUnreachable),
    ):
        ask(controller, messages=LONG)
    assert small.calls == []


def test_after_the_first_token_nothing_is_spliced() -> None:
    cut = strong(["Par", StrongInterrupted("http://x", "cut off")])
    small = weak("W")
    with Controller(weak=small, strong=cut, router=ScriptedRouter(HARD)) as controller:
        answer = controller.start(parse_chat({"messages": HELLO}).request)
        texts = []
        with pytest.raises(StrongInterrupted):
            for event in answer:
                texts.append(event.text)
    assert texts == ["Par"]
    assert small.calls == []


def test_both_failing_raises_the_second_with_the_first_as_its_cause() -> None:
    first, second = StrongUnreachable("http://x", "refused"), GenerationFailed("tvm", "boom")
    with Controller(weak=weak(second), strong=strong(first), router=ScriptedRouter(HARD)) as controller:
        with pytest.raises(GenerationFailed) as caught:
            ask(controller)
    assert caught.value.__cause__ is first
    with Controller(weak=weak(second), strong=strong(first), router=ScriptedRouter(EASY)) as back:
        with pytest.raises(StrongUnreachable) as other:
            ask(back)
    assert other.value.__cause__ is second


@pytest.mark.parametrize("model", ["strong", "big"])
def test_a_named_model_is_never_replaced(model: str) -> None:
    error = StrongUnreachable("http://x", "refused")
    small, router = weak("W"), ScriptedRouter(EASY)
    with (
        Controller(weak=small, strong=strong(error), router=router) as controller,
        pytest.raises(StrongUnreachable),
    ):
        ask(controller, model=model)
    assert small.calls == []
    assert router.calls == []


def test_the_strong_model_named_but_not_configured() -> None:
    with (
        Controller(weak=weak(), router=ScriptedRouter(EASY)) as controller,
        pytest.raises(StrongNotConfigured),
    ):
        ask(controller, model="strong")


def test_private_never_reaches_the_strong_model() -> None:
    big = strong()
    small = weak("W", GenerationFailed("tvm", "boom"))
    with Controller(weak=small, strong=big, router=ScriptedRouter(HARD)) as controller:
        assert ask(controller, private=True) == ("W", "small", "private")
        with pytest.raises(GenerationFailed):
            ask(controller, private=True)
        with pytest.raises(InvalidRequest, match="leave this machine"):
            ask(controller, private=True, model="strong")
    assert big.calls == []


def test_offline_never_reaches_the_strong_model() -> None:
    big = strong()
    with Controller(weak=weak("W"), strong=big, router=ScriptedRouter(HARD), offline=True) as controller:
        assert ask(controller) == ("W", "small", "offline")
        with pytest.raises(InvalidRequest, match="leave this machine"):
            ask(controller, model="strong")
    assert big.calls == []


def test_tools_go_to_the_strong_model_with_all_that_belongs_to_them() -> None:
    big = strong("S")
    tools = [{"type": "function", "function": {"name": "f"}}]
    with Controller(weak=weak(), strong=big, router=ScriptedRouter(EASY)) as controller:
        assert ask(controller, tools=tools) == ("S", "big", "needs_tools")
    assert big.calls[0].tools == (Tool("f"),)


def test_a_model_that_has_learned_tools_names_what_is_lacking() -> None:
    asked = {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}
    for serves, setting, told in (
        ((), "auto", "tool_choice: .*`edge-router calibrate --tools` measures"),
        ((), "no", "tool_choice: the weak model calls no tools"),
        ((Need.TOOLS,), "auto", "tool_choice: the weak model cannot be made to call a tool"),
    ):
        small = ScriptedEngine("W", serves=serves)
        small.capabilities = replace(small.capabilities, learned_tools=True)
        with Controller(weak=small, router=ScriptedRouter(EASY), weak__tools=setting) as controller:
            with pytest.raises(UnsupportedRequest, match=told):
                ask(controller, **asked)


def test_tools_without_a_strong_model() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with Controller(weak=weak("W"), router=ScriptedRouter(EASY)) as controller:
        with pytest.raises(UnsupportedRequest, match="tools: the weak model calls no tools"):
            ask(controller, tools=tools)
        assert ask(controller, tools=tools, tool_choice="none") == ("W", "small", "score")
        with pytest.raises(UnsupportedRequest, match="tool_choice: the weak model calls no tools"):
            ask(controller, tools=tools, tool_choice="required")
        with pytest.raises(InvalidRequest, match="response_format"):
            ask(controller, response_format={"type": "json_object"})


def test_json_goes_where_it_can_be_had() -> None:
    asked = {"response_format": {"type": "json_object"}}
    for small, wanted in (
        (ScriptedEngine("{}", model_id="small", serves={Need.JSON}), ("{}", "small", "score")),
        (weak("W"), ("S", "big", "needs_tools")),
    ):
        with Controller(weak=small, strong=strong("S"), router=ScriptedRouter(EASY)) as controller:
            assert ask(controller, **asked) == wanted


def test_a_mask_is_the_weak_models() -> None:
    small = weak("W")

    def never(vocabulary: Vocabulary) -> TokenMask:
        raise AssertionError("a scripted engine has no tokens")

    with Controller(weak=small, strong=strong("S"), router=ScriptedRouter(HARD)) as controller:
        assert ask(controller, model="weak", mask=never)[:2] == ("W", "small")
        assert small.calls[0].mask is never
        assert ask(controller, mask=never)[1:] == ("small", "strong_unavailable")
        with pytest.raises(InvalidRequest, match="mask: only the weak model"):
            ask(controller, model="strong", mask=never)


def test_an_unknown_model_asks_nobody() -> None:
    small = weak()
    with Controller(weak=small, router=ScriptedRouter(EASY)) as controller, pytest.raises(UnknownModel):
        ask(controller, model="smal")
    assert small.calls == []


class Broken:
    """An engine with a mistake of its own."""

    model_id, capabilities = "small", Capabilities()

    def __init__(self, *, late: bool) -> None:
        self.late = late

    def prepare(self, request: ChatRequest) -> Prompt:
        return Prompt(request)

    def stream(self, prompt: Prompt, cancel: threading.Event) -> Iterator[Event]:
        if self.late:
            yield TextDelta("Par")
        raise ZeroDivisionError("a bug")

    def close(self) -> None:
        return None


def test_an_engines_own_mistake_never_looks_like_an_answer() -> None:
    with Controller(weak=Broken(late=True), router=ScriptedRouter(EASY)) as late:
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            ask(late)
    big = strong("S")
    with Controller(weak=Broken(late=False), strong=big, router=ScriptedRouter(EASY)) as controller:
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            ask(controller)
    assert big.calls == []


def test_an_engine_that_says_nothing_at_all_is_an_error() -> None:
    class Mute(Broken):
        def stream(self, prompt: Prompt, cancel: threading.Event) -> Iterator[Event]:
            return iter(())

    with Controller(weak=Mute(late=False), router=ScriptedRouter(EASY)) as controller:
        with pytest.raises(GenerationFailed, match="without an answer"):
            ask(controller)


def test_cancelling_ends_the_answer() -> None:
    gate = threading.Event()
    with Controller(weak=weak(["a", gate, "b"]), router=ScriptedRouter(EASY)) as controller:
        answer = controller.start(parse_chat({"messages": HELLO}).request)
        assert next(iter(answer)).text == "a"
        answer.cancel()
        with pytest.raises(Cancelled):
            next(iter(answer))


def test_walking_away_from_a_stream_ends_the_generation() -> None:
    small = weak(["a", "b", "c"])
    with Controller(weak=small, router=ScriptedRouter(EASY)) as controller:
        with controller.chat.completions.create(messages=HELLO, stream=True) as stream:
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)


def test_a_stream_is_made_of_openais_chunks() -> None:
    with Controller(weak=weak("one two"), router=ScriptedRouter(EASY)) as controller:
        stream = controller.chat.completions.create(
            messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        assert (stream.decision.model, stream.model) == ("weak", "small")
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "one two"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 4
    assert stream.timings.total_ms is not None
    assert len({chunk.id for chunk in chunks}) == 1


def test_timings_cover_scoring_and_the_first_token() -> None:
    with Controller(weak=weak("W"), router=ScriptedRouter(EASY)) as controller:
        timings = controller.chat.completions.create(messages="hello").timings
    assert timings.score_ms is not None
    assert timings.ttft_ms is not None
    assert timings.total_ms is not None
    assert timings.score_ms <= timings.ttft_ms <= timings.total_ms


def test_several_threads_share_a_controller() -> None:
    small = weak()
    with Controller(weak=small, router=ScriptedRouter(EASY)) as controller:
        texts = [f"number {index}" for index in range(20)]
        found: list[str] = []

        def work(text: str) -> None:
            found.append(controller.chat.completions.create(messages=text).text)

        threads = [threading.Thread(target=work, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == sorted(f"You said: {text}" for text in texts)


def test_closing_twice_is_fine_and_closes_the_engines() -> None:
    small, big = weak(), strong()
    controller = Controller(weak=small, strong=big, router=ScriptedRouter(EASY))
    controller.close()
    controller.close()
    assert small.closed
    assert big.closed
    with pytest.raises(Closed):
        ask(controller)


def test_names_that_a_request_may_use() -> None:
    with Controller(weak=weak(), strong=strong(), router=ScriptedRouter(EASY)) as controller:
        names = controller.model_names()
    assert {"auto", "weak", "strong", "router-scripted", "router-length", "small", "big"} <= set(names)
