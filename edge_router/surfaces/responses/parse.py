"""Bodies of /v1/responses in, `ChatRequest` out. Pure; what was kept of earlier answers is handed in.

Every refusal is an `InvalidRequest` that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_router.chat.message import Message
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    ForeignOutput,
    JsonOutput,
    Need,
    Output,
    ResponseCacheWish,
    TextOutput,
)
from edge_router.errors import InvalidRequest, PreviousResponseGone
from edge_router.parsing.field_names import check_inner, check_names
from edge_router.parsing.fields import Fields, plain_object, shown
from edge_router.parsing.keeping import FIELD as CACHE
from edge_router.parsing.keeping import Mark, taken_mark
from edge_router.parsing.privacy import body_marks
from edge_router.records import dataclass
from edge_router.surfaces.limits import VERBOSITIES, check_slip, read_model
from edge_router.surfaces.openai.output import FORMS
from edge_router.surfaces.openai.parse import read_limit, read_sampling, read_stop
from edge_router.surfaces.openai.reasoning import read_reasoning
from edge_router.surfaces.openai.tools import read_grammar
from edge_router.surfaces.responses.items import ItemReader
from edge_router.surfaces.responses.store import Item, Kept, ResponseStore
from edge_router.surfaces.responses.tools import Tools, read_choice

PROTOCOL = "openai-responses"
MAX_ITEMS = 20_000
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
_SPELLED = KNOWN | {CACHE}
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
_SUMMARIZE, _SUMMARIES = ("summary", "generate_summary"), ("auto", "concise", "detailed", "none")
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"


@dataclass(frozen=True, slots=True)
class ResponsesOptions:
    """How the answer is to be written, and what stands in it of the request."""

    echo: Item  # fields of the answer's body
    given: Sequence[Item]  # the items of this request
    before: Kept | None  # the answer that it goes on from
    namespaces: Mapping[str, tuple[str, str]]  # a tool's name here, and its namespace and name there
    store: bool
    summary: bool  # thoughts are sent as their summary, which is what clients show
    encrypted: bool  # thoughts must come back from the client whole


def parse(body: Mapping[str, object], store: ResponseStore) -> tuple[ChatRequest, bool, ResponsesOptions]:
    """The request, whether it is to be streamed, and the rest. Raises `InvalidRequest`."""
    fields, private, keep = _fields(body)
    before = _previous(fields, store)
    given = _given(fields, before)
    tools = Tools()
    tools.read(fields.get("tools"), "tools")
    history = before.history if before is not None else []
    reader = ItemReader(tools, store.item)
    reader.read(history, "previous_response_id")
    reader.read(given, "input")
    reader.end()
    instructions = fields.get("instructions")
    messages = (*_instructions(instructions), *reader.messages)
    include = _include(fields)
    text, reasoning = (fields.object(name) or Fields({}, within=name) for name in ("text", "reasoning"))
    text.choice("verbosity", *VERBOSITIES)
    fields.choice("truncation", "auto", "disabled")
    top_logprobs = fields.integer("top_logprobs", low=0, high=20) or 0
    options = ResponsesOptions(
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
        tool_choice=read_choice(fields, tools),
        output=_output(text),
        reasoning=read_reasoning(fields.body),
        private=private,
        keep=keep,
        logprobs=LOGPROBS in include or top_logprobs > 0,
        top_logprobs=top_logprobs,
        response_cache=ResponseCacheWish(write=options.store),
        extra=Extra(PROTOCOL, _extra(fields)),
        names=_NAMES,
    )
    return request, fields.boolean("stream"), options


def _fields(body: Mapping[str, object]) -> tuple[Fields, bool, Mark | None]:
    """The body's fields, whether it is marked as private, and as to be kept."""
    layer = plain_object(body)
    check_names((name for name in layer if name not in _ELSEWHERE), _SPELLED)
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
    keep = taken_mark(layer)
    return Fields(layer), private, keep


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
        form.text("description"),
        None if strict is None else form.boolean("strict"),
    )
