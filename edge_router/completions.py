"""Replies in the shape of OpenAI's client, with the decision on the object beside it.

`to_dict` is exactly OpenAI's body: the decision travels in headers there, so no client stumbles over it.
"""

from __future__ import annotations

import copy
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edge_router.openai_object import Body, OpenAIObject
from edge_router.types import Decision, Delta, FinishReason, Timings, TokenLogprob, Usage

IMPOSSIBLE = -9999.0
TEXT_COMPLETION = "text_completion"
_NO_OTHERS = (None,) * 6
FEW = 64  # entries of one list that may be written at the same time
NAMING = ("id", "type", "format", "role", "name")  # texts that are sent whole, if they are sent again


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
        others = delta.tool_calls or delta.refusal or delta.thoughts or delta.extra
        if delta.text or others or delta.logprobs:
            piece = _chunk_delta(delta) if others else ChunkDelta(content=delta.text)
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
    refusal: list[str] = []
    thoughts: dict[str, list[str]] = {}
    extra: Body = {}
    last = Delta(finish_reason="stop")
    for delta in deltas:
        text.append(delta.text)
        logprobs += delta.logprobs
        calls += delta.tool_calls
        if delta.refusal:
            refusal.append(delta.refusal)
        if delta.thoughts:
            for name, thought in delta.thoughts.items():
                thoughts.setdefault(name, []).append(thought)
        if delta.extra:
            join_pieces(extra, delta.extra)
        last = delta
    tool_calls = merge_tool_calls(calls)
    content, refused = "".join(text), "".join(refusal)
    beside = extra | {name: "".join(parts) for name, parts in thoughts.items()}
    message = ReplyMessage(
        content if content or not (tool_calls or refused) else None,
        tool_calls or None,
        refusal=refused or None,
        **_own_fields(beside, "reasoning_content", "annotations", "audio"),
    )
    choice = Choice(message, last.finish_reason or "stop", choice_logprobs(logprobs))
    maker = ChunkMaker(model)
    return ChatCompletion(maker.id, maker.created, model, (choice,), last.usage, decision, Timings())


def merge_tool_calls(pieces: Iterable[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    """Streamed fragments, joined by their index; names and arguments arrive in parts."""
    merged: dict[object, _Merged] = {}
    for piece in pieces:
        merged.setdefault(piece.get("index", 0), _Merged()).add(piece)
    return tuple(call.whole() for call in merged.values())


@dataclass(slots=True)
class _Merged:
    """One tool call out of its pieces."""

    id: str = ""
    type: str = "function"
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: Body = field(default_factory=dict)
    function_extra: Body = field(default_factory=dict)

    def add(self, piece: Mapping[str, object]) -> None:
        self.id = str(piece.get("id") or self.id)
        self.type = "custom" if "custom" in piece else self.type
        self.extra |= _but(piece, "index", "id", "type", "function", "custom") or {}
        body = piece.get(self.type)
        if isinstance(body, Mapping):
            text = "input" if self.type == "custom" else "arguments"
            self.name += str(body.get("name") or "")
            self.arguments.append(str(body.get(text) or ""))
            self.function_extra |= _but(body, "name", text) or {}

    def whole(self) -> ToolCall:
        function = Function(self.name, "".join(self.arguments), self.function_extra or None)
        return ToolCall(self.id, function, self.type, self.extra or None)


def join_pieces(whole: Body, piece: Mapping[str, object]) -> None:
    """Adds a chunk's fields of the endpoint's own to what came before, as OpenAI's clients join chunks.

    Texts and lists grow, of what names or numbers a thing the last word holds. Entries of a list that have an
    index go on with the one that has the same, and the same type and id, if it is one of the last few: a
    list that grows for ever must not be searched for each entry.
    """
    for name, value in piece.items():
        before = whole.get(name)
        if isinstance(before, str) and isinstance(value, str) and name not in NAMING:
            whole[name] = before + value
        elif isinstance(before, dict) and isinstance(value, Mapping):
            join_pieces(before, value)
        elif isinstance(value, list):
            whole[name] = entries = before if isinstance(before, list) else []
            for entry in value:
                known = next((each for each in entries[: -FEW - 1 : -1] if _goes_on(each, entry)), None)
                if known is None:
                    entries.append(copy.deepcopy(entry))
                else:
                    join_pieces(known, entry)
        elif value is not None or name not in whole:
            whole[name] = copy.deepcopy(value)


def _goes_on(known: object, entry: object) -> bool:
    if not isinstance(known, dict) or not isinstance(entry, Mapping) or entry.get("index") is None:
        return False
    same = known.get("index") == entry["index"] and known.get("type") == entry.get("type")
    return same and (None in (known.get("id"), entry.get("id")) or known["id"] == entry["id"])


def _chunk_delta(delta: Delta) -> ChunkDelta:
    """What there is beside text, under the names that clients look for."""
    return ChunkDelta(
        content=delta.text or None,
        tool_calls=tuple(_call_delta(call) for call in delta.tool_calls) or None,
        refusal=delta.refusal or None,
        **_own_fields({**delta.thoughts, **delta.extra}, "reasoning_content", "audio"),
    )


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
        FunctionDelta(
            text(function, "name"), text(function, "arguments"), _but(function, "name", "arguments")
        )
        if isinstance(function, Mapping)
        else None,
        _but(piece, "index", "id", "type", "function"),
    )


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
