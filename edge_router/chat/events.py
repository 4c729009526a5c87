"""An answer under way, as events: what engines yield and surfaces write.

Any number of deltas, then one `Finished`, after which nothing follows. A tool call is a `ToolCallStart` and,
with the same index, any number of `ToolCallArguments`; calls begin in the order of their indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from edge_router.records import dataclass

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log probability (natural), and the likeliest ones at its place."""

    token: str
    logprob: float
    token_bytes: bytes
    top: tuple[TokenLogprob, ...] = ()


# Not frozen, which takes three times as long: one is made for each token.
@dataclass(slots=True)
class TextDelta:
    """More of the answer's text; `logprobs` of the tokens it is made of, where they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True)
class ReasoningDelta:
    """More of the thoughts; `label` and `opaque` as in `message.Reasoning`."""

    text: str
    label: str = ""
    opaque: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class RefusalDelta:
    """More of what is said in place of an answer."""

    text: str


@dataclass(slots=True)
class ToolCallStart:
    """A call begins; `id`, `name` and `free` are whole. See `message.ToolCall`."""

    index: int
    id: str
    name: str
    free: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class ToolCallArguments:
    """More of the arguments of the call with that index; `extra` adds to the call's."""

    index: int
    text: str
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class ForeignDelta:
    """Fields of an endpoint's message that have no name here, for a surface of the same kind."""

    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Answering:
    """Who gives the answer that follows, where an engine has several to ask: before all else, and followed at
    once by the first of the answer. The controller keeps it to itself. `hedged`: others that were asked, too,
    and were silent for longer."""

    model: str
    endpoint: str
    hedged: tuple[str, ...] = ()


@dataclass(slots=True)
class HiddenState:
    """What `request.SignalRequest.state` asked for: logits behind the prompt, one for each token named."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # of the prompt, whose KV cache was kept from an earlier turn
    reasoning_tokens: int = 0  # of the completion, that are thoughts

    @property
    def total_tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class EngineTimings:
    """What an engine measured of one answer. Seconds; None where it can't know (a remote one)."""

    prefill_s: float | None = None
    prefill_tokens: int = 0  # really computed, so without the kept ones
    decode_s: float | None = None
    decode_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end. `looped`: ended for it only repeated itself; `reason` is "length" then, more was to come.

    `stop_sequence`: which of the request's `stop` ended it, where its engine knows.
    """

    reason: FinishReason
    usage: Usage | None = None
    timings: EngineTimings | None = None
    looped: bool = False
    stop_sequence: str | None = None


Event: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallStart
    | ToolCallArguments
    | ForeignDelta
    | Answering
    | HiddenState
    | Finished
)
