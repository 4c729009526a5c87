"""What says that a question must stay here is heard, or refused, wherever a protocol's client may write it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

HARD = "a hard question"
ASKED = [{"role": "user", "content": HARD}]
CHATS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": ASKED},
    "/v1/completions": {"prompt": HARD},
    "/v1/messages": {"messages": ASKED, "max_tokens": 9},
    "/v1/responses": {"input": ASKED},
    "/api/chat": {"messages": ASKED, "stream": False},
    "/api/generate": {"prompt": HARD, "stream": False},
}
PRIVATE_TOOL = {"type": "object", "properties": {"private": {"type": "boolean"}}}
# What any of them may be sent: query, headers, fields.
HEARD: tuple[tuple[str, dict[str, str], dict[str, Any]], ...] = (
    ("", {}, {"private": True}),
    ("", {}, {"private": " Yes"}),
    ("", {"x-edge-router-private": "1"}, {}),
    ("?beta=true&private=on", {}, {}),
    ("?private=0&private=1", {}, {"private": False}),
    ("", {}, {"metadata": {"private": "true", "title": "x"}}),
)
REFUSED: tuple[tuple[str, dict[str, str], dict[str, Any]], ...] = (
    ("", {}, {"private": "maybe"}),
    ("", {}, {"private": {}}),
    ("", {}, {"Private": True}),
    ("", {}, {"privat": True}),
    ("", {}, {"local_only": True}),
    ("", {"x-edge-router-private": "maybe"}, {}),
    ("", {"x-edge-router-private": ""}, {}),
    ("", {"x-edge-router-privat": "1"}, {}),
    ("", {"x-edgerouter-private": "1"}, {}),
    ("", {"private": "1"}, {}),
    ("?privat=1", {}, {}),
    ("?private", {}, {}),
    ("", {}, {"metadata": {"privat": "1"}}),
    ("", {}, {"metadata": {"a": [{"b": {"private": True}}]}}),
    ("", {}, {"options": {"private": True}}),
    ("", {}, {"nobodys": [{"private": True}]}),
)
# Of one protocol alone: fields that are known there, and are passed on or hold what was said.
WITHIN: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("/v1/chat/completions", {name: {"private": True}}) for name in ("user", "audio", "prediction")),
    ("/v1/chat/completions", {"extra_body": {"provider": {"is_private": True}}}),
    ("/v1/chat/completions", {"messages": [{**ASKED[0], "metadata": {"private": True}}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "text", "text": HARD, "private": True}]}]}),
    ("/v1/completions", {"response_format": {"type": "text", "private": True}}),
    *(("/v1/messages", {name: {"private": True}}) for name in ("container", "context_management", "thread")),
    ("/v1/messages", {"output_config": {"effort": "low", "private": True}}),
    ("/v1/messages", {"messages": [{"role": "user", "content": [
        {"type": "text", "text": HARD, "cache_control": {"type": "ephemeral", "private": True}}]}]}),
    *(("/v1/responses", {name: {"private": True}}) for name in ("client_metadata", "reasoning", "text")),
    ("/v1/responses", {"input": [{"role": "user", "content": [
        {"type": "input_text", "text": HARD, "private": True}]}]}),
    ("/api/chat", {"messages": [{**ASKED[0], "private": True}]}),
    ("/api/generate", {"format": {"private": True}}),
)  # fmt: skip
CALL = {"name": "make", "arguments": {"private": True}}
# What only calls something else so: schemas, and what tools were given.
NO_MARKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"tools": [
        {"type": "function", "function": {"name": "make", "parameters": PRIVATE_TOOL}}]}),
    ("/v1/chat/completions", {"response_format": {
        "type": "json_schema", "json_schema": {"name": "x", "schema": PRIVATE_TOOL}}}),
    ("/v1/chat/completions", {"messages": [
        *ASKED, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": CALL}]},
        {"role": "tool", "tool_call_id": "c", "content": HARD}]}),
    ("/v1/messages", {"tools": [
        {"name": "make", "input_schema": PRIVATE_TOOL, "input_examples": [{"private": True}]}]}),
    ("/v1/messages", {"messages": [
        *ASKED,
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "c", "name": "make", "input": {"private": True}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": HARD}]}]}),
    ("/v1/responses", {"tools": [{"type": "function", "name": "make", "parameters": PRIVATE_TOOL}]}),
    ("/api/chat", {"format": PRIVATE_TOOL}),
    ("/api/chat", {"messages": [
        *ASKED, {"role": "assistant", "tool_calls": [{"function": CALL}]}, {"role": "tool", "content": HARD}]}),
)  # fmt: skip


def asked(
    setup: Callable[..., Any], path: str, headers: dict[str, str], body: dict[str, Any]
) -> Iterator[tuple[Any, int, object]]:
    """Each reply, how often the strong model was asked, and what errors tell: streamed, and as a whole."""
    for stream in (True, False):
        one = setup()
        sent = copy.deepcopy({**body, "stream": stream})
        reply = one.call(path=path, body=sent, headers=[("host", "localhost"), *headers.items()])
        yield reply, len(one.strong.calls), (path, headers, body, stream, reply.body)


def rows(table: Any) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    for path, body in CHATS.items():
        for query, headers, fields in table:
            yield path + query, headers, {**body, **fields}


def test_a_mark_of_privacy_is_heard_by_every_protocol(setup: Callable[..., Any]) -> None:
    for path, body in CHATS.items():
        for reply, strong, told in asked(setup, path, {}, body):
            assert (reply.status, strong) == (200, 1), told  # so that the rest says something
    for row in rows(HEARD):
        for reply, strong, told in asked(setup, *row):
            assert (reply.status, strong) == (200, 0), told
            assert reply.header("x-edge-router-reason") == "private", told


def test_a_mark_that_is_not_understood_is_refused_by_every_protocol(setup: Callable[..., Any]) -> None:
    within = ((path, {}, {**CHATS[path], **fields}) for path, fields in WITHIN)
    for row in (*rows(REFUSED), *within):
        for reply, strong, told in asked(setup, *row):
            assert (reply.status, strong) == (400, 0), told


def test_what_schemas_and_calls_name_so_is_no_mark(setup: Callable[..., Any]) -> None:
    for path, fields in NO_MARKS:
        for reply, strong, told in asked(setup, path, {}, {**CHATS[path], **fields}):
            assert (reply.status, strong) == (200, 1), told
