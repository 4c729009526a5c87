"""Schemas in the words that MLC's xgrammar knows, and those that it would not hold an answer to."""

from __future__ import annotations

import json

import pytest

from edge_router.chat.request import GrammarOutput, JsonOutput, TextOutput
from edge_router.engines.mlc.forms import response_format
from edge_router.errors import UnsupportedRequest

ANY = {"type": "object", "additionalProperties": True}
STRING = {"type": "string"}


def test_what_is_known_is_said_in_xgrammars_words() -> None:
    """Types one at a time, objects that say whether more may come; what is only said of a value is left out."""
    for schema, meant in (
        (None, ANY),
        ({}, {}),
        ({"type": "object", "title": "A", "description": "b", "$schema": "x"}, ANY),
        ({"properties": {"a": STRING}}, {"type": "object", "properties": {"a": STRING}, "required": [],
                                         "additionalProperties": False}),
        ({"type": "object", "properties": {"a": {"type": ["string", "null"], "default": ""}}, "required": ["a"],
          "additionalProperties": STRING},
         {"type": "object", "properties": {"a": {"anyOf": [STRING, {"type": "null"}]}}, "required": ["a"],
          "additionalProperties": STRING}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": ["array", "null"], "items": STRING}, {"anyOf": [{"type": "array", "items": STRING},
                                                                  {"type": "null"}]}),
        ({"type": "string", "enum": ["a", "b"]}, {"enum": ["a", "b"]}),
        ({"const": 1}, {"const": 1}),
        ({"anyOf": [{"$ref": "#/$defs/a"}, True], "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
         {"anyOf": [{"$ref": "#/$defs/a"}, {}], "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}),
    ):  # fmt: skip
        found = response_format(JsonOutput(schema), "response_format")
        assert found is not None and found["type"] == "json_object", schema
        assert json.loads(str(found["schema"])) == meant, schema
    assert (
        response_format(TextOutput(), "x") is None
        and response_format(GrammarOutput("regex", "a"), "x") is None
    )


def test_what_an_answer_would_not_be_held_to_is_refused() -> None:
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    for schema, said in (
        ({"type": "string", "maxLength": 3}, "says maxLength"),
        ({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}}, "schema.a says minimum"),
        ({"type": "array", "items": STRING, "minItems": 2}, "says minItems"),
        ({"allOf": [STRING]}, "says allOf"),
        ({"oneOf": [STRING]}, "says oneOf"),
        ({"not": STRING}, "says not"),
        ({"pattern": "a"}, "says pattern"),
        ({"type": "object", "patternProperties": {}}, "says patternProperties"),
        ({"anyOf": [STRING], "type": "string"}, "says type"),
        ({"$ref": "#/$defs/a"}, "not in its $defs"),
        ({"$ref": "http://127.0.0.1/x"}, "not in its $defs"),
        ({"$defs": {"a": {"format": "email"}}, "$ref": "#/$defs/a"}, "$defs.a says format"),
        ({"type": "text"}, "has the type 'text'"),
        ({"type": ["string", 3]}, "has the type 3"),
        ({"type": {"a": 1}}, "has the type {'a': 1}"),
        ({"type": ["string", []]}, "has the type []"),
        ({"$ref": ["#/$defs/a"], "$defs": {"a": {}}}, "not in its $defs"),
        ({"type": "object", "properties": {"a": {}}, "required": [{"a": 1}]}, "requires properties"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "refers to itself"),
        ({"items": {"$ref": "#/$defs/a"}, "type": "array", "$defs": {
            "a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [STRING, {"anyOf": [{"$ref": "#/$defs/a"}]}]}}},
         "refers to itself"),
        ({"$ref": "#/$defs/0", "$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(99)} | {"99": {}}},
         "too many others"),
        ({"type": "object", "required": ["a"]}, "requires properties"),
        ({"type": "object", "properties": []}, "no object of properties"),
        ({"enum": []}, "enum"),
        ({"anyOf": "x"}, "anyOf"),
        ({"type": "array", "items": False}, "must be a schema that allows something"),
        (deep, "64 levels"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedRequest) as caught:
            response_format(JsonOutput(schema), "response_format")
        assert caught.value.param == "response_format" and said in str(caught.value), schema
