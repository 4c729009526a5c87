"""The tools of a Responses request, and the choice among them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import cast

from edge_router.chat.request import HostedTool, Tool, ToolChoice
from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import Fields, fields_at
from edge_router.records import dataclass
from edge_router.surfaces.limits import (
    LONGEST_TOOL,
    MAX_TOOLS,
    NO_TOOLS,
    check_slip,
    listed_tools,
    read_schema,
)
from edge_router.surfaces.openai.tools import Mode, read_grammar

LONGEST_FLAT = 64  # what endpoints take as a function's name
_OWN_TOOLS = ("function", "custom", "namespace")


@dataclass(slots=True)
class Tools:
    """The tools that a request names. Those of a namespace get a name that holds it, and stand beside all
    others."""

    found: list[Tool | HostedTool] = field(default_factory=list)
    namespaces: dict[str, tuple[str, str]] = field(default_factory=dict)

    def read(self, value: object, where: str) -> None:
        for index, item in enumerate(listed_tools(value, where)):
            self._add(fields_at(item, f"{where}[{index}]"))
            if len(self.found) > MAX_TOOLS:
                raise InvalidRequest(where, f"holds more than {MAX_TOOLS} tools")

    def names(self) -> frozenset[str]:
        return frozenset(tool.name for tool in self.found)

    def _add(self, item: Fields) -> None:
        kind = item.string("type", default="")
        if kind in ("function", "custom"):
            self._take(item, _callable(item, kind, tool_name(item)))
        elif kind == "namespace":
            self._add_namespace(item)
        elif kind:
            check_slip(item, "type", _OWN_TOOLS)
            self.found.append(HostedTool(kind, item.body))
        else:
            raise item.refuse("type", "is missing")

    def _add_namespace(self, item: Fields) -> None:
        namespace, tools = tool_name(item), item.get("tools")
        if not isinstance(tools, list):
            raise item.refuse("tools", "must be a list of tools")
        for index, inner in enumerate(tools):
            tool = fields_at(inner, f"{item.within}.tools[{index}]")
            kind, name = tool.string("type", default="function"), tool_name(tool)
            if kind not in ("function", "custom"):
                raise tool.refuse("type", "must be function or custom within a namespace")
            flat = flat_name(namespace, name)
            self._take(tool, _callable(tool, kind, flat))
            self.namespaces[flat] = namespace, name

    def _take(self, item: Fields, tool: Tool) -> None:
        if any(tool.name == other.name for other in self.found if isinstance(other, Tool)):
            raise item.refuse("name", f"{tool.name!r} is the name of another tool, too")
        self.found.append(tool)


def flat_name(namespace: str, name: str) -> str:
    """One name for a tool within a namespace, which endpoints without namespaces take."""
    flat = f"{namespace}__{name}"
    if len(flat) <= LONGEST_FLAT:
        return flat
    digest = hashlib.sha256(flat.encode()).hexdigest()[:8]
    return f"{flat[: LONGEST_FLAT - len(digest) - 1]}_{digest}"


def _callable(item: Fields, kind: str, name: str) -> Tool:
    description = item.text("description") or ""
    if kind == "custom":
        form = item.object("format")
        bound = form is not None and form.choice("type", "text", "grammar") == "grammar"
        grammar = read_grammar(form) if form is not None and bound else None
        return Tool(name, description, free=True, form=grammar)
    parameters, strict = read_schema(item, "parameters"), item.get("strict")
    return Tool(name, description, parameters, None if strict is None else item.boolean("strict"))


def tool_name(item: Fields) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        below = " (it stands beside type here, not below function)" if item.get("function") else ""
        raise item.refuse("name", f"is missing: a tool is called by it{below}")
    if len(name) > LONGEST_TOOL:
        raise item.refuse("name", f"has more than {LONGEST_TOOL} characters")
    return name


def read_choice(fields: Fields, tools: Tools) -> ToolChoice:
    value, parallel = fields.get("tool_choice"), fields.get("parallel_tool_calls")
    if parallel is not None:
        parallel = fields.boolean("parallel_tool_calls")
    if value is None or isinstance(value, str):
        if value not in (None, "auto", "none", "required"):
            raise InvalidRequest("tool_choice", "must be auto, none, required, or an object that names tools")
        return _mode(value or "auto", tools, parallel)
    choice = fields_at(value, "tool_choice")
    kind = choice.string("type", default="")
    if kind in ("auto", "none", "required"):  # as Anthropic's clients write it
        return _mode(kind, tools, parallel)
    if kind != "allowed_tools":
        return ToolChoice("required", _chosen(choice, tools), parallel)
    allowed = choice.get("tools")
    if not isinstance(allowed, list) or not allowed:
        raise choice.refuse("tools", "must be a list of tools, and not empty")
    names = [
        name
        for index, one in enumerate(allowed)
        for name in _chosen(fields_at(one, f"tool_choice.tools[{index}]"), tools)
    ]
    mode = choice.choice("mode", "auto", "required") or "auto"
    return ToolChoice(cast(Mode, mode), tuple(dict.fromkeys(names)), parallel)


def _mode(mode: str, tools: Tools, parallel: bool | None) -> ToolChoice:
    if mode == "required" and not tools.found:
        raise InvalidRequest("tool_choice", NO_TOOLS)
    return ToolChoice(cast(Mode, mode) if tools.found else "auto", (), parallel)


def _chosen(choice: Fields, tools: Tools) -> tuple[str, ...]:
    """What a choice calls one tool, or all those of a namespace. Endpoints' own go by their type."""
    kind = choice.string("type", default="")
    if not kind:
        raise choice.refuse("type", "is missing")
    inner = choice.get("function")  # as in chat completions
    named = choice if not isinstance(inner, Mapping) else Fields(inner, within=f"{choice.within}.function")
    if kind == "namespace":
        names = [flat for flat, (namespace, _) in tools.namespaces.items() if namespace == tool_name(named)]
    elif kind in ("function", "custom"):
        name, namespace = tool_name(named), choice.get("namespace")
        flat = flat_name(namespace, name) if isinstance(namespace, str) and namespace else name
        within = [one for one, (_, inner_name) in tools.namespaces.items() if inner_name == name]
        names = [flat] if flat in tools.names() else within[:1]
    else:
        names = [kind] if kind in tools.names() else []
    if not names:
        raise choice.refuse("name" if named.get("name") else "type", "names a tool that is not among tools")
    return tuple(names)
