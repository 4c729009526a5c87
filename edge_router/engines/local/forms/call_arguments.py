"""What stands for a call's arguments in each form, as rules of a grammar: JSON, elements, keywords, bare."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from edge_router.engines.local.forms.grammar_rules import Rules, either, literal, sequence
from edge_router.engines.local.forms.text_pattern import escaped, fitting
from edge_router.errors import UnsupportedRequest
from edge_router.prompts.answer_format import ELEMENT_END, CallFormat
from edge_router.prompts.forms import is_text

Schema = Mapping[str, object]

_PLAIN = ("boolean", "integer", "null", "number")  # which all forms write as JSON
_KEYS = {"elements": r"[^>\n]+", "keywords": r"[^\W\d]\w*", "bare": r"[\w$][\w.$-]*"}
_FREE_KEY = "/[A-Za-z_][A-Za-z0-9_]*/"  # of the model's own choice
_NAMES = {"elements": r"[^>\n]+", "keywords": r"[\w.:/-]+", "bare": r"[\w.:/-]+"}
_IGNORED = frozenset({"x-guidance", "$defs", "type", "properties", "required", "additionalProperties"})


class CallArguments:
    """Of calls in one form. `of` gives what stands for arguments that fit a schema, nothing for none.

    `schema` is one that `json_schema.followable` has made, `stated` the one that it made it of. Raises
    `UnsupportedRequest` for what this form has no words for.
    """

    def __init__(self, form: CallFormat, rules: Rules, spelling: Schema) -> None:
        self._form, self._rules, self._spelling = form, rules, spelling
        self._defs: Schema = {}
        self._targets: dict[str, str] = {}  # rules of definitions that are bare

    def of(self, schema: Schema, stated: Schema) -> str:
        if self._form.style == "json":
            return self._json(schema)
        self._defs, self._targets = cast("Schema", schema.get("$defs", {})), {}
        members = _members(schema)
        if self._form.style == "elements":
            return self._elements(members, stated)
        if self._form.style == "keywords":
            return self._listed(members, self._keyword, ", ")
        return self._listed(members, self._bare_member, ",")

    def check_name(self, name: str) -> None:
        """Raises `UnsupportedRequest` where a call of this form can't have it."""
        self._check(name, _NAMES, "name")

    # ---- elements: <parameter=KEY>, VALUE, </parameter>, each in lines of its own --------------------------

    def _elements(self, members: Members | None, stated: Schema) -> str:
        end = self._rules.lazy(rf"/(\n(?s:.*))?{escaped(ELEMENT_END)}/")
        if members is None:
            key = self._rules.terminal(_FREE_KEY)
            one = sequence('"<parameter="', key, '">"', end, r'"\n"')
            return f"({one})*"
        described = cast("Schema", stated.get("properties") or {})
        found = []
        for key, (schema, required) in members.items():
            self._check(key, _KEYS, "parameter")
            before = literal(f"<parameter={key}>")
            if is_text(described.get(key)):
                value = self._text(schema, "\n", ELEMENT_END) or end
            else:
                value = sequence(r'"\n"', self._json(schema), literal(ELEMENT_END))
            one = sequence(before, value, r'"\n"')
            found.append(one if required else f"({one})?")
        return " ".join(found)

    # ---- keywords: KEY=VALUE -------------------------------------------------------------------------------

    def _keyword(self, key: str | None, schema: Schema | bool) -> str:
        boolean = isinstance(schema, Mapping) and {*schema} == {"type"} and schema["type"] == "boolean"
        value = '("True" | "False")' if boolean else self._json(schema)  # as Python has them
        return sequence(self._key(key), '"="', value)

    # ---- bare: KEY:VALUE, with texts between quotes of the form's own --------------------------------------

    def _bare_member(self, key: str | None, schema: Schema | bool) -> str:
        return sequence(self._key(key), '":"', self._bare(schema))

    def _bare(self, schema: Schema | bool) -> str:
        if schema is True or schema == {}:
            return self._anything()
        if not isinstance(schema, Mapping):
            raise _unable("a value that can be nothing")
        if "$ref" in schema:
            return self._target(str(schema["$ref"]))
        if "anyOf" in schema and {*schema} <= {"anyOf", "type"}:
            return either(map(self._bare, cast("Sequence[Schema]", schema["anyOf"])))
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values is not None:
            return either(map(self._bare_value, cast("Sequence[object]", values)))
        kinds = schema.get("type")
        if isinstance(kinds, list | tuple):
            return either(self._bare({**schema, "type": kind}) for kind in kinds)
        if kinds in _PLAIN:
            return self._json(schema)
        if kinds == "string":
            quote = self._form.quote
            text = self._text(schema, quote, quote)
            return text or sequence(literal(quote), self._rules.lazy(f"/(?s:.*){escaped(quote)}/"))
        if kinds == "array" and {*schema} <= {"type", "items", "minItems", "maxItems"}:
            return self._array(schema)
        if kinds == "object":
            return sequence('"{"', self._listed(_members(schema), self._bare_member, ","), '"}"')
        raise _unable(f"a value with {', '.join(sorted({*schema} - {'type'}))}" if schema else "any value")

    def _target(self, reference: str) -> str:
        if reference not in self._targets:
            self._targets[reference] = name = self._rules.announced()
            found = self._defs.get(reference.rpartition("/")[2])
            self._rules.define(name, self._bare(cast("Schema | bool", found)))
        return self._targets[reference]

    def _array(self, schema: Schema) -> str:
        item = self._bare(cast("Schema | bool", schema.get("items", True)))
        least, most = cast(int, schema.get("minItems", 0)), cast("int | None", schema.get("maxItems"))
        if most == 0:
            return '"[]"'
        more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        items = sequence(item, more) if most != 1 else item
        return sequence('"["', items if least else f"({items})?", '"]"')

    def _anything(self) -> str:
        if "" not in self._targets:
            self._targets[""] = name = self._rules.announced()
            self._rules.define(name, self._bare({"type": ["string", *_PLAIN, "object", "array"]}))
        return self._targets[""]

    def _bare_value(self, value: object) -> str:
        if isinstance(value, str):
            if self._form.quote in value:
                raise _unable(f"a text with {self._form.quote}")
            return literal(f"{self._form.quote}{value}{self._form.quote}")
        if isinstance(value, bool | int | float) or value is None:
            return literal(json.dumps(value))
        raise _unable("a list or an object among the values of an enum")

    # ---- what they share -----------------------------------------------------------------------------------

    def _json(self, schema: Schema | bool) -> str:
        if isinstance(schema, bool):
            schema = {}
        beside = {"$defs": self._defs} if self._defs else {}
        return self._rules.json({**beside, **schema, "x-guidance": self._spelling})

    def _text(self, schema: Schema | bool, before: str, behind: str) -> str | None:
        """A text between these as it is; None where it may be any."""
        asked = schema if isinstance(schema, Mapping) else {}
        values = [asked["const"]] if "const" in asked else asked.get("enum")
        if values is not None:
            texts = [value for value in cast("Sequence[object]", values) if isinstance(value, str)]
            if any(
                f"{before}{value}{behind}".find(behind, before == behind) < len(before + value)
                for value in texts
            ):
                raise _unable(f"a text with {behind.strip()}")
            return either(literal(f"{before}{value}{behind}") for value in texts)
        pattern = fitting(asked)
        if pattern is None:
            return None
        first, end = escaped(before), escaped(behind)
        early = f"{first if before == behind else ''}(?s:.*){end}(?s:.+)"
        return self._rules.terminal(f"/{first}(?:{pattern}){end}/ & ~/{early}/")

    def _listed(
        self, members: Members | None, one: Callable[[str | None, Schema | bool], str], comma: str
    ) -> str:
        """Members with commas between them, of which those that aren't required may be missing."""
        between = literal(comma)
        if members is None:
            any_ = one(None, True)
            return f"({any_} ({between} {any_})*)?"
        made = [(self._rules.rule(one(key, schema)), must) for key, (schema, must) in members.items()]
        rests = [f"({between} {name})" + ("" if must else "?") for name, must in made]
        ways: list[str] = []
        for number, (name, must) in enumerate(made):  # the first that is there
            rest = sequence(*rests[number + 1 :])
            ways.append(sequence(name, self._rules.rule(rest) if rest else ""))
            if must:
                return either(ways)
        return f"{either(ways)}?" if ways else ""

    def _key(self, key: str | None) -> str:
        if key is None:
            return self._rules.terminal(_FREE_KEY)
        self._check(key, _KEYS, "parameter")
        return literal(key)

    def _check(self, name: str, forms: Mapping[str, str], what: str) -> None:
        pattern = forms.get(self._form.style)
        if pattern is not None and not re.fullmatch(pattern, name):
            raise _unable(f"the {what} {name[:40]!r}")


Members = dict[str, tuple["Schema | bool", bool]]


def _members(schema: Schema) -> Members | None:
    """Properties and whether they are required; None where they may be any."""
    if odd := {*schema} - _IGNORED:
        raise _unable(f"arguments with {', '.join(sorted(odd))}")
    properties, required = schema.get("properties"), cast("Sequence[str]", schema.get("required", ()))
    if properties is None and not required and schema.get("additionalProperties", True) in (True, {}):
        return None
    if not properties and schema.get("additionalProperties", False) not in (False, True):
        raise _unable("arguments with names of the model's own choice")
    known = cast("dict[str, Schema | bool]", properties or {})
    known = {**known, **{name: True for name in required if name not in known}}
    return {name: (value, name in required) for name, value in known.items()}


def _unable(what: str) -> UnsupportedRequest:
    return UnsupportedRequest("schema", f"the weak model's form of calls has no words for {what}")
