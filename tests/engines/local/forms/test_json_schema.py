"""Schemas made ready for llguidance: what is left out, what is refused, and what is as it was."""

from __future__ import annotations

import re
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from table import each

from edge_router.engines.local.forms.json_schema import followable
from edge_router.errors import InvalidRequest, UnsupportedRequest

WRONG = runpy.run_path(str(Path(__file__).with_name("answer_schemas.py")))["WRONG"]


def ready(schema: object) -> Any:
    return followable(schema, lambda pattern: "a look-ahead" if "(?=" in pattern else None)


@pytest.mark.parametrize(
    "word",
    [
        {"title": "T"},
        {"description": "d", "default": "x", "examples": ["a"], "deprecated": True},
        {"$schema": "https://example.com/mine"},
        {"$comment": "?", "readOnly": True, "writeOnly": True, "nullable": True},
        {"x-anything": {"type": "nosuch"}, "discriminator": {"propertyName": "a"}},
        {"x-guidance": {"whitespace_flexible": True}},
        {"uniqueItems": False},
        {"uniqueItems": True, "maxItems": 1},
        {"minContains": 1},
        {"maxContains": 3},
        {"contains": {"type": "string"}, "minContains": 0},
        {"then": False, "else": False},
        {"if": False},
        {"dependentRequired": {}, "dependentSchemas": {}, "dependencies": {}},
        {"unevaluatedProperties": True, "unevaluatedItems": True},
        {"contentEncoding": "base64", "contentMediaType": "image/png", "contentSchema": {"not": {}}},
        *({"format": name} for name in ("path", "password", "binary", "int32", "nosuch", 3, None)),
        {"required": True},
        {"$defs": {"Unused": {"not": {}}}},
    ],
)
def test_what_only_describes_is_left_out(word: dict[str, Any]) -> None:
    left = {key: value for key, value in ready({"type": "string", **word}).items() if key != "type"}
    assert left.keys() <= {"maxItems", "additionalProperties", "items"}
    inner = ready({"type": "object", "properties": {"a": {"type": "string", **word}}})
    assert inner["properties"]["a"] == {"type": "string", **left}


@pytest.mark.parametrize("name", ["date-time", "date", "time", "duration", "email", "uuid", "uri", "ipv4"])
def test_formats_that_are_followed(name: str) -> None:
    assert ready({"type": "string", "format": name})["format"] == name


@each(
    "word, value",
    [
        ("not", {"type": "null"}),
        ("if", {"required": ["a"]}),
        ("contains", {"type": "string"}),
        ("uniqueItems", True),
        ("propertyNames", {"not": {}}),
        ("dependentRequired", {"a": ["b"]}),
        ("dependentSchemas", {"a": {"required": ["b"]}}),
        ("dependencies", {"a": ["b"]}),
        ("$dynamicRef", "#a"),
        ("$recursiveRef", "#"),
    ],
)
@each("place", ["", "/properties/inner", "/items", "/allOf/0"])
def test_what_cannot_be_followed_is_named_with_its_place(word: str, value: object, place: str) -> None:
    schema: Any = {word: value, "then": {"required": ["b"]}}
    match place:
        case "/properties/inner":
            schema = {"type": "object", "properties": {"inner": schema}}
        case "/items":
            schema = {"type": "array", "items": schema}
        case "/allOf/0":
            schema = {"allOf": [schema]}
    with pytest.raises(UnsupportedRequest) as caught:
        ready(schema)
    assert caught.value.param == "schema"
    assert word in caught.value.reason and (place or "its root") in caught.value.reason


@pytest.mark.parametrize("name", [name for name in WRONG if name != "nothing fits"])
def test_what_is_no_schema(name: str) -> None:
    schema, said = WRONG[name]
    with pytest.raises(InvalidRequest, match=said):
        ready(schema)


def test_a_pattern_is_asked_about_wherever_it_stands() -> None:
    ahead = {"type": "string", "pattern": "^(?=a)"}
    for schema in (
        ahead,
        {"type": "object", "patternProperties": {"(?=a)": True}},
        {"type": "object", "propertyNames": {"pattern": "(?=a)"}},
    ):
        with pytest.raises(UnsupportedRequest, match=re.escape("a look-ahead")):
            ready(schema)


@pytest.mark.parametrize(
    ("branches", "left"),
    [
        ([{"type": "number"}, {"type": "string", "pattern": "(?=a)"}], [{"type": "number"}]),
        (
            [{"type": "string"}, {"uniqueItems": True}, {"type": "null"}],
            [{"type": "string"}, {"type": "null"}],
        ),
        ([{"uniqueItems": True}, {"type": "null"}], None),
        ([{"uniqueItems": True}], None),
    ],
)
def test_a_branch_that_cannot_be_followed_is_not_taken(branches: list[Any], left: list[Any] | None) -> None:
    if left is None:
        with pytest.raises(UnsupportedRequest, match="uniqueItems"):
            ready({"anyOf": branches})
    else:
        assert ready({"anyOf": branches}) == {"anyOf": left}


def test_a_branch_that_is_not_taken_leaves_no_definition_behind() -> None:
    schema = {
        "$defs": {
            "A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}, "s": {"uniqueItems": True}}},
            "B": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}},
        },
        "anyOf": [{"$ref": "#/$defs/A"}, {"type": "string"}],
    }
    assert ready(schema) == {"anyOf": [{"type": "string"}]}


CLOSED = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}
NAMED = {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        (NAMED, CLOSED),
        ({"properties": {"a": {}}}, CLOSED),
        (NAMED | {"additionalProperties": True}, NAMED | {"additionalProperties": True}),
        (NAMED | {"unevaluatedProperties": False}, CLOSED),
        ({"type": "object"}, {"type": "object"}),
        ({"type": "object", "properties": {}}, {"type": "object", "properties": {}}),
        ({"type": "array", "items": NAMED}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [NAMED, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"allOf": [NAMED]}, {"allOf": [CLOSED]}),
        ({"allOf": [NAMED, NAMED]}, {"allOf": [NAMED, NAMED]}),
        (NAMED | {"allOf": [NAMED]}, NAMED | {"allOf": [NAMED]}),
        (NAMED | {"anyOf": [{"required": ["a"]}]}, CLOSED | {"anyOf": [{"required": ["a"]}]}),
        (
            NAMED | {"required": ["a", "b"]},
            {**CLOSED, "properties": {"a": {}, "b": True}, "required": ["a", "b"]},
        ),
        (
            {"type": "object", "patternProperties": {"^a": {}}},
            {"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": False},
        ),
        (
            {"$defs": {"N": NAMED}, "$ref": "#/$defs/N"},
            {"$ref": "#/$defs/d0", "$defs": {"d0": CLOSED}},
        ),
        (
            {"$defs": {"N": NAMED}, "allOf": [{"$ref": "#/$defs/N"}, NAMED]},
            {"allOf": [{"$ref": "#/$defs/d0"}, NAMED], "$defs": {"d0": NAMED}},
        ),
        (
            {"$defs": {"N": NAMED}, "$ref": "#/$defs/N", "properties": {"b": {"$ref": "#/$defs/N"}}},
            {
                "type": "object",
                "$ref": "#/$defs/d0",
                "properties": {"b": {"$ref": "#/$defs/d1"}},
                "$defs": {"d0": NAMED, "d1": CLOSED},
            },
        ),
    ],
)
def test_an_object_is_closed_where_nothing_else_says_more_of_it(schema: Any, made: Any) -> None:
    assert ready(schema) == made


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("#/$defs/T", {}),
        ("#/definitions/T", {"definitions": {"T": {"type": "null"}}}),
        ("#/$defs/a~1b", {"$defs": {"a/b": {"type": "null"}}}),
        ("#/$defs/a%20b", {"$defs": {"a b": {"type": "null"}}}),
        ("#/properties/x/anyOf/1", {"properties": {"x": {"anyOf": [{}, {"type": "null"}]}}}),
        ("#name", {"$defs": {"T": {"$anchor": "name", "type": "null"}}}),
        ("Thing", {"$defs": {"T": {"$id": "Thing", "type": "null"}}}),
        ("https://example.com/s#/$defs/T", {"$id": "https://example.com/s"}),
    ],
)
def test_where_a_reference_leads(target: str, more: dict[str, Any]) -> None:
    made = ready({"$defs": {"T": {"type": "null"}}, **more, "type": "array", "items": {"$ref": target}})
    assert made["$defs"][made["items"]["$ref"].rpartition("/")[2]] == {"type": "null"}


@pytest.mark.parametrize(
    ("branches", "told"),
    [
        ([{"type": "string"}, {"type": "integer"}], True),
        ([{"type": "string"}, {"const": 3}], True),
        ([{"type": "object"}, {"const": {}}], False),
        ([{"type": "integer"}, {"type": "number"}], False),
        ([{"type": ["string", "null"]}, {"type": "null"}], False),
        ([{}, {"type": "null"}], False),
        ([{"properties": {"k": {"const": "a"}}}, {"properties": {"k": {"enum": ["b", "c"]}}}], True),
        ([{"properties": {"k": {"const": "a"}}}, {"properties": {"k": {"enum": ["b", "a"]}}}], False),
        ([{"properties": {"k": {"const": "a"}}}, {"properties": {"l": {"const": "b"}}}], False),
        ([{"properties": {"k": {"const": "a"}}}, True], False),
    ],
)
def test_one_of_several_where_none_can_be_another(branches: list[Any], told: bool) -> None:
    made = ready({"oneOf": branches})
    assert ("anyOf" in made, "oneOf" in made) == (told, not told)
    if told and "properties" in branches[0]:
        assert [branch["required"] for branch in made["anyOf"]] == [["k"], ["k"]]


@pytest.mark.parametrize(
    ("schema", "low", "high"),
    [
        ({"type": "integer"}, -(10**18), 10**18),
        ({"type": "integer", "minimum": 3}, 3, 10**18),
        ({"type": "integer", "maximum": 3}, -(10**18), 3),
        ({"type": "integer", "minimum": 10**19}, 10**19, None),
        ({"type": ["integer", "null"]}, -(10**18), 10**18),
        ({"type": ["integer", "number"]}, None, None),
        ({"type": "number"}, None, None),
        ({"type": "integer", "enum": [1]}, None, None),
    ],
)
def test_integers_have_an_end(schema: Any, low: int | None, high: int | None) -> None:
    made = ready(schema)
    assert (made.get("minimum"), made.get("maximum")) == (low, high)


def test_schemas_within_schemas_without_end() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(UnsupportedRequest, match="levels"):
        ready(schema)
    names = [f"n{number}" for number in range(5000)]
    chain = {name: {"items": {"$ref": f"#/$defs/{after}"}} for name, after in pairwise(names)}
    with pytest.raises(UnsupportedRequest, match="levels"):
        ready({"$defs": chain, "$ref": "#/$defs/n0"})
