"""Bodies of /api/chat and /api/generate in, `ChatRequest` out. Pure.

Every refusal is an `InvalidRequest` that names the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from edge_router.chat.message import Message, Text
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
from edge_router.errors import InvalidRequest
from edge_router.parsing.field_names import check_inner, check_names
from edge_router.parsing.fields import Fields, listed, plain_object, shown
from edge_router.parsing.keeping import FIELD as CACHE
from edge_router.parsing.keeping import taken_mark
from edge_router.parsing.privacy import body_marks
from edge_router.records import dataclass
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
from edge_router.surfaces.ollama.messages import MessageReader, read_images

NAME = "ollama"
CHAT, GENERATE = "/api/chat", "/api/generate"
_ENVELOPE = frozenset({"model", "name", "stream", "format", "keep_alive", "options", "think", "private"})
_READ = _ENVELOPE | {
    *("messages", "tools", "tool_choice", "logprobs", "top_logprobs"),
    *("prompt", "images", "raw", "suffix", "system", "template", "context"),
}
_SPELLED = _READ | {CACHE}
_OPTIONS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "num_predict", "stop"),
        *("repeat_penalty", "presence_penalty", "frequency_penalty"),
    }
)
# What errors call that which the weak model can't serve.
_NAMES = {Need.TOOLS: "tools", Need.TOOL_CALL: "tool_choice", Need.JSON: "format"}
_DURATION = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?(?:ns|us|µs|ms|s|m|h)){1,8}|[+-]?\d{1,12}", re.ASCII)
_ZERO = re.compile(r"[^1-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class OllamaCall:
    """`request` is None where nothing is said. `leaves`: the model's memory is to be given back then."""

    model: str
    request: ChatRequest | None
    stream: bool
    leaves: bool


def parse(path: str, body: Mapping[str, object]) -> OllamaCall:
    """Raises `InvalidRequest`."""
    layer = plain_object(body)
    check_names(layer, _SPELLED)
    private, keep, fields = any([*body_marks(layer)]), taken_mark(layer), Fields(layer)
    model, leaves = read_name(fields), _unloads(fields)
    request = _chat(fields, model) if path == CHAT else _generated(fields, model)
    if request is not None:
        if keep is not None and request.raw_prompt is not None:
            raise fields.refuse(CACHE, "keeps the system message, and a raw prompt has none")
        request = replace(request, private=private, keep=keep)
    return OllamaCall(model, request, fields.boolean("stream", default=True), leaves)


def _chat(fields: Fields, model: str) -> ChatRequest | None:
    """None where nothing is said."""
    if fields.get("prompt"):
        raise fields.refuse("prompt", f"is a field of {GENERATE}; a chat has messages")
    given = fields.get("messages")
    if given is None or given == []:
        return None
    if not isinstance(given, list):
        raise fields.refuse("messages", "must be a list of messages")
    messages = tuple(MessageReader().read(given))
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
    prompt, suffix = fields.text("prompt") or "", fields.text("suffix") or None
    images = read_images(fields, "")
    if not prompt and not images and suffix is None:
        return None
    system, raw = fields.text("system") or "", fields.boolean("raw") or suffix is not None
    turns = [Message("system", system)] if system and not raw else []
    turns.append(Message("user", (*((Text(prompt),) if prompt else ()), *images)))
    return _request(
        fields, model, tuple(turns), raw_prompt=prompt if raw else None, suffix=suffix, media="images"
    )


def _request(
    fields: Fields,
    model: str,
    messages: tuple[Message, ...],
    *,
    tools: tuple[Tool, ...] = (),
    goes_on: bool = False,
    raw_prompt: str | None = None,
    suffix: str | None = None,
    media: str = "messages",
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
        names={**_NAMES, Need.FILES: media},
    )


def read_name(fields: Fields) -> str:
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
    return Tool(name, fields.text("description") or "", read_schema(fields, "parameters"), strict)


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
