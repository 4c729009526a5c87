"""Values from outside: copied as JSON, or refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import MAX_DEPTH, Fields, plain, plain_object

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)
anything = st.recursive(
    scalars
    | st.floats()
    | st.binary()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()))
    | st.just(object()),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(values)
def test_json_stays_as_it_is(value: object) -> None:
    assert plain(value) == value


@given(anything)
def test_what_is_let_through_can_be_sent(value: object) -> None:
    try:
        copy = plain(value, "field")
    except InvalidRequest as error:
        assert error.param is not None and error.param.startswith("field")
    else:
        json.dumps(copy, allow_nan=False, ensure_ascii=False).encode()


def test_a_copy_does_not_change_with_its_original() -> None:
    inner: list[object] = [1]
    copy = plain({"a": (inner,)})
    inner.append(2)
    assert copy == {"a": [[1]]}


@pytest.mark.parametrize(
    ("value", "param", "reason"),
    [
        ({"a": [0, math.nan]}, "a[1]", "finite"),
        ({"a": {"b": math.inf}}, "a.b", "finite"),
        ({"a": "\ud83d"}, "a", "surrogate pair at character 0"),
        ({"\udc00": 1}, None, "surrogate"),
        ({"a": {None: 1}}, "a", "strings as its names"),
        ({"a": b"x"}, "a", "bytes"),
        ({"a": int}, "a", "type"),
        ({"x" * 1000: math.nan}, "x" * 40, "finite"),
        ({"é\n": math.nan}, "?\n", "finite"),
    ],
)
def test_what_json_cannot_say_is_refused_by_name(value: object, param: str | None, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        plain(value)
    assert caught.value.param == param


@pytest.mark.parametrize("value", [2**1024, -(10**400), 10**5000, [{"a": 10**5000}]], ids=range(4))
def test_a_number_that_no_json_writer_takes_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="too many digits") as caught:
        plain(value, "user")
    assert caught.value.param is not None and caught.value.param.startswith("user")
    assert plain(2**1024 - 1) == 2**1024 - 1


def test_a_long_way_is_clipped() -> None:
    value: object = math.nan
    for number in range(60):
        value = {f"{number}" + "x" * 100: value}
    with pytest.raises(InvalidRequest) as caught:
        plain(value)
    assert caught.value.param is not None and " ... " in caught.value.param and len(str(caught.value)) < 600


class Modelled:
    def model_dump(self) -> dict[str, object]:
        return {"role": "user", "content": "hi"}


def test_pydantics_models_are_objects() -> None:
    assert plain([Modelled()]) == [{"role": "user", "content": "hi"}]


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_has_a_limit() -> None:
    assert plain(nested(MAX_DEPTH + 1)) == nested(MAX_DEPTH + 1)
    for depth in (MAX_DEPTH + 2, 100_000):
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            plain(nested(depth), "tools")


class Endless:
    def to_dict(self) -> Endless:
        return self


def test_an_object_that_never_ends_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        plain(Endless(), "messages")


def test_only_an_object_is_an_object() -> None:
    body: Any = [1]
    with pytest.raises(InvalidRequest, match="object"):
        plain_object(body)


@pytest.mark.parametrize("value", [-1, 0, 11, 2**63, 10**5000, -(10**5000), 1e300], ids=range(7))
def test_whole_numbers_out_of_range(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Fields({"n": value}).integer("n", low=1, high=10)
    assert caught.value.param == "n"
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [True, "1", 1.5, math.nan, math.inf, [], {}])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(InvalidRequest, match="must be a whole number"):
        Fields({"n": value}).integer("n", low=1, high=10)


def test_whole_numbers_in_range() -> None:
    fields = Fields({"low": 1, "high": 10, "float": 3.0, "none": None})
    assert [fields.integer(name, low=1, high=10) for name in ("low", "high", "float", "none", "absent")] == [
        1,
        10,
        3,
        None,
        None,
    ]


@pytest.mark.parametrize("value", [-0.001, 2.001, math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_numbers_out_of_range(value: object) -> None:
    with pytest.raises(InvalidRequest, match="must be between 0 and 2"):
        Fields({"t": value}).number("t", low=0, high=2)


def test_numbers_have_types_too() -> None:
    for value in (True, "0.5", [], {}):
        with pytest.raises(InvalidRequest, match="must be a number"):
            Fields({"t": value}).number("t", low=0, high=2)
    assert Fields({"t": 1}).number("t", low=0, high=2) == 1.0
    assert Fields({}).number("t", low=0, high=2) is None
    with pytest.raises(InvalidRequest, match="above 0 and at most 2"):
        Fields({"t": 0}).number("t", low=0, high=2, above=True)


def test_strings() -> None:
    fields = Fields({"one": "a", "many": ["a", "b"], "none": None, "empty": "", "holes": ["a", ""], "n": 3})
    assert fields.strings("one", most=2, longest=1) == ("a",)
    assert fields.strings("many", most=2, longest=1) == ("a", "b")
    assert fields.strings("holes", most=2, longest=1) == ("a",)
    for nothing in ("none", "absent", "empty"):
        assert fields.strings(nothing, most=2, longest=1) == ()
    for name, most in (("many", 1), ("n", 2)):
        with pytest.raises(InvalidRequest, match=f"at most {most}"):
            fields.strings(name, most=most, longest=1)
    with pytest.raises(InvalidRequest, match="more than 2 characters"):
        Fields({"s": ["ab", "abc"]}).strings("s", most=2, longest=2)
    assert fields.string("one", default="d") == "a"
    assert fields.string("none", default="d") == fields.string("absent", default="d") == "d"
    for name in ("empty", "many", "n"):
        with pytest.raises(InvalidRequest, match="not empty"):
            fields.string(name, default="d")


def test_booleans() -> None:
    assert Fields({"b": True}).boolean("b") is True
    assert Fields({"b": None}).boolean("b", default=True) is True
    for value in (0, 1, "true", []):
        with pytest.raises(InvalidRequest, match="true or false"):
            Fields({"b": value}).boolean("b")


def test_inner_objects_name_both_levels() -> None:
    inner = Fields({"o": {"b": 1}}).object("o")
    assert inner is not None
    with pytest.raises(InvalidRequest) as caught:
        inner.boolean("b")
    assert caught.value.param == "o.b"
    assert Fields({}).object("o") is None
    with pytest.raises(InvalidRequest, match="must be an object"):
        Fields({"o": []}).object("o")
