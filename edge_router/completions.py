"""Replies in the shape of OpenAI's client, with the decision on the object beside it.

`to_dict` is exactly OpenAI's body: the decision travels in headers there, so no client stumbles over it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edge_router.types import Decision, Delta, FinishReason, Timings, TokenLogprob, Usage

Body = dict[str, object]  # one JSON object
IMPOSSIBLE = -9999.0


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    arguments: str  # JSON, as the model wrote it


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    function: Function
    type: str = "function"

    def to_dict(self) -> Body:
        function = {"name": self.function.name, "arguments": self.function.arguments}
        return {"id": self.id, "type": self.type, "function": function}


@dataclass(frozen=True, slots=True)
class ReplyMessage:
    content: str | None
    tool_calls: tuple[ToolCall, ...] | None = None
    role: str = "assistant"

    def to_dict(self) -> Body:
        body: Body = {"role": self.role, "content": self.content, "refusal": None}
        if self.tool_calls:
            body["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        return body


@dataclass(frozen=True, slots=True)
class Choice:
    message: ReplyMessage
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """One whole answer. `decision`, `timings` and `fallback_cause` are ours; everything else is OpenAI's.

    `fallback_cause` is the error that made the other model answer, if one did.
    """

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None
    decision: Decision
    timings: Timings
    object: str = "chat.completion"
    fallback_cause: Exception | None = None

    @property
    def text(self) -> str:
        return self.choices[0].message.content or ""

    def to_dict(self) -> Body:
        choice = self.choices[0]
        body: Body = {
            "index": choice.index,
            "message": choice.message.to_dict(),
            "logprobs": chat_logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "choices": [body],
            "usage": usage_dict(self.usage),
        }

    def to_text_dict(self) -> Body:
        """The body of /v1/completions."""
        choice = self.choices[0]
        body = {
            "index": 0,
            "text": choice.message.content or "",
            "logprobs": text_logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        return {
            "id": self.id.replace("chatcmpl", "cmpl"),
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": [body],
            "usage": usage_dict(self.usage),
        }


@dataclass(frozen=True, slots=True)
class ChunkDelta:
    content: str | None = None
    role: str | None = None
    tool_calls: tuple[Mapping[str, object], ...] | None = None

    def to_dict(self) -> Body:
        body: Body = {}
        if self.role is not None:
            body["role"] = self.role
        if self.content is not None:
            body["content"] = self.content
        if self.tool_calls:
            body["tool_calls"] = [dict(call) for call in self.tool_calls]
        return body


@dataclass(frozen=True, slots=True)
class ChunkChoice:
    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class ChatCompletionChunk:
    """One piece of a streamed answer."""

    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None
    object: str = "chat.completion.chunk"

    def _envelope(self, kind: str, choices: list[Body], include_usage: bool) -> Body:
        body: Body = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if include_usage:
            body["usage"] = usage_dict(self.usage)
        return body

    def to_dict(self, *, include_usage: bool = False) -> Body:
        choices: list[Body] = [
            {
                "index": choice.index,
                "delta": choice.delta.to_dict(),
                "logprobs": chat_logprobs(choice.logprobs),
                "finish_reason": choice.finish_reason,
            }
            for choice in self.choices
        ]
        return self._envelope(self.object, choices, include_usage)

    def to_text_dict(self, *, include_usage: bool = False) -> Body:
        choices: list[Body] = [
            {
                "index": choice.index,
                "text": choice.delta.content or "",
                "logprobs": text_logprobs(choice.logprobs),
                "finish_reason": choice.finish_reason,
            }
            for choice in self.choices
        ]
        body = self._envelope("text_completion", choices, include_usage)
        return body | {"id": self.id.replace("chatcmpl", "cmpl")}


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
            piece = ChunkDelta(content=content, tool_calls=delta.tool_calls or None)
            yield self._chunk(ChunkChoice(piece, logprobs=delta.logprobs or None))
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
    choice = Choice(message, last.finish_reason or "stop", tuple(logprobs) or None)
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


def usage_dict(usage: Usage | None) -> Body | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def chat_logprobs(entries: tuple[TokenLogprob, ...] | None) -> Body | None:
    if entries is None:
        return None

    def one(entry: TokenLogprob) -> Body:
        return {
            "token": entry.token,
            "logprob": _logprob(entry),
            "bytes": list(entry.token_bytes),
        }

    content = [one(entry) | {"top_logprobs": [one(other) for other in entry.top]} for entry in entries]
    return {"content": content, "refusal": None}


def _logprob(entry: TokenLogprob) -> float:
    """JSON has no infinity: OpenAI writes -9999 for a token that could not have been drawn."""
    return max(entry.logprob, IMPOSSIBLE)


def text_logprobs(entries: tuple[TokenLogprob, ...] | None) -> Body | None:
    """The older form of /v1/completions. `text_offset` counts characters within these entries."""
    if entries is None:
        return None
    offsets, position = [], 0
    for entry in entries:
        offsets.append(position)
        position += len(entry.token)
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [_logprob(entry) for entry in entries],
        "top_logprobs": [{other.token: _logprob(other) for other in entry.top} for entry in entries],
        "text_offset": offsets,
    }
