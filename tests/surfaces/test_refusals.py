"""What no protocol takes: refused by each that has it, by the field's name and in its own form of an error."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edge_router.chat.request import ChatRequest
from edge_router.errors import InvalidRequest
from edge_router.server.errors import failure
from edge_router.surfaces import surfaces
from edge_router.surfaces.base import Call, Surface
from edge_router.surfaces.limits import MAX_TOOLS
from edge_router.surfaces.ollama.parse import parse as ollama_request
from edge_router.surfaces.responses.parse import parse as response_request
from edge_router.surfaces.responses.store import ResponseStore

CHAT, RESPONSES, MESSAGES, OLLAMA = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"
Body = dict[str, Any]
HI = {"role": "user", "content": "hi"}
BODIES: dict[str, Body] = {
    CHAT: {"messages": [HI]},
    RESPONSES: {"input": "hi"},
    MESSAGES: {"messages": [HI], "max_tokens": 9},
    OLLAMA: {"messages": [HI]},
}


def tool(path: str, **more: Any) -> Body:
    """A tool in the protocol's form; `more` is of its function, but `type`."""
    if path == MESSAGES:
        schema = {"input_schema": more.pop("parameters", {"type": "object"})}
        return {"name": "f", **schema, **more}
    function = {"name": "f", **more}
    kind = function.pop("type", "function")
    return {"type": kind, **function} if path == RESPONSES else {"type": kind, "function": function}


def called(path: str, arguments: object, result: str | None = None) -> Body:
    """A conversation with a call, and a result for the call `result`."""
    function = {"name": "f", "arguments": arguments}
    if path == RESPONSES:
        items: list[Body] = [{"type": "function_call", "call_id": "c", **function}]
        items += [{"type": "function_call_output", "call_id": result, "output": "x"}] if result else []
        return {"input": items}
    if path == MESSAGES:
        turns = [
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c", "name": "f", "input": arguments}],
            }
        ]
        block = {"type": "tool_result", "tool_use_id": result, "content": "x"}
        turns += [{"role": "user", "content": [block]}] if result else []
        return {"messages": turns}
    calls = [{"id": "c", "type": "function", "function": function}]
    said: list[Body] = [{"role": "assistant", "content": "", "tool_calls": calls}]
    named = {"tool_call_id": result} if path == CHAT else {"tool_name": result}
    return {"messages": said + ([{"role": "tool", "content": "x", **named}] if result else [])}


EFFORT = "must be .*low.*high"
THINGS: dict[str, list[tuple[str, Body, str, str]]] = {
    "a result for a call that was never made": [
        (CHAT, called(CHAT, "{}", "gone"), "messages[1].tool_call_id", "'gone', which no message"),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0]", "no call before it"),
        (CHAT, {"messages": [{"role": "function", "name": "g", "content": "x"}]}, "messages[0]", "no call of 'g'"),
        (CHAT, {"messages": [{"role": "tool", "tool_call_id": 7}]}, "messages[0].tool_call_id", "a string"),
        (RESPONSES, called(RESPONSES, "{}", "gone"), "input[1].call_id", "'gone', which no message"),
        (MESSAGES, called(MESSAGES, {}, "gone"), "messages[1].content[0].tool_use_id", "'gone', which no message"),
        (OLLAMA, called(OLLAMA, {}, "gone"), "messages[1]", "no call of 'gone'"),
    ],
    "a call demanded without tools": [
        (CHAT, {"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "no tools"),
        (RESPONSES, {"tool_choice": "required"}, "tool_choice", "no tools"),
        (RESPONSES, {"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name", "not among"),
        (MESSAGES, {"tool_choice": {"type": "any"}}, "tool_choice.type", "no tools"),
        (MESSAGES, {"tool_choice": {"type": "tool", "name": "f"}}, "tool_choice.name", "no tool has"),
        (OLLAMA, {"tool_choice": "required"}, "tool_choice", "no tools"),
        (OLLAMA, {"tool_choice": {"function": {"name": "f"}}}, "tool_choice", "'f', which is not among"),
    ],
    "a choice that is none": [
        (CHAT, {"tools": [tool(CHAT)], "tool_choice": "requierd"}, "tool_choice", "must be auto, none or"),
        (CHAT, {"tools": [tool(CHAT)], "tool_choice": {"type": "web_serch"}}, "tool_choice", "not among"),
        (CHAT, {"tools": [tool(CHAT)], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x"}}},
         "tool_choice.allowed_tools.mode", "must be auto"),
        (RESPONSES, {"tools": [tool(RESPONSES)], "tool_choice": "requierd"}, "tool_choice", "must be auto"),
        (MESSAGES, {"tools": [tool(MESSAGES)], "tool_choice": {"type": "required"}}, "tool_choice.type", "auto, any"),
        (OLLAMA, {"tools": [tool(OLLAMA)], "tool_choice": "requierd"}, "tool_choice", "must be auto"),
    ],
    "how much to think, in no known word": [
        *((CHAT, {"reasoning_effort": word}, "reasoning_effort", EFFORT) for word in ("hi", "High", 7, [], {})),
        (CHAT, {"reasoning": {"effort": "hi"}}, "reasoning.effort", EFFORT),
        (CHAT, {"reasoning": "high"}, "reasoning", "must be an object"),
        (CHAT, {"reasoning": {"exclude": "yes"}}, "reasoning.exclude", "true or false"),
        (CHAT, {"chat_template_kwargs": []}, "chat_template_kwargs", "must be an object"),
        (CHAT, {"chat_template_kwargs": {"enable_thinking": "of"}}, "chat_template_kwargs.enable_thinking", "false"),
        (CHAT, {"thinking": {"type": "enable"}}, "thinking.type", "true or false"),
        (CHAT, {"thinking": 7}, "thinking", "must be an object"),
        (CHAT, {"think": "hi"}, "think", EFFORT),
        (RESPONSES, {"reasoning": {"effort": "hi"}}, "reasoning.effort", EFFORT),
        (MESSAGES, {"output_config": {"effort": "hi"}}, "output_config.effort", EFFORT),
        (MESSAGES, {"thinking": {"type": "enable"}}, "thinking.type", "must be enabled"),
        (MESSAGES, {"thinking": {"type": "enabled", "display": "omit"}}, "thinking.display", "summarized, omitted or updates"),
        (OLLAMA, {"think": "hi"}, "think", EFFORT),
    ],
    "other words that nobody knows": [
        (CHAT, {"verbosity": "mid"}, "verbosity", "low, medium or high"),
        (CHAT, {"modalities": ["txt"]}, "modalities", "text, audio or image"),
        (CHAT, {"modalities": "audio"}, "modalities", "must be a list"),
        (CHAT, {"response_format": {"type": "json_shema"}}, "response_format.type", "did you mean json_schema"),
        (RESPONSES, {"text": {"verbosity": "mid"}}, "text.verbosity", "low, medium or high"),
        (RESPONSES, {"text": {"format": {"type": "json_objet"}}}, "text.format.type", "did you mean json_object"),
        (RESPONSES, {"reasoning": {"summary": "brief"}}, "reasoning.summary", "auto, concise, detailed or none"),
        (RESPONSES, {"truncation": "yes"}, "truncation", "auto or disabled"),
        (RESPONSES, {"include": ["reasoning.encrypted"]}, "include", "reasoning.encrypted_content"),
        (MESSAGES, {"output_config": {"format": {"type": "jsonschema"}}}, "output_config.format.type", "json_schema"),
        (OLLAMA, {"format": "jsn"}, "format", 'must be "json"'),
    ],
    "a tool that is none": [
        (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function", "must be an object"),
        (CHAT, {"tools": [tool(CHAT, type="funtion")]}, "tools[0].type", "did you mean function"),
        (RESPONSES, {"tools": [tool(RESPONSES, type="funtion")]}, "tools[0].type", "did you mean function"),
        (MESSAGES, {"tools": [{"name": "f"}]}, "tools[0].input_schema", "is missing"),
        (MESSAGES, {"tools": [tool(MESSAGES, type="custon")]}, "tools[0].type", "did you mean custom"),
        (OLLAMA, {"tools": [tool(OLLAMA, type="funtion")]}, "tools[0].type", "must be function"),
        (CHAT, {"tools": [{"type": "custom", "custom": {"name": "f", "format": {"type": "x"}}}]},
         "tools[0].custom.format.type", "text or grammar"),
    ],
}  # fmt: skip
SCHEMAS = {
    CHAT: "tools[0].function.parameters",
    RESPONSES: "tools[0].parameters",
    MESSAGES: "tools[0].input_schema",
    OLLAMA: "tools[0].function.parameters",
}
ARGUMENTS = {
    CHAT: "messages[0].tool_calls[0].function.arguments",
    RESPONSES: "input[0].arguments",
    MESSAGES: "messages[0].content[0].input",
    OLLAMA: "messages[0].tool_calls[0].function.arguments",
}


def spoken() -> dict[str, Surface]:
    registry = surfaces()
    return {
        path: surface for name in registry for surface in [registry.get(name)()] for path in surface.paths
    }


SPOKEN = spoken()


def parsed(path: str, body: Body) -> ChatRequest:
    call = SPOKEN[path].parse(path, {**BODIES[path], **body})
    assert isinstance(call, Call)
    return call.request


def refused(path: str, body: Body, told: object) -> InvalidRequest:
    """The error, which its protocol has a form for that names the field."""
    with pytest.raises(InvalidRequest) as caught:
        parsed(path, body)
        pytest.fail(f"it was taken: {told}")
    written = json.dumps(SPOKEN[path].error(failure(caught.value)))
    assert caught.value.param is not None and caught.value.param in written, told
    return caught.value


def test_what_is_refused_is_refused_by_every_protocol_that_has_it() -> None:
    for thing, rows in THINGS.items():
        for path, body, param, reason in rows:
            error = refused(path, body, (thing, path, body))
            assert error.param == param, (thing, path, body)
            assert re.search(reason, error.reason), (thing, path, error.reason)


def test_tools_are_bounded_each_has_its_own_name_and_a_schema_of_an_object() -> None:
    for path in BODIES:
        many = [
            tool(path) | ({"name": f"f{n}"} if path in (RESPONSES, MESSAGES) else {}) for n in range(1000)
        ]
        assert refused(path, {"tools": many}, path).param == "tools"
        assert (
            len(parsed(path, {"tools": [tool(path, name=f"f{n}") for n in range(MAX_TOOLS)]}).tools)
            == MAX_TOOLS
        )
        assert refused(path, {"tools": [tool(path)] * 2}, path).param == "tools[1].name"
        for schema, where in (("{}", ""), ([], ""), ({"type": "string"}, ".type")):
            error = refused(path, {"tools": [tool(path, parameters=schema)]}, (path, schema))
            assert error.param == SCHEMAS[path] + where, (path, schema)
        for schema in ({}, {"type": "object"}, {"type": None}):
            assert parsed(path, {"tools": [tool(path, parameters=schema)]}).tools, (path, schema)


def test_what_the_weak_model_cannot_serve_is_called_as_its_protocol_has_it() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    chosen: dict[str, tuple[Body, object]] = {
        CHAT: ({"response_format": {"type": "json_object"}}, "required"),
        RESPONSES: ({"text": {"format": {"type": "json_object"}}}, "required"),
        MESSAGES: ({"output_config": {"format": schema}}, {"type": "any"}),
        OLLAMA: ({"format": "json"}, "required"),
    }
    for path, (form, choice) in chosen.items():
        request = parsed(path, {"tools": [tool(path)], "tool_choice": choice, **form})
        forms = {CHAT: "response_format", RESPONSES: "text.format", OLLAMA: "format"}
        named = {"tools", "tool_choice", forms.get(path, "output_config.format")}
        assert {request.name_of(need) for need in request.needs} == named, path
    older = parsed(MESSAGES, {"output_format": schema})
    foreign = parsed(MESSAGES, {"output_config": {"format": {"type": "grammar"}}})
    assert [older.name_of(need) for need in older.needs] == ["output_format"]
    assert [foreign.name_of(need) for need in foreign.needs] == ["output_config.format"]
    picture = {"prompt": "see", "images": ["iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"]}
    asked = ollama_request("/api/generate", picture).request
    assert asked is not None and [asked.name_of(need) for need in asked.needs] == ["images"]


def test_a_call_of_an_agents_own_shell_is_answered_as_a_functions_is() -> None:
    """As Codex does."""
    call = {"type": "local_shell_call", "call_id": "s", "action": {"type": "exec", "command": ["ls"]}}
    result = {"type": "function_call_output", "call_id": "s", "output": "a.txt"}
    messages = parsed(RESPONSES, {"input": [HI, call, result]}).messages
    assert [each.call_id for each in messages[-1].results] == ["s"]
    assert refused(RESPONSES, {"input": [HI, result, call]}, "before").param == "input[1].call_id"


def test_arguments_that_are_no_json_are_taken_only_with_the_result_that_says_so() -> None:
    for path, param in ARGUMENTS.items():
        for wrong in ("{", "Oslo", 7, [1]):
            assert refused(path, called(path, wrong), (path, wrong)).param == param
        for right in ({}, {"a": 1}) if path in (MESSAGES, OLLAMA) else ("", "{}", "null", ' {"a": 1}'):
            assert parsed(path, called(path, right)).messages, (path, right)
    store = ResponseStore()
    cut, told = called(RESPONSES, '{"city": "Os', "c")["input"]
    store.add("resp_1", {"id": "resp_1", "output": [{"id": "fc_1", **cut}]}, [HI])
    whole, *_ = response_request(
        {"previous_response_id": "resp_1", "input": [told]}, store
    )  # the result comes later
    assert [message.role for message in whole.messages] == ["user", "assistant", "tool"]
    nameless = called(CHAT, "{", "whatever")
    del nameless["messages"][0]["tool_calls"][0]["id"]  # then any result is the call's
    assert len(parsed(CHAT, nameless).messages[1].results) == 1
    for path in (CHAT, RESPONSES):
        assert (
            parsed(path, called(path, '{"city": "Os', "c")).messages[0].calls[0].arguments == '{"city": "Os'
        )
