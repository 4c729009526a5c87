"""Forms of answers that MLC's engine holds an answer to: JSON, of what its xgrammar knows of schemas.

What it does not know it ignores, with a warning that nobody reads, or ends its thread with: so a schema with
anything else is refused here, and some things are said in other words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from edge_router.chat.request import JsonOutput, Output
from edge_router.errors import InvalidRequest, UnsupportedRequest

Schema = Mapping[str, object]

_ANY_OBJECT: Schema = {"type": "object"}
_SAID = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
_PARTS = ("$defs", "definitions")  # what is referred to
_ABOUT = {"$schema", "$id", *_PARTS}
_PLAIN = ("string", "integer", "number", "boolean", "null")
_WORDS: Mapping[str, frozenset[str]] = {
    "object": frozenset({"type", "properties", "required", "additionalProperties"}),
    "array": frozenset({"type", "items"}),
    **dict.fromkeys(_PLAIN, frozenset({"type"})),
}
_DEEPEST = 64  # levels: xgrammar follows them on a stack


def response_format(output: Output, param: str) -> Mapping[str, object] | None:
    """MLC's `response_format`; None where any text will do. Raises `UnsupportedRequest`, `InvalidRequest`."""
    if not isinstance(output, JsonOutput):
        return None
    whole = _ANY_OBJECT if output.schema is None else output.schema
    schema = _Reader(param, whole).read(whole, "schema", 0)
    kept = {name: _each(param, whole[name], whole, name) for name in _PARTS if name in whole}
    return {"type": "json_object", "schema": json.dumps({**schema, **kept})}


def _each(param: str, held: object, whole: Schema, name: str) -> dict[str, object]:
    if not isinstance(held, Mapping):
        raise InvalidRequest(param, f"{name} must be an object")
    reader = _Reader(param, whole)
    return {key: reader.read(value, f"{name}.{key}", 1) for key, value in held.items()}


class _Reader:
    """Of one schema, `whole`, which refers to its own parts."""

    def __init__(self, param: str, whole: Schema) -> None:
        self._param, self._whole = param, whole
        self._places = {
            f"#/{part}/{name}": one
            for part in _PARTS
            if isinstance(held := whole.get(part), Mapping)
            for name, one in held.items()
        }
        self._followed = set[str]()  # references that lead to something

    def read(self, schema: object, place: str, depth: int) -> dict[str, object]:
        """`schema` in the words that xgrammar knows."""
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise self._refuse(place, "must be a schema that allows something")
        if depth > _DEEPEST:
            raise self._refuse(place, f"has more than {_DEEPEST} levels")
        stated = {name: value for name, value in schema.items() if name not in _SAID | _ABOUT}
        for word, read in (
            ("$ref", self._reference),
            ("const", self._constant),
            ("enum", self._choice),
            ("anyOf", self._alternatives),
            ("type", self._typed),
        ):
            if word in stated:
                return read(stated, place, depth)
        if not stated:
            return {}
        if stated.keys() <= _WORDS["object"]:  # a type that goes without saying
            return self._typed({"type": "object", **stated}, place, depth)
        raise self._unknown(stated, (), place)

    def _reference(self, stated: Schema, place: str, depth: int) -> dict[str, object]:
        self._only(stated, {"$ref"}, place)
        path = stated["$ref"]
        if not isinstance(path, str) or path not in self._places:
            raise self._refuse(place, "refers to what is not in its $defs")
        self._follow(path, place)
        return {"$ref": path}

    def _follow(self, path: str, place: str) -> None:
        """xgrammar would follow for ever what refers to itself before it says anything."""
        reached, depth = {path}, 0
        while reached and path not in self._followed:
            reached = {other for one in reached for other in _named_by(self._places.get(one))}
            depth += 1
            if path in reached or depth > _DEEPEST:
                raise self._refuse(place, "refers to itself, or through too many others")
        self._followed.add(path)

    def _constant(self, stated: Schema, place: str, depth: int) -> dict[str, object]:
        self._only(stated, {"const", "type"}, place)
        return {"const": stated["const"]}

    def _choice(self, stated: Schema, place: str, depth: int) -> dict[str, object]:
        self._only(stated, {"enum", "type"}, place)
        values = stated["enum"]
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise self._refuse(place, "has an enum that is no list of values")
        return {"enum": list(values)}

    def _alternatives(self, stated: Schema, place: str, depth: int) -> dict[str, object]:
        self._only(stated, {"anyOf"}, place)
        held = stated["anyOf"]
        if not isinstance(held, Sequence) or isinstance(held, str) or not held:
            raise self._refuse(place, "has an anyOf that is no list of schemas")
        return {"anyOf": [self.read(one, f"{place}.anyOf", depth + 1) for one in held]}

    def _typed(self, stated: Schema, place: str, depth: int) -> dict[str, object]:
        kind = stated["type"]
        if isinstance(kind, Sequence) and not isinstance(kind, str) and kind:
            words = frozenset(stated) - {"type"}
            each = [{"type": one, **{w: stated[w] for w in words & _words(one)}} for one in kind]
            self._only(stated, {"type", *(word for one in kind for word in _words(one))}, place)
            return {"anyOf": [self._typed(one, place, depth + 1) for one in each]}
        if not isinstance(kind, str) or kind not in _WORDS:
            raise self._refuse(place, f"has the type {kind!r}")
        self._only(stated, _WORDS[kind], place)
        if kind == "array":
            return {"type": kind, "items": self.read(stated.get("items", True), f"{place}.items", depth + 1)}
        return self._object(stated, place, depth) if kind == "object" else {"type": kind}

    def _object(self, stated: Schema, place: str, depth: int) -> dict[str, object]:
        held, needed = stated.get("properties", {}), stated.get("required", [])
        if not isinstance(held, Mapping) or not isinstance(needed, Sequence) or isinstance(needed, str):
            raise self._refuse(place, "has no object of properties, or no list of required ones")
        if not all(isinstance(name, str) and name in held for name in needed):
            raise self._refuse(place, "requires properties that it does not describe")
        found: dict[str, object] = {"type": "object"}
        if held:
            inner = {name: self.read(one, f"{place}.{name}", depth + 1) for name, one in held.items()}
            found |= {"properties": inner, "required": list(needed)}
        # Without a word there are none to xgrammar, which fits the schema wherever it describes some.
        more = stated.get("additionalProperties", not held)
        found["additionalProperties"] = more if isinstance(more, bool) else self.read(more, place, depth + 1)
        return found

    def _only(self, stated: Schema, known: Sequence[str] | set[str] | frozenset[str], place: str) -> None:
        if not stated.keys() <= set(known):
            raise self._unknown(stated, known, place)

    def _unknown(
        self, stated: Schema, known: Sequence[str] | set[str] | frozenset[str], place: str
    ) -> UnsupportedRequest:
        words = ", ".join(sorted(set(stated) - set(known)))
        return self._refuse(place, f"says {words}, to which the engine mlc would not hold an answer")

    def _refuse(self, place: str, reason: str) -> UnsupportedRequest:
        return UnsupportedRequest(self._param, f"{place} {reason}")


def _named_by(schema: object) -> Iterator[str]:
    """The references that a schema makes of the very value that it is of."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if isinstance(one.get("$ref"), str):
                yield one["$ref"]
            held = one.get("anyOf")
            waiting += held if isinstance(held, list | tuple) else ()


def _words(kind: object) -> frozenset[str]:
    return _WORDS.get(kind, frozenset()) if isinstance(kind, str) else frozenset()
