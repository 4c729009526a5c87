"""Schemas as clients send them: what pydantic, instructor, zod, OpenAI's guides and llm write, and old drafts."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}


def _object(required: list[str] | None = None, **properties: Any) -> Schema:
    """Closed, as OpenAI's strict mode wants it."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _open(required: list[str], **properties: Any) -> Schema:
    """Without a word on further properties, as pydantic writes it."""
    return {"title": "Answer", "type": "object", "properties": properties, "required": required}


def _maybe(schema: Schema, **more: Any) -> Schema:
    return {"anyOf": [schema, {"type": "null"}], "default": None, **more}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


FOLLOWED: dict[str, Schema] = {
    # pydantic
    "person": _open(["name", "age"], name={"title": "Name", **TEXT}, age={"title": "Age", **INTEGER}),
    "optional": _open(["name"], name=TEXT, email=_maybe({"type": "string", "format": "email"})),
    "nested": {
        "$defs": {
            "Address": _open(["street", "zip"], street=TEXT, zip={"type": "string", "pattern": "^\\d{5}$"})
        },
        **_open(["home"], home={"$ref": "#/$defs/Address"}, work=_maybe({"$ref": "#/$defs/Address"})),
    },
    "enum of a class": {
        "$defs": {"Color": {"enum": ["red", "green", "blue"], "title": "Color", "type": "string"}},
        **_open(["color"], color={"$ref": "#/$defs/Color", "description": "The color", "default": "red"}),
    },
    "literal": _open(["kind", "one"], kind={"enum": ["a", "b"], "type": "string"}, one={"const": 1}),
    "tree": {
        "$defs": {
            "Node": _open(["value"], value=INTEGER, children=_list({"$ref": "#/$defs/Node"}, default=[])),
        },
        "$ref": "#/$defs/Node",
    },
    "linked list": {
        "$defs": {"Link": _open(["next"], value=INTEGER, next=_maybe({"$ref": "#/$defs/Link"}))},
        "$ref": "#/$defs/Link",
    },
    "discriminated union": {
        "$defs": {
            "Cat": _open(["pet", "meows"], pet={"const": "cat", "type": "string"}, meows=INTEGER),
            "Dog": _open(["pet", "barks"], pet={"const": "dog", "type": "string"}, barks={"type": "number"}),
        },
        **_open(
            ["pet"],
            pet={
                "discriminator": {
                    "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                    "propertyName": "pet",
                },
                "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            },
        ),
    },
    "expression": {
        "$defs": {
            "Add": _open(
                ["op", "left", "right"],
                op={"const": "add"},
                left={"$ref": "#/$defs/Expression"},
                right={"$ref": "#/$defs/Expression"},
            ),
            "Number": _open(["op", "value"], op={"const": "number"}, value={"type": "number"}),
            "Expression": {"anyOf": [{"$ref": "#/$defs/Add"}, {"$ref": "#/$defs/Number"}]},
        },
        "$ref": "#/$defs/Expression",
    },
    "dates": _open(
        ["day", "moment", "clock", "span"],
        day={"type": "string", "format": "date"},
        moment={"type": "string", "format": "date-time"},
        clock={"type": "string", "format": "time"},
        span={"type": "string", "format": "duration"},
    ),
    "formats of pydantic": _open(
        ["secret", "path", "data", "link", "id", "host"],
        secret={"type": "string", "format": "password", "writeOnly": True},
        path={"type": "string", "format": "path"},
        data={"type": "string", "format": "binary"},
        link={"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083},
        id={"type": "string", "format": "uuid"},
        host={"type": "string", "format": "ipvanyaddress"},
    ),
    "decimal": _open(
        ["price"],
        price={
            "anyOf": [{"type": "number"}, {"type": "string", "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}]
        },
    ),
    "constrained": _open(
        ["code", "share", "count", "name"],
        code={"type": "string", "pattern": "^[A-Z]{3}-\\d{4}$"},
        share={"type": "number", "minimum": 0, "maximum": 1},
        count={"type": "integer", "exclusiveMinimum": 0, "multipleOf": 5, "maximum": 1000},
        name={"type": "string", "minLength": 3, "maxLength": 12},
    ),
    "mapping": _open(["scores"], scores={"type": "object", "additionalProperties": {"type": "number"}}),
    "mapping of patterns": _open(
        ["ages"], ages={"type": "object", "patternProperties": {"^[a-z]+$": INTEGER}}
    ),
    "mapping by an enum": _open(
        ["votes"],
        votes={"type": "object", "propertyNames": {"enum": ["yes", "no"]}, "additionalProperties": INTEGER},
    ),
    "mapping by a pattern": _open(
        ["parts"],
        parts={
            "type": "object",
            "propertyNames": {"pattern": "^[a-z]{2,5}$"},
            "additionalProperties": TEXT,
            "minProperties": 1,
        },
    ),
    "tuple": _open(
        ["point"],
        point={
            "type": "array",
            "prefixItems": [{"type": "number"}, {"type": "number"}, TEXT],
            "minItems": 3,
            "maxItems": 3,
        },
    ),
    "bounded list": _open(["tags"], tags=_list(TEXT, minItems=2, maxItems=4, uniqueItems=False)),
    "any": _open(["payload"], payload={"title": "Payload"}, more=True),
    "pydantic 1": {
        "title": "Order",
        "type": "object",
        "properties": {"buyer": {"title": "Buyer", "allOf": [{"$ref": "#/definitions/User"}]}},
        "required": ["buyer"],
        "definitions": {"User": _open(["id"], id=INTEGER, name={**TEXT, "default": "Jane"})},
    },
    # instructor
    "instructor's partial list": _open(["tasks"], tasks=_list({"$ref": "#/$defs/Task"}), content=_maybe(TEXT))
    | {"$defs": {"Task": _open(["title", "done"], title=TEXT, done={"type": "boolean"})}},
    "instructor's maybe": {
        "$defs": {"User": _open(["name"], name=TEXT, age=_maybe(INTEGER))},
        **_open([], result=_maybe({"$ref": "#/$defs/User"}), error={"type": "boolean", "default": False}),
    },
    # OpenAI's guides
    "math steps": _object(steps=_list(_object(explanation=TEXT, output=TEXT)), final_answer=TEXT),
    "user interface": {
        **_object(
            type={"type": "string", "enum": ["div", "button", "field"]},
            label=TEXT,
            children=_list({"$ref": "#"}),
            attributes=_list(_object(name=TEXT, value=TEXT)),
        ),
    },
    "moderation": _object(
        is_violating={"type": "boolean"},
        category={"type": ["string", "null"], "enum": ["violence", "sexual", "self_harm", None]},
        explanation_if_violating={"type": ["string", "null"]},
    ),
    "event": _object(name=TEXT, date=TEXT, participants=_list(TEXT)),
    "nullable number": _object(value={"type": ["number", "null"], "description": "or nothing"}),
    # llm --schema, llama.cpp, LangChain
    "llm": {"type": "object", "properties": {"name": TEXT, "bio": TEXT}, "required": ["name", "bio"]},
    "llm's many": {
        "type": "object",
        "properties": {"items": _list({"type": "object", "properties": {"n": INTEGER}, "required": ["n"]})},
        "required": ["items"],
    },
    "no types": {
        "properties": {"a": {"enum": [1, "x", None, True]}, "b": {"items": INTEGER}},
        "required": ["a"],
    },
    # zod, TypeBox and older drafts
    "zod": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": "#/definitions/Answer",
        "definitions": {
            "Answer": _object(["title"], title=TEXT, rating={"type": "integer", "minimum": 1, "maximum": 5})
        },
    },
    "TypeBox": {"$id": "Box", **_object(["inner"], inner=_list({"$ref": "Box"}), size=INTEGER)},
    "unknown $schema": {"$schema": "https://example.com/mine", "type": "array", "items": {"type": "boolean"}},
    "draft 4": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "id": "http://example.com/pair",
        "type": "array",
        "items": [TEXT, {"type": "number", "minimum": 0, "exclusiveMinimum": True}],
        "additionalItems": False,
        "minItems": 2.0,
    },
    "all of": {
        "$defs": {"Named": {"type": "object", "properties": {"name": TEXT}, "required": ["name"]}},
        "allOf": [
            {"$ref": "#/$defs/Named"},
            {"type": "object", "properties": {"size": INTEGER}, "required": ["size"]},
        ],
    },
    "one or the other": {
        "type": "object",
        "properties": {"url": TEXT, "text": TEXT},
        "anyOf": [{"required": ["url"]}, {"required": ["text"]}],
    },
    "annotations": {
        **TEXT,
        "x-order": 1,
        "x-guidance": {"whitespace_flexible": True},
        "examples": ["a"],
        "deprecated": True,
        "readOnly": True,
        "$comment": "?",
        "contentEncoding": "base64",
        "contentMediaType": "image/png",
        "minContains": 1,
        "then": False,
        "nullable": True,
    },
    "odd names": _object(
        **{"a/b": INTEGER, 'say "hi"': INTEGER, "<|im_end|>": INTEGER, "größe": TEXT, "": TEXT}
    ),
    "anything": {},
    "any object": {"type": "object"},
    "a number": {"type": "number"},
    "a list": {"type": "array"},
    "a text": {"type": "string", "format": "nosuch"},
}

# What cannot be followed, and the word that its error must say.
REFUSED: dict[str, tuple[Schema, str]] = {
    "set": (_open(["tags"], tags=_list(TEXT, uniqueItems=True)), "uniqueItems"),
    "optional set": (_open([], tags=_maybe(_list(TEXT, uniqueItems=True))), "uniqueItems"),
    "not": (_object(a={"not": {"const": 3}}), "not"),
    "condition": (
        {**_open([], a=INTEGER, b=INTEGER), "if": {"required": ["a"]}, "then": {"required": ["b"]}},
        "if",
    ),
    "dependency": (
        {**_open([], a=INTEGER, b=INTEGER), "dependentRequired": {"a": ["b"]}},
        "dependentRequired",
    ),
    "contains": (_list(INTEGER, contains={"const": 1}), "contains"),
    "names": (
        {"type": "object", "properties": {"a": TEXT}, "propertyNames": {"maxLength": 3}},
        "propertyNames",
    ),
    "unevaluated": (
        {"allOf": [{"type": "object", "properties": {"a": TEXT}}], "unevaluatedProperties": False},
        "unevaluatedProperties",
    ),
    "look-ahead": (_object(password={"type": "string", "pattern": "^(?=.*\\d).{8,}$"}), "pattern"),
    "two numbers": ({"oneOf": [INTEGER, {"type": "number"}]}, "oneOf"),
    "another file": ({"$ref": "https://example.com/schema.json"}, "\\$ref"),
    "dynamic": ({"$dynamicRef": "#node"}, "\\$dynamicRef"),
    "no end": (_object(next={"$ref": "#"}), "short enough"),
    "too many names": (
        {"type": "object", "properties": {f"p{number}": TEXT for number in range(2100)}},
        "items; max is",
    ),
    "too long": ({"type": "string", "enum": ["x" * 70_000]}, "more than 65536 characters"),
}

# What is no schema at all.
WRONG: dict[str, tuple[Any, str]] = {
    "type": ({"type": "text"}, "type"),
    "type of types": ({"type": [["string"]]}, "type"),
    "lost $ref": ({"$ref": "#/$defs/Nothing"}, "leads nowhere"),
    "$ref of no text": ({"$ref": 3}, "\\$ref"),
    "circle": (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        "itself",
    ),
    "properties": ({"type": "object", "properties": ["a"]}, "properties"),
    "a property": ({"type": "object", "properties": {"a": 3}}, "properties/a"),
    "branches": ({"anyOf": {"type": "string"}}, "anyOf"),
    "count": ({"type": "string", "minLength": "3"}, "minLength"),
    "negative count": ({"type": "array", "maxItems": -1}, "maxItems"),
    "pattern": ({"type": "string", "pattern": 3}, "pattern"),
    "nothing fits": ({"type": "integer", "minimum": 5, "maximum": 1}, "5"),
}
