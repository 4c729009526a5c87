"""A JSON schema as people write them, into one that llguidance follows and that allows nothing else.

What only describes is left out. What llguidance cannot follow is an error that names it and its place, never
left out: the answer would not be what was asked for. Three things are narrower than the standard has them,
for a small model would write on and on: an object with `properties` has no others unless
`additionalProperties` says so, a schema with `properties` or `items` is of objects or arrays, and an integer
without bounds has eighteen digits. A branch of `anyOf` that cannot be followed is not taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import cast
from urllib.parse import unquote

from edge_router.errors import InvalidRequest, UnsupportedRequest

Schema = dict[str, object]

_FIELD = "schema"  # a request has its own name for where it stands
_DEEPEST = 128  # schemas within schemas, through references, too
_INTEGER = 10**18  # the bound of an integer that has none

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_TYPE_NAMES: Mapping[type, str] = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}
# Every other keyword is an annotation, as the standard calls what says nothing of the answer.
_FOLLOWED = frozenset(
    {
        *("type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "pattern", "format"),
        *("items", "prefixItems", "minItems", "maxItems"),
        *("properties", "required", "additionalProperties", "patternProperties"),
        *("minProperties", "maxProperties"),
    }
)
_NOT_FOLLOWED = (
    *("not", "if", "contains", "uniqueItems", "propertyNames", "dependentRequired", "dependentSchemas"),
    *("dependencies", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
)
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_FORMATS = frozenset(  # of strings; any other name is an annotation
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
_IN_PLACE = ("$ref", "anyOf", "oneOf", "allOf")  # what says more of the same value
_OF_OBJECTS, _OF_ARRAYS = ("properties", "patternProperties"), ("items", "prefixItems")


def followable(schema: object, pattern_fault: Callable[[str], str | None]) -> Schema:
    """What to hold an answer to so that it fits `schema`; `pattern_fault` says what is wrong with a pattern.

    Raises `UnsupportedRequest` for what cannot be followed, `InvalidRequest` for what is no schema.
    """
    return _Rewriter(schema, pattern_fault).root()


class _Rewriter:
    """Each target of a `$ref` becomes a definition of its own, also one for where it must stay open."""

    def __init__(self, schema: object, pattern_fault: Callable[[str], str | None]) -> None:
        self._schema, self._pattern_fault = schema, pattern_fault
        self._names = dict(_named(schema))
        base = schema.get("$id") if isinstance(schema, Mapping) else None
        self._base = base if isinstance(base, str) else ""
        self._made: dict[tuple[str, bool], str] = {}  # definitions by target and whether it is sealed
        self._definitions: dict[str, object] = {}
        self._chain: list[tuple[str, bool]] = []  # targets that say something of the value at hand

    def root(self) -> Schema:
        found = self._rewritten(self._schema, "", sealed=True)
        if found is False:
            raise InvalidRequest(_FIELD, "the schema is false: no answer could ever fit it")
        rewritten: Schema = {} if isinstance(found, bool) else found
        return {**rewritten, "$defs": self._definitions} if self._definitions else rewritten

    def _rewritten(self, schema: object, place: str, *, sealed: bool, depth: int = 0) -> Schema | bool:
        """`sealed`: no other schema says more of the same value, so that what is not named may be closed."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise InvalidRequest(_FIELD, f"the schema {_at(place)} is no object, true or false")
        if depth > _DEEPEST:
            raise UnsupportedRequest(_FIELD, f"the schema has more than {_DEEPEST} levels")
        node = _normal(schema, place)
        _refuse(node, place)
        new: Schema = {key: value for key, value in node.items() if key in _FOLLOWED}
        self._check_strings(new, place)
        _bound_integers(new)
        _name_the_type(new)
        _close(new, sealed=sealed)
        self._rewrite_in_place(new, place, sealed=sealed, depth=depth + 1)
        self._rewrite_inner(new, place, depth + 1)
        return new

    def _rewrite_in_place(self, node: Schema, place: str, *, sealed: bool, depth: int) -> None:
        alone = sealed and not node.keys() & {*_OF_OBJECTS} and len(node.keys() & {*_IN_PLACE}) == 1
        if "$ref" in node:
            node["$ref"] = self._reference(node["$ref"], place, sealed=alone, depth=depth)
        if "oneOf" in node and "anyOf" not in node:
            self._tell_apart(node, place)
        for key in ("allOf", "oneOf"):
            if key in node:
                branches = _list(node, key, place)
                whole = alone and (key == "oneOf" or len(branches) == 1)
                node[key] = [
                    self._rewritten(branch, f"{place}/{key}/{index}", sealed=whole, depth=depth)
                    for index, branch in enumerate(branches)
                ]
        if "anyOf" in node:
            node["anyOf"] = self._branches(_list(node, "anyOf", place), place, sealed=alone, depth=depth)

    def _tell_apart(self, node: Schema, place: str) -> None:
        """`oneOf` as `anyOf`, where no value can fit two: other types, or objects that say what they are."""
        branches = [self._resolved(branch, place) for branch in _list(node, "oneOf", place)]
        kinds = [_kinds(branch) for branch in branches]
        if not any(one & other for one, other in combinations(kinds, 2)):
            node["anyOf"] = node.pop("oneOf")
        elif all(kind == {"object"} for kind in kinds) and (name := _telling(branches)) is not None:
            node["anyOf"] = [
                {**branch, "required": sorted({*cast("Sequence[str]", branch.get("required", ())), name})}
                for branch in cast("Sequence[Schema]", node.pop("oneOf"))
            ]

    def _resolved(self, branch: object, place: str) -> Mapping[str, object]:
        for _ in range(_DEEPEST):
            if not isinstance(branch, Mapping) or "$ref" not in branch:
                break
            branch = self._found(branch["$ref"], place)[1]
        return branch if isinstance(branch, Mapping) else {}

    def _branches(self, branches: Sequence[object], place: str, *, sealed: bool, depth: int) -> list[object]:
        """Those that can be followed, where these are more than the null of something optional."""
        kept: list[object] = []
        failed: UnsupportedRequest | None = None
        for index, branch in enumerate(branches):
            try:
                kept.append(self._rewritten(branch, f"{place}/anyOf/{index}", sealed=sealed, depth=depth))
            except UnsupportedRequest as error:
                failed = failed or error
        if failed is not None and all(branch == {"type": "null"} for branch in kept):
            raise failed
        return kept

    def _rewrite_inner(self, node: Schema, place: str, depth: int) -> None:
        """The schemas of what the value holds: of each the first word, so sealed."""

        def inner(schema: object, *steps: object) -> Schema | bool:
            where = "/".join([place, *map(str, steps)])
            return self._rewritten(schema, where, sealed=True, depth=depth)

        chain, self._chain = self._chain, []
        try:
            for key in _OF_OBJECTS:
                if key in node:
                    held = _mapping(node, key, place)
                    node[key] = {name: inner(schema, key, name) for name, schema in held.items()}
            for key in ("additionalProperties", "items"):
                if key in node:
                    node[key] = inner(node[key], key)
            if "prefixItems" in node:
                held_items = _list(node, "prefixItems", place)
                node["prefixItems"] = [inner(one, "prefixItems", at) for at, one in enumerate(held_items)]
        finally:
            self._chain = chain

    def _reference(self, target: object, place: str, *, sealed: bool, depth: int) -> str:
        """The `$ref` to the definition that `target` becomes."""
        pointer, schema = self._found(target, place)
        key = pointer, sealed
        if key in self._chain:
            raise InvalidRequest(_FIELD, f"the $ref {_at(place)} leads to nothing but itself")
        if key not in self._made:
            before = dict(self._made), dict(self._definitions)
            self._made[key] = name = f"d{len(self._made)}"
            self._chain.append(key)
            try:
                self._definitions[name] = self._rewritten(schema, pointer, sealed=sealed, depth=depth)
            except UnsupportedRequest:  # with it goes what refers to it
                self._made, self._definitions = before
                raise
            finally:
                self._chain.pop()
        return f"#/$defs/{self._made[key]}"

    def _found(self, target: object, place: str) -> tuple[str, object]:
        """The place of a `$ref`'s target and what stands there."""
        if not isinstance(target, str):
            raise InvalidRequest(_FIELD, f"the $ref {_at(place)} is no text")
        if target in self._names:
            return target, self._names[target]
        target = target.removeprefix(self._base)
        if not target.startswith("#"):
            raise UnsupportedRequest(
                _FIELD, f"the $ref {_at(place)} leads out of the schema: {target[:80]!r}"
            )
        found: object = self._schema
        for step in unquote(target[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and step in found:
                found = found[step]
            elif isinstance(found, list | tuple) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                raise InvalidRequest(_FIELD, f"the $ref {_at(place)} leads nowhere: {target[:80]!r}")
        if target != "#" and not target.startswith("#/"):
            raise InvalidRequest(_FIELD, f"the $ref {_at(place)} leads nowhere: {target[:80]!r}")
        return target[1:], found

    def _check_strings(self, node: Schema, place: str) -> None:
        if node.get("format") not in _FORMATS:
            node.pop("format", None)
        patterns = [node["pattern"]] if "pattern" in node else []
        if "patternProperties" in node:
            patterns += _mapping(node, "patternProperties", place)
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise InvalidRequest(_FIELD, f"the pattern {_at(place)} is no text")
            fault = self._pattern_fault(pattern)
            if fault is not None:
                raise UnsupportedRequest(_FIELD, f"the pattern {_at(place)} cannot be followed: {fault}")


def _normal(schema: Mapping[str, object], place: str) -> Schema:
    """What older drafts wrote, as today's has it; without what says nothing, for its partner is missing."""
    node = dict(schema)
    for key in _COUNTS:
        if key in node:
            node[key] = _count(node[key], key, place)
    if isinstance(node.get("required"), bool):  # draft 3
        del node["required"]
    names = node.get("required", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(_FIELD, f"required {_at(place)} is no list of names")
    if isinstance(node.get("items"), list | tuple):  # drafts 4 to 2019-09
        node["prefixItems"] = node.pop("items")
        if "additionalItems" in node:
            node["items"] = node["additionalItems"]
    for word, key in (("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")):
        if node.get(word) is True or (word in node and not node.keys() & {*_IN_PLACE, "if"}):
            node.setdefault(key, node.pop(word))
    return {key: value for key, value in node.items() if not _is_idle(key, node)}


def _is_idle(key: str, node: Schema) -> bool:
    """Whether a keyword demands nothing as it stands."""
    match key:
        case "if":
            return not node.keys() & {"then", "else"}
        case "contains":
            return node.get("minContains") == 0 and "maxContains" not in node
        case "uniqueItems":
            return node[key] is False or cast("int", node.get("maxItems", 2)) < 2
        case "dependentRequired" | "dependentSchemas" | "dependencies":
            return not node[key]
        case _:
            return False


def _refuse(node: Schema, place: str) -> None:
    if "propertyNames" in node:
        _spell_out_names(node)
    for key in _NOT_FOLLOWED:
        if key in node:
            raise UnsupportedRequest(_FIELD, f"{key} {_at(place)} cannot be followed")
    kinds = node.get("type", ())
    for kind in kinds if isinstance(kinds, list | tuple) else (kinds,):
        if kind not in _TYPES:
            raise InvalidRequest(
                _FIELD, f"cannot be followed: the type {_at(place)} is none of {', '.join(_TYPES)}"
            )


def _spell_out_names(node: Schema) -> None:
    """A map whose names have a pattern, as today's standard writes it: pydantic's dict[constr(...), int]."""
    names = node["propertyNames"]
    says = {*names} & {*_FOLLOWED, *_NOT_FOLLOWED} if isinstance(names, Mapping) else set()
    if isinstance(names, Mapping) and names.get("type") == "string":
        says -= {"type"}
    if names is True or (isinstance(names, Mapping) and not says):
        del node["propertyNames"]
        return
    if not isinstance(names, Mapping) or node.keys() & {*_OF_OBJECTS}:
        return
    values = node.get("additionalProperties", True)
    if says == {"pattern"}:
        node["patternProperties"] = {cast("str", names["pattern"]): values}
    elif says <= {"minLength", "maxLength"}:
        node["patternProperties"] = {
            rf"^[\s\S]{{{names.get('minLength', 0)},{names.get('maxLength', '')}}}$": values
        }
    elif says == {"enum"} and isinstance(names["enum"], list | tuple):
        node["properties"] = {name: values for name in names["enum"] if isinstance(name, str)}
    else:
        return
    del node["propertyNames"]
    node["additionalProperties"] = False


def _bound_integers(node: Schema) -> None:
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list | tuple) else [kinds]
    if "integer" in kinds and "number" not in kinds and not node.keys() & {"enum", "const"}:
        low, high = _bound(node, "minimum", "exclusiveMinimum"), _bound(node, "maximum", "exclusiveMaximum")
        if low is None and (high is None or high > -_INTEGER):
            node["minimum"] = -_INTEGER
        if high is None and (low is None or low < _INTEGER):
            node["maximum"] = _INTEGER


def _bound(node: Schema, *keys: str) -> float | None:
    return next((value for key in keys if isinstance(value := node.get(key), int | float)), None)


def _name_the_type(node: Schema) -> None:
    if "type" in node or node.keys() & {"enum", "const"}:
        return
    if node.keys() & {*_OF_OBJECTS}:
        node["type"] = "object"
    elif node.keys() & {*_OF_ARRAYS}:
        node["type"] = "array"


def _close(node: Schema, *, sealed: bool) -> None:
    """No other properties than those that are named, where nothing says what others there may be."""
    named = [key for key in _OF_OBJECTS if node.get(key)]
    if not sealed or not named or "additionalProperties" in node or not _only_demands(node):
        return
    node["additionalProperties"] = False
    properties = node.get("properties", {})
    if named == ["properties"] and isinstance(properties, Mapping):  # what is demanded must be possible
        required = cast("Sequence[str]", node.get("required", ()))
        node["properties"] = {**properties, **{name: True for name in required if name not in properties}}


def _only_demands(node: Schema) -> bool:
    """Whether what else is said of the same value names no properties: `anyOf: [{required: [...]}, ...]`."""
    if "$ref" in node:
        return False
    branches = [
        branch
        for key in ("anyOf", "oneOf", "allOf")
        for branch in cast("Sequence[object]", node.get(key, ()))
    ]
    return all(isinstance(branch, Mapping) and branch.keys() <= {"required", "type"} for branch in branches)


def _kinds(schema: Mapping[str, object]) -> set[object]:
    """The types that a value of `schema` may have; a whole number is a number, too."""
    kinds = schema.get("type")
    if kinds is None and "const" not in schema:
        return {"object"} if schema.keys() & {*_OF_OBJECTS} else {*_TYPES}
    found: list[object] = [*kinds] if isinstance(kinds, list | tuple) else [kinds]
    if kinds is None:
        found = [_TYPE_NAMES.get(type(schema["const"]))]
    found = [kind for kind in found if isinstance(kind, str)]
    return {"number" if kind == "integer" else kind for kind in found}


def _telling(branches: Sequence[Mapping[str, object]]) -> str | None:
    """A property by whose value each of the objects can be told from the others."""
    properties = [branch.get("properties") for branch in branches]
    first = properties[0] if properties else None
    for name in first if isinstance(first, Mapping) else ():
        values = [_values(known.get(name)) if isinstance(known, Mapping) else None for known in properties]
        sets = [one for one in values if one]
        if len(sets) == len(branches) and not any(one & other for one, other in combinations(sets, 2)):
            return str(name)
    return None


def _values(schema: object) -> set[str] | None:
    """The texts that a value can be; None where it can be anything else."""
    if not isinstance(schema, Mapping):
        return None
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        return None
    return {*values}


def _named(schema: object) -> list[tuple[str, Schema]]:
    """The schemas that have a name of their own, `$id` or `$anchor`, by what a `$ref` calls them."""
    found: list[tuple[str, Schema]] = []
    open_: list[object] = [schema]
    while open_:
        node = open_.pop()
        if isinstance(node, Mapping):
            for key, lead in (("$id", ""), ("id", ""), ("$anchor", "#")):
                if isinstance(node.get(key), str):
                    found.append((f"{lead}{node[key]}", dict(node)))
            open_ += [value for key, value in node.items() if key not in ("enum", "const", "default")]
        elif isinstance(node, list | tuple):
            open_ += node
    return found


def _count(value: object, key: str, place: str) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) and value >= 0:
        return int(value)
    raise InvalidRequest(_FIELD, f"{key} {_at(place)} is no count: {json.dumps(value, default=str)[:40]}")


def _mapping(node: Schema, key: str, place: str) -> Mapping[str, object]:
    value = node[key]
    if not isinstance(value, Mapping):
        raise InvalidRequest(_FIELD, f"{key} {_at(place)} is no object")
    return value


def _list(node: Schema, key: str, place: str) -> Sequence[object]:
    value = node[key]
    if not isinstance(value, list | tuple):
        raise InvalidRequest(_FIELD, f"{key} {_at(place)} is no list")
    return value


def _at(place: str) -> str:
    return f"at {place[:200]}" if place else "at its root"
