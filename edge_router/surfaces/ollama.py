"""Ollama's API: /api/chat and /api/generate in lines of JSON, and its questions about models.

Its calls have no ids and its results name a tool at most, so both are paired in the order they stand in. An
empty conversation loads its model, or with `keep_alive` 0 unloads it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from edge_router import strict_json
from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from edge_router.chat.model import ModelInfo
from edge_router.chat.reply import Reply
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    JsonOutput,
    Need,
    Output,
    ReasoningOptions,
    SamplingParams,
    TextOutput,
    Tool,
    ToolChoice,
)
from edge_router.errors import GenerationFailed, InvalidRequest, UnknownModel, clipped
from edge_router.field_names import check_inner, check_names
from edge_router.fields import Fields, listed, plain_object, shown
from edge_router.privacy import body_marks
from edge_router.surfaces.base import Body, Call, Encoder, Errand, Failure, Head, Host, Query
from edge_router.surfaces.embedding import embed, texts
from edge_router.surfaces.limits import (
    EFFORTS,
    INT64,
    LONGEST_STOP,
    MAX_STOPS,
    MAX_TOKENS,
    NO_TOOLS,
    bounded_name,
    check_tools_differ,
    listed_tools,
    read_schema,
)
from edge_router.surfaces.pairing import Pairing
from edge_router.surfaces.wire import dumps
from edge_router.types import LATEST

NAME = "ollama"
CHAT, GENERATE = "/api/chat", "/api/generate"
# Clients ask for features by it: 0.13.3 for Responses, 0.14 for Messages. What 0.35 brought is not here.
VERSION = "0.14.0"
RUNNING = "Ollama is running"  # word for word what its clients look for at /, on its own port

_ROLES = ("system", "user", "assistant", "tool")
_ENVELOPE = frozenset({"model", "name", "stream", "format", "keep_alive", "options", "think", "private"})
_READ = _ENVELOPE | {
    *("messages", "tools", "tool_choice", "logprobs", "top_logprobs"),
    *("prompt", "images", "raw", "suffix", "system", "template", "context"),
}
_OPTIONS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "num_predict", "stop"),
        *("repeat_penalty", "presence_penalty", "frequency_penalty"),
    }
)
_DURATION = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?(?:ns|us|µs|ms|s|m|h)){1,8}|[+-]?\d{1,12}", re.ASCII)
_ZERO = re.compile(r"[^1-9]*", re.ASCII)
_FOREVER = "9999-12-31T23:59:59Z"
# A picture's first bytes, where they stand, and what it is.
_PICTURES = (
    (0, b"\x89PNG", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftyphei", "image/heic"),
)
_PLACE = "\0"  # where text comes
_UNKNOWN = "unknown"  # an architecture
_SNIFFED = 24  # characters of base64, 18 bytes
_DONE_REASONS: Mapping[FinishReason, str] = {"tool_calls": "stop"}  # all others have its own words
_CAPABILITIES = (
    (Need.TOOLS, "tools"),
    (Need.IMAGES, "vision"),
    (Need.AUDIO, "audio"),
    (Need.SUFFIX, "insert"),
)


class Ollama:
    """`clock`: seconds since 1970."""

    name = NAME
    paths = (CHAT, GENERATE)
    media_type = "application/x-ndjson"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    @property
    def queries(self) -> tuple[Query, ...]:
        return (
            Query("GET", "/api/version", lambda body, host: {"version": VERSION}),
            Query("GET", "/api/tags", _tags),
            Query("GET", "/api/ps", _ps),
            Query("POST", "/api/show", _show),
            Query("POST", "/api/pull", _pull),
            Query("POST", "/api/embed", self._embed),
            Query("POST", "/api/embeddings", _embeddings),
        )

    def parse(self, path: str, body: Mapping[str, object]) -> Call | Errand:
        """A `Call`, or where nothing is said an `Errand` that loads or unloads the model."""
        layer = plain_object(body)
        check_names(layer, _READ)
        private, fields = any([*body_marks(layer)]), Fields(layer)
        model, leave = _model(fields), _unloads(fields)
        request = _chat(fields, model) if path == CHAT else _generated(fields, model)
        if request is None:
            return Errand(lambda host: self._loaded(host, path, model, unload=leave))
        stream = fields.boolean("stream", default=True)
        options = {"path": path, "began": self._clock()}
        request = replace(request, private=private)
        return Call(request, stream, options, (lambda host: host.unload(model)) if leave else None)

    def encoder(self, call: Call, head: Head) -> Encoder:
        return _Encoder(call, head, self._clock)

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        """Raises `GenerationFailed` for a call that Ollama's form has no room for."""
        calls = [_call(index, each, head.model) for index, each in enumerate(reply.calls)]
        said: Body = {"content": reply.text}
        thoughts = "".join(part.text for part in reply.parts if isinstance(part, Reasoning))
        if thoughts:
            said["thinking"] = thoughts
        if calls:
            said["tool_calls"] = calls
        path = str(call.options["path"])
        body = {**_opening(head.model, head.created), **_said(path, said)}
        if reply.logprobs:
            body["logprobs"] = [_logprob(token) for token in reply.logprobs]
        began, now = _began(call), self._clock()
        return body | _closing(
            reply.finish_reason, _Durations.of(reply.timings, began, began, now), reply.usage
        )

    def error(self, failure: Failure) -> Body:
        return {"error": failure.message}

    def comment(self, text: str) -> bytes:
        """Nothing: there is none that its clients skip."""
        return b""

    def _loaded(self, host: Host, path: str, model: str, *, unload: bool) -> Body:
        (host.unload if unload else host.load)(model)
        body = {**_opening(model, self._clock()), **_said(path, {"content": ""})}
        return body | {"done": True, "done_reason": "unload" if unload else "load"}

    def _embed(self, body: Mapping[str, object], host: Host) -> Body:
        fields, began = Fields(plain_object(body)), self._clock()
        model = _known(fields, host).name
        given = texts(fields, "input") if fields.get("input") else ()
        wanted = fields.integer("dimensions", low=1, high=MAX_TOKENS)
        if not given:
            host.load(model)
            return {"model": model, "embeddings": []}
        found = embed(host, given, model, wanted, truncate=fields.boolean("truncate", default=True))
        return {
            "model": model,
            "embeddings": found.vectors.tolist(),
            "total_duration": _nanoseconds(self._clock() - began),
            "load_duration": 1,
            "prompt_eval_count": found.tokens,
        }


# ---- what is asked -----------------------------------------------------------------------------------------


def _chat(fields: Fields, model: str) -> ChatRequest | None:
    """None where nothing is said."""
    if fields.get("prompt"):
        raise fields.refuse("prompt", f"is a field of {GENERATE}; a chat has messages")
    given = fields.get("messages")
    if given is None or given == []:
        return None
    if not isinstance(given, list):
        raise fields.refuse("messages", "must be a list of messages")
    messages = tuple(_Turns().read(given))
    last = messages[-1]
    return _request(
        fields, model, messages, tools=_tools(fields), goes_on=last.role == "assistant" and not last.calls
    )


def _generated(fields: Fields, model: str) -> ChatRequest | None:
    """None where nothing is said."""
    if fields.get("messages"):
        raise fields.refuse("messages", f"is a field of {CHAT}; this has a prompt")
    for name, reason in (
        ("context", f"is not kept here: send the whole conversation to {CHAT}"),
        ("template", "is the model's own; with raw the prompt is sent without one"),
    ):
        if fields.get(name):
            raise fields.refuse(name, reason)
    prompt, images, suffix = _text(fields, "prompt"), _images(fields, ""), _text(fields, "suffix")
    if not prompt and not images and not suffix:
        return None
    system, raw = _text(fields, "system"), fields.boolean("raw") or bool(suffix)
    turns = [Message("system", system)] if system and not raw else []
    turns.append(Message("user", (*((Text(prompt),) if prompt else ()), *images)))
    return _request(fields, model, tuple(turns), raw_prompt=prompt if raw else None, suffix=suffix or None)


def _request(
    fields: Fields,
    model: str,
    messages: tuple[Message, ...],
    *,
    tools: tuple[Tool, ...] = (),
    goes_on: bool = False,
    raw_prompt: str | None = None,
    suffix: str | None = None,
) -> ChatRequest:
    options = fields.object("options") or Fields({})
    logprobs, likeliest = fields.boolean("logprobs"), fields.integer("top_logprobs", low=0, high=20) or 0
    return ChatRequest(
        messages=messages,
        target=model,
        sampling=_sampling(options),
        max_tokens=_max_tokens(options),
        stop=options.strings("stop", most=MAX_STOPS, longest=LONGEST_STOP),
        tools=tools,
        tool_choice=_tool_choice(fields, tools),
        output=_output(fields),
        reasoning=_reasoning(fields),
        logprobs=logprobs,
        top_logprobs=likeliest if logprobs else 0,
        continue_final=goes_on,
        raw_prompt=raw_prompt,
        suffix=suffix,
        extra=Extra(NAME, _extra(fields, options)),
    )


def _model(fields: Fields) -> str:
    """`name` is what it was called once, and what pull and show still get from the npm package."""
    name = fields.string("model", default="") or fields.string("name", default="auto")
    return bounded_name(fields, "model", name)


def _unloads(fields: Fields) -> bool:
    """Whether `keep_alive` is no time at all; how long else is the server's own setting."""
    value = fields.get("keep_alive")
    if value is None:
        return False
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return _ZERO.fullmatch(value) is not None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value == 0
    raise fields.refuse("keep_alive", 'must be seconds or a duration such as "5m", -1 for as long as it runs')


def _sampling(options: Fields) -> SamplingParams:
    top_k, seed = options.integer("top_k"), options.integer("seed")
    if top_k is not None and top_k > MAX_TOKENS:
        raise options.refuse("top_k", f"must be at most {MAX_TOKENS}")
    return SamplingParams(
        temperature=options.number("temperature", low=0, high=2),
        top_p=options.number("top_p", low=0, high=1),
        top_k=None if top_k is None else max(top_k, 0),  # less than 1 is all of them
        min_p=options.number("min_p", low=0, high=1),
        seed=None if seed is None or seed < 0 else seed % INT64,  # -1 is any
        repetition_penalty=options.number("repeat_penalty", low=0, high=10, above=True),
        presence_penalty=options.number("presence_penalty", low=-2, high=2),
        frequency_penalty=options.number("frequency_penalty", low=-2, high=2),
    )


def _max_tokens(options: Fields) -> int | None:
    """-1 is without an end, -2 until the context is full, 0 what some clients write for both."""
    count = options.integer("num_predict")
    if count is None or count <= 0:
        return None
    if count > MAX_TOKENS:
        raise options.refuse("num_predict", f"must be at most {MAX_TOKENS}")
    return count


def _output(fields: Fields) -> Output:
    form = fields.get("format")
    if form is None or form == "":
        return TextOutput()
    if form == "json":
        return JsonOutput()
    if isinstance(form, Mapping):
        return JsonOutput(form)
    raise fields.refuse("format", 'must be "json" or a JSON schema')


def _reasoning(fields: Fields) -> ReasoningOptions:
    wanted = fields.get("think")
    if isinstance(wanted, bool) or wanted is None:
        return ReasoningOptions(wanted)
    if wanted in ("true", "false", "none"):
        return ReasoningOptions(wanted == "true")
    if wanted not in EFFORTS:
        raise fields.refuse("think", f"must be true or false, or how much: {listed(EFFORTS[1:])}")
    return ReasoningOptions(True, wanted)


def _extra(fields: Fields, options: Fields) -> dict[str, object]:
    """What only Ollama itself knows: the size of its context, its runner's switches."""
    left = {name: value for name, value in fields.body.items() if name not in _READ and value is not None}
    runner = {
        name: value for name, value in options.body.items() if name not in _OPTIONS and value is not None
    }
    for name, value in left.items():
        check_inner(value, shown(name))
    check_inner(runner, "options")
    return left | ({"options": runner} if runner else {})


def _tools(fields: Fields) -> tuple[Tool, ...]:
    given = listed_tools(fields.get("tools"), "tools")
    tools = tuple(_tool(item, f"tools[{index}]") for index, item in enumerate(given))
    check_tools_differ(tools, "tools")
    return tools


def _tool(item: object, where: str) -> Tool:
    if not isinstance(item, Mapping):
        raise InvalidRequest(where, "must be an object")
    if item.get("type") not in (None, "function"):
        raise InvalidRequest(f"{where}.type", "must be function")
    function = item.get("function")
    if not isinstance(function, Mapping):
        raise InvalidRequest(f"{where}.function", "must be an object with name, description and parameters")
    fields = Fields(function, within=f"{where}.function")
    name = fields.string("name", default="")
    if not name:
        raise fields.refuse("name", "is missing")
    strict = fields.boolean("strict") if fields.get("strict") is not None else None
    return Tool(name, _text(fields, "description"), read_schema(fields, "parameters"), strict)


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> ToolChoice:
    """Ollama itself has none, but the provider for Vercel's AI SDK sends OpenAI's."""
    match fields.get("tool_choice"):
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required" if not tools:
            raise fields.refuse("tool_choice", NO_TOOLS)
        case "required":
            return ToolChoice("required")
        case {"function": {"name": str(name)}}:
            if not any(tool.name == name for tool in tools):
                raise fields.refuse("tool_choice", f"names {shown(name)!r}, which is not among the tools")
            return ToolChoice("required", (name,))
    raise fields.refuse("tool_choice", "must be auto, none, required or one function")


class _Turns:
    """Reads messages, gives each call an id and each result its call's."""

    def __init__(self) -> None:
        self._pairing, self._count = Pairing(), 0

    def read(self, items: Iterable[object]) -> Iterator[Message]:
        for index, item in enumerate(items):
            yield self._message(item, f"messages[{index}]")

    def _message(self, item: object, where: str) -> Message:
        if not isinstance(item, Mapping):
            raise InvalidRequest(where, "must be an object with role and content")
        fields = Fields(item, within=where)
        role = item.get("role")
        text = _text(fields, "content")
        said: tuple[Part, ...] = ((Text(text),) if text else ()) + _images(fields, where)
        if role == "tool":
            return Message("tool", (self._result(fields, where, said),))
        if role == "assistant":
            thoughts = _text(fields, "thinking")
            begun: tuple[Part, ...] = (Reasoning(thoughts),) if thoughts else ()
            return Message("assistant", (*begun, *said, *self._calls(fields, where)))
        if role == "system" or role == "user":
            return Message(role, said)
        raise InvalidRequest(f"{where}.role", f"must be one of {', '.join(_ROLES)}")

    def _calls(self, fields: Fields, where: str) -> Iterator[ToolCall]:
        given = fields.get("tool_calls") or []
        if not isinstance(given, list):
            raise fields.refuse("tool_calls", "must be a list")
        for index, item in enumerate(given):
            place = f"{where}.tool_calls[{index}]"
            function = item.get("function") if isinstance(item, Mapping) else None
            if not isinstance(item, Mapping) or not isinstance(function, Mapping):
                raise InvalidRequest(f"{place}.function", "must be an object with name and arguments")
            inner = Fields(function, within=f"{place}.function")
            name = inner.string("name", default="")
            if not name:
                raise inner.refuse("name", "is missing")
            identity = self._identity(Fields(item, within=place).string("id", default=""))
            arguments = _arguments(inner)
            self._pairing.call(identity, name)
            yield ToolCall(identity, name, arguments)

    def _identity(self, given: str) -> str:
        """The id that it has, or one that no call before it has."""
        identity = given
        while not identity or self._pairing.knows(identity):
            identity, self._count = f"call_{self._count}", self._count + 1
        return identity

    def _result(self, fields: Fields, where: str, said: tuple[Part, ...]) -> ToolResult:
        """Of the call that it names by id or by tool; of the first that waits where it names none."""
        name = _text(fields, "tool_name") or _text(fields, "name")
        wanted = _text(fields, "tool_call_id")
        found, tool = self._pairing.result(
            wanted if self._pairing.waits(wanted) else "", f"{where}.tool_call_id", name=name, of=where
        )
        return ToolResult(found, said, name=tool)


def _arguments(function: Fields) -> str:
    """JSON, as it stands there or as some clients write it, in a string."""
    value = function.get("arguments")
    if value is None or isinstance(value, Mapping):
        return dumps(value or {}).decode()
    if not isinstance(value, str) or _object(value) is None:
        raise function.refuse("arguments", "must be an object")
    return value


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise fields.refuse(name, "must be a string")
    return value


def _images(fields: Fields, where: str) -> tuple[Image, ...]:
    given = fields.get("images")
    if given is None:
        return ()
    if not isinstance(given, list):
        raise fields.refuse("images", "must be a list of pictures in base64")
    before = f"{where}.images" if where else "images"
    return tuple(_image(item, f"{before}[{index}]") for index, item in enumerate(given))


def _image(item: object, where: str) -> Image:
    """In base64, or as a `data:` URL already."""
    if not isinstance(item, str):
        raise InvalidRequest(where, "must be a picture in base64")
    data = "".join(item.partition(";base64,")[2].split() if item.startswith("data:") else item.split())
    try:
        base64.b64decode(data, validate=True)
    except ValueError as error:  # also for letters that are not ASCII
        raise InvalidRequest(where, "is not base64") from error
    begin = base64.b64decode(data[:_SNIFFED])
    kinds = (kind for place, mark, kind in _PICTURES if begin[place : place + len(mark)] == mark)
    kind = next(kinds, None)
    if kind is None:
        raise InvalidRequest(
            where, "is no picture that is known here: PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF, HEIC"
        )
    return Image(f"data:{kind};base64,{data}")


# ---- what is answered --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Durations:
    """Seconds of one answer, from when its request came."""

    total: float
    load: float  # until it was begun: the models before it, and its own way into memory
    prefill: float
    decode: float

    @classmethod
    def of(cls, timings: EngineTimings | None, began: float, first: float, now: float) -> _Durations:
        """As its engine measured them, else as they looked from here; `first`: when its first event came."""
        total = now - began
        prefill = timings.prefill_s if timings else None
        decode = timings.decode_s if timings else None
        if prefill is None or decode is None:
            return cls(total, 0.0, first - began, now - first)
        return cls(total, total - prefill - decode, prefill, decode)


class _Encoder:
    def __init__(self, call: Call, head: Head, clock: Callable[[], float]) -> None:
        self._path, self._began, self._clock = str(call.options["path"]), _began(call), clock
        self._model, self._opening = head.model, _opening(head.model, head.created)
        # A line is made for each token; written as a whole, it takes ten times as long.
        self._before, _, self._after = self._line({"content": _PLACE}).rpartition(dumps(_PLACE))
        self._first: float | None = None
        self._calls: list[tuple[ToolCallStart, list[str]]] = []
        self._end = Finished("stop")

    def feed(self, event: Event) -> bytes:
        """Raises `GenerationFailed` for a call that Ollama's form has no room for."""
        if self._first is None:
            self._first = self._clock()
        if isinstance(event, TextDelta):
            if event.logprobs:
                return self._line({"content": event.text}, event.logprobs)
            return self._before + dumps(event.text) + self._after if event.text else b""
        if isinstance(event, ReasoningDelta):
            return self._line({"content": "", "thinking": event.text}) if event.text else b""
        if isinstance(event, RefusalDelta):
            return self._line({"content": event.text}) if event.text else b""
        if isinstance(event, ToolCallStart):
            self._calls.append((event, []))
            return b""
        if isinstance(event, ToolCallArguments):
            next(pieces for start, pieces in self._calls if start.index == event.index).append(event.text)
            return b""
        if isinstance(event, Finished):
            self._end = event
            return self._whole_calls()
        return b""

    def end(self) -> bytes:
        now = self._clock()
        durations = _Durations.of(self._end.timings, self._began, self._first or now, now)
        closing = _closing(self._end.reason, durations, self._end.usage)
        return _ndjson({**self._opening, **_said(self._path, {"content": ""}), **closing})

    def fail(self, failure: Failure) -> bytes:
        return _ndjson({"error": failure.message})

    def _line(self, said: Body, logprobs: tuple[TokenLogprob, ...] = ()) -> bytes:
        body = {**self._opening, **_said(self._path, said), "done": False}
        if logprobs:
            body["logprobs"] = [_logprob(token) for token in logprobs]
        return _ndjson(body)

    def _whole_calls(self) -> bytes:
        """All in one line: LiteLLM numbers them within each, so that two lines would be one call."""
        if not self._calls:
            return b""
        whole = (ToolCall(start.id, start.name, "".join(pieces)) for start, pieces in self._calls)
        calls = [_call(index, call, self._model) for index, call in enumerate(whole)]
        return self._line({"content": "", "tool_calls": calls})


def _began(call: Call) -> float:
    began = call.options["began"]
    assert isinstance(began, float)
    return began


def _ndjson(body: Body) -> bytes:
    return dumps(body) + b"\n"


def _opening(model: str, when: float) -> Body:
    return {"model": model, "created_at": _date(when)}


def _date(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")


def _said(path: str, said: Body) -> Body:
    if path == CHAT:
        return {"message": {"role": "assistant", **said}}
    return {"response": said["content"], **{name: said[name] for name in ("thinking",) if name in said}}


def _closing(reason: FinishReason, durations: _Durations, usage: Usage | None) -> Body:
    """All durations are above 0: clients divide by them."""
    closing: Body = {
        "done": True,
        "done_reason": _DONE_REASONS.get(reason, reason),
        "total_duration": _nanoseconds(durations.total),
        "load_duration": _nanoseconds(durations.load),
        "prompt_eval_duration": _nanoseconds(durations.prefill),
        "eval_duration": _nanoseconds(durations.decode),
    }
    if usage is not None:
        closing |= {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
    return closing


def _nanoseconds(seconds: float) -> int:
    return max(int(seconds * 1e9), 1)


def _call(index: int, call: ToolCall, model: str) -> Body:
    arguments = _object(call.arguments)
    if arguments is None:
        reason = f"its call of {clipped(call.name)!r} has arguments that are not a JSON object"
        raise GenerationFailed(model, reason)
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


def _object(arguments: str) -> dict[str, object] | None:
    """None where it is no object. Endpoints write nothing for a call without arguments."""
    if not arguments.strip():
        return {}
    try:
        return strict_json.parse_object(arguments)
    except strict_json.NotJson:
        return None


def _logprob(token: TokenLogprob) -> Body:
    alone = {"token": token.token, "logprob": token.logprob, "bytes": list(token.token_bytes)}
    return alone | ({"top_logprobs": [_logprob(each) for each in token.top]} if token.top else {})


# ---- models ------------------------------------------------------------------------------------------------


def _known(fields: Fields, host: Host) -> ModelInfo:
    """Raises `UnknownModel`."""
    name, models = _model(fields), {info.name: info for info in host.models()}
    found = models.get(name) or models.get(name.removesuffix(LATEST))
    if found is None:
        raise UnknownModel(name, tuple(models))
    return found


def _tags(body: Mapping[str, object], host: Host) -> Body:
    return {"models": [_listed(info) | {"modified_at": _date(info.created or 0)} for info in host.models()]}


def _ps(body: Mapping[str, object], host: Host) -> Body:
    """What is in memory, once each."""
    return {"models": [_running(info) for info in host.models() if info.local and info.loaded and info.own]}


def _running(info: ModelInfo) -> Body:
    taken = info.memory or info.size or 0
    return _listed(info) | {
        "size": taken,
        "size_vram": taken,
        "expires_at": _FOREVER,
        "context_length": info.context_window or 0,
    }


def _show(body: Mapping[str, object], host: Host) -> Body:
    info = _known(Fields(plain_object(body)), host)
    architecture = info.architecture or _UNKNOWN
    facts: Body = {"general.architecture": architecture, "general.basename": info.name}
    for name, value in (
        ("general.parameter_count", info.parameters),
        (f"{architecture}.context_length", info.context_window),
        (f"{architecture}.embedding_length", info.dimension or None),
    ):
        if value is not None:
            facts[name] = value
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(info),
        "model_info": facts,
        "capabilities": _capabilities(info),
        "modified_at": _date(info.created or 0),
    }


def _pull(body: Mapping[str, object], host: Host) -> Body:
    """What is here needs no fetching; the rest is fetched by whoever sits at this machine."""
    fields = Fields(plain_object(body))
    try:
        _known(fields, host)
    except UnknownModel as error:
        ways = "`edge-router models list` tells what there is, `edge-router models pull NAME` fetches one"
        told = f"{clipped(_model(fields))!r} is not here; {ways}"
        raise InvalidRequest("model", told) from error
    return {"status": "success"}


def _embeddings(body: Mapping[str, object], host: Host) -> Body:
    fields = Fields(plain_object(body))
    model, prompt = _known(fields, host).name, _text(fields, "prompt")
    if not prompt:
        host.load(model)
        return {"embedding": []}
    return {"embedding": host.embed((prompt,), model).vectors[0].tolist()}


def _listed(info: ModelInfo) -> Body:
    """Ollama's command line cuts the digest to twelve letters without asking how many there are."""
    digest = info.digest or hashlib.sha256(info.name.encode()).hexdigest()
    return {
        "name": info.name,
        "model": info.name,
        "size": info.size or 0,
        "digest": digest,
        "details": _details(info),
    }


def _details(info: ModelInfo) -> Body:
    family = info.architecture or _UNKNOWN
    return {
        "parent_model": "",
        "format": info.form or "",
        "family": family,
        "families": [family],
        "parameter_size": _short(info.parameters),
        "quantization_level": info.quantization or "",
    }


def _short(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def _capabilities(info: ModelInfo) -> list[str]:
    if info.dimension is not None:
        return ["embedding"]
    able = [word for need, word in _CAPABILITIES if need in info.serves]
    return ["completion", *able, *(["thinking"] if info.reasons else [])]
