"""`response_format` in the many shapes that servers take, brought into OpenAI's own."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.errors import InvalidRequest

FIELD = "response_format"
_NAME = "answer"  # OpenAI wants one for every schema
# What makes an object a schema rather than a description of one.
_KEYWORDS = frozenset(
    {
        *("type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs"),
        *("required", "additionalProperties", "definitions", "not", "pattern"),
    }
)
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


def response_format(value: object) -> dict[str, object] | None:
    """Of the field's value; None where plain text will do. A form that only others know stays as it is.

    A schema stands below "json_schema" or beside "type" (llama.cpp), or is the whole value. `true` and `{}`
    are the schemas of any JSON. Raises `InvalidRequest`.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidRequest(FIELD, "must be an object with a type")
    kind, schema, below = value.get("type"), value.get("schema"), value.get("json_schema")
    if schema is below is None and _is_schema(value):
        return _described({"schema": value})
    if kind == "text":
        return None
    if kind in ("json_object", "json_schema") or (kind is None and not schema is below is None):
        if below is not None:
            return _described(_inner(below), f"{FIELD}.json_schema")
        if schema is None and kind == "json_object":
            return {"type": "json_object"}
        return _described(value)
    if not isinstance(kind, str):
        raise InvalidRequest(f"{FIELD}.type", "must be text, json_object or json_schema")
    return dict(value)  # a grammar, say: a strong model's endpoint may know it


def _is_schema(value: Mapping[str, object]) -> bool:
    kind = value.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if kind is None:
        return bool(value.keys() & _KEYWORDS)
    return all(isinstance(one, str) and one in _TYPES for one in kinds) and bool(kinds)


def _inner(described: object) -> Mapping[str, object]:
    """What stands below "json_schema": a description with a schema in it, or the schema itself."""
    if not isinstance(described, Mapping):
        raise InvalidRequest(f"{FIELD}.json_schema", "must be an object with a name and a schema")
    if "schema" not in described and described.keys() & _KEYWORDS:
        return {"schema": described}
    return described


def _described(held: Mapping[str, object], where: str = FIELD) -> dict[str, object]:
    """OpenAI's form of the schema that `held` holds."""
    schema = held.get("schema")
    if schema is None or schema is True:
        schema = {}
    if schema is False:
        raise InvalidRequest(f"{where}.schema", "is false: no answer could ever fit it")
    if not isinstance(schema, Mapping):
        raise InvalidRequest(f"{where}.schema", "must be a JSON schema: an object, or true for any JSON")
    kept = {name: held[name] for name in ("description", "strict") if held.get(name) is not None}
    name = held.get("name")
    return {
        "type": "json_schema",
        "json_schema": {"name": _NAME if name is None else name, **kept, "schema": schema},
    }
