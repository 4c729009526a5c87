"""One or two calls, sent as servers of many kinds send them: what comes out are events of ours."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import each

from edge_router.chat.events import ToolCallArguments, ToolCallStart
from edge_router.chat.message import ToolCall
from edge_router.chat.reply import collect
from edge_router.engines.remote.outcomes import Garbled
from edge_router.engines.remote.tool_calls import CallEvent, ToolCallReader

MISSING = object()
ONE, TWO = '{"a": 1}', '{"a": {"b": [2, "}"]}}'


def piece(
    identifier: object, arguments: object, name: object = "look", index: object = 0, **more: Any
) -> Any:
    function = {"name": name, "arguments": arguments}
    made = {"index": index, "id": identifier, "type": "function", **more}
    made = {key: value for key, value in made.items() if value is not MISSING}
    return made | {"function": {key: value for key, value in function.items() if value is not MISSING}}


def rest(arguments: object, **more: Any) -> Any:
    """A piece that begins nothing."""
    return piece(
        more.pop("identifier", MISSING), arguments, MISSING, more.pop("index", MISSING), type=MISSING
    )


def read(*chunks: list[Any], cut: bool = False) -> tuple[list[CallEvent], tuple[ToolCall, ...]]:
    """The events, and the calls that they make."""
    reader = ToolCallReader()
    told = [event for chunk in chunks for event in reader.read(chunk)] + reader.finish(cut=cut)
    return told, collect(told).calls


def said(calls: tuple[ToolCall, ...]) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in calls]


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


@pytest.mark.parametrize("index", [0, MISSING, None, "0", -1, "x", True])
@pytest.mark.parametrize("later_name", [MISSING, None, "", "look"])
@pytest.mark.parametrize("later_id", ["same", MISSING, None, "", "null"])
@pytest.mark.parametrize("later_index", ["same", MISSING, None])
def test_one_call_in_pieces(index: object, later_name: Any, later_id: Any, later_index: Any) -> None:
    first, second = halves(TWO)
    identifier = "c1" if later_id == "same" else later_id
    place = index if later_index == "same" else later_index
    told, calls = read(
        [piece("c1", "", index=index)],
        [piece(identifier, first, later_name, place)],
        [piece(identifier, second, later_name, place)],
    )
    assert [(call.id, *pair) for call, pair in zip(calls, said(calls), strict=True)] == [("c1", "look", TWO)]
    assert told == [ToolCallStart(0, "c1", "look"), *(ToolCallArguments(0, text) for text in (first, second))]


NUMBERED = [(0, 1), (0, 0), (MISSING, MISSING), (None, None), (1, 2), ("0", "1"), (7, 3)]
IDENTIFIED = [("c1", "c2"), (MISSING, MISSING), (None, None), ("", ""), ("null", "null"), (1, 2)]
NAMED = [("look", "look"), ("look", "find"), ("look", "lookup")]


@each("indices, ids", list(itertools.product(NUMBERED, IDENTIFIED)))
@each("names", NAMED)
@each("form", ["text", "object", "pieces", "one chunk"])
def test_two_calls(indices: Any, ids: Any, names: Any, form: str) -> None:
    starts = [
        piece(identifier, arguments, name, index)
        for identifier, arguments, name, index in zip(ids, (ONE, TWO), names, indices, strict=True)
    ]
    if form == "object":
        for start in starts:
            start["function"]["arguments"] = json.loads(start["function"]["arguments"])
    if form == "one chunk":
        chunks = [starts]
    elif form == "pieces":
        chunks = []
        for start, index in zip(starts, indices, strict=True):
            first, second = halves(start["function"]["arguments"])
            start["function"]["arguments"] = first
            chunks += [[start], [rest(second, index=index)]]
    else:
        chunks = [[start] for start in starts]
    told, calls = read(*chunks)
    assert [(name, json.loads(text)) for name, text in said(calls)] == [
        (names[0], json.loads(ONE)),
        (names[1], json.loads(TWO)),
    ]
    assert [call.id for call in calls] == [str(i) for i in ids] or all(len(call.id) == 9 for call in calls)
    assert len({call.id for call in calls}) == 2
    assert {each.index for each in told} == {0, 1}


@pytest.mark.parametrize("identifier", ["look", "call_0"])
def test_one_id_for_two_calls_is_not_passed_on(identifier: str) -> None:
    """Some servers take the function's name for an id."""
    for indices in ((0, 1), (0, 0)):
        _, calls = read(
            *([piece(identifier, text, index=i)] for i, text in zip(indices, (ONE, TWO), strict=True))
        )
        assert said(calls) == [("look", ONE), ("look", TWO)]
        assert calls[0].id == identifier != calls[1].id


def test_two_calls_in_turns() -> None:
    (a, b), (c, d) = halves(ONE), halves(TWO)
    for more in ({"index": 0, "identifier": "c1"}, {"index": 0}, {"identifier": "c1"}):
        other = {"index": 1, "identifier": "c2"}
        _, calls = read(
            [piece("c1", a, index=0)],
            [piece("c2", c, index=1)],
            [rest(b, **more)],
            [rest(d, **{key: other[key] for key in more})],
        )
        assert said(calls) == [("look", ONE), ("look", TWO)]
    _, calls = read([piece(None, a, index=None), piece(None, c, index=None)], [rest(b), rest(d)])
    assert said(calls) == [("look", ONE), ("look", TWO)]


def test_a_call_that_is_repeated_in_the_end_is_not_doubled() -> None:
    for again in (ONE, json.loads(ONE), '{"a":1}'):
        told, calls = read([piece("c1", ONE)], [piece("c1", again)])
        assert said(calls) == [("look", ONE)] and len(told) == 2


@pytest.mark.parametrize("first", ["", None, MISSING, ONE[:1], ONE[:4]])
@pytest.mark.parametrize("index", [0, MISSING, None])
@pytest.mark.parametrize("name", [MISSING, None, ""])
def test_an_id_of_its_own_for_each_piece(first: Any, index: Any, name: Any) -> None:
    after = ONE.removeprefix(first if isinstance(first, str) else "")
    pieces = [piece(f"c{number}", text, name, index) for number, text in enumerate(halves(after), start=2)]
    _, calls = read([piece("c1", first, index=index)], *([each] for each in pieces))
    assert said(calls) == [("look", ONE)] and calls[0].id == "c1"
    _, calls = read([piece("c1", ONE, index=index)], [piece("c2", TWO, index=index)])
    assert said(calls) == [("look", ONE), ("look", TWO)]


@pytest.mark.parametrize("text", [ONE, TWO, '{"": "\\"{", "{\\"": 1}', '{ "a": "{ \\"a\\": "}'])
@pytest.mark.parametrize("identifier", ["c1", MISSING])
def test_arguments_that_begin_anew_in_each_piece(text: str, identifier: Any) -> None:
    json.loads(text)
    pieces = [[piece("c1", text[:1])], *([piece(identifier, text[:end])] for end in range(2, len(text) + 1))]
    assert said(read(*pieces)[1]) == [("look", text)]
    assert said(read([piece("c1", "")], *([rest(letter)] for letter in text))[1]) == [("look", text)]


@pytest.mark.parametrize("arguments", [[ONE], halves(ONE)])
def test_a_name_that_comes_last(arguments: Any) -> None:
    pieces = [piece("c1", arguments[0], MISSING), *map(rest, arguments[1:])]
    last = piece(MISSING, MISSING, index=0, type=MISSING)
    assert said(read(*([each] for each in pieces), [last])[1]) == [("look", ONE)]
    other = piece("c2", TWO, index=1)
    told, calls = read(*([each] for each in pieces), [other], [last])
    assert said(calls) == [("look", ONE), ("look", TWO)]
    assert [each.index for each in told] == [0, 0, 1, 1]


@pytest.mark.parametrize("nothing", ["", None, MISSING, {}, [], "{}"])
def test_a_call_without_arguments_has_an_empty_object(nothing: object) -> None:
    assert said(read([piece("c1", nothing)])[1]) == [("look", "{}")]
    assert said(read([piece("c1", nothing)], [rest(ONE[:3])], [rest(ONE[3:])])[1]) == [("look", ONE)]
    _, calls = read([piece("c1", nothing)], [piece("c2", nothing, index=MISSING)])
    assert said(calls) == [("look", "{}")] * 2


@pytest.mark.parametrize("nothing", ["", None, MISSING, {}, "{}"])
@pytest.mark.parametrize("second", ["find", "lookup"])
def test_calls_of_names_alone_are_one_each(nothing: object, second: str) -> None:
    """Nothing tells them apart: no id, no index, no type, no arguments."""
    bare = {"index": MISSING, "type": MISSING}
    chunks = [piece(MISSING, nothing, name, **bare) for name in ("look", "look", second)]
    _, calls = read(*([chunk] for chunk in chunks))
    assert said(calls)[0] == ("look", "{}") and said(calls)[-1] == (second, "{}")
    assert len({call.id for call in calls}) == len(calls)
    assert said(read(chunks[:1], [rest(ONE)], chunks[2:], [rest(TWO)])[1]) == [("look", ONE), (second, TWO)]


def test_an_answer_that_was_cut_gets_no_arguments_that_were_not_written() -> None:
    assert said(read([piece("c1", "")], cut=True)[1]) == [("look", "")]


def test_an_empty_object_within_arguments_stays() -> None:
    text = '{"a": {}}'
    assert said(read([piece("c1", '{"a": ')], [rest("{}")], [rest("}")])[1]) == [("look", text)]


@pytest.mark.parametrize("index", ["number", 0, MISSING])
@pytest.mark.parametrize("identified", [True, False])
def test_calls_without_end_cost_each_the_same(index: Any, identified: bool) -> None:
    reader, begin = ToolCallReader(), time.process_time()
    for number in range(40_000):
        place = number if index == "number" else index
        assert len(reader.read([piece(f"c{number}" if identified else None, ONE, index=place)])) == 2
    assert time.process_time() - begin < 30  # a look at each that came before takes minutes


def test_names_in_parts() -> None:
    both = [[piece("c1", MISSING, "get_", 0), piece("c2", MISSING, "set_", 1)]]
    both.append([piece(MISSING, MISSING, name, place, type=MISSING) for place, name in enumerate(("a", "b"))])
    told, calls = read(*both, [rest(TWO, index=1)], [rest(ONE, index=0)])
    assert said(calls) == [("get_a", ONE), ("set_b", TWO)]
    assert [each.index for each in told] == [0, 1, 1, 0]
    _, calls = read(
        [piece("c1", MISSING, "get_", index=0)],
        [piece(MISSING, MISSING, "weather", index=0, type=MISSING)],
        [rest(ONE, index=0)],
    )
    assert said(calls) == [("get_weather", ONE)]


def test_an_id_that_comes_late_does_not_change_the_one_that_was_told() -> None:
    (first, second) = halves(ONE)
    told, calls = read([piece(None, first)], [piece("late", second, MISSING, type=MISSING)])
    assert said(calls) == [("look", ONE)] and len(told) == 3 and calls[0].id != "late"


def test_what_the_endpoint_adds_travels_along_once() -> None:
    signature = {"google": {"thought_signature": "SIG"}}
    start = piece("a", ONE[:3], extra_content=signature)
    start["function"]["strict"] = True
    told, (call,) = read([start], [rest(ONE[3:], index=0) | {"extra_content": signature}])
    extra = {"extra_content": signature, "function": {"strict": True}}
    assert [each.extra for each in told] == [extra, {}, {}]
    assert call == ToolCall("a", "look", ONE, extra=extra)
    late = {"extra_content": signature, "function": {"arguments": ONE[3:], "strict": True}}
    told, (call,) = read([piece("a", ONE[:3])], [late])
    assert [each.extra for each in told] == [{}, {}, extra] and call.extra == extra


def test_custom_tools() -> None:
    start = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": "{}"}}
    _, (call,) = read([start], [{"index": 0, "custom": {"input": " ls"}}])
    assert call == ToolCall("a", "sh", "{} ls", free=True)


def test_calls_without_the_inner_object() -> None:
    assert said(read([{"name": "look", "arguments": {"a": 1}}])[1]) == [("look", ONE)]


def test_whole_calls_are_never_joined() -> None:
    calls = collect(ToolCallReader().read([piece("x", ONE), piece("x", ONE)], whole=True)).calls
    assert said(calls) == [("look", ONE)] * 2 and calls[0].id != calls[1].id


@pytest.mark.parametrize("broken", [{"function": "look"}, {"function": []}, {"function": {"name": 7}}])
def test_what_is_no_call(broken: Any) -> None:
    with pytest.raises(Garbled):
        ToolCallReader().read([broken])


values = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just({}) | st.just([])
odd_pieces = st.fixed_dictionaries(
    {},
    optional={
        "index": values,
        "id": values | st.sampled_from(["a", "b"]),
        "type": values,
        "extra_content": values,
        "custom": values,
        "function": values
        | st.fixed_dictionaries(
            {},
            optional={
                "name": values | st.sampled_from(["look", "find"]),
                "arguments": values | st.sampled_from([ONE, TWO, *halves(ONE)]),
                "x": values,
            },
        ),
    },
)


@given(st.lists(st.lists(odd_pieces, max_size=3), max_size=6), st.booleans())
def test_whatever_comes_makes_calls_that_begin_in_order(chunks: list[list[Any]], cut: bool) -> None:
    try:
        told, calls = read(*chunks, cut=cut)
    except Garbled:
        return
    assert len({call.id for call in calls}) == len(calls)
    begun = 0
    for one in told:
        if isinstance(one, ToolCallStart):
            assert one.index == begun and isinstance(one.id, str) and isinstance(one.name, str)
            begun += 1
        assert 0 <= one.index < begun
        assert isinstance(one, ToolCallStart) or isinstance(one.text, str)


@given(
    st.lists(
        st.tuples(st.sampled_from(["f", "g"]), st.dictionaries(st.text(max_size=3), st.integers())),
        max_size=4,
    ),
    st.data(),
)
def test_openais_own_form_stays_as_it_is(
    calls: list[tuple[str, dict[str, int]]], data: st.DataObject
) -> None:
    chunks = []
    for index, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
        parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
        chunks += [[piece(f"id{index}", "", name, index)], *([rest(part, index=index)] for part in parts)]
    _, made = read(*chunks)
    assert [(name, json.loads(text)) for name, text in said(made)] == calls
