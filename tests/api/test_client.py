"""`client.chat.completions.create`, as callers of OpenAI's client write it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.api.client import ChatStream
from edge_router.chat.events import Event, TextDelta
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Prompt
from edge_router.errors import Cancelled, InvalidRequest, StrongTimeout, StrongUnreachable, UnknownModel
from edge_router.types import Cancel

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def weak() -> ScriptedEngine:
    return ScriptedEngine(model_id="small", serves=())


@pytest.fixture
def client(weak: ScriptedEngine) -> Iterator[Controller]:
    with Controller(Config(), weak=weak) as controller:
        yield controller


def test_a_whole_reply(client: Controller, weak: ScriptedEngine) -> None:
    weak.queue("Paris is it.")
    reply = client.chat.completions.create(messages=HI, model="weak", max_tokens=2, temperature=0, seed=3)
    assert reply.choices[0].message.content == reply.text == "Paris is"
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None and reply.usage.completion_tokens == 2
    assert reply.decision.model == "weak"
    assert reply.timings.total_ms is not None
    (request,) = weak.calls
    assert (request.max_tokens, request.sampling.temperature, request.sampling.seed) == (2, 0.0, 3)


def test_a_system_message_to_be_kept_is_told_to_the_weak_model_and_no_field_of_an_endpoint() -> None:
    weak, strong = ScriptedEngine(), ScriptedEngine()
    messages = [{"role": "system", "content": "Be brief."}, *HI]
    with Controller(Config(), weak=weak, strong=strong) as client:
        for model in ("weak", "strong"):
            client.chat.completions.create(messages=messages, model=model, cache="keep")
        with pytest.raises(InvalidRequest, match="keep"):
            client.chat.completions.create(messages=messages, cache="forever")
    assert weak.calls[0].keep == "cache"
    assert "cache" not in {**weak.calls[0].extra.fields, **strong.calls[0].extra.fields}


def test_a_string_is_a_user_turn_and_a_reply_can_be_said_again(
    client: Controller, weak: ScriptedEngine
) -> None:
    reply = client.chat.completions.create(messages="hi", model="weak")
    client.chat.completions.create(
        messages=[*HI, reply.choices[0].message, {"role": "user", "content": "and?"}],  # type: ignore[list-item]
        model="weak",
    )
    assert [(message.role, message.text) for message in weak.calls[1].messages] == [
        ("user", "hi"),
        ("assistant", "You said: hi"),
        ("user", "and?"),
    ]


def test_a_stream(client: Controller, weak: ScriptedEngine) -> None:
    weak.queue("Paris is it.")
    stream = client.chat.completions.create(
        messages=HI, model="weak", stream=True, stream_options={"include_usage": True}
    )
    assert (stream.model, stream.decision.model) == ("small", "weak")
    first = next(stream)
    assert first.choices[0].delta.role == "assistant"
    rest = list(stream)
    assert "".join(choice.delta.content or "" for chunk in rest for choice in chunk.choices) == "Paris is it."
    assert rest[-1].usage is not None and rest[-1].usage.completion_tokens == 3
    assert stream.timings.total_ms is not None


def test_leaving_a_stream_ends_the_generation(client: Controller, weak: ScriptedEngine) -> None:
    weak.queue("one two three four five")
    with client.chat.completions.create(messages=HI, model="weak", stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                break
    assert list(stream) == []


def test_errors_come_before_the_stream(client: Controller) -> None:
    with pytest.raises(InvalidRequest):
        client.chat.completions.create(messages=[], stream=True)
    with pytest.raises(UnknownModel):
        client.chat.completions.create(messages=HI, model="gpt", stream=True)
    with pytest.raises(InvalidRequest):
        client.chat.completions.create(messages=None)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "fields",
    [
        {"private": True},
        {"private": "true"},
        {"extra_body": {"private": True}},
        {"metadata": {"private": "true"}},
        {"extra_headers": {"X-Edge-Router-Private": "1"}},
    ],
)
def test_what_is_private_stays_here(weak: ScriptedEngine, fields: dict[str, object]) -> None:
    strong = ScriptedEngine(model_id="REMOTE")

    async def later() -> None:
        async with AsyncController(
            weak=ScriptedEngine(), strong=strong, router=ScriptedRouter(1.0)
        ) as client:
            await client.chat.completions.create(messages="my diary", **fields)  # type: ignore[call-overload]

    with Controller(weak=weak, strong=strong, router=ScriptedRouter(1.0)) as client:
        client.chat.completions.create(messages="my diary", **fields)  # type: ignore[call-overload]
        asyncio.run(later())
        for slip in ({"privat": True}, {"extra_body": {"is_private": True}}, {"private": "maybe"}):
            with pytest.raises(InvalidRequest, match="private"):
                client.chat.completions.create(messages="my diary", **slip)  # type: ignore[call-overload]
        assert strong.calls == []
        client.chat.completions.create(messages="no diary", extra_body={"top_a": 0.1})
    assert strong.calls[0].extra.fields == {"top_a": 0.1}


def test_checking_a_name(client: Controller) -> None:
    for name in (*client.model_names(), "router-length-0.25"):
        client.check_model(name)
    with pytest.raises(UnknownModel):
        client.check_model("gpt")
    with pytest.raises(UnknownModel) as caught:
        client.check_model("x" * 100_000)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "cause", [None, StrongUnreachable("http://x", "refused"), StrongTimeout("http://x", 1)]
)
def test_why_the_other_model_answered_stands_on_the_reply(
    weak: ScriptedEngine, cause: Exception | None, stream: bool
) -> None:
    strong = ScriptedEngine(*[cause] if cause else [], model_id="big")
    with Controller(weak=weak, strong=strong, router=ScriptedRouter(0.9)) as client:
        reply = client.chat.completions.create(messages=HI, stream=stream)  # type: ignore[call-overload]
        assert reply.fallback_cause is cause
        assert (reply.model == "small") is (cause is not None)

    async def main() -> None:
        big = ScriptedEngine(*[cause] if cause else [], model_id="big")
        async with AsyncController(weak=ScriptedEngine(), strong=big, router=ScriptedRouter(0.9)) as later:
            reply = await later.chat.completions.create(messages=HI, stream=stream)  # type: ignore[call-overload]
            assert reply.fallback_cause is cause
            if stream:
                await reply.aclose()

    asyncio.run(main())


WAIT_S = 20.0  # far more than anything here takes
NEVER = threading.Event()


class Watched(ScriptedEngine):
    """Says "one two" and then nothing, until it is told to end; `ended` is set when it has."""

    def __init__(self) -> None:
        super().__init__(default=["one ", "two ", NEVER], model_id="small", serves=())
        self.waits, self.ended = threading.Event(), threading.Event()

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        self.ended.clear()
        try:
            for event in super().stream(prompt, cancel):
                yield event
                if event == TextDelta("two "):
                    self.waits.set()
        finally:
            self.ended.set()


@pytest.fixture
def watched() -> Iterator[tuple[Controller, Watched]]:
    weak = Watched()
    with Controller(Config(), weak=weak) as controller:
        yield controller, weak


def streaming(client: Controller, **fields: object) -> ChatStream:
    made = client.chat.completions.create(messages=HI, model="weak", stream=True, **fields)  # type: ignore[arg-type]
    assert isinstance(made, ChatStream)
    return made


def soon(work: Callable[[], object], *after: threading.Event) -> None:
    """In another thread, once each of `after` is set."""

    def run() -> None:
        for event in after:
            assert event.wait(WAIT_S)
        work()

    threading.Thread(target=run).start()


@pytest.mark.parametrize("end", ["cancel", "close", "event"])
@pytest.mark.parametrize("usage", [False, True])
def test_a_stop_button(watched: tuple[Controller, Watched], end: str, usage: bool) -> None:
    client, weak = watched
    button = threading.Event()
    options = {"stream_options": {"include_usage": True}} if usage else {}
    stream = streaming(client, cancel=button, **options)
    soon({"cancel": stream.cancel, "close": stream.close, "event": button.set}[end], weak.waits)
    text = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    assert text == "one two " and stream.cancelled
    assert list(stream) == [] and weak.ended.wait(WAIT_S)
    assert button.is_set() is (end == "event")  # it is the caller's, perhaps for other answers too


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_button_before_the_first_token(weak: ScriptedEngine, stream: bool) -> None:
    waits = threading.Event()

    def reply(request: ChatRequest) -> list[str | threading.Event]:
        waits.set()
        return [NEVER, "never"]

    weak.queue(reply)
    button = threading.Event()
    with Controller(Config(), weak=weak) as client:
        soon(button.set, waits)
        with pytest.raises(Cancelled):
            client.chat.completions.create(messages=HI, model="weak", stream=stream, cancel=button)  # type: ignore[call-overload]
        with pytest.raises(Cancelled):
            client.chat.completions.create(messages=HI, model="weak", stream=stream, cancel=button)  # type: ignore[call-overload]


def test_a_whole_answer_is_stopped_too(watched: tuple[Controller, Watched]) -> None:
    client, weak = watched
    button = threading.Event()
    soon(button.set, weak.waits)
    with pytest.raises(Cancelled):
        client.chat.completions.create(messages=HI, model="weak", cancel=button)
    assert weak.ended.wait(WAIT_S)


def leaves_by_break(stream: ChatStream) -> None:
    for _ in stream:
        break


def leaves_by_an_error(stream: ChatStream) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in stream:
            raise ZeroDivisionError


@pytest.mark.parametrize("leave", [leaves_by_break, leaves_by_an_error, lambda stream: next(zip(stream))])
def test_a_stream_that_is_left_ends(
    watched: tuple[Controller, Watched], leave: Callable[[ChatStream], object]
) -> None:
    client, weak = watched
    stream = streaming(client)
    leave(stream)
    assert weak.ended.is_set() and stream.cancelled
    with pytest.raises(Cancelled):
        list(stream)
    assert 'reason="forced"' in client.metrics.render()


@pytest.mark.parametrize("read", [0, 1, 3])
def test_a_stream_that_is_dropped_ends(watched: tuple[Controller, Watched], read: int) -> None:
    client, weak = watched
    stream = streaming(client)
    for _ in range(read):
        next(stream)
    assert not weak.ended.is_set()
    del stream
    assert weak.ended.wait(WAIT_S)


def test_taking_single_chunks_ends_nothing(client: Controller, weak: ScriptedEngine) -> None:
    weak.queue("Paris is it.")
    stream = streaming(client)
    text = next(stream).choices[0].delta.content or ""
    assert text == ""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Paris is it."
    assert not stream.cancelled


def test_a_model_that_goes_away_is_no_wish_of_the_readers(watched: tuple[Controller, Watched]) -> None:
    client, weak = watched
    stream = streaming(client)
    soon(weak.close, weak.waits)
    with pytest.raises(Cancelled):
        list(stream)
    assert not stream.cancelled


def test_one_event_for_several_answers(watched: tuple[Controller, Watched]) -> None:
    client, _ = watched
    everything = threading.Event()
    first, second = (streaming(client, cancel=everything) for _ in range(2))
    first.close()
    assert next(second) and not second.cancelled
    everything.set()
    assert len(list(second)) <= 2 and second.cancelled
