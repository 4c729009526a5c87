"""Replies in the shape of OpenAI's client, with the decision on the object beside it.

`to_dict` is exactly OpenAI's body: the decision travels in headers there, so no client stumbles over it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from edge_router.chat.events import FinishReason, Usage
from edge_router.records import dataclass
from edge_router.surfaces.base import Body
from edge_router.types import Decision, Timings

_NO_OTHERS = (None,) * 6
_SCALARS = frozenset({str, int, float, bool, type(None)})


class OpenAIObject:
    """The base of frozen dataclasses that stand for an object of OpenAI's API.

    A field named `extra` holds what an endpoint sent beside the fields that OpenAI names; it is written
    among them and read as an attribute, as their client does it.
    """

    __slots__ = ()
    _always: ClassVar[tuple[str, ...]] = ()  # fields that are written also where they are None, in this order
    _ours: ClassVar[frozenset[str]] = frozenset()  # fields that OpenAI's API does not know
    _absent: ClassVar[tuple[str, ...]] = ()  # what OpenAI's API has and we never do: attributes that are None

    def to_dict(self) -> Body:
        """As it travels: without what is absent."""
        return self._body(full=False)

    def to_json(self, *, indent: int | None = 2) -> str:
        return _json(self.to_dict(), indent)

    def model_dump(
        self,
        *,
        mode: str = "json",
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        by_alias: bool = False,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        warnings: bool = True,
    ) -> Body:
        """As pydantic does it: every field of OpenAI's, None where there is nothing.

        `include` and `exclude` name fields of the object itself. There are no aliases and nothing to warn
        of, and every value is one of JSON's in either `mode`.
        """
        body = self._body(full=not (exclude_unset or exclude_defaults))
        if include is not None:
            body = {name: value for name, value in body.items() if name in include}
        body = {name: value for name, value in body.items() if name not in (exclude or ())}
        return _without_none(body) if exclude_none else body

    def model_dump_json(self, *, indent: int | None = None, **how: Any) -> str:
        """`how` is what `model_dump` takes."""
        return _json(self.model_dump(**how), indent)

    def keys(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._members())

    def get(self, name: str, default: Any = None) -> Any:
        return dict(self._members()).get(name, default)

    def __getitem__(self, name: str) -> Any:
        return dict(self._members())[name]

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    if not TYPE_CHECKING:  # a checker would take every misspelt attribute for one of these

        def __getattr__(self, name: str) -> Any:
            if name != "extra" and not name.startswith("_"):
                extra = getattr(self, "extra", None) or {}
                if name in extra:
                    return extra[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _members(self) -> Iterator[tuple[str, object]]:
        """Name and value of all that OpenAI's API knows, what is always there first."""
        always, others, has_extra = _names(type(self))  # type: ignore[arg-type]
        for name in (*always, *others):
            yield name, getattr(self, name)
        if has_extra:
            yield from (self.extra or {}).items()  # type: ignore[attr-defined]

    def _body(self, *, full: bool) -> Body:
        always = self._always
        return {
            name: value if type(value) in _SCALARS else _dumped(value, full)
            for name, value in self._members()
            if value is not None or full or name in always
        }


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
        return {"content": self.content}  # most are no more


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
        body: Body = {
            "id": self.id,
            "object": self.object,
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


@cache
def _names(kind: type[OpenAIObject]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Of a class: the fields that are always written, the others, and whether there is `extra`."""
    names = [each.name for each in fields(kind) if each.name not in kind._ours]  # type: ignore[arg-type]
    others = tuple(name for name in names if name not in kind._always and name != "extra")
    return kind._always, (*others, *kind._absent), "extra" in names


def _dumped(value: object, full: bool) -> object:
    if isinstance(value, OpenAIObject):
        return value._body(full=full)
    if isinstance(value, tuple | list):
        return [_dumped(item, full) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _without_none(body: Body) -> Body:
    def thinned(value: object) -> object:
        if isinstance(value, list):
            return [thinned(item) for item in value]
        return _without_none(value) if isinstance(value, dict) else value

    return {name: thinned(value) for name, value in body.items() if value is not None}


def _json(body: Body, indent: int | None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(body, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
