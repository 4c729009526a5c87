"""`cache`: "keep" in every protocol of chats, and Anthropic's own word for something that lasts minutes."""

from __future__ import annotations

from typing import Any

import pytest

from edge_router.chat.request import ChatRequest
from edge_router.errors import InvalidRequest
from edge_router.surfaces.anthropic.parse import parse as anthropic
from edge_router.surfaces.ollama.parse import parse as ollama
from edge_router.surfaces.openai.parse import parse_chat, parse_completion
from edge_router.surfaces.responses.parse import parse as response
from edge_router.surfaces.responses.store import ResponseStore

HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": HI},
    "responses": {"input": "hi"},
    "messages": {"messages": HI, "max_tokens": 9},
    "api/chat": {"messages": HI},
    "api/generate": {"prompt": "hi", "system": "Be brief."},
}


def parsed(protocol: str, **more: object) -> ChatRequest:
    body = {**BODIES[protocol], **more}
    if protocol == "chat":
        return parse_chat(body).request
    if protocol == "responses":
        return response(body, ResponseStore())[0]
    if protocol == "messages":
        return anthropic(body).request
    request = ollama(f"/{protocol}", body).request
    assert request is not None
    return request


def test_every_protocol_hears_the_mark_and_passes_nothing_of_it_on() -> None:
    for protocol in BODIES:
        assert parsed(protocol).keep is None, protocol
        kept = parsed(protocol, cache="keep")
        assert kept.keep == "cache" and "cache" not in kept.extra.fields, protocol
        theirs = parsed(protocol, cache={"no-store": True})  # LiteLLM's
        assert theirs.keep is None and theirs.extra.fields["cache"] == {"no-store": True}, protocol
        for wrong in ({"cache": "forever"}, {"cach": "keep"}):
            with pytest.raises(InvalidRequest, match=r"keep|did you mean cache"):
                parsed(protocol, **wrong)
    assert parsed("chat", extra_body={"cache": "keep"}).keep == "cache"  # as OpenAI's own client sends it


def test_a_text_without_turns_has_no_beginning_that_is_kept() -> None:
    with pytest.raises(InvalidRequest, match="chat/completions"):
        parse_completion({"prompt": "Once", "cache": "keep"})
    with pytest.raises(InvalidRequest, match="raw prompt"):
        parsed("api/generate", raw=True, cache="keep")


def test_cache_control_is_a_word_of_its_own() -> None:
    control = {"cache_control": {"type": "ephemeral"}}
    block = {"type": "text", "text": "Be brief."}
    tool = {"name": "f", "input_schema": {"type": "object"}}
    for marked in (
        control,
        {"system": [{**block, **control}]},
        {"tools": [{**tool, **control}]},
        {"messages": [{"role": "user", "content": [{**block, **control}]}]},
    ):
        assert parsed("messages", **marked).keep == "cache_control", marked
        assert parsed("messages", **marked, cache="keep").keep == "cache", marked
    assert parsed("messages", system=[block], tools=[tool], cache_control=None).keep is None
