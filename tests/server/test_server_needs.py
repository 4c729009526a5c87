"""What the weak model can't do is refused where only it may answer, and else sent to the strong one: never
left out in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
PICTURE = "iVBORw0KGgoAAAANSUhEUg=="
URL = f"data:image/png;base64,{PICTURE}"
HI = [{"role": "user", "content": "hi"}]


def said(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


ASKED: dict[str, tuple[dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "/v1/chat/completions": (
        {"messages": HI},
        (
            {"tools": [FUNCTION]},
            {"functions": [FUNCTION["function"]]},
            {"tools": [{"type": "web_search"}]},
            {"web_search_options": {}},
            {"messages": said({"type": "image_url", "image_url": {"url": URL}})},
            {"messages": said({"type": "file", "file": {"file_id": "f"}})},
            {"response_format": {"type": "json_object"}},
            {"response_format": SCHEMA},
            {"response_format": {"type": "grammar", "value": "x"}},
            {"modalities": ["text", "audio"], "audio": {"voice": "x"}},
            {"guided_json": SCHEMA},
            {"guided_choice": ["a", "b"]},
            {"structured_outputs": {"regex": "a+"}},
            {"grammar": "root ::= x"},
        ),
    ),
    "/v1/completions": (
        {"prompt": "hi"},
        ({"guided_regex": "a+"}, {"response_format": {"type": "json_object"}}),
    ),
    "/v1/messages": (
        {"messages": HI, "max_tokens": 9},
        (
            {"tools": [{"name": "f", "input_schema": SCHEMA}]},
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            {"mcp_servers": [{"type": "url", "url": "http://127.0.0.1/x", "name": "n"}]},
            {"messages": said({"type": "image", "source": {"type": "file", "file_id": "x"}})},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
    ),
    "/v1/responses": (
        {"input": "hi"},
        (
            {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]},
            {"tools": [{"type": "custom", "name": "f"}]},
            {"tools": [{"type": "web_search"}]},
            {"input": [*HI, {"type": "additional_tools", "tools": [{"type": "function", "name": "f"}]}]},
            {"input": said({"type": "input_image", "file_id": "x"})},
            {"text": {"format": {"type": "json_object"}}},
        ),
    ),
    "/api/chat": (
        {"messages": HI},
        (
            {"tools": [FUNCTION]},
            {"messages": [{"role": "user", "content": "x", "images": [PICTURE]}]},
            {"format": SCHEMA},
        ),
    ),
    "/api/generate": ({"prompt": "hi"}, ({"images": [PICTURE]}, {"format": "json"})),
}


def test_an_answer_held_to_a_grammar_is_never_asked_of_an_endpoint(setup: Callable[..., Any]) -> None:
    """For it is told of none, and would answer as it likes."""
    held = {"syntax": "regex", "definition": "a+"}
    for path, fields in (
        ("/v1/chat/completions", {"messages": HI, "response_format": {"type": "grammar", "grammar": held}}),
        ("/v1/responses", {"input": "hi", "text": {"format": {"type": "grammar", **held}}}),
    ):
        for model in ("strong", "auto", "router-word-0"):
            one = setup()  # with a weak model that follows none either
            reply = one.call(path=path, body={**fields, "stream": False, "model": model})
            seen = (reply.status, len(one.weak.calls), len(one.strong.calls))
            assert seen == (400, 0, 0), (path, model, reply.body)


def test_what_only_the_strong_model_can_do_is_never_left_out(setup: Callable[..., Any]) -> None:
    for path, (base, rows) in ASKED.items():
        for fields in rows:
            for how in ({"private": True}, {"model": "weak"}, {"model": "auto"}):
                one = setup()
                reply = one.call(path=path, body={**base, "stream": False, **fields, **how})
                expected = (200, 0, 1) if how == {"model": "auto"} else (400, 0, 0)
                seen = (reply.status, len(one.weak.calls), len(one.strong.calls))
                assert seen == expected, (path, fields, how, reply.body)
