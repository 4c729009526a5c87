"""OpenAI request bodies in, `ChatRequest` out. The Python API and the server both pass through here.

Every refusal is an `InvalidRequest` that names the field. Fields that nobody knows are ignored, as other
local servers do; fields that would steer where the strong model lives, or with which key, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_router.errors import InvalidRequest
from edge_router.types import ChatRequest, Message, SamplingParams

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
INT64 = 2**63
MAX_TOKENS = 2**31 - 1
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
    fields = Fields(body)
    messages = parse_messages(body.get("messages"))
    passthrough = {name: body[name] for name in STRONG_ONLY if body.get(name) is not None}
    logprobs = fields.boolean("logprobs", default=False)
    top_logprobs = fields.integer("top_logprobs", low=0, high=20) or 0
    if top_logprobs and not logprobs:
        raise InvalidRequest("top_logprobs", "needs logprobs to be true")
    request = ChatRequest(
        messages=messages,
        model=fields.model(),
        sampling=fields.sampling(),
        max_tokens=_max_tokens(fields),
        stop=fields.stop(),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        private=fields.boolean("private", default=False),
        tools_required=_demands_call(body.get("tool_choice")) or _demands_format(body.get("response_format")),
        passthrough=_checked_passthrough(passthrough),
    )
    return fields.call(request)


def parse_completion(body: Mapping[str, object]) -> Call:
    """The body of /v1/completions: one prompt, no chat template. Raises `InvalidRequest`."""
    fields = Fields(body)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise InvalidRequest("prompt", "must be a string that is not empty, or a list of one such string")
    for name, only in (("best_of", 1), ("echo", False)):
        if body.get(name) not in (None, only):
            raise InvalidRequest(name, f"must be {only!r} here")
    if body.get("suffix") not in (None, ""):
        raise InvalidRequest("suffix", "is not supported")
    top_logprobs = fields.integer("logprobs", low=0, high=5)
    tokens = fields.integer("max_tokens", low=1, high=MAX_TOKENS)
    request = ChatRequest(
        messages=(Message("user", prompt),),
        model=fields.model(),
        sampling=fields.sampling(),
        max_tokens=COMPLETION_DEFAULT_TOKENS if tokens is None else tokens,
        stop=fields.stop(),
        logprobs=top_logprobs is not None,
        top_logprobs=top_logprobs or 0,
        raw_prompt=prompt,
        private=fields.boolean("private", default=False),
    )
    return fields.call(request)


def parse_messages(value: object) -> tuple[Message, ...]:
    """OpenAI's list of messages. Raises `InvalidRequest`."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
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
        return Message(role, "", raw=dict(item))
    if isinstance(content, str):
        return Message(role, content, raw=dict(item))
    if not isinstance(content, list) or not content:
        raise InvalidRequest(f"{where}.content", "must be a string or a list of parts that is not empty")
    texts, media = [], False
    for index, part in enumerate(content):
        text = _part(part, f"{where}.content[{index}]")
        media = media or text is None
        texts.append(text or "")
    return Message(role, "\n".join(text for text in texts if text), raw=dict(item), has_media=media)


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


def _checked_passthrough(values: dict[str, object]) -> dict[str, object]:
    if "tools" in values and not isinstance(values["tools"], list):
        raise InvalidRequest("tools", "must be a list")
    if "response_format" in values and not isinstance(values["response_format"], Mapping):
        raise InvalidRequest("response_format", "must be an object with a type")
    return values


def _max_tokens(fields: Fields) -> int | None:
    newer = fields.integer("max_completion_tokens", low=1, high=MAX_TOKENS)
    return newer if newer is not None else fields.integer("max_tokens", low=1, high=MAX_TOKENS)


class Fields:
    """Typed access to a body. `None` and an absent field mean the same, as in OpenAI's API."""

    def __init__(self, body: Mapping[str, object]) -> None:
        self._body = body
        for name in FORBIDDEN:
            if name in body:
                raise InvalidRequest(name, "can be set in the configuration only, not by a request")
        if body.get("n") is not None and self.integer("n", low=1, high=128) != 1:
            raise InvalidRequest("n", "must be 1: one answer comes from one model")

    def integer(self, name: str, *, low: int, high: int) -> int | None:
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidRequest(name, "must be a whole number")
        if not low <= value <= high:
            raise InvalidRequest(name, f"must be between {low} and {high}, not {value}")
        return value

    def number(self, name: str, *, low: float, high: float, above: bool = False) -> float | None:
        """`above`: `low` itself is out of range."""
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidRequest(name, "must be a number")
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            limits = f"above {low:g} and at most {high:g}" if above else f"between {low:g} and {high:g}"
            raise InvalidRequest(name, f"must be {limits}, not {value}")
        return float(value)

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self._body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidRequest(name, "must be true or false")
        return value

    def model(self) -> str:
        value = self._body.get("model", "auto")
        if not isinstance(value, str) or not value:
            raise InvalidRequest("model", "must be a string that is not empty")
        return value

    def stop(self) -> tuple[str, ...]:
        value = self._body.get("stop")
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or len(items) > 4 or not all(isinstance(i, str) and i for i in items):
            raise InvalidRequest("stop", "must be a string or a list of at most four, none of them empty")
        return tuple(items)

    def sampling(self) -> SamplingParams:
        return SamplingParams(
            temperature=self.number("temperature", low=0, high=2),
            top_p=self.number("top_p", low=0, high=1),
            top_k=self.integer("top_k", low=1, high=MAX_TOKENS),
            seed=self.integer("seed", low=-INT64, high=INT64 - 1),
            repetition_penalty=self.number("repetition_penalty", low=0, high=10, above=True),
            presence_penalty=self.number("presence_penalty", low=-2, high=2) or 0.0,
            frequency_penalty=self.number("frequency_penalty", low=-2, high=2) or 0.0,
            logit_bias=self._logit_bias(),
        )

    def _logit_bias(self) -> dict[int, float]:
        value = self._body.get("logit_bias")
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise InvalidRequest("logit_bias", "must be an object of token ids and numbers")
        bias: dict[int, float] = {}
        for token, amount in value.items():
            if not str(token).isdecimal() or int(token) > MAX_TOKENS:
                raise InvalidRequest("logit_bias", f"{token!r} is not a token id")
            checked = Fields({str(token): amount}).number(str(token), low=-100, high=100)
            bias[int(token)] = checked or 0.0
        return bias

    def call(self, request: ChatRequest) -> Call:
        stream = self.boolean("stream", default=False)
        options: Any = self._body.get("stream_options")
        if options is not None and (not isinstance(options, Mapping) or not stream):
            raise InvalidRequest("stream_options", "must be an object, and needs stream to be true")
        usage = Fields(options).boolean("include_usage", default=False) if options else False
        return Call(request, stream, usage)
