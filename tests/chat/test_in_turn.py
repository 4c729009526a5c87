"""Calls one after the other, whichever way they came."""

from __future__ import annotations

import random

from edge_router.chat.events import Event, Finished, TextDelta, ToolCallArguments, ToolCallStart
from edge_router.chat.in_turn import InTurn
from edge_router.chat.reply import collect


def given(*events: Event) -> list[list[Event]]:
    """What each of them brings."""
    turn = InTurn()
    return [list(turn.feed(event)) for event in events]


def call(index: int, *pieces: str, free: bool = False) -> list[Event]:
    start = ToolCallStart(index, f"t{index}", "f", free)
    return [start, *(ToolCallArguments(index, piece) for piece in pieces)]


def test_nothing_waits_where_calls_come_in_turn() -> None:
    for calls in (
        [*call(0, '{"a": "}', '"}'), *call(1, '{"a": {}', "}")],
        [*call(0, "ls {", free=True), *call(1, "cd", free=True)],
    ):
        events = [TextDelta("a"), *calls, TextDelta("b"), Finished("tool_calls")]
        assert given(*events) == [[event] for event in events]


def test_a_later_call_waits_for_the_end_of_the_one_before() -> None:
    (one, first, rest), (two, *both) = call(0, '{"a": [', "1]}"), call(1, "{", "}")
    assert given(one, two, first, *both, rest) == [[one], [], [first], [], [], [rest, two, *both]]
    end = Finished("tool_calls")  # of a call whose arguments never end, and of one that has none
    assert given(one, first, two, end) == [[one], [first], [], [two, end]]
    assert given(one, two, *both, end) == [[one], [], [], [], [two, *both, end]]
    late = ToolCallArguments(0, "", {"signature": "s"})
    assert given(one, first, rest, two, late)[-1] == [late]


def test_nothing_is_lost_or_changed() -> None:
    chosen = random.Random(0)
    for _ in range(200):
        calls = [call(n, *chosen.choice(['{"a": "\\"{"}', "{}", '[{"b": 1}]', ""])) for n in range(3)]
        events = [each.pop(0) for each in calls]
        while left := [each for each in calls if each]:
            events.append(chosen.choice(left).pop(0))
        events.append(Finished("tool_calls"))
        in_turn = [event for piece in given(*events) for event in piece]
        assert collect(in_turn) == collect(events), events
        order = [event.index for event in in_turn if isinstance(event, ToolCallStart | ToolCallArguments)]
        assert order == sorted(order), events
