"""Bodies of /v1/responses in, `ChatRequest` out. Pure; what was kept of earlier answers is handed in.

A conversation is a list of items there: what an assistant's turn consists of stands side by side, and is
one message here. Every refusal is an `InvalidRequest` that names the field.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from edge_router import strict_json
from edge_router.chat.joining import join_pieces
from edge_router.chat.message import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    ForeignOutput,
    HostedTool,
    JsonOutput,
    Need,
    Output,
    TextOutput,
    Tool,
    ToolChoice,
)
from edge_router.errors import InvalidRequest, PreviousResponseGone, UnknownResponse
from edge_router.field_names import check_inner, check_names
from edge_router.fields import Fields, plain_object, shown
from edge_router.privacy import body_marks
from edge_router.surfaces.limits import (
    LONGEST_TOOL,
    MAX_TOOLS,
    NO_TOOLS,
    VERBOSITIES,
    check_slip,
    listed_tools,
    read_model,
    read_schema,
)
from edge_router.surfaces.openai_output import FORMS
from edge_router.surfaces.openai_parsing import read_limit, read_sampling, read_stop
from edge_router.surfaces.openai_reasoning import read_reasoning
from edge_router.surfaces.openai_tools import Mode, read_grammar
from edge_router.surfaces.pairing import Pairing
from edge_router.surfaces.responses_store import Item, Kept, ResponseStore
from edge_router.surfaces.wire import dumps

PROTOCOL = "openai-responses"
MAX_ITEMS = 20_000
LONGEST_FLAT = 64  # what endpoints take as a function's name
SIGNED = "edge_router.1:"  # begins an `encrypted_content` of ours

# Read here; all others are passed on to endpoints that speak the same.
_READ = frozenset(
    {
        *("input", "instructions", "model", "tools", "tool_choice", "parallel_tool_calls", "text", "private"),
        *("reasoning", "max_output_tokens", "temperature", "top_p", "top_logprobs", "include", "store"),
        *("stream", "stream_options", "previous_response_id", "background", "conversation", "prompt"),
        # Not OpenAI's there, and known to other servers.
        *("top_k", "min_p", "seed", "repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("logit_bias", "stop"),
    }
)
_PASSED = (
    *("metadata", "user", "truncation", "service_tier", "safety_identifier", "prompt_cache_key"),
    *("prompt_cache_retention", "prompt_cache_options", "max_tool_calls", "context_management", "moderation"),
    *("access_programs", "background_options", "image", "client_metadata", "chat_template_kwargs"),
)
KNOWN = frozenset({*_READ, *_PASSED})
# What other protocols call them: unheard, they would change the answer with nobody told.
_ELSEWHERE = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "functions": "tools",
    "function_call": "tool_choice",
    "logprobs": "include",
}
# What a client may ask for and nobody here can do.
_REFUSED = {
    "background": "is not supported: ask with stream instead, and read the answer while it is made",
    "conversation": "is not supported: send the items as input, or name a previous_response_id",
    "prompt": "is not supported: templates are kept at OpenAI; send instructions and input",
}
# What errors call that which the weak model can't serve.
_NAMES = {
    **dict.fromkeys((Need.TOOLS, Need.HOSTED_TOOLS), "tools"),
    Need.TOOL_CALL: "tool_choice",
    **dict.fromkeys((Need.JSON, Need.GRAMMAR), "text.format"),
    Need.FILES: "input",
    Need.FOREIGN: "text.format",
    Need.LOGPROBS: "include",
}
_OWN_TOOLS = ("function", "custom", "namespace")
_SUMMARIZE, _SUMMARIES = ("summary", "generate_summary"), ("auto", "concise", "detailed", "none")
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
_ENCRYPTED = "encrypted_content"  # the label of thoughts that another endpoint encrypted, too

_ROLES = ("user", "assistant", "system", "developer")
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}  # and where their text stands
_RESULTS = ("function_call_output", "custom_tool_call_output")
# Fields of a call that its endpoint did not sign it with.
_CALL_FIELDS = frozenset(
    {"type", "id", "call_id", "name", "namespace", "status", "arguments", "input", "async", "caller"}
)


@dataclass(frozen=True, slots=True)
class Options:
    """How the answer is to be written, and what stands in it of the request."""

    echo: Item  # fields of the answer's body
    given: Sequence[Item]  # the items of this request
    before: Kept | None  # the answer that it goes on from
    namespaces: Mapping[str, tuple[str, str]]  # a tool's name here, and its namespace and name there
    store: bool
    summary: bool  # thoughts are sent as their summary, which is what clients show
    encrypted: bool  # thoughts must come back from the client whole


def parse(body: Mapping[str, object], store: ResponseStore) -> tuple[ChatRequest, bool, Options]:
    """The request, whether it is to be streamed, and the rest. Raises `InvalidRequest`."""
    fields, private = _fields(body)
    before = _previous(fields, store)
    given = _given(fields, before)
    tools = _Tools()
    tools.read(fields.get("tools"), "tools")
    history = before.history if before is not None else []
    reader = _Reader(tools, store.item)
    reader.read(history, "previous_response_id")
    reader.read(given, "input")
    instructions = fields.get("instructions")
    messages = (*_instructions(instructions), *reader.messages)
    include = _include(fields)
    text, reasoning = (fields.object(name) or Fields({}, within=name) for name in ("text", "reasoning"))
    text.choice("verbosity", *VERBOSITIES)
    fields.choice("truncation", "auto", "disabled")
    top_logprobs = fields.integer("top_logprobs", low=0, high=20) or 0
    options = Options(
        echo=_echo(fields),
        given=given,
        before=before,
        namespaces=tools.namespaces,
        store=fields.boolean("store", default=True),
        summary=any(reasoning.choice(name, *_SUMMARIES) not in (None, "none") for name in _SUMMARIZE),
        encrypted=ENCRYPTED in include,
    )
    request = ChatRequest(
        messages=messages,
        target=read_model(fields),
        sampling=read_sampling(fields),
        max_tokens=read_limit(fields, "max_output_tokens"),
        stop=read_stop(fields),
        tools=tuple(tools.found),
        tool_choice=_choice(fields, tools),
        output=_output(text),
        reasoning=read_reasoning(fields.body),
        private=private,
        logprobs=LOGPROBS in include or top_logprobs > 0,
        top_logprobs=top_logprobs,
        extra=Extra(PROTOCOL, _extra(fields)),
        names=_NAMES,
    )
    return request, fields.boolean("stream"), options


# ---- the body ----------------------------------------------------------------------------------------------


def _fields(body: Mapping[str, object]) -> tuple[Fields, bool]:
    """The body's fields, and whether it is marked as private."""
    layer = plain_object(body)
    check_names((name for name in layer if name not in _ELSEWHERE), KNOWN)
    for name, there in _ELSEWHERE.items():
        if layer.get(name) is not None:
            raise InvalidRequest(name, f"is no field of /v1/responses: write {there}")
    for name, reason in _REFUSED.items():
        if layer.get(name) not in (None, False):
            raise InvalidRequest(name, reason)
    for name, value in layer.items():
        if name not in KNOWN:
            check_inner(value, shown(name))
    private = any([*body_marks(layer)])  # all of them are read
    return Fields(layer), private


def _previous(fields: Fields, store: ResponseStore) -> Kept | None:
    name = "previous_response_id"
    if fields.get(name) is None:
        return None
    id = fields.string(name, default="")
    kept = store.get(id)
    if kept is None:
        raise PreviousResponseGone(name, id)
    return kept


def _given(fields: Fields, before: Kept | None) -> list[Item]:
    """The request's own items; a string is one message of the user."""
    value = fields.get("input")
    if isinstance(value, str) and value:
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": value}]}]
    if value is None and before is not None:
        return []
    if not isinstance(value, list) or (not value and before is None):
        raise InvalidRequest("input", "must be a string or a list of items, and not empty")
    if len(value) > MAX_ITEMS:
        raise InvalidRequest("input", f"holds more than {MAX_ITEMS} items")
    return value


def _include(fields: Fields) -> tuple[str, ...]:
    """What endpoints' own tools found is theirs to know."""
    include = fields.strings("include", most=50, longest=100)
    for wanted in include:
        if wanted.startswith(("reasoning", "message.output")) and wanted not in (LOGPROBS, ENCRYPTED):
            raise fields.refuse("include", f"knows of answers only {LOGPROBS} and {ENCRYPTED}")
    return include


def _instructions(value: object) -> tuple[Message, ...]:
    if value is None or value == "":
        return ()
    if not isinstance(value, str):
        raise InvalidRequest("instructions", "must be a string")
    return (Message("system", value),)


def _extra(fields: Fields) -> dict[str, object]:
    """What is left for endpoints that speak the same protocol."""
    extra = {name: value for name, value in fields.body.items() if name not in _READ and value is not None}
    for name, read in (("text", ("format",)), ("reasoning", ("effort",))):
        inner = fields.object(name)
        rest = {key: value for key, value in inner.body.items() if key not in read} if inner else {}
        if rest:
            extra[name] = rest
    if fields.get("include"):
        extra["include"] = fields.get("include")
    return extra


def _echo(fields: Fields) -> dict[str, object]:
    """What an answer's body repeats of the request."""
    text = fields.object("text") or Fields({})
    reasoning = fields.object("reasoning") or Fields({})
    parallel = fields.get("parallel_tool_calls")
    given = {name: fields.get(name) for name in _REPEATED if fields.get(name) is not None}
    return {
        "background": False,
        "max_output_tokens": None,
        "instructions": None,
        "previous_response_id": None,
        "parallel_tool_calls": True if parallel is None else parallel,
        "reasoning": {"effort": None, "summary": None, **reasoning.body},
        "store": True,
        "temperature": None,
        "text": {"format": {"type": "text"}, **{k: v for k, v in text.body.items() if v is not None}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "metadata": {},
        **given,
    }


_REPEATED = (
    *("instructions", "max_output_tokens", "previous_response_id", "temperature", "top_p", "top_logprobs"),
    *("tool_choice", "tools", "truncation", "metadata", "store", "user", "safety_identifier"),
    *("prompt_cache_key", "service_tier", "max_tool_calls"),
)


def _output(fields: Fields) -> Output:
    form = fields.object("format")
    if form is None:
        return TextOutput()
    kind = form.string("type", default="text")
    if kind == "text":
        return TextOutput()
    if kind == "json_object":
        return JsonOutput()
    if kind == "grammar":
        return read_grammar(form)
    if kind != "json_schema":
        check_slip(form, "type", (*FORMS, "grammar"))
        return ForeignOutput(form.body)
    schema = form.get("schema")
    if not isinstance(schema, Mapping):
        raise form.refuse("schema", "must be a JSON schema, an object")
    strict = form.get("strict")
    return JsonOutput(
        schema,
        form.string("name", default="") or None,
        _optional_text(form, "description"),
        None if strict is None else form.boolean("strict"),
    )


def _optional_text(fields: Fields, name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise fields.refuse(name, "must be a string")
    return value


# ---- tools -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tools:
    """The tools that a request names. Those of a namespace get a name that holds it, and stand beside all
    others."""

    found: list[Tool | HostedTool] = field(default_factory=list)
    namespaces: dict[str, tuple[str, str]] = field(default_factory=dict)

    def read(self, value: object, where: str) -> None:
        for index, item in enumerate(listed_tools(value, where)):
            self._add(_object(item, f"{where}[{index}]"))
            if len(self.found) > MAX_TOOLS:
                raise InvalidRequest(where, f"holds more than {MAX_TOOLS} tools")

    def names(self) -> frozenset[str]:
        return frozenset(tool.name for tool in self.found)

    def _add(self, item: Fields) -> None:
        kind = item.string("type", default="")
        if kind in ("function", "custom"):
            self._take(item, _callable(item, kind, _name(item)))
        elif kind == "namespace":
            self._add_namespace(item)
        elif kind:
            check_slip(item, "type", _OWN_TOOLS)
            self.found.append(HostedTool(kind, item.body))
        else:
            raise item.refuse("type", "is missing")

    def _add_namespace(self, item: Fields) -> None:
        namespace, tools = _name(item), item.get("tools")
        if not isinstance(tools, list):
            raise item.refuse("tools", "must be a list of tools")
        for index, inner in enumerate(tools):
            tool = _object(inner, f"{item.within}.tools[{index}]")
            kind, name = tool.string("type", default="function"), _name(tool)
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
    description = _optional_text(item, "description") or ""
    if kind == "custom":
        form = item.object("format")
        bound = form is not None and form.choice("type", "text", "grammar") == "grammar"
        grammar = read_grammar(form) if form is not None and bound else None
        return Tool(name, description, free=True, form=grammar)
    parameters, strict = read_schema(item, "parameters"), item.get("strict")
    return Tool(name, description, parameters, None if strict is None else item.boolean("strict"))


def _name(item: Fields) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        below = " (it stands beside type here, not below function)" if item.get("function") else ""
        raise item.refuse("name", f"is missing: a tool is called by it{below}")
    if len(name) > LONGEST_TOOL:
        raise item.refuse("name", f"has more than {LONGEST_TOOL} characters")
    return name


def _choice(fields: Fields, tools: _Tools) -> ToolChoice:
    value, parallel = fields.get("tool_choice"), fields.get("parallel_tool_calls")
    if parallel is not None:
        parallel = fields.boolean("parallel_tool_calls")
    if value is None or isinstance(value, str):
        if value not in (None, "auto", "none", "required"):
            raise InvalidRequest("tool_choice", "must be auto, none, required, or an object that names tools")
        return _mode(value or "auto", tools, parallel)
    choice = _object(value, "tool_choice")
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
        for name in _chosen(_object(one, f"tool_choice.tools[{index}]"), tools)
    ]
    mode = choice.choice("mode", "auto", "required") or "auto"
    return ToolChoice(cast(Mode, mode), tuple(dict.fromkeys(names)), parallel)


def _mode(mode: str, tools: _Tools, parallel: bool | None) -> ToolChoice:
    if mode == "required" and not tools.found:
        raise InvalidRequest("tool_choice", NO_TOOLS)
    return ToolChoice(cast(Mode, mode) if tools.found else "auto", (), parallel)


def _chosen(choice: Fields, tools: _Tools) -> tuple[str, ...]:
    """What a choice calls one tool, or all those of a namespace. Endpoints' own go by their type."""
    kind = choice.string("type", default="")
    if not kind:
        raise choice.refuse("type", "is missing")
    inner = choice.get("function")  # as in chat completions
    named = choice if not isinstance(inner, Mapping) else Fields(inner, within=f"{choice.within}.function")
    if kind == "namespace":
        names = [flat for flat, (namespace, _) in tools.namespaces.items() if namespace == _name(named)]
    elif kind in ("function", "custom"):
        name, namespace = _name(named), choice.get("namespace")
        flat = flat_name(namespace, name) if isinstance(namespace, str) and namespace else name
        within = [one for one, (_, inner_name) in tools.namespaces.items() if inner_name == name]
        names = [flat] if flat in tools.names() else within[:1]
    else:
        names = [kind] if kind in tools.names() else []
    if not names:
        raise choice.refuse("name" if named.get("name") else "type", "names a tool that is not among tools")
    return tuple(names)


# ---- items -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reader:
    """Items to messages. What an assistant said, thought and called without a break is one message."""

    tools: _Tools
    kept: Callable[[str], Item | None]
    messages: list[Message] = field(default_factory=list)
    _turn: list[Part] = field(default_factory=list)  # of the assistant, under way
    _spoke: bool = False  # and whether a message of its is in it
    _thoughts: dict[str, int] = field(default_factory=dict)  # and where its last ones of each label are
    _pairing: Pairing = field(default_factory=Pairing)

    def read(self, items: Sequence[Item], where: str) -> None:
        for index, item in enumerate(items):
            self._read(_object(item, f"{where}[{index}]"))
        self._close()
        self._pairing.end()

    def _read(self, item: Fields) -> None:
        kind = item.string("type", default="message" if "role" in item.body else "item_reference")
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            self._think(item)
        elif kind in _CALLS:
            call = _call(item, _CALLS[kind], free=kind == "custom_tool_call")
            text = "" if call.free else call.arguments
            self._pairing.call(call.id, call.name, text, f"{item.within}.arguments")
            self._turn.append(call)
        elif kind in _RESULTS:
            self._result(item)
        elif kind == "item_reference":
            self._reference(item)
        elif kind == "additional_tools":
            self.tools.read(item.get("tools"), f"{item.within}.tools")
        else:
            self._foreign(kind, item)

    def _message(self, item: Fields) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise item.refuse("role", f"must be one of {', '.join(_ROLES)}")
        parts = _content(item, "content", asked=role == "user")
        if role != "assistant":
            self._close()
            self.messages.append(Message(cast(Role, role), parts))
            return
        if self._spoke:
            self._close()
        self._spoke = True
        self._turn += parts

    def _think(self, item: Fields) -> None:
        """What only signs thoughts, once, belongs to the last ones that go by the same name."""
        text = _optional_text(item, _ENCRYPTED)
        ours = unsealed(text)
        if ours is not None and not ours.text and ours.label in self._thoughts:
            index = self._thoughts.pop(ours.label)
            known = cast(Reasoning, self._turn[index])
            opaque = dict(known.opaque)
            join_pieces(opaque, ours.opaque)
            self._turn[index] = replace(known, opaque=opaque)
            return
        thoughts = ours or _foreign_thoughts(item, text)
        self._thoughts[thoughts.label] = len(self._turn)
        self._turn.append(thoughts)

    def _result(self, item: Fields) -> None:
        call_id = item.string("call_id", default="")
        if not call_id:
            raise item.refuse("call_id", "is missing: it names the call")
        self._pairing.result(call_id, f"{item.within}.call_id")
        self._close()
        result = ToolResult(call_id, _content(item, "output", asked=True))
        self.messages.append(Message("tool", (result,)))

    def _reference(self, item: Fields) -> None:
        id = item.string("id", default="")
        kept = self.kept(id)
        if kept is None:
            raise UnknownResponse(f"{item.within}.id", id)
        self._read(Fields(kept, within=item.within))

    def _foreign(self, kind: str, item: Fields) -> None:
        """What a tool of its endpoint said is a turn of its own, what was asked of it the assistant's."""
        part = Foreign(kind, item.body)
        if kind.endswith("_output") or kind == "mcp_approval_response":
            self._close()
            self.messages.append(Message("tool", (part,)))
        else:
            self._turn.append(part)

    def _close(self) -> None:
        if self._turn or self._spoke:
            self.messages.append(Message("assistant", tuple(self._turn)))
        self._turn, self._spoke, self._thoughts = [], False, {}


def _object(value: object, where: str) -> Fields:
    if not isinstance(value, Mapping):
        raise InvalidRequest(where, "must be an object")
    return Fields(value, within=where)


def _call(item: Fields, text: str, *, free: bool) -> ToolCall:
    id, name = item.string("call_id", default=""), _name(item)
    if not id:
        raise item.refuse("call_id", "is missing: the call's result names it")
    namespace = item.get("namespace")
    if isinstance(namespace, str) and namespace:
        name = flat_name(namespace, name)
    extra = {key: value for key, value in item.body.items() if key not in _CALL_FIELDS}
    return ToolCall(id, name, _optional_text(item, text) or "", free, extra)


def _content(item: Fields, name: str, *, asked: bool) -> tuple[Part, ...]:
    """A string, or a list of parts. `asked`: what is missing may have got lost."""
    value = item.get(name)
    if value is None and asked:
        raise item.refuse(name, "is missing")
    if value is None or isinstance(value, str):
        return () if value is None else (Text(value),)
    if not isinstance(value, list):
        raise item.refuse(name, "must be a string or a list of parts")
    where = f"{item.within}.{name}"
    return tuple(_part(_object(part, f"{where}[{index}]")) for index, part in enumerate(value))


def _part(part: Fields) -> Part:
    kind = part.string("type", default="")
    if kind in ("input_text", "output_text", "text"):
        return Text(_text(part, "text"))
    if kind == "refusal":
        return Refusal(_text(part, "refusal"))
    if kind == "input_image":
        return _image(part)
    if kind == "input_file":
        return _file(part)
    if kind == "input_audio":
        sound = part.object("input_audio") or part
        return Audio(_text(sound, "data"), _text(sound, "format"))
    taken = "input_text, input_image, input_file, input_audio, output_text or refusal"
    raise part.refuse("type", f"must be {taken}")


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise fields.refuse(name, "must be a string")
    return value


def _image(part: Fields) -> Part:
    """One that is only an id at its endpoint has no address."""
    url = part.get("image_url")
    if isinstance(url, Mapping):  # as in chat completions
        url = url.get("url")
    if url is None and part.get("file_id") is not None:
        return Foreign("input_image", part.body)
    if not isinstance(url, str) or not url:
        raise part.refuse("image_url", "must be the address of an image, or hold it as a data: URL")
    return Image(url, _optional_text(part, "detail"))


def _file(part: Fields) -> File:
    url, data, id = (_optional_text(part, name) for name in ("file_url", "file_data", "file_id"))
    if not (url or data or id):
        raise part.refuse("file_data", "is missing: a file has file_data, file_url or file_id")
    if data and not data.startswith("data:"):
        data = f"data:application/octet-stream;base64,{data}"
    return File(data or url, id, _optional_text(part, "filename"))


# ---- thoughts ----------------------------------------------------------------------------------------------


def _foreign_thoughts(item: Fields, encrypted: str | None) -> Reasoning:
    """Of a reasoning item that is not ours. What is encrypted goes back to whoever did it as it came."""
    text = "\n\n".join(_inner_texts(item, "content")) or "\n\n".join(_inner_texts(item, "summary"))
    if encrypted is None:
        return Reasoning(text)
    kept = {name: item.get(name) for name in ("id", "summary", _ENCRYPTED) if item.get(name)}
    return Reasoning(text, _ENCRYPTED, kept)


def _inner_texts(item: Fields, name: str) -> Iterator[str]:
    value = item.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise item.refuse(name, "must be a list")
    for index, part in enumerate(value):
        yield _text(_object(part, f"{item.within}.{name}[{index}]"), "text")


def sealed(thoughts: Reasoning) -> str:
    """Thoughts as `encrypted_content`: clients that keep the conversation themselves send it back unread."""
    if thoughts.label == _ENCRYPTED:
        return str(thoughts.opaque.get(_ENCRYPTED, ""))
    body = {"text": thoughts.text, "label": thoughts.label, "opaque": dict(thoughts.opaque)}
    return SIGNED + base64.b64encode(dumps(body)).decode("ascii")


def unsealed(content: str | None) -> Reasoning | None:
    """The thoughts that `sealed` made it from; None where it is of somebody else."""
    if content is None or not content.startswith(SIGNED):
        return None
    try:
        body = strict_json.parse_object(base64.b64decode(content.removeprefix(SIGNED), validate=True))
    except (ValueError, strict_json.NotJson):
        return None
    text, label, opaque = (body.get(name) for name in ("text", "label", "opaque"))
    if not isinstance(text, str) or not isinstance(label, str) or not isinstance(opaque, dict):
        return None
    return Reasoning(text, label, opaque)
