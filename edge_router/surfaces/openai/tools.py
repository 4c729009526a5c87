"""Tools and the choice among them in OpenAI's form: read from a request's body, and written into one. Pure.

The `functions` of 2023 are tools, too. Beside them their field stays as it came, for endpoints as old.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal, cast

from edge_router.chat.request import GrammarOutput, HostedTool, Tool, ToolChoice
from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import Fields, listed, shown
from edge_router.surfaces.limits import check_slip, check_tools_differ, listed_tools, read_schema

TOOLS, CHOICE, PARALLEL = "tools", "tool_choice", "parallel_tool_calls"
OLDER_TOOLS, OLDER_CHOICE = "functions", "function_call"
SEARCH = "web_search_options"  # a tool that has a field of its own
FIELDS = (TOOLS, CHOICE, PARALLEL, OLDER_TOOLS, OLDER_CHOICE, SEARCH)
_FREE = "custom"  # the type of a tool that takes any text
Mode = Literal["auto", "none", "required"]
_MODES: Mapping[str, Mode] = {"auto": "auto", "none": "none", "required": "required"}
_SAME = {"any": "required"}  # Mistral's and Anthropic's word
_NAMING = ("function", _FREE, "tool")  # types of a choice that has a tool's name beside it, or below

Held = Mapping[str, object]
AnyTool = Tool | HostedTool


# ---- reading -----------------------------------------------------------------------------------------------


def read_tools(passed: dict[str, object]) -> tuple[tuple[AnyTool, ...], ToolChoice]:
    """What `passed`, a body's fields, says of tools; what is understood is taken out of it.

    Without a tool in sight nothing can be chosen, and endpoints refuse to be told so. Raises
    `InvalidRequest`.
    """
    search = passed.pop(SEARCH, None)
    hosted = () if search is None else (HostedTool(SEARCH, _object(search, SEARCH)),)
    listed = _listed(passed, TOOLS, _tool)
    older = _listed(passed, OLDER_TOOLS, lambda item, where: _function(item, {}, where))
    if listed and older:
        raise InvalidRequest(OLDER_TOOLS, f"is the older name of {TOOLS}: write one of the two")
    choice = _chosen(passed, CHOICE, listed)
    older_choice = _chosen(passed, OLDER_CHOICE, older)
    parallel = passed.pop(PARALLEL, None)
    if not isinstance(parallel, bool | None):
        raise InvalidRequest(PARALLEL, "must be true or false")
    if older:
        return (*older, *hosted), older_choice
    passed.pop(OLDER_TOOLS, None)
    if not listed:
        return hosted, ToolChoice()
    del passed[TOOLS]
    return (*listed, *hosted), ToolChoice(choice.mode, choice.names, parallel)


def _object(value: object, where: str) -> Held:
    if not isinstance(value, Mapping):
        raise InvalidRequest(where, "must be an object")
    return value


def _listed(
    passed: dict[str, object], name: str, read: Callable[[Held, str], AnyTool]
) -> tuple[AnyTool, ...]:
    value = listed_tools(passed.get(name), name)
    if not value:
        passed.pop(name, None)
    found = (f"{name}[{index}]" for index in range(len(value)))
    tools = tuple(read(_object(item, where), where) for item, where in zip(value, found, strict=True))
    check_tools_differ(tools, name)
    return tools


def _tool(item: Held, where: str) -> AnyTool:
    kind = item.get("type", "function")
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where}.type", "must be a string")
    if kind not in ("function", _FREE):
        check_slip(Fields(item, within=where), "type", ("function", _FREE))
        return HostedTool(kind, item)
    held, within = item.get(kind), f"{where}.{kind}"
    extra = _but(item, "type", kind)
    if held is None and "name" in item:  # not below a key of its own, as the Responses API has it
        held, within, extra = _but(item, "type"), where, {}
    held = _object(held, within)
    return _custom(held, extra, within) if kind == _FREE else _function(held, extra, within)


def _function(held: Held, extra: Held, where: str) -> Tool:
    parameters, strict = read_schema(Fields(held, within=where), "parameters"), held.get("strict")
    if not isinstance(strict, bool | None):
        raise InvalidRequest(f"{where}.strict", "must be true or false")
    rest = _but(held, "name", "description", "parameters", "strict")
    name, description = _name(held, where), _description(held, where)
    return Tool(name, description, parameters, strict, extra=_beside(extra, "function", rest))


def _custom(held: Held, extra: Held, where: str) -> Tool:
    form, rest = _form(Fields(held, within=where)), _but(held, "name", "description", "format")
    extra = _beside(extra, _FREE, rest)
    return Tool(_name(held, where), _description(held, where), free=True, form=form, extra=extra)


def _beside(extra: Held, kind: str, rest: Held) -> Held:
    return {**extra, kind: rest} if rest else extra


def _name(held: Held, where: str) -> str:
    name = held.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}.name", "must be a string that is not empty")
    return name


def _description(held: Held, where: str) -> str:
    description = held.get("description")
    if not isinstance(description, str | None):
        raise InvalidRequest(f"{where}.description", "must be a string")
    return description or ""


def _form(held: Fields) -> GrammarOutput | None:
    """What a free tool's text is held to."""
    form = held.object("format")
    if form is None or form.choice("type", "text", "grammar") in (None, "text"):
        return None
    return read_grammar(form.object("grammar") or Fields({}, within=f"{form.within}.grammar"))


def read_grammar(fields: Fields) -> GrammarOutput:
    """Raises `InvalidRequest`."""
    syntax, source = fields.choice("syntax", "lark", "regex"), fields.string("definition", default="")
    if syntax is None:
        raise fields.refuse("syntax", "must be lark or regex")
    if not source:
        raise fields.refuse("definition", "is missing")
    return GrammarOutput(cast("Literal['lark', 'regex']", syntax), source)


def _chosen(passed: dict[str, object], name: str, tools: Sequence[AnyTool]) -> ToolChoice:
    """The choice in the field `name`, which stays in `passed` where it can't be written from what is read.

    A word alone demands nothing where there are no tools: LlamaIndex writes "required" with every question
    for which it has none.
    """
    stated = passed.get(name)
    if not isinstance(stated, str | Mapping | None):
        raise InvalidRequest(name, "must be a word or an object that names a tool")
    mode = _mode(stated, name)
    if not tools:
        passed.pop(name, None)
        if isinstance(stated, Mapping) and mode == "required":
            raise InvalidRequest(name, "names a tool, and there are no tools")
        return ToolChoice()
    known, names = {tool.name for tool in tools}, []
    for wanted in _named(stated, name):
        if wanted not in known:
            raise InvalidRequest(name, f"names {shown(wanted)!r}, which is not among the tools")
        names.append(wanted)
    choice = ToolChoice(mode, tuple(names))
    if name == CHOICE and stated != "auto" and stated in (None, _written_choice(choice, tools)):
        passed.pop(name, None)
    return choice


def _mode(stated: object, where: str) -> Mode:
    """A type that is no such word names a tool."""
    if not isinstance(stated, Mapping):
        return _word(stated, where)
    allowed, kind = stated.get("allowed_tools"), stated.get("type")
    if isinstance(allowed, Mapping):
        return _word(allowed.get("mode"), f"{where}.allowed_tools.mode")
    return _word(kind, where) if isinstance(kind, str) and _SAME.get(kind, kind) in _MODES else "required"


def _word(stated: object, where: str) -> Mode:
    if stated is None:
        return "auto"
    word = _SAME.get(stated, stated) if isinstance(stated, str) else ""
    if word not in _MODES:
        raise InvalidRequest(where, f"must be {listed((*_MODES,))}, or an object that names a tool")
    return _MODES[word]


def _named(stated: object, where: str) -> Iterator[str]:
    """What a choice names: tools, or an endpoint's own by their type."""
    if not isinstance(stated, Mapping):
        return
    allowed = stated.get("allowed_tools")
    if isinstance(allowed, Mapping):
        items = allowed.get("tools")
        if not isinstance(items, list | None):
            raise InvalidRequest(f"{where}.allowed_tools.tools", "must be a list of tools")
        for item in items or ():
            yield from _named(_object(item, f"{where}.allowed_tools.tools"), where)
        return
    kind = stated.get("type", "function")
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where}.type", "must be a string")
    held = stated.get(kind)
    named = held.get("name") if isinstance(held, Mapping) else stated.get("name")
    if isinstance(named, str) and kind in _NAMING:
        yield named
    elif kind not in (*_NAMING, *_MODES, *_SAME):
        yield kind


def _but(fields: Held, *names: str) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in names}


# ---- writing -----------------------------------------------------------------------------------------------


def written_tools(
    tools: Sequence[AnyTool], choice: ToolChoice, passed: Collection[str] = ()
) -> dict[str, object]:
    """The fields of a body that say the same; `passed` are names of fields that go out as they came."""
    fields: dict[str, object] = {}
    for tool in tools:
        if isinstance(tool, HostedTool) and tool.kind == SEARCH:
            fields[SEARCH] = dict(tool.body)
    listed = [_written(tool) for tool in tools if not (isinstance(tool, HostedTool) and tool.kind == SEARCH)]
    if not listed or OLDER_TOOLS in passed:
        return fields
    fields[TOOLS] = listed
    if CHOICE not in passed and choice not in (ToolChoice(), ToolChoice(parallel=choice.parallel)):
        fields[CHOICE] = _written_choice(choice, tools)
    if choice.parallel is not None:
        fields[PARALLEL] = choice.parallel
    return fields


def _written(tool: AnyTool) -> dict[str, object]:
    if isinstance(tool, HostedTool):
        return dict(tool.body)
    kind = _FREE if tool.free else "function"
    form: object = None
    if tool.form is not None:
        grammar = {"definition": tool.form.source, "syntax": tool.form.syntax}
        form = {"type": "grammar", "grammar": grammar}
    stated = {
        "description": tool.description or None,
        "parameters": tool.parameters,
        "strict": tool.strict,
        "format": form,
    }
    inner = cast(Held, tool.extra.get(kind, {}))
    held = {"name": tool.name, **{k: v for k, v in stated.items() if v is not None}, **inner}
    return {"type": kind, **tool.extra, kind: held}


def _written_choice(choice: ToolChoice, tools: Sequence[AnyTool]) -> object:
    kinds = {
        tool.name: tool.kind if isinstance(tool, HostedTool) else _FREE if tool.free else "function"
        for tool in tools
    }
    named: list[dict[str, object]] = []
    for name in choice.names:
        kind = kinds.get(name, "function")
        named.append({"type": kind, kind: {"name": name}} if kind in ("function", _FREE) else {"type": kind})
    if not named:
        return choice.mode
    if choice.mode == "required" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}
