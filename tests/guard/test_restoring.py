"""What was hidden comes back into an answer, however its chunks are cut."""

from __future__ import annotations

import json

from edge_router.chat.events import (
    Event,
    Finished,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
)
from edge_router.chat.reply import Reply, collect
from edge_router.guard.restoring import Restorer

VALUES = {"[EMAIL_1]": "ann@example.org", "[EMAIL_11]": "bob@example.org", "[HOME_1]": 'C:\\Users\\"Ann"'}


def restored(*events: Event, json_text: bool = False) -> Reply:
    restorer = Restorer(VALUES, json_text=json_text)
    return collect(each for event in (*events, Finished("stop")) for each in restorer.feed(event))


def test_a_placeholder_is_put_back_wherever_it_is_cut() -> None:
    text = "[[EMAIL_1] or [EMAIL_11], [EMAIL_2] [EMAIL_1 [HOME_1]\\x, [E"
    whole = '[ann@example.org or bob@example.org, [EMAIL_2] [EMAIL_1 C:\\Users\\"Ann"\\x, [E'
    for first in range(len(text)):
        for second in range(first, min(len(text), first + 14)):
            pieces = (text[:first], text[first:second], text[second:])
            assert restored(*map(TextDelta, pieces)).text == whole, pieces
    assert restored(*map(TextDelta, text)).text == whole


def test_it_may_be_written_in_other_ways() -> None:
    for written in ("[email_1]", "[Email_1]", r"[EMAIL\_1]", r"[email\_1]"):
        for cut in range(1, len(written)):
            told = restored(TextDelta("to " + written[:cut]), TextDelta(written[cut:] + ", x")).text
            assert told == "to ann@example.org, x", (written, cut)
    for other in ("[email 1]", "[EMAIL_01]", "[e]mail_1", r"[EMAIL\\\_1]", "[EMAIL-1]"):
        assert restored(*map(TextDelta, other)).text == other
    escaped = restored(*map(TextDelta, r'{"a": "[EMAIL\\_1]"}'), json_text=True).text
    assert json.loads(escaped) == {"a": "ann@example.org"}


def test_nothing_is_held_back_but_what_may_be_one() -> None:
    restorer = Restorer(VALUES, json_text=False)
    for given, told in (("see [1], ", "see [1], "), ("[EM", ""), ("PTY] [", "[EMPTY] "), ("x", "[x")):
        assert (
            "".join(each.text for each in restorer.feed(TextDelta(given)) if isinstance(each, TextDelta))
            == told
        )


def test_within_json_it_stays_json() -> None:
    call = ToolCallStart(0, "call_1", "open")
    for cut in range(1, 24):
        text = '{"path": "[HOME_1]\\\\x"}'
        reply = restored(call, ToolCallArguments(0, text[:cut]), ToolCallArguments(0, text[cut:]))
        assert json.loads(reply.calls[0].arguments) == {"path": 'C:\\Users\\"Ann"\\x'}, cut
    told = restored(TextDelta('{"home": "[HO'), TextDelta('ME_1]"}'), json_text=True)
    assert json.loads(told.text) == {"home": VALUES["[HOME_1]"]}
    free = restored(ToolCallStart(0, "call_1", "sh", free=True), ToolCallArguments(0, "cd [HOME_1]"))
    assert free.calls[0].arguments == f"cd {VALUES['[HOME_1]']}"


def test_each_part_has_a_rest_of_its_own() -> None:
    reply = restored(
        ReasoningDelta("asks [EMAIL", "reasoning", {"signature": "of [EMAIL_1]"}),
        ReasoningDelta("_1]; [EM", "reasoning"),
        TextDelta("I [EMAIL_1"),
        ForeignDelta({"note": ["[EMAIL_1]", 3]}),
        TextDelta("] [HO"),
        ToolCallStart(0, "a", "mail"),
        ToolCallStart(1, "b", "mail"),
        ToolCallArguments(0, '{"to":"[EMA'),
        ToolCallArguments(1, '{"to":"[EMAIL_1'),
        ToolCallArguments(0, 'IL_1]"}'),
        ToolCallArguments(1, '1]"}'),
    )
    thoughts, text, *calls = reply.parts
    assert thoughts.text == "asks ann@example.org; [EM"  # type: ignore[union-attr]
    assert thoughts.opaque == {"signature": "of ann@example.org"}  # type: ignore[union-attr]
    assert text.text == "I ann@example.org [HO"  # type: ignore[union-attr]
    assert [json.loads(call.arguments)["to"] for call in calls] == ["ann@example.org", "bob@example.org"]  # type: ignore[union-attr]
    assert reply.foreign[0].fields == {"note": ["ann@example.org", 3]}


def test_refusals_and_log_probabilities_come_through() -> None:
    logprob = TokenLogprob("[EM", -0.1, b"[EM")
    reply = restored(TextDelta("[EM", (logprob,)), TextDelta("AIL_1]"), RefusalDelta("not [EMAIL_1]"))
    assert reply.logprobs == (logprob,)
    assert reply.text == "ann@example.org\nnot ann@example.org"


def test_without_anything_hidden_events_pass_as_they_are() -> None:
    restorer, event = Restorer({}, json_text=True), TextDelta("[EMAIL_1")
    assert [*restorer.feed(event)] == [event]
