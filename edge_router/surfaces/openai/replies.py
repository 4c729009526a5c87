"""Events and replies in the shape of OpenAI's client: chunks, completions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edge_router.chat import message as parts
from edge_router.chat.events import (
    Event,
    Finished,
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
from edge_router.chat.reply import Reply
from edge_router.surfaces.base import Body, Head
from edge_router.surfaces.openai.objects import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    ChunkDelta,
    CompletionUsage,
    Function,
    FunctionDelta,
    LogprobEntry,
    ReplyMessage,
    ToolCall,
    ToolCallDelta,
)
from edge_router.types import Timings

IMPOSSIBLE = -9999.0
CHUNK_FIELDS = ("reasoning_content", "audio")  # of an endpoint's own, those that `ChunkDelta` names


class ChunkMaker:
    """Events to OpenAI's chunks: the role first, the finish reason in a chunk of its own, then the usage."""

    def __init__(self, head: Head) -> None:
        self._id, self._created, self._model = chat_id(head), head.created, head.model
        self.started = False
        self._free: set[int] = set()  # calls that take any text
        self._usage: Usage | None = None

    def opening(self) -> ChatCompletionChunk:
        self.started = True
        return self._chunk(ChunkChoice(ChunkDelta(role="assistant", content="")))

    def chunks(self, event: Event) -> Iterator[ChatCompletionChunk]:
        if not self.started:
            yield self.opening()
        if isinstance(event, Finished):
            self._usage = event.usage
            yield self._chunk(ChunkChoice(ChunkDelta(), finish_reason=event.reason))
        elif isinstance(event, TextDelta):
            yield self.text_chunk(event.text, event.logprobs)
        else:
            delta = self._delta(event)
            if delta is not None:
                yield self._chunk(ChunkChoice(delta))

    def text_chunk(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> ChatCompletionChunk:
        told = choice_logprobs(logprobs) if logprobs else None
        return self._chunk(ChunkChoice(ChunkDelta(content=text), logprobs=told))

    def usage_chunk(self) -> ChatCompletionChunk:
        usage = None if self._usage is None else CompletionUsage.of(self._usage)
        return ChatCompletionChunk(self._id, self._created, self._model, (), usage)

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
        return ChatCompletionChunk(self._id, self._created, self._model, (choice,))


def completion(
    reply: Reply, head: Head, timings: Timings | None = None, cause: Exception | None = None
) -> ChatCompletion:
    """A whole answer; `cause` is the error that made the other model give it, if one did."""
    return ChatCompletion(
        id=chat_id(head),
        created=head.created,
        model=head.model,
        choices=(Choice(_reply_message(reply), reply.finish_reason, choice_logprobs(reply.logprobs)),),
        usage=None if reply.usage is None else CompletionUsage.of(reply.usage),
        decision=head.decision,
        timings=timings or Timings(),
        fallback_cause=cause,
    )


def chat_id(head: Head) -> str:
    return f"chatcmpl-{head.id}"


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


def text_logprobs(tokens: Iterable[TokenLogprob]) -> Body | None:
    """The older form of /v1/completions; None where there are none. `text_offset` counts characters within
    these entries."""
    made = choice_logprobs(tokens)
    if made is None:
        return None
    entries, offsets, position = made.content, list[int](), 0
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
