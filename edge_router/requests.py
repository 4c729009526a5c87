"""OpenAI request bodies in, `ChatRequest` out. The Python API and the server both pass through here.

Every refusal is an `InvalidRequest` that names the field. Fields that nobody knows are ignored, as other
local servers do; fields that would steer where the strong model lives, or with which key, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_router.errors import InvalidRequest
from edge_router.fields import Fields, plain, plain_object
from edge_router.types import ChatRequest, Message, SamplingParams

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
INT64 = 2**63
MAX_TOKENS = 2**31 - 1
TOKEN_DIGITS = 9
COMPLETION_DEFAULT_TOKENS = 16  # OpenAI's own default for /v1/completions

STRONG_ONLY = (
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "user",
    "metadata",
    "service_tier",
    "modalities",
    "prediction",
    "audio",
    "web_search_options",
)
FORBIDDEN = (
    "base_url",
    "api_base",
    "api_key",
    "api_type",
    "organization",
    "endpoint",
    "headers",
    "extra_headers",
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request and how the caller wants to receive the answer."""

    request: ChatRequest
    stream: bool = False
    include_usage: bool = False  # with `stream`: a last chunk that carries the usage


def parse_chat(body: Mapping[str, object]) -> Call:
    """The body of /v1/chat/completions. Raises `InvalidRequest`."""
    fields = _fields(body)
    logprobs = fields.boolean("logprobs")
    top_logprobs = fields.integer("top_logprobs", low=0, high=20) or 0
    if top_logprobs and not logprobs:
        raise InvalidRequest("top_logprobs", "needs logprobs to be true")
    request = ChatRequest(
        messages=_messages(fields.get("messages")),
        model=fields.string("model", default="auto"),
        sampling=_sampling(fields),
        max_tokens=_max_tokens(fields),
        stop=fields.strings("stop", most=4),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        private=fields.boolean("private"),
        tools_required=_demands_call(fields.get("tool_choice"))
        or _demands_format(fields.get("response_format")),
        passthrough=_passthrough(fields),
    )
    return _call(fields, request)


def parse_completion(body: Mapping[str, object]) -> Call:
    """The body of /v1/completions: one prompt, no chat template. Raises `InvalidRequest`."""
    fields = _fields(body)
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise InvalidRequest("prompt", "must be a string that is not empty, or a list of one such string")
    for name, only in (("best_of", 1), ("echo", False)):
        if fields.get(name) not in (None, only):
            raise InvalidRequest(name, f"must be {str(only).lower()} here")
    if fields.get("suffix") not in (None, ""):
        raise InvalidRequest("suffix", "is not supported")
    top_logprobs = fields.integer("logprobs", low=0, high=5)
    tokens = fields.integer("max_tokens", low=1, high=MAX_TOKENS)
    request = ChatRequest(
        messages=(Message("user", prompt),),
        model=fields.string("model", default="auto"),
        sampling=_sampling(fields),
        max_tokens=COMPLETION_DEFAULT_TOKENS if tokens is None else tokens,
        stop=fields.strings("stop", most=4),
        logprobs=top_logprobs is not None,
        top_logprobs=top_logprobs or 0,
        raw_prompt=prompt,
        private=fields.boolean("private"),
    )
    return _call(fields, request)


def parse_messages(value: object) -> tuple[Message, ...]:
    """OpenAI's list of messages. Raises `InvalidRequest`."""
    return _messages(plain(value, "messages"))


def _messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise InvalidRequest("messages", "must be a list of messages")
    if not value:
        raise InvalidRequest("messages", "must hold at least one message")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))


def conversation(prompt: str | Sequence[object]) -> Sequence[object]:
    """What Python callers may write: a plain string is one user turn."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _message(item: object, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise InvalidRequest(where, "must be an object with role and content")
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    content = item.get("content")
    if content is None:
        if role != "assistant" or not (item.get("tool_calls") or item.get("function_call")):
            raise InvalidRequest(f"{where}.content", "is missing")
        return Message(role, "", raw=item)
    if isinstance(content, str):
        return Message(role, content, raw=item)
    if not isinstance(content, list) or not content:
        raise InvalidRequest(f"{where}.content", "must be a string or a list of parts that is not empty")
    texts, media = [], False
    for index, part in enumerate(content):
        text = _part(part, f"{where}.content[{index}]")
        media = media or text is None
        texts.append(text or "")
    return Message(role, "\n".join(text for text in texts if text), raw=item, has_media=media)


def _part(part: object, where: str) -> str | None:
    """The text of a content part, None for one that is not text."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise InvalidRequest(where, "must be an object with a type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidRequest(f"{where}.{kind}", "must be a string")
        return text
    if kind in ("image_url", "input_audio", "file"):
        return None
    raise InvalidRequest(f"{where}.type", "must be text, refusal, image_url, input_audio or file")


def _demands_call(choice: object) -> bool:
    return choice == "required" or isinstance(choice, Mapping)


def _demands_format(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("type") in ("json_object", "json_schema")


def _passthrough(fields: Fields) -> dict[str, object]:
    values = {name: fields.body[name] for name in STRONG_ONLY if fields.get(name) is not None}
    if "tools" in values and not isinstance(values["tools"], list):
        raise InvalidRequest("tools", "must be a list")
    if "response_format" in values and not isinstance(values["response_format"], Mapping):
        raise InvalidRequest("response_format", "must be an object with a type")
    return values


def _max_tokens(fields: Fields) -> int | None:
    newer, older = (
        fields.integer(name, low=1, high=MAX_TOKENS) for name in ("max_completion_tokens", "max_tokens")
    )
    return older if newer is None else newer


def _sampling(fields: Fields) -> SamplingParams:
    return SamplingParams(
        temperature=fields.number("temperature", low=0, high=2),
        top_p=fields.number("top_p", low=0, high=1),
        top_k=fields.integer("top_k", low=1, high=MAX_TOKENS),
        seed=fields.integer("seed", low=-INT64, high=INT64 - 1),
        repetition_penalty=fields.number("repetition_penalty", low=0, high=10, above=True),
        presence_penalty=fields.number("presence_penalty", low=-2, high=2) or 0.0,
        frequency_penalty=fields.number("frequency_penalty", low=-2, high=2) or 0.0,
        logit_bias=_logit_bias(fields),
    )


def _logit_bias(fields: Fields) -> dict[int, float]:
    amounts = fields.object("logit_bias")
    bias: dict[int, float] = {}
    for token in amounts.body if amounts else ():
        if not token.isdecimal() or len(token) > TOKEN_DIGITS:
            raise InvalidRequest("logit_bias", f"{token[:40]!r} is not a token id")
        amount = amounts.number(token, low=-100, high=100) if amounts else None
        bias[int(token)] = amount or 0.0
    return bias


def _call(fields: Fields, request: ChatRequest) -> Call:
    stream, options = fields.boolean("stream"), fields.object("stream_options")
    if options is not None and not stream:
        raise InvalidRequest("stream_options", "needs stream to be true")
    return Call(request, stream, options is not None and options.boolean("include_usage"))


def _fields(body: Mapping[str, object]) -> Fields:
    fields = Fields(plain_object(body))
    for name in FORBIDDEN:
        if name in fields.body:
            raise InvalidRequest(name, "can be set in the configuration only, not by a request")
    if fields.integer("n", low=1, high=128) not in (None, 1):
        raise InvalidRequest("n", "must be 1: one answer comes from one model")
    return fields
