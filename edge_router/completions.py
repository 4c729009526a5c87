"""Replies in the shape of OpenAI's client, with the decision on the object beside it.

`to_dict` is exactly OpenAI's body: the decision travels in headers there, so no client stumbles over it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edge_router.chat import message as parts
from edge_router.chat.events import (
    Event,
    Finished,
    FinishReason,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.joining import join_pieces
from edge_router.chat.reply import Reply, collect
from edge_router.openai_object import Body, OpenAIObject
from edge_router.types import Decision, Timings

IMPOSSIBLE = -9999.0
CHUNK_FIELDS = ("reasoning_content", "audio")  # of an endpoint's own, those that `ChunkDelta` names
TEXT_COMPLETION = "text_completion"
_NO_OTHERS = (None,) * 6


@dataclass(frozen=True, slots=True)
class Function(OpenAIObject):
    name: str
    arguments: str  # JSON, as the model wrote it
    extra: Mapping[str, object] | None = None  # what the endpoint adds


@dataclass(frozen=True, slots=True)
class ToolCall(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("id", "type", "function")
    id: str
    function: Function
    type: str = "function"  # or "custom", whose input is free text
    extra: Mapping[str, object] | None = None  # such as signatures, which must travel back

    def _members(self) -> Iterator[tuple[str, object]]:
        if self.type != "custom":
            yield from OpenAIObject._members(self)
            return
        custom = {"name": self.function.name, "input": self.function.arguments}
        yield from {"id": self.id, "type": self.type, "custom": custom, **(self.extra or {})}.items()


@dataclass(frozen=True, slots=True)
class ReplyMessage(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("role", "content", "refusal")
    _absent: ClassVar[tuple[str, ...]] = ("function_call",)
    function_call: ClassVar[None] = None  # what tool calls were called until 2023; see `tool_calls`
    content: str | None
    tool_calls: tuple[ToolCall, ...] | None = None
    role: str = "assistant"
    refusal: str | None = None
    reasoning_content: str | None = None
    annotations: object = None
    audio: object = None
    extra: Mapping[str, object] | None = None  # of the endpoint's own, such as thoughts by another name


@dataclass(frozen=True, slots=True)
class LogprobEntry(OpenAIObject):
    """One token that was written, with the likeliest at its place."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[LogprobEntry, ...] | None = ()  # None: it is one of the likeliest itself


@dataclass(frozen=True, slots=True)
class ChoiceLogprobs(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("content", "refusal")
    content: tuple[LogprobEntry, ...]
    refusal: None = None


@dataclass(frozen=True, slots=True)
class Choice(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("index", "message", "logprobs", "finish_reason")
    message: ReplyMessage
    finish_reason: FinishReason
    logprobs: ChoiceLogprobs | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class PromptTokensDetails(OpenAIObject):
    cached_tokens: int
    audio_tokens: int | None = None
    image_tokens: int | None = None
    text_tokens: int | None = None
    cache_write_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CompletionTokensDetails(OpenAIObject):
    reasoning_tokens: int
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    text_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CompletionUsage(OpenAIObject):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails

    @classmethod
    def of(cls, usage: Usage) -> CompletionUsage:
        return cls(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            PromptTokensDetails(usage.cached_tokens),
            CompletionTokensDetails(usage.reasoning_tokens),
        )


@dataclass(frozen=True, slots=True)
class ChatCompletion(OpenAIObject):
    """One whole answer. `decision`, `timings` and `fallback_cause` are ours; everything else is OpenAI's.

    `fallback_cause` is the error that made the other model answer, if one did.
    """

    _always: ClassVar[tuple[str, ...]] = ("id", "object", "created", "model", "choices", "usage")
    _ours: ClassVar[frozenset[str]] = frozenset({"decision", "timings", "fallback_cause"})
    _absent: ClassVar[tuple[str, ...]] = ("metadata", "moderation")
    metadata: ClassVar[None] = None
    moderation: ClassVar[None] = None
    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: CompletionUsage | None
    decision: Decision
    timings: Timings
    object: str = "chat.completion"
    fallback_cause: Exception | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None

    @property
    def text(self) -> str:
        """The words to show: the answer, or the refusal where the model gave one instead."""
        message = self.choices[0].message
        return message.content or message.refusal or ""

    def to_text_dict(self) -> Body:
        """The body of /v1/completions."""
        choice = self.choices[0]
        text = choice.message.content or ""
        body = _text_choice(choice.index, text, choice.logprobs, choice.finish_reason)
        return {**self.to_dict(), "id": _text_id(self.id), "object": TEXT_COMPLETION, "choices": [body]}


@dataclass(frozen=True, slots=True)
class FunctionDelta(OpenAIObject):
    name: str | None = None
    arguments: str | None = None
    extra: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("index",)
    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None
    extra: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ChunkDelta(OpenAIObject):
    _absent: ClassVar[tuple[str, ...]] = ("function_call",)
    function_call: ClassVar[None] = None
    role: str | None = None
    content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    audio: object = None
    extra: Mapping[str, object] | None = None

    def to_dict(self) -> Body:
        others = (self.role, self.tool_calls, self.refusal, self.reasoning_content, self.audio, self.extra)
        if self.content is None or others != _NO_OTHERS:
            return self._body(full=False)
        return {"content": self.content}  # what a server writes once a token


@dataclass(frozen=True, slots=True)
class ChunkChoice(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("index", "delta", "logprobs", "finish_reason")
    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class ChatCompletionChunk(OpenAIObject):
    """One piece of a streamed answer."""

    _always: ClassVar[tuple[str, ...]] = ("id", "object", "created", "model", "choices")
    _absent: ClassVar[tuple[str, ...]] = ("moderation", "obfuscation")
    moderation: ClassVar[None] = None
    obfuscation: ClassVar[None] = None
    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: CompletionUsage | None = None
    object: str = "chat.completion.chunk"
    system_fingerprint: str | None = None
    service_tier: str | None = None

    def to_dict(self, *, include_usage: bool = False) -> Body:
        """`include_usage`: there is a field for it in every chunk, as in OpenAI's streams that have it."""
        choices: list[Body] = [
            {
                "index": choice.index,
                "delta": choice.delta.to_dict(),
                "logprobs": None if choice.logprobs is None else choice.logprobs.to_dict(),
                "finish_reason": choice.finish_reason,
            }
            for choice in self.choices
        ]
        return self._envelope(self.id, self.object, choices, include_usage)

    def _envelope(self, number: str, kind: str, choices: list[Body], include_usage: bool) -> Body:
        """Written out, since a server does it once a token."""
        body: Body = {
            "id": number,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.system_fingerprint is not None:
            body["system_fingerprint"] = self.system_fingerprint
        if self.service_tier is not None:
            body["service_tier"] = self.service_tier
        if include_usage or self.usage is not None:
            body["usage"] = None if self.usage is None else self.usage.to_dict()
        return body

    def to_text_dict(self, *, include_usage: bool = False) -> Body:
        choices = [
            _text_choice(choice.index, choice.delta.content or "", choice.logprobs, choice.finish_reason)
            for choice in self.choices
        ]
        return self._envelope(_text_id(self.id), TEXT_COMPLETION, choices, include_usage)


@dataclass(slots=True)
class ChunkMaker:
    """Events to OpenAI's chunks: the role first, the finish reason in a chunk of its own, then the usage."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _started: bool = False
    _free: set[int] = field(default_factory=set)  # calls that take any text
    _usage: Usage | None = None

    def chunks(self, event: Event) -> Iterator[ChatCompletionChunk]:
        if not self._started:
            self._started = True
            yield self._chunk(ChunkChoice(ChunkDelta(role="assistant", content="")))
        if isinstance(event, Finished):
            self._usage = event.usage
            yield self._chunk(ChunkChoice(ChunkDelta(), finish_reason=event.reason))
        elif isinstance(event, TextDelta):
            logprobs = choice_logprobs(event.logprobs) if event.logprobs else None
            yield self._chunk(ChunkChoice(ChunkDelta(content=event.text), logprobs=logprobs))
        else:
            delta = self._delta(event)
            if delta is not None:
                yield self._chunk(ChunkChoice(delta))

    def usage_chunk(self) -> ChatCompletionChunk:
        usage = None if self._usage is None else CompletionUsage.of(self._usage)
        return ChatCompletionChunk(self.id, self.created, self.model, (), usage)

    def _delta(self, event: Event) -> ChunkDelta | None:
        """What there is beside text, under the names that clients look for."""
        if isinstance(event, ReasoningDelta):
            return ChunkDelta(**_own_fields(_thoughts(event.text, event.label, event.opaque), *CHUNK_FIELDS))
        if isinstance(event, RefusalDelta):
            return ChunkDelta(refusal=event.text)
        if isinstance(event, ToolCallStart):
            if event.free:
                self._free.add(event.index)
            kind = "custom" if event.free else "function"
            return ChunkDelta(tool_calls=(_call_delta(event, kind, event.id, event.name),))
        if isinstance(event, ToolCallArguments):
            kind = "custom" if event.index in self._free else "function"
            return ChunkDelta(tool_calls=(_call_delta(event, kind),))
        return (
            ChunkDelta(**_own_fields(event.fields, *CHUNK_FIELDS))
            if isinstance(event, ForeignDelta)
            else None
        )

    def _chunk(self, choice: ChunkChoice) -> ChatCompletionChunk:
        return ChatCompletionChunk(self.id, self.created, self.model, (choice,))


def completion(events: Iterable[Event], model: str, decision: Decision) -> ChatCompletion:
    """A whole completion from its events; its timings are still empty."""
    reply, maker = collect(events), ChunkMaker(model)
    usage = None if reply.usage is None else CompletionUsage.of(reply.usage)
    choice = Choice(_reply_message(reply), reply.finish_reason, choice_logprobs(reply.logprobs))
    return ChatCompletion(maker.id, maker.created, model, (choice,), usage, decision, Timings())


def _reply_message(reply: Reply) -> ReplyMessage:
    content = "".join(part.text for part in reply.parts if isinstance(part, parts.Text))
    refusal = "".join(part.text for part in reply.parts if isinstance(part, parts.Refusal))
    calls = tuple(map(_tool_call, reply.calls))
    beside: Body = {}
    for foreign in reply.foreign:
        join_pieces(beside, foreign.fields)
    for part in reply.parts:
        if isinstance(part, parts.Reasoning):
            join_pieces(beside, _thoughts(part.text, part.label, part.opaque))
    return ReplyMessage(
        content if content or not (calls or refusal) else None,
        calls or None,
        refusal=refusal or None,
        **_own_fields(beside, "reasoning_content", "annotations", "audio"),
    )


def _thoughts(text: str, label: str, opaque: Mapping[str, object]) -> Body:
    return {label or "reasoning_content": text, **opaque} if text else dict(opaque)


def _tool_call(call: parts.ToolCall) -> ToolCall:
    kind = "custom" if call.free else "function"
    inner = call.extra.get(kind)
    function = Function(call.name, call.arguments, inner if isinstance(inner, Mapping) else None)
    return ToolCall(call.id, function, kind, _but(call.extra, kind))


def _call_delta(
    event: ToolCallStart | ToolCallArguments, kind: str, number: str | None = None, name: str | None = None
) -> ToolCallDelta:
    """One piece of a call; its first has `number` and `name`, and no text yet."""
    inner = event.extra.get(kind)
    own = inner if isinstance(inner, Mapping) else {}
    text = event.text if isinstance(event, ToolCallArguments) else ""
    told = number is not None
    extra = _but(event.extra, kind)
    if kind == "custom":
        body = ({"name": name} if told else {}) | ({"input": text} if told or text else {}) | dict(own)
        return ToolCallDelta(
            event.index,
            number,
            kind if told else None,
            extra={**({kind: body} if body else {}), **(extra or {})} or None,
        )
    function = (
        FunctionDelta(name, text if told or text else None, own or None) if told or text or own else None
    )
    return ToolCallDelta(event.index, number, kind if told else None, function, extra)


def _but(fields: Mapping[str, object], *known: str) -> Mapping[str, object] | None:
    """The others; None where there are none."""
    return {name: value for name, value in fields.items() if name not in known} or None


def _own_fields(beside: Mapping[str, object], *named: str) -> dict[str, Any]:
    """Arguments for an object that has fields of the names `named`, and `extra` for all others."""
    return {name: beside.get(name) for name in named} | {"extra": _but(beside, *named)}


def choice_logprobs(entries: Iterable[TokenLogprob]) -> ChoiceLogprobs | None:
    """None where there are none."""
    content = tuple(
        LogprobEntry(
            entry.token,
            _logprob(entry),
            tuple(entry.token_bytes),
            tuple(LogprobEntry(one.token, _logprob(one), tuple(one.token_bytes), None) for one in entry.top),
        )
        for entry in entries
    )
    return ChoiceLogprobs(content) if content else None


def _logprob(entry: TokenLogprob) -> float:
    """JSON has no infinity: OpenAI writes -9999 for a token that could not have been drawn."""
    return entry.logprob if math.isfinite(entry.logprob) and entry.logprob > IMPOSSIBLE else IMPOSSIBLE


def _text_id(number: str) -> str:
    return number.replace("chatcmpl", "cmpl")


def _text_choice(
    index: int, text: str, logprobs: ChoiceLogprobs | None, finish_reason: FinishReason | None
) -> Body:
    told = None if logprobs is None else _text_logprobs(logprobs.content)
    return {"index": index, "text": text, "logprobs": told, "finish_reason": finish_reason}


def _text_logprobs(entries: Iterable[LogprobEntry]) -> Body:
    """The older form of /v1/completions. `text_offset` counts characters within these entries."""
    entries, offsets, position = tuple(entries), [], 0
    for entry in entries:
        offsets.append(position)
        position += len(entry.token)
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [
            {other.token: other.logprob for other in entry.top_logprobs or ()} for entry in entries
        ],
        "text_offset": offsets,
    }
