"""`client.chat.completions.create`, as callers of OpenAI's client write it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.errors import InvalidRequest, StrongTimeout, StrongUnreachable, UnknownModel

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def weak() -> ScriptedEngine:
    return ScriptedEngine(model_id="small", handles_tools=False)


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
        client.chat.completions.create(messages="no diary", extra_body={"min_p": 0.1})
    assert strong.calls[0].passthrough == {"min_p": 0.1}


def test_checking_a_name(client: Controller) -> None:
    for name in (*client.model_names(), "router-length-0.25"):
        client.check_model(name)
    with pytest.raises(UnknownModel):
        client.check_model("gpt")
    with pytest.raises(UnknownModel) as caught:
        client.check_model("x" * 30_000_000)
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
