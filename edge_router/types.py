"""The words every layer shares beside those of chats: decisions, progress."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Literal, Protocol

# Under the name by which programs have imported it so far.
from edge_router.chat.events import Usage as Usage
from edge_router.records import dataclass

Tier = Literal["weak", "strong"]
LATEST = ":latest"  # what some clients write behind a model's name that has no tag


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
    RULE = "rule"  # one of the user's own rules says so
    GUARD = "guard"  # it holds what must not leave the machine, such as a key
    BUDGET = "budget"  # the money for the strong model is spent
    PRIVATE = "private"  # the caller said that this must not leave the machine
    LOW_CONFIDENCE = "low_confidence"  # the weak model was unsure before its first token was shown
    NO_MEMORY = "no_memory"  # the weak model no longer fits into the memory that is free
    CONFIDENCE = "confidence"  # of typed questions: how sure the weak model is of each
    UNCALIBRATED = "uncalibrated"  # of typed questions: how sure is sure enough was not measured, so all stay
    CACHED = "cached"  # the response cache had the answer
    CALLER = "caller"  # the key that it came with is good for the weak model only
    CHORE = "chore"  # a title, tags or the like, which programs ask for beside a conversation
    SESSION = "session"  # the conversation stays with the model that has read it so far


# What keeps a conversation with its model: a tool's result belongs to whoever made the call, and a prompt
# that was read would have to be read again.
Hold = Literal["tool_call", "prompt"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a query goes, and why. `score` is the estimated win rate of the strong model, 0..1.

    `confidence` is the estimated chance that the weak model's answer is right, where it was looked at.
    `found` says, without repeating it, what the guard has found in the query: it stays here with the reason
    `guard`, and is hidden from the strong model with any other. `rule` is the user's that had a say.
    `endpoint` is which of several has answered, once one has. `caller` is whose key the query came with.
    `tier_model` is the one that the score chose, where there are more than two (`tiers`).
    `held` is what keeps the conversation with its model, where that decided, and `held_tokens` what the other
    one would have had to read again. `would_escalate`: the weak model answers only because the strong one
    cannot be asked now. `age_s` is how long ago an answer of the response cache was made, `similarity` how
    near its question is to this one, where it is another.
    """

    model: Tier
    reason: Reason
    score: float | None = None
    threshold: float | None = None
    router: str | None = None
    confidence: float | None = None
    found: tuple[str, ...] = ()
    rule: str | None = None
    endpoint: str | None = None
    caller: str | None = None
    held: Hold | None = None
    held_tokens: int | None = None
    would_escalate: bool = False
    age_s: float | None = None
    similarity: float | None = None
    tier_model: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The four fields of the JSON contract, and what else there is to tell."""
        told: dict[str, object] = {
            "score": self.score,
            "threshold": self.threshold,
            "model": self.model,
            "reason": str(self.reason),
        }
        more: dict[str, object] = {
            "rule": self.rule,
            "found": list(self.found),
            "endpoint": self.endpoint,
            "caller": self.caller,
            "held": self.held,
            "held_tokens": self.held_tokens,
            "would_escalate": self.would_escalate,
            "similarity": self.similarity,
            "tier_model": self.tier_model,
        }
        age = {} if self.age_s is None else {"age_s": self.age_s}
        return told | {name: value for name, value in more.items() if value} | age


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
