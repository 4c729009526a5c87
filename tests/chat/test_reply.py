"""Replies, collected from events."""

from __future__ import annotations

from edge_router.chat.events import (
    EngineTimings,
    Finished,
    ForeignDelta,
    HiddenState,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Reasoning, Refusal, Text, ToolCall
from edge_router.chat.reply import collect


def test_parts_stand_in_the_order_in_which_they_began() -> None:
    events = [
        HiddenState((1.0,)),
        ReasoningDelta("let me "),
        ReasoningDelta("see", opaque={"signature": "s"}),
        TextDelta("It "),
        TextDelta("rains."),
        ReasoningDelta("more"),
        TextDelta("Again."),
        Finished("stop"),
    ]
    assert collect(events).parts == (
        Reasoning("let me see", "", {"signature": "s"}),
        Text("It rains."),
        Reasoning("more"),
        Text("Again."),
    )


def test_calls_under_way_at_the_same_time_are_kept_apart() -> None:
    reply = collect(
        [
            ToolCallStart(0, "a", "weather"),
            ToolCallStart(1, "b", "time", extra={"signature": 1}),
            ToolCallArguments(0, '{"city":'),
            ToolCallArguments(1, "{}", {"more": 2}),
            ToolCallArguments(0, ' "Oslo"}'),
            Finished("tool_calls"),
        ]
    )
    assert reply.calls == (
        ToolCall("a", "weather", '{"city": "Oslo"}'),
        ToolCall("b", "time", "{}", extra={"signature": 1, "more": 2}),
    )
    assert reply.finish_reason == "tool_calls"


def test_how_it_ended_is_kept() -> None:
    usage, timings = Usage(3, 4), EngineTimings(0.1, 3)
    reply = collect([TextDelta("a"), Finished("length", usage, timings, looped=True)])
    assert (reply.finish_reason, reply.usage, reply.timings, reply.looped) == ("length", usage, timings, True)
    assert collect([TextDelta("a"), Finished("stop", stop_sequence="\n\n")]).stop_sequence == "\n\n"


def test_logprobs_and_foreign_fields_are_gathered() -> None:
    one, two = TokenLogprob("a", -0.1, b"a"), TokenLogprob("b", -0.2, b"b")
    fields = ForeignDelta({"annotations": []})
    reply = collect([TextDelta("a", (one,)), fields, TextDelta("b", (two,)), Finished("stop")])
    assert (reply.logprobs, reply.foreign, reply.text) == ((one, two), (fields,), "ab")


def test_a_refusal_is_what_is_shown() -> None:
    reply = collect([RefusalDelta("I "), RefusalDelta("will not."), Finished("content_filter")])
    assert (reply.parts, reply.text) == ((Refusal("I will not."),), "I will not.")


def test_without_any_event_it_is_empty() -> None:
    assert (collect([]).parts, collect([]).finish_reason) == ((), "stop")
