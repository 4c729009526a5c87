"""Bodies of /v1/messages in, `ChatRequest` out. Pure.

Every refusal is an `InvalidRequest` that names the field. Fields that nobody here knows are kept for an
endpoint that speaks the same protocol.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.message import Message
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    ForeignOutput,
    HostedTool,
    JsonOutput,
    Need,
    Output,
    ReasoningOptions,
    SamplingParams,
    TextOutput,
    Tool,
    ToolChoice,
)
from edge_router.errors import InvalidRequest, clipped
from edge_router.parsing.field_names import check_inner, check_names
from edge_router.parsing.fields import Fields, plain_object, shown
from edge_router.parsing.keeping import FIELD as CACHE
from edge_router.parsing.keeping import controls, taken_mark
from edge_router.parsing.privacy import body_marks
from edge_router.surfaces.anthropic.messages import read_messages, read_system
from edge_router.surfaces.base import Body, Call
from edge_router.surfaces.limits import (
    EFFORTS,
    LONGEST_STOP,
    LONGEST_TOOL,
    MAX_FIELDS,
    MAX_STOPS,
    MAX_TOKENS,
    NO_TOOLS,
    check_slip,
    check_tools_differ,
    listed_tools,
    read_model,
    read_schema,
)

NAME = "anthropic"
_READ = frozenset(
    {
        *("messages", "model", "system", "max_tokens", "stop_sequences", "stream", "private"),
        *("temperature", "top_p", "top_k", "tools", "tool_choice", "thinking"),
        *("output_config", "output_format"),
    }
)
# What only Anthropic's own endpoint makes something of.
_PASSED = frozenset(
    {
        *("metadata", "cache_control", "container", "context_management", "mcp_servers", "service_tier"),
        *("inference_geo", "speed", "betas", "diagnostics", "user_profile_id", "workspace_id", "compaction"),
        *("fallbacks", "fallback_credit_token", "billing_policy", "thread"),
    }
)
_SPELLED = _READ | _PASSED | {CACHE}
_SERVERS = "mcp_servers"
_FORM, _OLDER_FORM = "output_config.format", "output_format"  # its name until 2025
# What errors call that which the weak model can't serve.
_NAMES = {Need.TOOLS: "tools", Need.HOSTED_TOOLS: "tools", Need.TOOL_CALL: "tool_choice"}


def parse(body: Mapping[str, object]) -> Call:
    """Raises `InvalidRequest`."""
    fields = Fields(plain_object(body))
    if fields.get("max_tokens") is None:
        raise InvalidRequest("max_tokens", "is missing: how many tokens the answer may have at most")
    return Call(read_request(fields), fields.boolean("stream"))


def read_request(fields: Fields) -> ChatRequest:
    body = dict(fields.body)
    if len(body) > MAX_FIELDS:
        raise InvalidRequest(None, f"holds more than {MAX_FIELDS} fields")
    check_names(body, _SPELLED)
    private = any([*body_marks(body)])
    keep = taken_mark(body) or ("cache_control" if controls(body) else None)
    passed = {name: value for name, value in body.items() if name not in _READ and value is not None}
    for name, value in passed.items():
        if name not in _PASSED:
            check_inner(value, shown(name))
    messages = (*read_system(fields.get("system")), *read_messages(fields.get("messages")))
    output, where, effort, rest = _output(fields)
    reasoning, kept = _reasoning(fields, effort)
    tools = (*_tools(fields), *_servers(fields))
    extra = {
        name: value for name, value in (*passed.items(), *rest.items(), *kept.items()) if value is not None
    }
    return ChatRequest(
        messages=messages,
        target=read_model(fields),
        sampling=SamplingParams(
            temperature=fields.number("temperature", low=0, high=2),
            top_p=fields.number("top_p", low=0, high=1),
            top_k=0 if fields.get("top_k") == -1 else fields.integer("top_k", low=0, high=MAX_TOKENS),
        ),
        max_tokens=fields.integer("max_tokens", low=1, high=MAX_TOKENS),
        stop=fields.strings("stop_sequences", most=MAX_STOPS, longest=LONGEST_STOP),
        tools=tools,
        tool_choice=_tool_choice(fields, tools),
        output=output,
        reasoning=reasoning,
        private=private,
        keep=keep,
        continue_final=_is_begun(messages[-1]),
        extra=Extra(NAME, extra),
        names={**_NAMES, Need.JSON: where, Need.FOREIGN: where},
    )


def _is_begun(last: Message) -> bool:
    """Whether it is an answer that the client has begun ("prefill")."""
    return last.role == "assistant" and not last.calls


def _tools(fields: Fields) -> tuple[Tool | HostedTool, ...]:
    value = listed_tools(fields.get("tools"), "tools")
    tools = tuple(_tool(item, f"tools[{index}]") for index, item in enumerate(value))
    check_tools_differ(tools, "tools")
    return tools


def _servers(fields: Fields) -> tuple[HostedTool, ...]:
    """Whose tools the endpoint calls; the field itself stays as it came."""
    servers = fields.get(_SERVERS)
    if not isinstance(servers, list | None):
        raise fields.refuse(_SERVERS, "must be a list of servers")
    return (HostedTool(_SERVERS, {_SERVERS: servers}),) if servers else ()


def _tool(item: object, where: str) -> Tool | HostedTool:
    if not isinstance(item, Mapping):
        raise InvalidRequest(where, "must be an object with name and input_schema")
    tool, kind = Fields(item, within=where), item.get("type")
    if kind == "function":
        raise tool.refuse("type", "is OpenAI's; a tool here has name, description and input_schema")
    if kind not in (None, "custom"):
        check_slip(tool, "type", ("custom",))
        return HostedTool(tool.string("type", default=""), item)
    name = item.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_TOOL:
        raise tool.refuse("name", f"must be a string of 1 to {LONGEST_TOOL} characters")
    schema = read_schema(tool, "input_schema")
    if schema is None:
        raise tool.refuse("input_schema", 'is missing; {"type": "object"} is one without arguments')
    description = item.get("description")
    if not isinstance(description, str | None):
        raise tool.refuse("description", "must be a string")
    strict = None if item.get("strict") is None else tool.boolean("strict")
    known = ("type", "name", "description", "input_schema", "strict")
    extra = {key: value for key, value in item.items() if key not in known}
    return Tool(name, description or "", schema, strict, extra=extra)


def _tool_choice(fields: Fields, tools: tuple[Tool | HostedTool, ...]) -> ToolChoice:
    choice = fields.object("tool_choice")
    if choice is None:
        return ToolChoice()
    kind = choice.get("type")
    parallel = None
    if choice.get("disable_parallel_tool_use") is not None:
        parallel = not choice.boolean("disable_parallel_tool_use")
    if kind == "tool":
        return ToolChoice("required", (_chosen(choice, tools),), parallel)
    if kind == "any":
        if not tools:
            raise choice.refuse("type", NO_TOOLS)
        return ToolChoice("required", parallel=parallel)
    if kind in ("auto", "none"):
        return ToolChoice("none" if kind == "none" else "auto", parallel=parallel)
    raise choice.refuse("type", "must be auto, any, tool or none")


def _chosen(choice: Fields, tools: tuple[Tool | HostedTool, ...]) -> str:
    name = choice.get("name")
    for tool in tools:
        if name == (tool.body.get("name") if isinstance(tool, HostedTool) else tool.name):
            return tool.name
    told = clipped(repr(name)) if isinstance(name, str) else "nothing"
    raise choice.refuse("name", f"names {told}, and no tool has that name")


def _reasoning(fields: Fields, effort: str | None) -> tuple[ReasoningOptions, Body]:
    """What `thinking` asks for, and the field itself where its words say more than ours.

    Who says how much effort an answer is worth and does not ask for thoughts, wants none: so Claude Code
    switches them off, and on by "adaptive" with an effort.
    """
    thinking = fields.object("thinking")
    if thinking is None:
        return ReasoningOptions(None if effort is None else False, effort), {}
    kind = thinking.get("type")
    visible = thinking.choice("display", "summarized", "omitted", "updates") != "omitted"
    budget = thinking.integer("budget_tokens", low=1, high=MAX_TOKENS)
    if kind == "enabled":
        return ReasoningOptions(True, effort, budget, visible), {}
    if kind == "disabled":
        return ReasoningOptions(False, effort), {}
    if kind in ("adaptive", "between_tools"):  # as much as the model likes, where no effort says how much
        enabled = None if effort is None else True
        return ReasoningOptions(enabled, effort, budget, visible), {"thinking": thinking.body}
    raise thinking.refuse("type", "must be enabled, disabled, adaptive or between_tools")


def _output(fields: Fields) -> tuple[Output, str, str | None, Body]:
    """The form of the answer and its field, how much effort it is worth, what else `output_config` holds."""
    config = fields.object("output_config") or Fields({})
    effort = config.choice("effort", *EFFORTS)
    rest = {name: value for name, value in config.body.items() if name not in ("effort", "format")}
    form, where = config.object("format"), _FORM
    if form is None and (older := fields.object(_OLDER_FORM)) is not None:
        form, where = older, _OLDER_FORM
    return _form(form, where), where, effort, {"output_config": rest or None}


def _form(form: Fields | None, where: str) -> Output:
    if form is None:
        return TextOutput()
    kind, schema = form.get("type"), form.get("schema")
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where}.type", "must be json_schema")
    if kind != "json_schema":
        check_slip(Fields(form.body, within=where), "type", ("json_schema",))
        return ForeignOutput(form.body)
    if not isinstance(schema, Mapping):
        raise InvalidRequest(f"{where}.schema", "must be a JSON schema")
    return JsonOutput(schema, strict=True)
