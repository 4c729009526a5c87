"""The words every layer shares: messages, requests, decisions, deltas."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

from edge_router.openai_object import OpenAIObject

if TYPE_CHECKING:
    pass

Tier = Literal["weak", "strong"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Reason(StrEnum):
    """Why a query went where it went: a closed set, so that it can be counted and tested."""

    SCORE = "score"  # the router's score against the threshold
    FORCED = "forced"  # the caller named the model
    OFFLINE = "offline"  # the user switched the network off
    STRONG_UNAVAILABLE = "strong_unavailable"  # none configured, or it failed before its first token
    WEAK_UNAVAILABLE = "weak_unavailable"  # the weak model could not start, or failed before its first token
    CONTEXT_OVERFLOW = "context_overflow"  # the prompt does not fit the weak model's context
    NEEDS_TOOLS = "needs_tools"  # tools or a form of answer that the weak model does not handle
    NEEDS_MEDIA = "needs_media"  # images, sounds or files that the weak model does not read
    BUDGET = "budget"  # the money for the strong model is spent
    PRIVATE = "private"  # the caller said that this must not leave the machine
    LOW_CONFIDENCE = "low_confidence"  # the weak model was unsure before its first token was shown
    NO_MEMORY = "no_memory"  # the weak model no longer fits into the memory that is free
    CACHED = "cached"  # the response cache had the answer


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token: str
    logprob: float  # natural logarithm
    token_bytes: bytes
    top: tuple[TokenLogprob, ...] = ()


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
class Usage(OpenAIObject):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # prompt tokens whose KV cache was kept from an earlier turn
    reasoning_tokens: int = 0  # completion tokens that are thoughts, where a remote model says so

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def prompt_tokens_details(self) -> PromptTokensDetails:
        return PromptTokensDetails(self.cached_tokens)

    @property
    def completion_tokens_details(self) -> CompletionTokensDetails:
        return CompletionTokensDetails(self.reasoning_tokens)

    def _members(self) -> Iterator[tuple[str, object]]:
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        details = ("prompt_tokens_details", "completion_tokens_details")
        yield from ((name, getattr(self, name)) for name in (*names, *details))


@dataclass(frozen=True, slots=True)
class EngineTimings:
    """What an engine measured of one answer. Seconds; `None` where the engine can't know (a remote one)."""

    prefill_s: float | None = None
    prefill_tokens: int = 0  # tokens really computed, so without the kept ones
    decode_s: float | None = None
    decode_tokens: int = 0


@dataclass(slots=True)  # not frozen, which takes three times as long: one is made for each token
class Delta:
    """One piece of an answer. The last one carries `finish_reason` and, where known, `usage`."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[Mapping[str, object], ...] = ()  # in pieces, as OpenAI streams them
    thoughts: Mapping[str, str] = field(default_factory=dict)  # by their field's name: `reasoning_content`
    refusal: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)  # other fields of a remote model's message
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: EngineTimings | None = None
    looped: bool = (
        False  # ended, for it only repeated itself: `finish_reason` is "length", for more was to come
    )
    state: tuple[float, ...] = ()  # what `SignalRequest.state` asked for


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a query goes, and why. `score` is the estimated win rate of the strong model, 0..1.

    `confidence` is the estimated chance that the weak model's answer is right, where it was looked at.
    """

    model: Tier
    reason: Reason
    score: float | None = None
    threshold: float | None = None
    router: str | None = None
    confidence: float | None = None

    def to_dict(self) -> dict[str, object]:
        """The four fields of the JSON contract."""
        return {
            "score": self.score,
            "threshold": self.threshold,
            "model": self.model,
            "reason": str(self.reason),
        }


@dataclass(frozen=True, slots=True)
class Timings:
    """Of one answer as its caller sees it; milliseconds and tokens per second."""

    score_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        def tidy(value: float | None) -> float | None:
            return None if value is None else round(value, 3)

        return {
            "score_ms": tidy(self.score_ms),
            "ttft_ms": tidy(self.ttft_ms),
            "total_ms": tidy(self.total_ms),
            "prefill_tokens_per_s": tidy(self.prefill_tokens_per_s),
            "decode_tokens_per_s": tidy(self.decode_tokens_per_s),
        }


Cancel = threading.Event  # set by whoever no longer wants the answer; engines look at it before every token


class Step(Protocol):
    """One long step under way; see `Progress`."""

    def advance(self, amount: int = 1) -> None: ...


class Progress(Protocol):
    """Where long work reports to. The command line draws bars; a library user may pass nothing.

    `with progress.step("quantize", total=272, unit="tensors") as step: step.advance()`.
    `unit` "bytes" is shown as MB. `note` is one line that stays, such as why something is rebuilt.
    """

    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]: ...

    def note(self, text: str) -> None: ...


class _SilentStep:
    def advance(self, amount: int = 1) -> None:
        return None


class SilentProgress:
    """The `Progress` that shows nothing."""

    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        return nullcontext(_SilentStep())

    def note(self, text: str) -> None:
        return None
