"""Replies as OpenAI's client knows them: its own types read every body."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from edge_router.completions import IMPOSSIBLE, ChatCompletion, ChunkMaker, collect, merge_tool_calls
from edge_router.types import Decision, Delta, Reason, TokenLogprob, Usage

DECISION = Decision("weak", Reason.SCORE, 0.1, 0.5, "mf")
USAGE = Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1)


def entry(token: str, logprob: float = -0.5, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(token, logprob, token.encode(), top)


def whole(deltas: Iterable[Delta]) -> ChatCompletion:
    return collect(deltas, "small", DECISION)


def test_a_whole_reply() -> None:
    reply = whole([Delta("Par"), Delta("is."), Delta(finish_reason="length", usage=USAGE)])
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
    reply = whole([Delta(finish_reason="stop")])
    assert reply.to_dict()["usage"] is None
    assert OpenAICompletion.model_validate(reply.to_dict()).choices[0].message.content == ""


def test_a_text_completion() -> None:
    deltas = [
        Delta("Par", logprobs=(entry("Par", top=(entry("Par"), entry("Lon", -3.0))),)),
        Delta("is", logprobs=(entry("is"),)),
        Delta(finish_reason="stop", usage=USAGE),
    ]
    read = Completion.model_validate(whole(deltas).to_text_dict(), strict=True)
    assert read.id.startswith("cmpl-") and read.object == "text_completion"
    assert read.choices[0].text == "Paris"
    logprobs = read.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["Par", "is"]
    assert logprobs.text_offset == [0, 3]
    assert logprobs.top_logprobs == [{"Par": -0.5, "Lon": -3.0}, {}]


def test_chat_logprobs_hold_bytes() -> None:
    half = TokenLogprob("\ufffd", -1.0, b"\xf0\x9f", (entry("a"),))
    deltas = [Delta("\ufffd", logprobs=(half,)), Delta(finish_reason="stop")]
    read = OpenAICompletion.model_validate(whole(deltas).to_dict())
    assert read.choices[0].logprobs is not None and read.choices[0].logprobs.content is not None
    (token,) = read.choices[0].logprobs.content
    assert (token.token, token.logprob, token.bytes) == ("\ufffd", -1.0, [0xF0, 0x9F])
    assert [other.token for other in token.top_logprobs] == ["a"]


def test_a_token_that_could_not_be_drawn_is_still_json() -> None:
    deltas = [
        Delta("a", logprobs=(entry("a", -math.inf, (entry("b", -math.inf),)),)),
        Delta(finish_reason="stop"),
    ]
    for body in (whole(deltas).to_dict(), whole(deltas).to_text_dict()):
        assert str(IMPOSSIBLE) in json.dumps(body, allow_nan=False)


def test_chunks_begin_with_the_role_and_end_with_the_reason() -> None:
    maker = ChunkMaker("small")
    deltas = [Delta("Hi", logprobs=(entry("Hi"),)), Delta("!", finish_reason="stop", usage=USAGE)]
    bodies = [chunk.to_dict(include_usage=True) for delta in deltas for chunk in maker.chunks(delta)]
    bodies.append(maker.usage_chunk(USAGE).to_dict(include_usage=True))
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
    maker = ChunkMaker("small")
    assert all("usage" not in chunk.to_dict() for chunk in maker.chunks(Delta("Hi", finish_reason="stop")))


def call(index: int, arguments: str, **fields: object) -> Mapping[str, object]:
    function = {"arguments": arguments, **({"name": fields.pop("name")} if "name" in fields else {})}
    return {"index": index, "function": function, **fields}


def test_tool_calls() -> None:
    deltas = [
        Delta(tool_calls=(call(0, '{"a"', id="x", name="f", type="function"),)),
        Delta(tool_calls=(call(0, ":1}"), call(1, "{}", id="y", name="g"))),
        Delta(finish_reason="tool_calls"),
    ]
    read = OpenAICompletion.model_validate(whole(deltas).to_dict())
    assert read.choices[0].message.content is None
    assert read.choices[0].message.tool_calls is not None
    assert [tool.to_dict()["function"] for tool in read.choices[0].message.tool_calls] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    maker = ChunkMaker("big")
    chunks = [
        OpenAIChunk.model_validate(chunk.to_dict()) for delta in deltas for chunk in maker.chunks(delta)
    ]
    assert chunks[1].choices[0].delta.tool_calls is not None
    assert chunks[1].choices[0].delta.content is None


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=4)), max_size=12))
def test_fragments_of_calls_are_joined_by_their_index(pieces: list[tuple[int, str]]) -> None:
    merged = merge_tool_calls(call(index, text) for index, text in pieces)
    order = list(dict.fromkeys(index for index, _ in pieces))
    assert [tool.function.arguments for tool in merged] == [
        "".join(text for index, text in pieces if index == wanted) for wanted in order
    ]


@given(st.lists(st.text(max_size=5), max_size=8))
def test_a_stream_says_what_the_whole_says(texts: list[str]) -> None:
    deltas = [*map(Delta, texts), Delta(finish_reason="stop")]
    maker = ChunkMaker("small")
    streamed = [choice.delta.content or "" for d in deltas for c in maker.chunks(d) for choice in c.choices]
    assert "".join(streamed) == whole(deltas).text == "".join(texts)
