"""Bodies with something of a wrong type anywhere: read all the same or refused by name, and nothing else."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

from edge_router.engines.remote.request import request_body
from edge_router.errors import InvalidRequest, UnknownResponse
from edge_router.questions.in_words import in_words
from edge_router.surfaces import surfaces
from edge_router.surfaces.base import Call, QuestionsCall, Surface

WRONG: tuple[Any, ...] = (
    *(True, 0, -1, 1.5, 1e308, 2**70, "", "x", "\0", "€€€", "data:,", "x" * 300, None),
    *([], {}, [None], [[]], [{}], ["x"], [True], {"a": 1}, {"type": 1}, {"type": "x"}, {"type": "text", "text": 7}),
    *({"name": {}}, {"role": "user"}, {"url": 1}, {"type": "function"}, {"": ""}),
)  # fmt: skip
ASK = "hi"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
URL = f"data:image/png;base64,{PICTURE}"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": ASK},
                {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:,a", "filename": "a"}}]},
            {"role": "assistant", "content": "a", "refusal": "r", "name": "n", "reasoning_content": "t",
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "x"},
        ],
        "tools": [
            {"type": "function", "function": FUNCTION},
            {"type": "custom", "custom": {"name": "g", "format": {
                "type": "grammar", "grammar": {"syntax": "lark", "definition": "start: \"a\""}}}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "f"}}]}},
        "parallel_tool_calls": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        "temperature": 1, "top_p": 1, "top_k": 1, "min_p": 0.1, "seed": 1, "stop": ["a"], "n": 1,
        "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "logit_bias": {"1": 1},
        "max_tokens": 5, "max_completion_tokens": 5, "logprobs": True, "top_logprobs": 2, "stream": True,
        "stream_options": {"include_usage": True}, "private": False, "metadata": {"a": "b"}, "user": "u",
        "reasoning_effort": "low", "modalities": ["text"], "audio": {"voice": "a"}, "model": "auto",
        "web_search_options": {"a": {}}, "functions": None, "function_call": None, "extra_body": {"a": 1},
        "extra_headers": {"x-edge-router-private": "0"}, "extra_query": {"private": "0"}, "timeout": None,
        "chat_template_kwargs": {"enable_thinking": True}, "reasoning": {"effort": "low"},
    },
    "/v1/completions": {
        "prompt": ASK, "model": "auto", "max_tokens": 4, "logprobs": 2, "echo": False, "best_of": 1,
        "suffix": "", "stop": ["a"], "n": 1, "seed": 1, "logit_bias": {"1": 1}, "user": "u",
    },
    "/v1/messages": {
        "model": "auto", "max_tokens": 50, "stream": False, "metadata": {"user_id": "u"}, "private": False,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": ASK},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
                {"type": "document", "title": "t", "source": {
                    "type": "base64", "media_type": "application/pdf", "data": "AA=="}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                {"type": "search_result", "source": "a", "title": "b", "content": [
                    {"type": "text", "text": "t"}]}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "edge_router.e30="},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "is_error": False,
                "content": [{"type": "text", "text": "x"},
                            {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}}]}]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True},
                  {"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "temperature": 1, "top_p": 1, "top_k": 1, "stop_sequences": ["a"],
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    },
    "/v1/responses": {
        "model": "auto", "instructions": "i", "stream": False, "store": True, "metadata": {"a": "b"},
        "input": [
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": ASK},
                {"type": "input_image", "image_url": URL, "detail": "low"},
                {"type": "input_file", "file_data": "AA==", "filename": "f"},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "t"}],
             "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": "edge_router.1:e30="},
            {"role": "assistant", "content": [{"type": "output_text", "text": "x"},
                                              {"type": "refusal", "refusal": "r"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "namespace": "n", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
            {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "x"},
            {"type": "additional_tools", "tools": []},
        ],
        "tools": [
            {"type": "function", **FUNCTION, "strict": True},
            {"type": "custom", "name": "g", "format": {
                "type": "grammar", "syntax": "lark", "definition": "start: \"a\""}},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
            {"type": "web_search"}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "parallel_tool_calls": True, "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 20, "top_logprobs": 1,
        "include": ["reasoning.encrypted_content"], "background": False, "stop": ["a"], "logit_bias": {"1": 1},
    },
    "/v1/systemone": {
        "model": "jev-latest", "private": False, "metadata": {"a": "b"}, "truncation": "auto",
        "state": {"text": ASK, "photo": "<image:1>", "more": [1, None, 1.5, True]},
        "assets": {"<image:1>": {"type": "image", "format": "png", "data_base64": PICTURE}},
        "questions": {
            "a": {"type": "noul", "instructions": "i", "criteria": {"true": "t", "false": {"a": 1}}},
            "b": {"type": "choice", "instructions": {"a": 1}, "criteria": {"x": "d", "y": None, "z": ["e"]}},
            "c": {"type": "score", "instructions": ["i"], "criteria": ["low", "mid", {"a": "high"}]}},
    },
    "/v1/decisions": {
        "model": "auto", "private": False, "metadata": {"a": "b"}, "truncation": "disabled",
        "prompt_cache_key": "k", "prompt_cache_options": {"mode": "explicit"}, "safety_identifier": "s",
        "input": [
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": ASK}, {"type": "input_image", "image_url": URL},
                {"type": "input_json", "data": {"a": [1, {"b": None}]}}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_json", "data": [1]}]}],
        "questions": [
            {"type": "predicate", "name": "a", "instructions": "i"},
            {"type": "choice", "name": None, "instructions": "i", "choices": [
                {"value": "true", "description": "d"}, {"value": True}]},
            {"type": "score", "instructions": "i", "levels": [
                {"label": "low", "description": None}, {"label": "high"}]}],
    },
    "/api/chat": {
        "model": "auto", "private": False, "think": "low", "keep_alive": "5m", "format": SCHEMA,
        "messages": [
            {"role": "user", "content": ASK, "images": [PICTURE]},
            {"role": "assistant", "content": "x", "thinking": "t", "tool_calls": [
                {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "content": "x", "tool_name": "f", "tool_call_id": "c"}],
        "tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto",
        "options": {"temperature": 1, "top_k": 1, "seed": 1, "num_predict": 4, "stop": ["a"],
                    "repeat_penalty": 1, "num_ctx": 4},
        "logprobs": True, "top_logprobs": 2, "stream": True,
    },
    "/api/generate": {
        "model": "auto", "prompt": ASK, "system": "s", "images": [PICTURE], "raw": False, "template": "",
        "context": [], "suffix": "", "format": "json", "options": {"stop": "a"}, "think": True,
    },
}  # fmt: skip
# Signed by us, or so it says.
FORGED: tuple[tuple[str, tuple[str | int, ...], str], ...] = (
    *(("/v1/responses", ("input", 1, "encrypted_content"), f"edge_router.1:{end}") for end in ("€", "e30", "W10=")),
    *(("/v1/messages", ("messages", 1, "content", 0, "signature"), f"edge_router.{end}") for end in ("€", "e30", "W")),
    ("/api/chat", ("messages", 0, "images", 0), "data:image/png;base64,€€€€"),
)  # fmt: skip
Place = tuple[str | int, ...]


def spoken() -> dict[str, Surface]:
    registry = surfaces()
    found = [registry.get(name)() for name in registry]
    return {path: surface for surface in found for path in surface.paths}


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*at, step)
        if isinstance(inner, dict | list):
            yield from places(inner, (*at, step))


def changed(body: Any, place: Place, value: Any) -> Any:
    found = body = copy.deepcopy(body)
    for step in place[:-1]:
        found = found[step]
    found[place[-1]] = value
    return body


def look(surface: Surface, path: str, body: Any, told: object) -> bool:
    """Whether it was taken, and can be sent on."""
    try:
        call = surface.parse(path, body)
        if isinstance(call, QuestionsCall):
            assert call.request.needs is not None
            json.dumps(request_body(in_words(call.request), "m"), allow_nan=False)
        if isinstance(call, Call):
            json.dumps(request_body(call.request, "m"), allow_nan=False)
            assert call.request.needs is not None
    except (InvalidRequest, UnknownResponse):
        return False
    except Exception as error:
        raise AssertionError(told) from error
    return True


def test_a_wrong_type_anywhere_is_read_or_refused_by_every_protocol() -> None:
    assert set(BODIES) == set(spoken())
    for path, surface in spoken().items():
        assert look(surface, path, BODIES[path], path)  # so that all of it is looked at
        refused = 0
        for place in places(BODIES[path]):
            for value in WRONG:
                refused += not look(surface, path, changed(BODIES[path], place, value), (path, place, value))
        assert refused > 200, path


def test_what_only_seems_to_be_signed_by_us_or_a_picture_is_no_defect() -> None:
    for path, place, value in FORGED:
        look(spoken()[path], path, changed(BODIES[path], place, value), (path, place, value))


def test_media_and_calls_of_a_wrong_type_are_refused_not_sent_on() -> None:
    path = "/v1/chat/completions"
    for place in (
        *(("messages", 0, "content", index, kind) for index, kind in ((1, "image_url"), (2, "input_audio"))),
        *(("messages", 0, "content", 1, "image_url", name) for name in ("url", "detail")),
        *(("messages", 0, "content", 3, "file", name) for name in ("file_data", "filename")),
        ("messages", 1, "tool_calls", 0, "function"),
        ("tool_choice",),
    ):
        for value in (7, True, [], [[]]):
            assert not look(spoken()[path], path, changed(BODIES[path], place, value), (place, value))
