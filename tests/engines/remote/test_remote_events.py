import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.engines.remote.bounds import LARGEST_MESSAGE, TooLong
from edge_router.engines.remote.event_stream import EventDecoder
from edge_router.engines.remote.outcomes import Garbled


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)),
    st.data(),
)
def test_events_survive_any_cutting_of_the_bytes(texts, data):
    wire = "".join(f": note\r\nevent: x\ndata: {text}\r\n\r\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    decoder = EventDecoder()
    assert [event for piece in pieces for event in decoder.feed(piece)] == texts


def test_data_of_several_lines_is_one_event_and_an_unfinished_one_is_none():
    assert list(EventDecoder().feed(b"data: a\ndata:b\n\n\ndata: c\n")) == ["a\nb"]


def test_objects_and_the_end_without_a_field_name():
    assert list(EventDecoder().feed(b'{"a": 1}\n{"b": 2}\n[DONE]\n\n')) == ['{"a": 1}', '{"b": 2}', "[DONE]"]


ENDLESS = {
    "a line": (b"data: ", b"x"),
    "a line of no field": (b"", b"x"),
    "a comment": (b": ", b"x"),
    "lines of data": (b"", b"data: " + b"x" * 1000 + b"\n"),
    "short lines of data": (b"", b"data:\n"),
    "lines with carriage returns": (b"", b"data: x\r\n"),
}


@pytest.mark.parametrize("step", [7, 1000, 65536, 3 * LARGEST_MESSAGE])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_event_without_end_is_not_kept_for_ever(kind, step):
    start, more = ENDLESS[kind]
    step = max(step, 700)  # fewer would only take longer
    wire = start + more * (2 * LARGEST_MESSAGE // len(more))
    decoder = EventDecoder()
    with pytest.raises(TooLong, match="2 MiB"):
        for begin in range(0, len(wire), step):
            assert list(decoder.feed(wire[begin : begin + step])) == []
    assert begin <= LARGEST_MESSAGE + step


def test_a_large_event_that_ends_is_an_event():
    text = "x" * (LARGEST_MESSAGE - 100)
    wire = f"data: {text}\n\n".encode() * 3
    decoder = EventDecoder()
    cut = [wire[begin : begin + 65536] for begin in range(0, len(wire), 65536)]
    assert [event for piece in cut for event in decoder.feed(piece)] == [text] * 3


@pytest.mark.parametrize("unit", ["[],", "{},", "[[]],", '{"":0},', "[[[[]]]],", '{"":[]},', "[0],", "0,"])
def test_json_that_would_become_much_larger_is_refused_before_it_is_parsed(unit):
    small, large = unit * (30_000 // len(unit)), unit * (LARGEST_MESSAGE // len(unit) - 100)
    decoder = EventDecoder()
    assert list(decoder.feed(f"data: {small}\n\n".encode())) == [small]
    with pytest.raises(TooLong, match="24 MiB"):
        list(decoder.feed(f"data: {large}\n\n".encode()))


def test_bytes_that_are_not_text():
    with pytest.raises(Garbled, match="UTF-8"):
        list(EventDecoder().feed(b"data: \xff\n\n"))


def test_lines_are_given_on_before_the_next_one_comes():
    decoder = EventDecoder(by_line=True)
    assert list(decoder.feed(b'{"a": 1}\n{"b"')) == ['{"a": 1}']
    assert list(decoder.feed(b": 2}\r\n\n")) == ['{"b": 2}']
    assert list(decoder.feed(b'{"c": 3}')) == [] and list(decoder.rest()) == ['{"c": 3}']
