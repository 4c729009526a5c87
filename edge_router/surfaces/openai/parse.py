"""OpenAI request bodies in, `ChatRequest` out. The Python API and the server both pass through here.

Every refusal is an `InvalidRequest` that names the field. Fields that nobody here knows are kept for the
strong model, whose endpoint may know them; slips of the pen, and fields that would steer where the strong
model lives or with which key, are refused (`field_names`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, Extra, ForeignOutput, Need, SamplingParams, TextOutput
from edge_router.errors import InvalidRequest
from edge_router.parsing.field_names import check_inner, check_names
from edge_router.parsing.fields import Fields, listed, plain, plain_object, shown
from edge_router.parsing.keeping import FIELD as CACHE
from edge_router.parsing.keeping import Mark, taken_mark
from edge_router.parsing.privacy import PRIVATE_HEADER, body_marks, header_marks, mark, marks
from edge_router.surfaces.base import Call, QuestionsCall
from edge_router.surfaces.limits import (
    INT64,
    LONGEST_STOP,
    MAX_FIELDS,
    MAX_STOPS,
    MAX_TOKENS,
    VERBOSITIES,
    read_model,
)
from edge_router.surfaces.openai.messages import read_messages
from edge_router.surfaces.openai.output import FIELD as FORMAT
from edge_router.surfaces.openai.output import FOREIGN_FIELDS, read_output
from edge_router.surfaces.openai.reasoning import read_reasoning
from edge_router.surfaces.openai.tools import CHOICE, OLDER_CHOICE, OLDER_TOOLS, SEARCH, TOOLS, read_tools
from edge_router.surfaces.openai.tools import FIELDS as TOOL_FIELDS

PROTOCOL = "openai"  # of `Extra`
INCLUDE_USAGE = "include_usage"  # of `Call.options`: a stream's last chunk carries the usage
TOKEN_DIGITS = 9
COMPLETION_DEFAULT_TOKENS = 16  # OpenAI's own default for /v1/completions

# OpenAI's fields that are passed on to an endpoint, some of them in words of ours.
PASSED_ON = (
    *TOOL_FIELDS,
    *("response_format", "reasoning_effort", "verbosity", "user", "metadata", "service_tier", "modalities"),
    *("prediction", "audio", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
)
# What is read here, and so is not passed on as it stands.
_READ = frozenset(
    {
        *("messages", "model", "temperature", "top_p", "top_k", "seed", "repetition_penalty", "stop", "n"),
        *(
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "max_tokens",
            "max_completion_tokens",
            "min_p",
        ),
        *("logprobs", "top_logprobs", "stream", "stream_options", "private"),
        *("prompt", "best_of", "echo", "suffix"),
    }
)
_SAMPLING = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias"),
    }
)
_SAMPLED = SamplingParams()
# What OpenAI's client takes beside the fields of a body, and what our own takes.
_ENVELOPE = ("extra_body", "extra_headers", "extra_query", "timeout")
_ARGUMENTS = ("mask", "cancel")
KNOWN = frozenset({*_READ, *PASSED_ON, *_ENVELOPE, *_ARGUMENTS, CACHE})

_FORMS = ("text", "audio", "image")  # of an answer
# What errors call that which the weak model can't serve.
_NAMES = {
    Need.TOOLS: TOOLS,
    Need.TOOL_CALL: CHOICE,
    Need.HOSTED_TOOLS: TOOLS,
    Need.SPEECH: "modalities",
    Need.JSON: FORMAT,
    Need.GRAMMAR: FORMAT,
    Need.FOREIGN: FORMAT,
}
_NO_EXTRA = Extra(PROTOCOL)
_OLDER_NAMES = {Need.TOOLS: OLDER_TOOLS, Need.TOOL_CALL: OLDER_CHOICE}


def parse_chat(body: Mapping[str, object]) -> Call:
    """The body of /v1/chat/completions. Raises `InvalidRequest`."""
    fields, private, keep = _fields(body)
    if fields.get("prompt") not in (None, "", []):
        raise InvalidRequest("prompt", "is a field of /v1/completions; a chat has messages")
    logprobs = fields.boolean("logprobs")
    top_logprobs = fields.integer("top_logprobs", low=0, high=20) or 0
    if top_logprobs and not logprobs:
        raise InvalidRequest("top_logprobs", "needs logprobs to be true")
    messages = read_messages(fields.get("messages"))
    request = partial(
        ChatRequest,
        messages,
        target=read_model(fields),
        sampling=read_sampling(fields),
        max_tokens=_max_tokens(fields),
        stop=read_stop(fields),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        private=private,
        keep=keep,
    )
    return _call(fields, messages[-1], request)


def parse_completion(body: Mapping[str, object]) -> Call:
    """The body of /v1/completions: one prompt, no chat template. Raises `InvalidRequest`."""
    fields, private, keep = _fields(body)
    if keep is not None:
        raise InvalidRequest(CACHE, "is a field of /v1/chat/completions: it keeps the system message")
    if fields.get("messages") not in (None, "", []):
        raise InvalidRequest("messages", "is a field of /v1/chat/completions; this has a prompt")
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    suffix = fields.get("suffix")
    if not isinstance(suffix, str | None):
        raise InvalidRequest("suffix", "must be a string")
    if not isinstance(prompt, str) or not (prompt or suffix):
        raise InvalidRequest("prompt", "must be a string that is not empty, or a list of one such string")
    top_logprobs = fields.integer("logprobs", low=0, high=5)
    tokens = (
        COMPLETION_DEFAULT_TOKENS if fields.get("max_tokens") is None else read_limit(fields, "max_tokens")
    )
    message = Message("user", prompt)
    request = partial(
        ChatRequest,
        (message,),
        target=read_model(fields),
        sampling=read_sampling(fields),
        max_tokens=tokens,
        stop=read_stop(fields),
        logprobs=top_logprobs is not None,
        top_logprobs=top_logprobs or 0,
        raw_prompt=prompt,
        suffix=suffix or None,
        private=private,
    )
    return _call(fields, message, request)


def marked(
    call: Call | QuestionsCall, headers: Iterable[tuple[str, str]], query: Iterable[tuple[str, str]]
) -> Call | QuestionsCall:
    """`call`, private where the HTTP request around its body says so. Raises `InvalidRequest`."""
    found = [*header_marks(headers), *marks(query, "")]
    return replace(call, request=replace(call.request, private=True)) if any(found) else call


def parse_messages(value: object) -> tuple[Message, ...]:
    """OpenAI's list of messages. Raises `InvalidRequest`."""
    return read_messages(plain(value, "messages"))


def conversation(prompt: str | Sequence[object]) -> Sequence[object]:
    """What Python callers may write: a plain string is one user turn."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _asked(fields: Fields, last: Message, request: Callable[..., ChatRequest]) -> ChatRequest:
    """`request` with all that an endpoint may do beside writing text; `last` is its last message."""
    passed = _passed_on(fields)
    if not passed:  # most questions
        return request(extra=_NO_EXTRA, names=_NAMES)
    output = read_output(passed.pop(FORMAT, None))
    elsewhere = next((name for name in FOREIGN_FIELDS if passed.get(name)), None)
    if elsewhere is not None and isinstance(output, TextOutput):
        output = ForeignOutput({})
    tools, choice = read_tools(passed)
    fields.choice("verbosity", *VERBOSITIES)
    names = {**_NAMES, **(_OLDER_NAMES if OLDER_TOOLS in passed else {})}
    if fields.get(SEARCH) is not None:
        names[Need.HOSTED_TOOLS] = SEARCH
    if elsewhere is not None:
        names[Need.FOREIGN] = elsewhere
    goes_on = passed.get("continue_final_message") is True
    if goes_on and (last.role != "assistant" or last.calls):
        raise InvalidRequest("continue_final_message", "needs a text of the assistant as the last message")
    return request(
        tools=tools,
        tool_choice=choice,
        output=output,
        reasoning=read_reasoning(passed),
        spoken=_speaks(fields),
        continue_final=goes_on,
        extra=Extra(PROTOCOL, passed),
        names=names,
    )


def _speaks(fields: Fields) -> bool:
    """Whether an answer is to be heard, or seen."""
    forms = fields.get("modalities")
    if forms is None:
        return False
    if not isinstance(forms, list) or not all(isinstance(form, str) and form in _FORMS for form in forms):
        raise fields.refuse("modalities", f"must be a list of {listed(_FORMS)}")
    return any(form != "text" for form in forms)


def _passed_on(fields: Fields) -> dict[str, object]:
    """All that is not read here; what nobody here knows is looked into for what would steer."""
    passed = {name: value for name, value in fields.body.items() if name not in _READ and value is not None}
    for name, value in passed.items():
        if name not in PASSED_ON:
            check_inner(value, shown(name))
    return passed


def read_stop(fields: Fields) -> tuple[str, ...]:
    """Empty ones stop nothing: some clients write them for none."""
    return fields.strings("stop", most=MAX_STOPS, longest=LONGEST_STOP)


def _max_tokens(fields: Fields) -> int | None:
    newer, older = (read_limit(fields, name) for name in ("max_completion_tokens", "max_tokens"))
    return older if newer is None else newer


def read_limit(fields: Fields, name: str) -> int | None:
    """-1 is what llama.cpp's clients write for none."""
    if fields.get(name) == -1:
        return None
    return fields.integer(name, low=1, high=MAX_TOKENS)


def _top_k(fields: Fields) -> int | None:
    """0 and -1 mean all tokens, to one server or the other; to us it is 0."""
    value = fields.get("top_k")
    return 0 if value == -1 else fields.integer("top_k", low=0, high=MAX_TOKENS)


def _seed(fields: Fields) -> int | None:
    """Any whole number will do; one that is too large for others is folded into what they take."""
    seed = fields.integer("seed")
    return seed if seed is None or -INT64 <= seed < INT64 else seed % INT64


def read_sampling(fields: Fields) -> SamplingParams:
    if _SAMPLING.isdisjoint(fields.body):  # as with many
        return _SAMPLED
    return SamplingParams(
        temperature=fields.number("temperature", low=0, high=2),
        top_p=fields.number("top_p", low=0, high=1),
        top_k=_top_k(fields),
        min_p=fields.number("min_p", low=0, high=1),
        seed=_seed(fields),
        repetition_penalty=fields.number("repetition_penalty", low=0, high=10, above=True),
        presence_penalty=fields.number("presence_penalty", low=-2, high=2),
        frequency_penalty=fields.number("frequency_penalty", low=-2, high=2),
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


def _call(fields: Fields, last: Message, request: Callable[..., ChatRequest]) -> Call:
    stream, options = fields.boolean("stream"), fields.object("stream_options")
    if options is not None and not stream:
        raise InvalidRequest("stream_options", "needs stream to be true")
    usage = options is not None and options.boolean("include_usage")
    return Call(_asked(fields, last, request), stream, {INCLUDE_USAGE: usage})


def _fields(body: Mapping[str, object]) -> tuple[Fields, bool, Mark | None]:
    """The body's fields, whether it is marked as private anywhere (one mark is enough), and as to be kept."""
    merged, marks = _merged(plain_object({k: v for k, v in body.items() if not _left_out(v)}))
    keep, fields = taken_mark(merged), Fields(merged)
    if fields.integer("n", low=1, high=128) not in (None, 1):
        raise InvalidRequest("n", "must be 1: one answer comes from one model")
    for name, only in (("best_of", 1), ("echo", False)):
        if fields.get(name) not in (None, only):
            raise InvalidRequest(name, f"must be {str(only).lower()} here")
    return fields, any(marks), keep


def _left_out(value: object) -> bool:
    """Whether it is what OpenAI's client writes for an argument that was not given."""
    return type(value).__name__ in ("NotGiven", "Omit") and not value


def _merged(body: Mapping[str, object]) -> tuple[dict[str, object], list[bool]]:
    """`extra_body` over the body, as OpenAI's client has it, and every mark of privacy on the way."""
    merged: dict[str, object] = {}
    private: list[bool] = []
    layer, within = dict(body), ""
    while True:
        if len(layer) > MAX_FIELDS:
            raise InvalidRequest(within.rstrip(".") or None, f"holds more than {MAX_FIELDS} fields")
        check_names(layer, KNOWN, within)
        for name in _ARGUMENTS:
            if layer.get(name) is not None:
                raise InvalidRequest(within + name, "is an argument in Python, and no field")
        inner = layer.pop("extra_body", None)
        private += [*_envelope(layer, within), *body_marks(layer, within)]
        merged |= layer
        if inner is None:
            return merged, private
        if not isinstance(inner, Mapping):
            raise InvalidRequest(f"{within}extra_body", "must be an object")
        layer, within = dict(inner), f"{within}extra_body."


def _envelope(layer: dict[str, object], within: str) -> Iterator[bool]:
    """Takes what OpenAI's client has beside a body out of it; the marks of privacy that are in it."""
    if layer.pop("timeout", None) is not None:
        reason = "is strong.timeout_s in the configuration; to stop an answer, cancel it"
        raise InvalidRequest(f"{within}timeout", reason)
    for part, only in (("extra_headers", PRIVATE_HEADER), ("extra_query", "private")):
        pairs = layer.pop(part, None)
        if pairs is not None and not isinstance(pairs, Mapping):
            raise InvalidRequest(within + part, "must be an object")
        for name, value in (pairs or {}).items():
            if name.lower() != only:
                reason = f"can be set in the configuration only; a request has no other than {only}"
                raise InvalidRequest(f"{within}{part}.{shown(name)}", reason)
            yield mark(value, f"{within}{part}.{shown(name)}")
