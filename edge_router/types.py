"""The words every layer shares: messages, requests, decisions, progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from edge_router.chat.message import Message

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Tier = Literal["weak", "strong"]


class Reason(StrEnum):
    """Why a query went where it went: a closed set, so that it can be counted and tested."""

    SCORE = "score"  # the router's score against the threshold
    FORCED = "forced"  # the caller named the model
    OFFLINE = "offline"  # the user switched the network off
    STRONG_UNAVAILABLE = "strong_unavailable"  # none configured, or it failed before its first token
    WEAK_UNAVAILABLE = "weak_unavailable"  # the weak model could not start, or failed before its first token
    CONTEXT_OVERFLOW = "context_overflow"  # the prompt does not fit the weak model's context
    NEEDS_TOOLS = "needs_tools"  # tools, images or a form of answer that the weak model does not handle
    BUDGET = "budget"  # the money for the strong model is spent
    PRIVATE = "private"  # the caller said that this must not leave the machine
    LOW_CONFIDENCE = "low_confidence"  # the weak model was unsure before its first token was shown
    NO_MEMORY = "no_memory"  # the weak model no longer fits into the memory that is free
    CACHED = "cached"  # the response cache had the answer


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens. Names, ranges and meanings are OpenAI's, plus `top_k` and `repetition_penalty`.

    `None` means "as the model's own generation config says".
    """

    temperature: float | None = None  # 0 is greedy
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watch:
    """What we want to see of an answer's beginning, beside what its reader asked for.

    `tokens`: log probabilities of so many first tokens. `state`: tokens whose logits behind the prompt come
    as an event of their own, before the text. `alone`: the reader wants no log probabilities at all.
    """

    tokens: int = 0
    state: tuple[int, ...] = ()
    alone: bool = True


class TokenMask(Protocol):
    """Which tokens may come next: the hook for constrained decoding. One mask belongs to one answer."""

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """True where a token may come, one entry for each of the vocabulary's; None allows all."""
        ...

    def accept(self, token: int) -> None:
        """`token` was chosen."""
        ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a mask is made for. Any of `end_tokens` ends the answer, so it must allow one of them in the end.

    `size` is the number of tokens, `tokenizer` the model's tokenizer.json.
    """

    size: int
    end_tokens: frozenset[int]
    token_bytes: Callable[[int], bytes]  # what a token stands for; nothing for a control token
    tokenizer: Path


_TOOLS = (("tools", "tool_choice"), ("functions", "function_call"))  # and their older names


def _is_none(choice: object) -> bool:
    return choice == "none" or (isinstance(choice, Mapping) and choice.get("type") == "none")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One query, already validated (see `requests.parse_chat`): what routers score and engines answer."""

    messages: tuple[Message, ...]
    model: str = "auto"
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    raw_prompt: str | None = None  # /v1/completions: no chat template; `messages` holds it too
    private: bool = False  # must not leave the machine
    tools_required: bool = False  # a tool call or JSON is demanded, so plain text is no answer
    passthrough: Mapping[str, object] = field(default_factory=dict)  # what only a strong model may understand
    mask: Callable[[Vocabulary], TokenMask] | None = field(default=None, compare=False)  # weak model only
    watch: Watch | None = None  # an engine may leave `state` out; `logprobs` is true where `tokens` count

    @property
    def needs_tools(self) -> bool:
        """Whether a model that only writes text would leave something out."""
        return self.beyond_text[0] is not None

    @property
    def beyond_text(self) -> tuple[str | None, str]:
        """The first field that a model which only writes text cannot serve, and why; None for no field."""
        if any(message.has_media for message in self.messages):
            return "messages", "reads text only, no images, sounds or files"
        given = self.passthrough
        if not given and not self.tools_required:
            return None, ""
        for tools, choice in _TOOLS:
            if self.tools_required and given.get(choice) not in (None, "none", "auto"):
                return choice, "calls no tools"
            if given.get(tools) and not _is_none(given.get(choice)):
                return tools, "calls no tools"
        spoken = given.get("modalities")
        if isinstance(spoken, list | tuple) and any(form != "text" for form in spoken):
            return "modalities", "writes text only"
        if given.get("web_search_options") is not None:
            return "web_search_options", "searches nothing"
        form = given.get("response_format")
        if self.tools_required or (isinstance(form, Mapping) and form.get("type") not in (None, "text")):
            return "response_format", "cannot be held to this form"
        return None, ""

    @property
    def has_tools(self) -> bool:
        """That may be called; under today's name, or the one of 2023."""
        given = self.passthrough
        return any(given.get(tools) and not _is_none(given.get(choice)) for tools, choice in _TOOLS)

    @property
    def response_schema(self) -> object:
        """The JSON schema of an answer that must be JSON and nothing else; None for all others."""
        form = self.passthrough.get("response_format")
        if not isinstance(form, Mapping) or self.beyond_text[0] != "response_format":
            return None
        if form.get("type") == "json_object":
            return {"type": "object"}
        described = form.get("json_schema") if form.get("type") == "json_schema" else None
        return described.get("schema", {}) if isinstance(described, Mapping) else None


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
