"""The form of an answer, `response_format`: read in every shape there is, written in OpenAI's own. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.request import ForeignOutput, JsonOutput, Output, TextOutput
from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import Fields
from edge_router.surfaces.limits import check_slip
from edge_router.surfaces.openai.tools import read_grammar

FIELD = "response_format"
FORMS = ("text", "json_object", "json_schema")
# What other servers call it; they alone know what these mean.
FOREIGN_FIELDS = (
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"),
    *("grammar", "json_schema", "regex", "ebnf"),
)
_NAME = "answer"  # OpenAI wants one for every schema
# What makes an object a schema rather than a description of one.
_KEYWORDS = frozenset(
    {
        *("type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs"),
        *("required", "additionalProperties", "definitions", "not", "pattern"),
    }
)
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


def read_output(value: object) -> Output:
    """Of the field's value. A form that only others know, a grammar of no syntax say, is kept as it stands.

    A schema stands below "json_schema" or beside "type" (llama.cpp), or is the whole value. `true` and `{}`
    are the schemas of any JSON. Raises `InvalidRequest`.
    """
    if value is None:
        return TextOutput()
    if not isinstance(value, Mapping):
        raise InvalidRequest(FIELD, "must be an object with a type")
    kind, schema, below = value.get("type"), value.get("schema"), value.get("json_schema")
    if schema is below is None and _is_schema(value):
        return JsonOutput(value)
    if kind == "text":
        return TextOutput()
    if kind in ("json_object", "json_schema") or (kind is None and not schema is below is None):
        if below is not None:
            return _described(_inner(below), f"{FIELD}.json_schema")
        if schema is None and kind == "json_object":
            return JsonOutput()
        return _described(value)
    grammar = value.get("grammar")  # as a free tool has it; a text is in somebody's own dialect
    if kind == "grammar" and isinstance(grammar, Mapping):
        return read_grammar(Fields(grammar, within=f"{FIELD}.grammar"))
    if not isinstance(kind, str):
        raise InvalidRequest(f"{FIELD}.type", "must be text, json_object or json_schema")
    check_slip(Fields(value, within=FIELD), "type", FORMS)
    return ForeignOutput(value)


def written_output(output: Output) -> dict[str, object]:
    """The fields of a request's body that ask for `output`; none where that is plain text."""
    if isinstance(output, ForeignOutput):
        return {FIELD: dict(output.body)} if output.body else {}
    if not isinstance(output, JsonOutput):
        return {}
    if output.schema is None:
        return {FIELD: {"type": "json_object"}}
    stated = {"description": output.description, "strict": output.strict}
    described = {"name": output.name or _NAME, **{k: v for k, v in stated.items() if v is not None}}
    return {FIELD: {"type": "json_schema", "json_schema": {**described, "schema": dict(output.schema)}}}


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


def _described(held: Mapping[str, object], where: str = FIELD) -> JsonOutput:
    schema = held.get("schema")
    if schema is None or schema is True:
        schema = {}
    if schema is False:
        raise InvalidRequest(f"{where}.schema", "is false: no answer could ever fit it")
    if not isinstance(schema, Mapping):
        raise InvalidRequest(f"{where}.schema", "must be a JSON schema: an object, or true for any JSON")
    name, description, strict = (held.get(field) for field in ("name", "description", "strict"))
    for field, value in (("name", name), ("description", description)):
        if not isinstance(value, str | None):
            raise InvalidRequest(f"{where}.{field}", "must be a string")
    if not isinstance(strict, bool | None):
        raise InvalidRequest(f"{where}.strict", "must be true or false")
    return JsonOutput(
        schema,
        name if isinstance(name, str) else None,
        description if isinstance(description, str) else None,
        strict,
    )
