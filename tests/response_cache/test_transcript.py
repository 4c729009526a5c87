"""Answers as they are kept: whole ones only, in pieces, and the same when they are read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_router.chat.events import (
    Answering,
    Event,
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
from edge_router.chat.reply import collect
from edge_router.response_cache.transcript import MOST, PIECE, Transcript, load

END = Finished("stop", Usage(5, 7, 2, 3), stop_sequence="END")
TEXT = st.text(st.characters(), max_size=40)  # halves of surrogate pairs, too
EVENTS = st.lists(
    st.one_of(
        st.builds(TextDelta, TEXT),
        st.builds(ReasoningDelta, TEXT, st.sampled_from(["", "summary"])),
        st.builds(ReasoningDelta, TEXT, st.just(""), st.just({"signature": "abc"})),
        st.builds(ForeignDelta, st.dictionaries(st.text(max_size=5), st.integers(), max_size=2)),
    )
)


def transcript(*events: Event) -> Transcript:
    made = Transcript()
    for event in events:
        made.read(event)
    return made


@given(EVENTS)
def test_it_says_the_same_again(events: list[Event]) -> None:
    made = transcript(*events, TextDelta("."), END)
    assert made.whole
    first, again = collect([*events, TextDelta("."), END]), collect(load(made.dump()))
    assert again.parts == first.parts and again.foreign == first.foreign
    assert again.usage == Usage(5, 7, 5, 3) and again.stop_sequence == "END"


def test_pieces_are_a_few_words_long() -> None:
    made = transcript(*(TextDelta(f"{number} ") for number in range(200)), END)
    pieces = [event.text for event in load(made.dump()) if isinstance(event, TextDelta)]
    assert all(PIECE <= len(piece) <= PIECE + 4 for piece in pieces[:-1]) and len(pieces) > 20


def test_calls_keep_their_turns() -> None:
    events: list[Event] = [
        ToolCallStart(0, "a", "f", extra={"thought_signature": "s"}),
        ToolCallStart(1, "b", "g", free=True),
        ToolCallArguments(0, '{"x":'),
        ToolCallArguments(1, "free"),
        ToolCallArguments(0, " 1}"),
        Finished("tool_calls"),
    ]
    made = transcript(*events)
    assert made.whole and load(made.dump()) == events


def test_what_is_not_kept() -> None:
    for events in (
        (TextDelta("cut"),),
        (TextDelta("cut"), Finished("length")),
        (TextDelta("round"), Finished("stop", looped=True)),
        (TextDelta("x"), Finished("content_filter")),
        (RefusalDelta("no"), END),
        (TextDelta("so"), RefusalDelta("no"), END),
        (TextDelta(""), END),
        (ReasoningDelta("only thoughts"), END),
        (TextDelta("a", (TokenLogprob("a", -0.1, b"a"),)), END),
        (TextDelta("x" * (MOST + 1)), END),
        (END,),
    ):
        assert not transcript(*events).whole, events[0]
    assert transcript(Answering("m", "e"), HiddenState((0.1,)), TextDelta("yes"), END).whole
