"""What messages and requests tell of themselves."""

from __future__ import annotations

import pytest

from edge_router.chat.message import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    without_extra,
)
from edge_router.chat.request import (
    ChatRequest,
    ForeignOutput,
    GrammarOutput,
    HostedTool,
    JsonOutput,
    Need,
    Tool,
    ToolChoice,
)

CALL = ToolCall("c1", "weather", '{"city": "Oslo"}')


def test_a_string_is_one_text() -> None:
    assert Message("user", "hi") == Message("user", [Text("hi")])


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((Text("one"), Text("two")), "one\ntwo"),
        ((Reasoning("hm"), Text("yes"), CALL), "yes"),
        ((Refusal("no"),), "no"),
        ((ToolResult("c1", (Text("rain"),)), Text("so?")), "rain\nso?"),
        ((Image("data:,"),), ""),
        ((), ""),
    ],
)
def test_its_text_is_what_it_says(parts: tuple[Part, ...], text: str) -> None:
    assert Message("assistant", parts).text == text


def test_calls_and_results_are_found_among_its_parts() -> None:
    result = ToolResult("c1", (Text("rain"),))
    assert Message("assistant", (Text("let me see"), CALL)).calls == (CALL,)
    assert Message("tool", (result,)).results == (result,)


@pytest.mark.parametrize("part", [Image("x"), Audio("", "wav"), File(id="f"), Foreign("video", {})])
def test_media_are_found_wherever_they_stand(part: Part) -> None:
    assert Message("user", (Text("see"), part)).has_media
    assert Message("tool", (ToolResult("c1", (part,)),)).has_media
    assert not Message("assistant", (Text("see"), Reasoning("hm"), CALL)).has_media


TOOLS = (Tool("weather"), Tool("time"))


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"tools": TOOLS}, {Need.TOOLS}),
        ({"tools": TOOLS, "tool_choice": ToolChoice("none")}, set()),
        ({"tools": TOOLS, "tool_choice": ToolChoice("required")}, {Need.TOOLS, Need.TOOL_CALL}),
        ({"tool_choice": ToolChoice("required")}, set()),
        ({"tools": TOOLS, "tool_choice": ToolChoice("auto", ("gone",))}, set()),
        ({"tools": (HostedTool("web_search", {}),)}, {Need.TOOLS, Need.HOSTED_TOOLS}),
        ({"tools": (*TOOLS, HostedTool("web_search", {}))}, {Need.TOOLS}),
        (
            {
                "tools": (*TOOLS, HostedTool("web_search", {})),
                "tool_choice": ToolChoice("auto", ("web_search",)),
            },
            {Need.TOOLS, Need.HOSTED_TOOLS},
        ),
        ({"output": JsonOutput()}, {Need.JSON}),
        ({"output": GrammarOutput("regex", "a+")}, {Need.GRAMMAR}),
        ({"output": ForeignOutput({})}, {Need.FOREIGN}),
        ({"logprobs": True, "spoken": True}, {Need.LOGPROBS, Need.SPEECH}),
        ({"mask": lambda vocabulary: None}, {Need.MASK}),
    ],
)
def test_a_request_knows_what_it_needs(fields: dict[str, object], needs: set[Need]) -> None:
    assert ChatRequest((Message("user", "hi"),), **fields).needs == needs


def test_media_are_needed_wherever_they_stand() -> None:
    shown = ToolResult("c1", (Image("x"),))
    request = ChatRequest((Message("user", (File(id="f"),)), Message("tool", (shown,))))
    assert request.needs == {Need.FILES, Need.IMAGES}


def test_a_choice_of_names_leaves_the_other_tools_out() -> None:
    request = ChatRequest(
        (Message("user", "hi"),), tools=TOOLS, tool_choice=ToolChoice("required", ("time",))
    )
    assert request.callable_tools == (TOOLS[1],)


def test_what_a_protocol_wrote_beside_is_left_out_for_another() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    kept = (ToolCall("c", "n", "{}", extra={"signature": 1}), Reasoning("hm", opaque={"signature": 2}))
    other = (Refusal("no"), Foreign("k", {"a": 1}))
    shown = [
        (Text("a", extra), Image("b", None, extra), Audio("c", "wav", extra), File(id="d", extra=extra))
        for extra in (mark, {})
    ]
    marked, bare = (
        Message("user", (*parts, ToolResult("c", parts, True, "n", extra), *kept, *other), "me", extra)
        for parts, extra in zip(shown, (mark, {}), strict=True)
    )
    assert without_extra([marked, bare]) == (bare, bare)
