"""Replies as OpenAI's client knows them: its own types read every body."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from edge_router.chat.events import (
    Event,
    Finished,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.surfaces import wire
from edge_router.surfaces.base import Body, Call, Head
from edge_router.surfaces.openai.objects import ChatCompletion, ChatCompletionChunk, OpenAIObject
from edge_router.surfaces.openai.parse import INCLUDE_USAGE
from edge_router.surfaces.openai.replies import IMPOSSIBLE, ChunkMaker, completion
from edge_router.surfaces.openai.surface import OpenAIChat, OpenAICompletions
from edge_router.types import Decision, Reason

DECISION = Decision("weak", Reason.SCORE, 0.1, 0.5, "mf")
HEAD = Head("1", 7, "small", DECISION)
USAGE = Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1)


def entry(token: str, logprob: float = -0.5, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(token, logprob, token.encode(), top)


def whole(deltas: Iterable[Event]) -> ChatCompletion:
    return completion(collect(deltas), HEAD)


def text_body(deltas: Iterable[Event]) -> Body:
    call = Call(ChatRequest((Message("user", "x"),), raw_prompt="x"))
    return OpenAICompletions().whole(call, HEAD, collect(deltas))


def test_a_whole_reply() -> None:
    reply = whole([TextDelta("Par"), TextDelta("is."), Finished("length", usage=USAGE)])
    body = reply.to_dict()
    read = OpenAICompletion.model_validate(body, strict=True)
    assert read.choices[0].message.content == reply.text == "Paris."
    assert read.choices[0].finish_reason == "length"
    assert read.model == "small" and read.id.startswith("chatcmpl-")
    assert read.usage is not None and read.usage.total_tokens == 5
    assert (
        read.usage.prompt_tokens_details is not None and read.usage.prompt_tokens_details.cached_tokens == 1
    )
    assert "decision" not in body
    assert reply.decision is DECISION


def test_an_empty_reply() -> None:
    reply = whole([Finished("stop")])
    assert reply.to_dict()["usage"] is None
    assert OpenAICompletion.model_validate(reply.to_dict()).choices[0].message.content == ""


def test_a_text_completion() -> None:
    deltas = [
        TextDelta("Par", logprobs=(entry("Par", top=(entry("Par"), entry("Lon", -3.0))),)),
        TextDelta("is", logprobs=(entry("is"),)),
        Finished("stop", usage=USAGE),
    ]
    read = Completion.model_validate(text_body(deltas), strict=True)
    assert read.id.startswith("cmpl-") and read.object == "text_completion"
    assert read.choices[0].text == "Paris"
    logprobs = read.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["Par", "is"]
    assert logprobs.text_offset == [0, 3]
    assert logprobs.top_logprobs == [{"Par": -0.5, "Lon": -3.0}, {}]


def test_chat_logprobs_hold_bytes() -> None:
    half = TokenLogprob("\ufffd", -1.0, b"\xf0\x9f", (entry("a"),))
    deltas = [TextDelta("\ufffd", logprobs=(half,)), Finished("stop")]
    read = OpenAICompletion.model_validate(whole(deltas).to_dict())
    assert read.choices[0].logprobs is not None and read.choices[0].logprobs.content is not None
    (token,) = read.choices[0].logprobs.content
    assert (token.token, token.logprob, token.bytes) == ("\ufffd", -1.0, [0xF0, 0x9F])
    assert [other.token for other in token.top_logprobs] == ["a"]


@pytest.mark.parametrize("odd", [-math.inf, math.inf, math.nan, -1e300])
def test_a_token_that_could_not_be_drawn_is_still_json(odd: float) -> None:
    deltas = [
        TextDelta("a", logprobs=(entry("a", odd, (entry("b", odd),)),)),
        Finished("stop"),
    ]
    for body in (whole(deltas).to_dict(), text_body(deltas)):
        assert str(IMPOSSIBLE) in json.dumps(body, allow_nan=False)


def test_chunks_begin_with_the_role_and_end_with_the_reason() -> None:
    maker = ChunkMaker(HEAD)
    deltas = [TextDelta("Hi", logprobs=(entry("Hi"),)), TextDelta("!"), Finished("stop", USAGE)]
    bodies = [chunk.to_dict(include_usage=True) for delta in deltas for chunk in maker.chunks(delta)]
    bodies.append(maker.usage_chunk().to_dict(include_usage=True))
    read = [OpenAIChunk.model_validate(body, strict=True) for body in bodies]
    assert [
        (c.choices[0].delta.role, c.choices[0].delta.content, c.choices[0].finish_reason) for c in read[:-1]
    ] == [
        ("assistant", "", None),
        (None, "Hi", None),
        (None, "!", None),
        (None, None, "stop"),
    ]
    assert read[-1].choices == [] and read[-1].usage is not None and read[-1].usage.total_tokens == 5
    assert all(body["usage"] is None for body in bodies[:-1])
    assert len({c.id for c in read}) == 1


def test_no_usage_field_unless_asked() -> None:
    chunks = streamed([TextDelta("Hi"), Finished("stop", USAGE)])
    assert all("usage" not in chunk.to_dict() for chunk in chunks[:-1])


def test_tool_calls() -> None:
    deltas = [
        ToolCallStart(0, "x", "f"),
        ToolCallArguments(0, '{"a"'),
        ToolCallStart(1, "y", "g"),
        ToolCallArguments(0, ":1}"),
        ToolCallArguments(1, "{}"),
        Finished("tool_calls"),
    ]
    read = OpenAICompletion.model_validate(whole(deltas).to_dict())
    assert read.choices[0].message.content is None
    assert read.choices[0].message.tool_calls is not None
    assert [tool.to_dict()["function"] for tool in read.choices[0].message.tool_calls] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    maker = ChunkMaker(HEAD)
    chunks = [
        OpenAIChunk.model_validate(chunk.to_dict()) for delta in deltas for chunk in maker.chunks(delta)
    ]
    assert chunks[1].choices[0].delta.tool_calls is not None
    assert chunks[1].choices[0].delta.content is None


def test_a_call_that_takes_any_text() -> None:
    said = [ToolCallStart(0, "x", "sh", True), ToolCallArguments(0, "l"), ToolCallArguments(0, "s")]
    (tool,) = whole(said).choices[0].message.tool_calls or ()
    assert tool.to_dict() == {"id": "x", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    first, second, third = (
        chunk.to_dict()["choices"][0]["delta"]["tool_calls"][0]  # type: ignore[index]
        for chunk in streamed(said)[1:-1]
    )
    assert first == {"index": 0, "id": "x", "type": "custom", "custom": {"name": "sh", "input": ""}}
    assert [second, third] == [{"index": 0, "custom": {"input": text}} for text in "ls"]


@given(st.lists(st.text(max_size=5), max_size=8))
def test_a_stream_says_what_the_whole_says(texts: list[str]) -> None:
    deltas = [*map(TextDelta, texts), Finished("stop")]
    maker = ChunkMaker(HEAD)
    streamed = [choice.delta.content or "" for d in deltas for c in maker.chunks(d) for choice in c.choices]
    assert "".join(streamed) == whole(deltas).text == "".join(texts)


SAID = (
    TextDelta("Par", logprobs=(entry("Par", top=(entry("Par"), entry("Lon", -3.0))),)),
    ToolCallStart(0, "x", "f"),
    ToolCallArguments(0, '{"a":1}'),
    Finished("tool_calls", usage=USAGE),
)


def same_fields(theirs: object, ours: object, where: str = "") -> None:
    """Whatever can be read of theirs can be read of ours, as an attribute and as an item."""
    if isinstance(theirs, list):
        assert isinstance(ours, tuple) and len(theirs) == len(ours), where
        for one, other in zip(theirs, ours, strict=True):
            same_fields(one, other, f"{where}[]")
    elif hasattr(type(theirs), "model_fields"):
        assert isinstance(ours, OpenAIObject), where
        for name in type(theirs).model_fields:  # type: ignore[attr-defined]
            assert getattr(ours, name) is ours[name] is ours.get(name) or name.endswith("_details"), name
            assert name in ours and name in dict(ours) and name in ours.model_dump()
            if getattr(theirs, name) is not None:
                same_fields(getattr(theirs, name), getattr(ours, name), f"{where}.{name}")
    else:
        assert theirs == ours, where


def streamed(deltas: Iterable[Event]) -> list[ChatCompletionChunk]:
    maker = ChunkMaker(HEAD)
    return [*(chunk for delta in deltas for chunk in maker.chunks(delta)), maker.usage_chunk()]


def test_each_attribute_of_openais_objects_is_there() -> None:
    reply = whole(SAID)
    same_fields(OpenAICompletion.model_validate(reply.to_dict()), reply)
    for chunk in streamed(SAID):
        same_fields(OpenAIChunk.model_validate(chunk.to_dict()), chunk)
    message = reply.choices[0].message
    assert (
        message.refusal is message.reasoning_content is message.function_call is message.annotations is None
    )
    assert reply.usage is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 1
    assert reply.usage.completion_tokens_details.reasoning_tokens == 0
    assert reply.choices[0].logprobs is not None
    assert reply.choices[0].logprobs.content[0].top_logprobs is not None
    assert reply.choices[0].logprobs.content[0].top_logprobs[1].token == "Lon"
    assert reply["choices"][0]["message"]["content"] == "Par"
    with pytest.raises(AttributeError, match="nothing_like_it"):
        reply.nothing_like_it  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(KeyError):
        reply["nothing_like_it"]


@pytest.mark.parametrize("made", [whole(SAID), *streamed(SAID)], ids=lambda made: type(made).__name__)
def test_dumps_as_pydantic_makes_them(made: ChatCompletion | ChatCompletionChunk) -> None:
    kind: Any = OpenAICompletion if isinstance(made, ChatCompletion) else OpenAIChunk
    full = made.model_dump()
    assert "decision" not in full and "timings" not in full
    assert full["system_fingerprint"] is full["service_tier"] is None
    assert json.loads(made.model_dump_json()) == full == json.loads(json.dumps(dict(full)))
    assert json.loads(made.to_json()) == made.to_dict() == made.model_dump(exclude_unset=True)
    assert kind.model_validate(full, strict=True).model_dump() == kind.model_validate(full).model_dump()
    thin = made.model_dump(exclude_none=True)
    assert kind.model_validate(thin).model_dump(exclude_none=True) == thin
    assert "null" not in json.dumps(thin)
    assert set(made.model_dump(include={"id", "model"})) == {"id", "model"}
    assert set(full) - set(made.model_dump(exclude=["id"])) == {"id"}
    assert json.loads(made.model_dump_json(exclude_none=True, indent=1)) == thin


def test_what_an_endpoint_sent_beside_openais_fields_is_there_too() -> None:
    message = replace(whole(SAID).choices[0].message, extra={"reasoning_details": [{"text": "hm"}]})
    assert message.to_dict()["reasoning_details"] == message["reasoning_details"] == [{"text": "hm"}]
    assert message.reasoning_details == [{"text": "hm"}]  # type: ignore[attr-defined]
    assert "reasoning_details" in message.model_dump() and "extra" not in message.model_dump()
    extra = {"extra_content": {"google": {"thought_signature": "s"}}, "function": {"strict": True}}
    _, chunk = ChunkMaker(HEAD).chunks(ToolCallStart(0, "x", "f", False, extra))
    assert chunk.choices[0].delta.tool_calls is not None
    assert chunk.choices[0].delta.tool_calls[0].to_dict() == {
        "index": 0,
        "id": "x",
        "type": "function",
        "function": {"name": "f", "arguments": "", "strict": True},
        "extra_content": extra["extra_content"],
    }


def test_replies_can_be_copied_and_kept() -> None:
    for made in (whole(SAID), *streamed(SAID)):
        assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made


def test_half_a_surrogate_pair_is_json_too() -> None:
    reply = whole([TextDelta("\ud83d"), Finished("stop")])
    assert json.loads(reply.to_json())["choices"][0]["message"]["content"] == "\ud83d"


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_is_its_chunks_whatever_the_models_name_is(usage: bool) -> None:
    events = [TextDelta("Par"), TextDelta('"is"'), Finished("stop", usage=USAGE)]
    for model in ("small", "", '"', "chatcmpl-", '"chatcmpl-"', '"created":0', '""', "mistraï\ud800"):
        for head in (Head("1f", 7, model, DECISION), Head("chatcmpl-", 0, model, DECISION)):
            maker, encoder = (
                ChunkMaker(head),
                OpenAIChat().encoder(
                    Call(ChatRequest((Message("user", "x"),)), options={INCLUDE_USAGE: usage}), head
                ),
            )
            chunks = [chunk for event in events for chunk in maker.chunks(event)]
            bodies = [chunk.to_dict(include_usage=usage) for chunk in chunks]
            told = b"".join(encoder.feed(event) for event in events)
            assert told == b"".join(wire.event(wire.dumps(body)) for body in bodies), model
