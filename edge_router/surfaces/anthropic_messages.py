"""Anthropic's Messages: /v1/messages, its count of tokens, and models in Anthropic's form. Pure.

Every refusal is an `InvalidRequest` that names the field. Fields that nobody here knows are kept for an
endpoint that speaks the same protocol.

What the server does for it: it takes the key as `x-api-key` too, whatever `anthropic-version` and
`anthropic-beta` say, and query strings (`?beta=true`). GET /v1/models is OpenAI's but for requests with the
header `anthropic-version` (`Query.header`). Where it knows a request's id, it says so in the header
`request-id`, and bodies of errors repeat it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge_router.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.in_turn import Nesting
from edge_router.chat.message import Message, Refusal
from edge_router.chat.model import ModelInfo
from edge_router.chat.reply import Reply
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    ForeignOutput,
    HostedTool,
    JsonOutput,
    Output,
    ReasoningOptions,
    SamplingParams,
    TextOutput,
    Tool,
    ToolChoice,
)
from edge_router.errors import InvalidRequest, UnknownModel, clipped
from edge_router.field_names import check_inner, check_names
from edge_router.fields import Fields, plain_object, shown
from edge_router.privacy import body_marks
from edge_router.surfaces.anthropic_content import (
    REDACTED,
    hung_block,
    read_messages,
    read_system,
    redacted_block,
    signed,
    text_block,
    thinking_block,
    tool_block,
    written_blocks,
)
from edge_router.surfaces.base import Body, Call, Failure, Head, Host, Query
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
from edge_router.surfaces.wire import dumps, event

NAME = "anthropic"
VERSION_HEADER = "anthropic-version"
ID_HEADER = "request-id"

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
_SERVERS = "mcp_servers"
_STOP_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ERRORS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicMessages:
    """The surface."""

    name = NAME
    paths = ("/v1/messages",)
    media_type = "text/event-stream"

    @property
    def queries(self) -> tuple[Query, ...]:
        return (
            Query("POST", "/v1/messages/count_tokens", _count_tokens),
            Query("GET", "/v1/models", _models, VERSION_HEADER),
            Query("GET", "/v1/models/{model:path}", _model, VERSION_HEADER),
        )

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        fields = Fields(plain_object(body))
        if fields.get("max_tokens") is None:
            raise InvalidRequest("max_tokens", "is missing: how many tokens the answer may have at most")
        return Call(_request(fields), fields.boolean("stream"))

    def encoder(self, call: Call, head: Head) -> Encoder:
        return Encoder(call, head)

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        refused = any(isinstance(part, Refusal) for part in reply.parts)
        end = _ending(reply.finish_reason, reply.stop_sequence, called=bool(reply.calls), refused=refused)
        content = written_blocks(reply.parts, thoughts=call.request.reasoning.shown)
        return {**_message(call, head, content), **end, "usage": _usage(reply.usage)}

    def error(self, failure: Failure) -> Body:
        kind = _ERRORS.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
        known = {name.lower(): value for name, value in failure.headers.items()}
        error = {"type": kind, "message": failure.message}
        return {"type": "error", "error": error, "request_id": known.get(ID_HEADER)}

    def comment(self, text: str) -> bytes:
        """A ping, which clients wait for, with `text` as what they do not read."""
        return b": " + text.encode("ascii") + b"\n" + _event("ping", {})


# ---- requests ----------------------------------------------------------------------------------------------


def _request(fields: Fields) -> ChatRequest:
    body = dict(fields.body)
    if len(body) > MAX_FIELDS:
        raise InvalidRequest(None, f"holds more than {MAX_FIELDS} fields")
    check_names(body, _READ | _PASSED)
    private = any([*body_marks(body)])
    passed = {name: value for name, value in body.items() if name not in _READ and value is not None}
    for name, value in passed.items():
        if name not in _PASSED:
            check_inner(value, shown(name))
    messages = (*read_system(fields.get("system")), *read_messages(fields.get("messages")))
    output, effort, rest = _output(fields)
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
        continue_final=_is_begun(messages[-1]),
        extra=Extra(NAME, extra),
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
    visible = thinking.choice("display", "summarized", "omitted") != "omitted"
    budget = thinking.integer("budget_tokens", low=1, high=MAX_TOKENS)
    if kind == "enabled":
        return ReasoningOptions(True, effort, budget, visible), {}
    if kind == "disabled":
        return ReasoningOptions(False, effort), {}
    if kind in ("adaptive", "between_tools"):  # as much as the model likes, where no effort says how much
        enabled = None if effort is None else True
        return ReasoningOptions(enabled, effort, budget, visible), {"thinking": thinking.body}
    raise thinking.refuse("type", "must be enabled, disabled, adaptive or between_tools")


def _output(fields: Fields) -> tuple[Output, str | None, Body]:
    """The form of the answer, how much effort it is worth, and what else `output_config` holds."""
    config = fields.object("output_config") or Fields({})
    effort = config.choice("effort", *EFFORTS)
    rest = {name: value for name, value in config.body.items() if name not in ("effort", "format")}
    form, where = config.object("format"), "output_config.format"
    if form is None:
        form, where = fields.object("output_format"), "output_format"  # its name until 2025
    return _form(form, where), effort, {"output_config": rest or None}


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


# ---- answers -----------------------------------------------------------------------------------------------


def _event(kind: str, body: Body) -> bytes:
    return event(dumps({"type": kind, **body}), kind)


def _message(call: Call, head: Head, content: list[Body]) -> Body:
    """`model` is what was asked for: Claude Code (2.1) drops the thoughts of an answer that names another,
    and with them what endpoints want back. What answered is in the headers."""
    return {
        "id": f"msg_{head.id}",
        "type": "message",
        "role": "assistant",
        "model": call.request.target,
        "content": content,
    }


def _ending(reason: FinishReason, stop: str | None, *, called: bool, refused: bool) -> Body:
    """Some endpoints say "stop" behind calls; clients wait for "tool_use" to make them."""
    word = _STOP_REASONS[reason]
    if reason == "stop":
        word = "refusal" if refused else "tool_use" if called else "stop_sequence" if stop else word
    return {"stop_reason": word, "stop_sequence": stop if word == "stop_sequence" else None}


def _usage(usage: Usage | None) -> Body:
    """Anthropic counts what was read from the cache beside the rest of the prompt, not in it."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    counted: Body = {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens:
        counted["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counted


Kind = type[TextDelta | ReasoningDelta | ToolCallStart]


@dataclass(slots=True)
class _Block:
    """A block of the answer. `waiting`: pieces of it that were not written yet; `unread`: pieces of a call's
    arguments in which nobody has looked for their end."""

    kind: Kind
    label: str = ""
    start: ToolCallStart | None = None
    begun: bool = False
    waiting: list[str] = field(default_factory=list)
    opaque: Body = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    nesting: Nesting = field(default_factory=Nesting)

    @property
    def is_whole(self) -> bool:
        """Whether nothing more comes, once another block has begun: a call may go on beside others."""
        if self.start is None:
            return True
        for text in self.unread:
            self.nesting.read(text)
        self.unread.clear()
        return self.nesting.closed


class Encoder:
    """Writes one streamed answer. Blocks are written one after the other, as clients expect: what comes for
    a later one while an earlier one is under way waits."""

    def __init__(self, call: Call, head: Head) -> None:
        self._call, self._head, self._thoughts = call, head, call.request.reasoning.shown
        self._begun = False
        self._index = 0  # of the first of `_blocks`, which is the one being written
        self._blocks: deque[_Block] = deque()
        self._calls: dict[int, _Block] = {}
        self._late: dict[str, Body] = {}  # what came for calls that were written already, by their ids
        self._refused = False
        self._last = Finished("stop")

    def feed(self, event: Event) -> bytes:
        if isinstance(event, TextDelta | RefusalDelta):
            self._refused = self._refused or isinstance(event, RefusalDelta)
            if event.text:
                self._open(TextDelta).waiting.append(event.text)
        elif isinstance(event, ReasoningDelta):
            block = self._open(ReasoningDelta, event.label)
            block.opaque |= event.opaque
            if event.text and self._thoughts and event.label != REDACTED:
                block.waiting.append(event.text)
        elif isinstance(event, ToolCallStart):
            self._calls[event.index] = _Block(ToolCallStart, start=event, opaque=dict(event.extra))
            self._blocks.append(self._calls[event.index])
        elif isinstance(event, ToolCallArguments):
            self._go_on(self._calls[event.index], event)
        elif isinstance(event, Finished):
            self._last = event
        else:
            return b""
        return b"".join((*self._start(), *self._drained(all_of_them=isinstance(event, Finished))))

    def end(self) -> bytes:
        last = self._last
        ending = _ending(last.reason, last.stop_sequence, called=bool(self._calls), refused=self._refused)
        pieces = [*self._start(), *self._drained(all_of_them=True)]
        for call_id, extra in self._late.items():
            pieces += self._whole_block(hung_block(call_id, extra))
        pieces.append(_event("message_delta", {"delta": ending, "usage": _usage(last.usage)}))
        return b"".join((*pieces, _event("message_stop", {})))

    def fail(self, failure: Failure) -> bytes:
        """An event that clients raise; without it they take what they have for a whole answer."""
        return _event("error", AnthropicMessages().error(failure))

    def _open(self, kind: Kind, label: str = "") -> _Block:
        """The block that a delta of this kind goes on with; a new one where another has begun since."""
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.kind is not kind or last.label != label:
            last = _Block(kind, label)
            self._blocks.append(last)
        return last

    def _go_on(self, block: _Block, event: ToolCallArguments) -> None:
        assert block.start is not None
        block.unread.append(event.text)
        block.waiting.append(event.text)
        if event.extra:
            held = self._late.setdefault(block.start.id, {}) if block.begun else block.opaque
            held |= event.extra

    def _start(self) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            usage = {"input_tokens": 0, "output_tokens": 0}
            unknown = {"stop_reason": None, "stop_sequence": None, "usage": usage}
            yield _event("message_start", {"message": {**_message(self._call, self._head, []), **unknown}})

    def _drained(self, *, all_of_them: bool) -> Iterator[bytes]:
        while self._blocks:
            block = self._blocks[0]
            yield from self._written(block)
            if not all_of_them and (len(self._blocks) == 1 or not block.is_whole):
                return
            yield from self._closed(block)
            self._blocks.popleft()

    def _written(self, block: _Block) -> Iterator[bytes]:
        """What of `block` can be written already. Thoughts that are not shown have only a signature, and
        blanks wait for the words behind them."""
        if not block.waiting and block.start is None:
            return
        if block.kind is TextDelta and not block.begun and block.waiting[-1].isspace():
            return
        if not block.begun:
            if block.start is not None and block.opaque:
                yield from self._whole_block(hung_block(block.start.id, block.opaque))
            block.begun = True
            yield self._begin(_empty(block))
        for text in block.waiting:
            if text:
                yield self._delta(_DELTAS[block.kind](text))
        block.waiting.clear()

    def _closed(self, block: _Block) -> Iterator[bytes]:
        if block.label == REDACTED:
            yield from self._whole_block(redacted_block(block.opaque))
            return
        signature = signed(block.label, block.opaque) if block.start is None else ""
        if signature and not block.begun:
            block.begun = True
            yield self._begin(_empty(block))
        if signature:
            yield self._delta({"type": "signature_delta", "signature": signature})
        if block.begun:
            yield self._stop()

    def _whole_block(self, body: Body) -> Iterator[bytes]:
        yield self._begin(body)
        yield self._stop()

    def _begin(self, body: Body) -> bytes:
        return _event("content_block_start", {"index": self._index, "content_block": body})

    def _delta(self, body: Body) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": body})

    def _stop(self) -> bytes:
        self._index += 1
        return _event("content_block_stop", {"index": self._index - 1})


def _empty(block: _Block) -> Body:
    if block.start is not None:
        return tool_block(block.start.id, block.start.name, {})
    return text_block("") if block.kind is TextDelta else thinking_block("", "")


_DELTAS: Mapping[Kind, Callable[[str], Body]] = {
    TextDelta: lambda text: {"type": "text_delta", "text": text},
    ReasoningDelta: lambda text: {"type": "thinking_delta", "thinking": text},
    ToolCallStart: lambda text: {"type": "input_json_delta", "partial_json": text},
}


# ---- queries -----------------------------------------------------------------------------------------------


def _count_tokens(body: Mapping[str, object], host: Host) -> Body:
    return {"input_tokens": host.count_tokens(_request(Fields(plain_object(body))))}


def _models(body: Mapping[str, object], host: Host) -> Body:
    """All on one page."""
    data = [_described(model) for model in _chat_models(host)]
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": ends[0], "last_id": ends[1]}


def _model(body: Mapping[str, object], host: Host) -> Body:
    name = str(body.get("model", ""))
    models = _chat_models(host)
    for model in models:
        if model.name == name:
            return _described(model)
    raise UnknownModel(name, [model.name for model in models])


def _chat_models(host: Host) -> list[ModelInfo]:
    return [model for model in host.models() if model.dimension is None]


def _described(model: ModelInfo) -> Body:
    """Where it is not known since when a model is here, 1970 is Anthropic's own way of saying so."""
    since = datetime.fromtimestamp(model.created or 0, UTC)
    described: Body = {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
    if model.context_window is not None:
        described["max_input_tokens"] = model.context_window
    return described
