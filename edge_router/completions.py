"""Replies in the shape of OpenAI's client, with the decision on the object beside it.

`to_dict` is exactly OpenAI's body: the decision travels in headers there, so no client stumbles over it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from edge_router.openai_object import Body, OpenAIObject
from edge_router.types import Decision, Delta, FinishReason, Timings, TokenLogprob, Usage

IMPOSSIBLE = -9999.0
TEXT_COMPLETION = "text_completion"


@dataclass(frozen=True, slots=True)
class Function(OpenAIObject):
    name: str
    arguments: str  # JSON, as the model wrote it


@dataclass(frozen=True, slots=True)
class ToolCall(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("id", "type", "function")
    id: str
    function: Function
    type: str = "function"
    extra: Mapping[str, object] | None = None  # what the endpoint wants to see again


@dataclass(frozen=True, slots=True)
class ReplyMessage(OpenAIObject):
    _always: ClassVar[tuple[str, ...]] = ("role", "content", "refusal")
    _absent: ClassVar[tuple[str, ...]] = ("annotations", "audio", "function_call")
    annotations: ClassVar[None] = None
    audio: ClassVar[None] = None
    function_call: ClassVar[None] = None  # what tool calls were called until 2023; see `tool_calls`
    content: str | None
    tool_calls: tuple[ToolCall, ...] | None = None
    role: str = "assistant"
    refusal: str | None = None
    reasoning_content: str | None = None
    extra: Mapping[str, object] | None = None


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
    usage: Usage | None
    decision: Decision
    timings: Timings
    object: str = "chat.completion"
    fallback_cause: Exception | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None

    @property
    def text(self) -> str:
        return self.choices[0].message.content or ""

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
    _absent: ClassVar[tuple[str, ...]] = ("audio", "function_call")
    audio: ClassVar[None] = None
    function_call: ClassVar[None] = None
    role: str | None = None
    content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    extra: Mapping[str, object] | None = None

    def to_dict(self) -> Body:
        others = (self.role, self.tool_calls, self.refusal, self.reasoning_content, self.extra)
        if self.content is None or any(other is not None for other in others):
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
    usage: Usage | None = None
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
    """Deltas to OpenAI's chunks: the role first, the finish reason in a chunk of its own, then the usage."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _started: bool = False

    def chunks(self, delta: Delta) -> Iterator[ChatCompletionChunk]:
        if not self._started:
            self._started = True
            yield self._chunk(ChunkChoice(ChunkDelta(role="assistant", content="")))
        if delta.text or delta.tool_calls or delta.logprobs:
            content = None if delta.tool_calls and not delta.text else delta.text
            calls = tuple(_call_delta(call) for call in delta.tool_calls) if delta.tool_calls else None
            piece = ChunkDelta(content=content, tool_calls=calls)
            logprobs = choice_logprobs(delta.logprobs) if delta.logprobs else None
            yield self._chunk(ChunkChoice(piece, logprobs=logprobs))
        if delta.finish_reason is not None:
            yield self._chunk(ChunkChoice(ChunkDelta(), finish_reason=delta.finish_reason))

    def usage_chunk(self, usage: Usage | None) -> ChatCompletionChunk:
        return ChatCompletionChunk(self.id, self.created, self.model, (), usage)

    def _chunk(self, choice: ChunkChoice) -> ChatCompletionChunk:
        return ChatCompletionChunk(self.id, self.created, self.model, (choice,))


def collect(deltas: Iterable[Delta], model: str, decision: Decision) -> ChatCompletion:
    """A whole completion from its deltas; its timings are still empty."""
    text: list[str] = []
    logprobs: list[TokenLogprob] = []
    calls: list[Mapping[str, object]] = []
    last = Delta(finish_reason="stop")
    for delta in deltas:
        text.append(delta.text)
        logprobs += delta.logprobs
        calls += delta.tool_calls
        last = delta
    tool_calls = merge_tool_calls(calls)
    content = "".join(text)
    message = ReplyMessage(content if content or not tool_calls else None, tool_calls or None)
    choice = Choice(message, last.finish_reason or "stop", choice_logprobs(logprobs))
    maker = ChunkMaker(model)
    return ChatCompletion(maker.id, maker.created, model, (choice,), last.usage, decision, Timings())


def merge_tool_calls(pieces: Iterable[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    """Streamed fragments, joined by their index; names and arguments arrive in parts."""
    merged: dict[object, dict[str, str]] = {}
    for piece in pieces:
        call = merged.setdefault(piece.get("index", 0), {"id": "", "name": "", "arguments": ""})
        call["id"] = str(piece.get("id") or call["id"])
        function = piece.get("function")
        if isinstance(function, Mapping):
            call["name"] += str(function.get("name") or "")
            call["arguments"] += str(function.get("arguments") or "")
    return tuple(ToolCall(call["id"], Function(call["name"], call["arguments"])) for call in merged.values())


def _call_delta(piece: Mapping[str, object]) -> ToolCallDelta:
    """A fragment as it came, under the names that clients look for."""

    def text(holder: Mapping[str, object], name: str) -> str | None:
        value = holder.get(name)
        return None if value is None else str(value)

    index, function = piece.get("index"), piece.get("function")
    return ToolCallDelta(
        index if isinstance(index, int) else 0,
        text(piece, "id"),
        text(piece, "type"),
        FunctionDelta(text(function, "name"), text(function, "arguments"))
        if isinstance(function, Mapping)
        else None,
        {k: value for k, value in piece.items() if k not in ("index", "id", "type", "function")} or None,
    )


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
