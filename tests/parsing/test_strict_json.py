"""The one reader of JSON: what it takes, what it refuses, and that nothing else reads JSON."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.parsing.strict_json import (
    MAX_DEPTH,
    NotJson,
    StatedTwice,
    parse,
    parse_object,
    read,
    read_object,
)

ROOT = Path(__file__).parents[2]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_what_json_writes_is_read_back(value):
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1, column 1"),
        ("{", "line 1, column 2"),
        ('{"a": 1,}', "column"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e999]", "too large"),
        ('{"a": -1e400}', "too large"),
        ("9" * 5000, "5000 digits"),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested too deeply"),
        (b"\xff\xfe", "not UTF-8 (byte 0)"),
        (b'{"a": "\x80"}', "not UTF-8 (byte 7)"),
        ("[1] [2]", "Extra data"),
    ],
)
def test_what_is_not_json_is_one_error(text, reason):
    with pytest.raises(NotJson) as failure:
        parse(text)
    assert reason in str(failure.value) and len(str(failure.value)) < 200


def test_what_is_just_within_the_limits_is_read():
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse("1000000000000000019884624838656") == 1000000000000000019884624838656
    assert float(str(parse("9" * 100)))
    assert parse(b"\xef\xbb\xbf{}") == {}


def test_a_table_may_hold_nan_but_not_infinity():
    assert str(parse('{"score": NaN}', nan=True)) == "{'score': nan}"
    with pytest.raises(NotJson, match="Infinity"):
        parse('{"score": Infinity}', nan=True)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000])
def test_numbers_that_are_none_may_be_nothing(number):
    assert parse('{"a": [' + number + ", 1.5, 2]}", null=True) == {"a": [None, 1.5, 2]}
    assert parse_object('{"a": ' + number + "}", null=True) == {"a": None}


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "1", "1.5", "true"])
def test_an_object_is_asked_for_by_name(text, tmp_path):
    with pytest.raises(NotJson, match="a JSON object was expected, not "):
        parse_object(text)
    file = tmp_path / "file.json"
    file.write_text(text, encoding="utf-8")
    assert read(file) == json.loads(text)
    with pytest.raises(NotJson, match="a JSON object was expected"):
        read_object(file)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_a_name_that_stands_there_twice(text):
    with pytest.raises(StatedTwice) as failure:
        parse(text, once=True)
    assert failure.value.name == "a" and parse(text)


def test_nothing_else_reads_json():
    for file in [*ROOT.glob("edge_router/**/*.py"), *ROOT.glob("compile/**/*.py")]:
        if file.name == "strict_json.py":
            continue
        text = file.read_text(encoding="utf-8")
        if "json.load" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.loads", "json.load"):
                raise AssertionError(
                    f"{file}:{node.lineno} reads JSON without edge_router.parsing.strict_json"
                )
