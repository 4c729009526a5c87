"""Whether a value fits a JSON schema: the keywords that `answer_schemas` uses, as the standard has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: _TYPES["number"](value) and value % 1 == 0,
}
_FORMATS: dict[str, Callable[[str], object]] = {
    "date": lambda text: re.fullmatch(r"\d{4}-\d\d-\d\d", text),
    "date-time": lambda text: datetime.fromisoformat(re.sub(r"^0000|:60", _near, text.upper())),
    "time": lambda text: re.match(r"\d\d:\d\d:\d\d", text),
    "duration": lambda text: re.fullmatch(r"P[\dWYMDTHS]+", text),
    "email": lambda text: "@" in text,
    "uuid": lambda text: re.fullmatch(r"[\da-fA-F]{8}(-[\da-fA-F]{4}){3}-[\da-fA-F]{12}", text),
    "uri": lambda text: re.match(r"[a-zA-Z][a-zA-Z\d+.-]*:", text),
}


def _near(found: re.Match[str]) -> str:
    """The year and the second that Python has not."""
    return {"0000": "0001", ":60": ":59"}[found[0]]


def fits(value: Any, schema: Any, root: Any = None) -> bool:
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    said = [check(value, schema, root) for check in (_plain, _combined, _number, _text, _array, _object)]
    return all(said)


def _plain(value: Any, schema: dict[str, Any], root: Any) -> bool:
    kinds = schema.get("type", list(_TYPES))
    if not any(_TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    known = [schema["const"]] if "const" in schema else schema.get("enum", [value])
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in known)


def _combined(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if "$ref" in schema and not fits(value, _target(schema["$ref"], root), root):
        return False
    if "anyOf" in schema and not any(fits(value, one, root) for one in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(value, one, root) for one in schema["oneOf"]) != 1:
        return False
    return all(fits(value, one, root) for one in schema.get("allOf", ()))


def _target(name: str, root: Any) -> Any:
    if name == root.get("$id"):
        return root
    found = root
    for step in name.split("/")[1:]:
        found = found[step]
    return found


def _number(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if not _TYPES["number"](value):
        return True
    strict = schema.get("exclusiveMinimum")
    low = schema.get("minimum", value) if strict is not True else value
    return (
        value >= low
        and value <= schema.get("maximum", value)
        and (strict is None or value > (schema["minimum"] if strict is True else strict))
        and ("multipleOf" not in schema or value % schema["multipleOf"] == 0)
    )


def _text(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if not isinstance(value, str):
        return True
    form = _FORMATS.get(schema.get("format", ""), lambda text: True)
    return (
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        and re.search(schema.get("pattern", ""), value) is not None
        and bool(form(value))
    )


def _array(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if not isinstance(value, list):
        return True
    items = schema.get("items", True)
    first = schema.get("prefixItems", [])
    if isinstance(items, list):
        first, items = items, schema.get("additionalItems", True)
    return (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        and all(fits(one, inner, root) for one, inner in zip(value, first, strict=False))
        and all(fits(one, items, root) for one in value[len(first) :])
    )


def _object(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if not isinstance(value, dict):
        return True
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, inner in value.items():
        found = [properties[name]] if name in properties else []
        found += [one for pattern, one in patterns.items() if re.search(pattern, name)]
        for one in found or [schema.get("additionalProperties", True)]:
            if not fits(inner, one, root):
                return False
        if not fits(name, schema.get("propertyNames", True), root):
            return False
    return len(value) >= schema.get("minProperties", 0) and {*value} >= {*schema.get("required", ())}
