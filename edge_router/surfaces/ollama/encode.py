"""Answers of /api/chat and /api/generate, whole and in lines of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Reasoning, ToolCall
from edge_router.chat.reply import Reply
from edge_router.errors import GenerationFailed, clipped
from edge_router.records import dataclass
from edge_router.surfaces.base import Body, Call, Failure, Head
from edge_router.surfaces.ollama.messages import read_arguments
from edge_router.surfaces.ollama.parse import CHAT
from edge_router.surfaces.wire import dumps

_PLACE = "\0"  # where text comes
_DONE_REASONS: Mapping[FinishReason, str] = {"tool_calls": "stop"}  # all others have its own words


def whole(call: Call, head: Head, reply: Reply, now: float) -> Body:
    """The body of an answer that is not streamed. Raises `GenerationFailed` for a call that Ollama's form has
    no room for."""
    calls = [_call(index, each, head.model) for index, each in enumerate(reply.calls)]
    told: Body = {"content": reply.text}
    thoughts = "".join(part.text for part in reply.parts if isinstance(part, Reasoning))
    if thoughts:
        told["thinking"] = thoughts
    if calls:
        told["tool_calls"] = calls
    body = {**opening(head.model, head.created), **said(str(call.options["path"]), told)}
    if reply.logprobs:
        body["logprobs"] = [_logprob(token) for token in reply.logprobs]
    began = _began(call)
    durations = _Durations.of(reply.timings, began, began, now)
    return body | _closing(reply.finish_reason, durations, reply.usage)


def error_body(failure: Failure) -> Body:
    """A text: its clients show nothing else. What it tells to ask is a route of theirs."""
    return {"error": failure.message.replace("GET /v1/models", "GET /api/tags")}


@dataclass(frozen=True, slots=True)
class _Durations:
    """Seconds of one answer, from when its request came."""

    total: float
    load: float  # until it was begun: the models before it, and its own way into memory
    prefill: float
    decode: float

    @classmethod
    def of(cls, timings: EngineTimings | None, began: float, first: float, now: float) -> _Durations:
        """As its engine measured them, else as they looked from here; `first`: when its first event came."""
        total = now - began
        prefill = timings.prefill_s if timings else None
        decode = timings.decode_s if timings else None
        if prefill is None or decode is None:
            return cls(total, 0.0, first - began, now - first)
        return cls(total, total - prefill - decode, prefill, decode)


class OllamaEncoder:
    def __init__(self, call: Call, head: Head, clock: Callable[[], float]) -> None:
        self._path, self._began, self._clock = str(call.options["path"]), _began(call), clock
        self._model, self._opening = head.model, opening(head.model, head.created)
        # A line is made for each token; written as a whole, it takes ten times as long.
        self._before, _, self._after = self._line({"content": _PLACE}).rpartition(dumps(_PLACE))
        self._first: float | None = None
        self._calls: list[tuple[ToolCallStart, list[str]]] = []
        self._end = Finished("stop")

    def feed(self, event: Event) -> bytes:
        """Raises `GenerationFailed` for a call that Ollama's form has no room for."""
        if self._first is None:
            self._first = self._clock()
        if isinstance(event, TextDelta):
            if event.logprobs:
                return self._line({"content": event.text}, event.logprobs)
            return self._before + dumps(event.text) + self._after if event.text else b""
        if isinstance(event, ReasoningDelta):
            return self._line({"content": "", "thinking": event.text}) if event.text else b""
        if isinstance(event, RefusalDelta):
            return self._line({"content": event.text}) if event.text else b""
        if isinstance(event, ToolCallStart):
            self._calls.append((event, []))
            return b""
        if isinstance(event, ToolCallArguments):
            next(pieces for start, pieces in self._calls if start.index == event.index).append(event.text)
            return b""
        if isinstance(event, Finished):
            self._end = event
            return self._whole_calls()
        return b""

    def end(self) -> bytes:
        now = self._clock()
        durations = _Durations.of(self._end.timings, self._began, self._first or now, now)
        closing = _closing(self._end.reason, durations, self._end.usage)
        return _ndjson({**self._opening, **said(self._path, {"content": ""}), **closing})

    def fail(self, failure: Failure) -> bytes:
        return _ndjson(error_body(failure))

    def _line(self, told: Body, logprobs: tuple[TokenLogprob, ...] = ()) -> bytes:
        body = {**self._opening, **said(self._path, told), "done": False}
        if logprobs:
            body["logprobs"] = [_logprob(token) for token in logprobs]
        return _ndjson(body)

    def _whole_calls(self) -> bytes:
        """All in one line: LiteLLM numbers them within each, so that two lines would be one call."""
        if not self._calls:
            return b""
        whole = (ToolCall(start.id, start.name, "".join(pieces)) for start, pieces in self._calls)
        calls = [_call(index, call, self._model) for index, call in enumerate(whole)]
        return self._line({"content": "", "tool_calls": calls})


def _began(call: Call) -> float:
    began = call.options["began"]
    assert isinstance(began, float)
    return began


def _ndjson(body: Body) -> bytes:
    return dumps(body) + b"\n"


def opening(model: str, when: float) -> Body:
    return {"model": model, "created_at": date(when)}


def date(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")


def said(path: str, told: Body) -> Body:
    if path == CHAT:
        return {"message": {"role": "assistant", **told}}
    return {"response": told["content"], **{name: told[name] for name in ("thinking",) if name in told}}


def _closing(reason: FinishReason, durations: _Durations, usage: Usage | None) -> Body:
    """All durations are above 0: clients divide by them."""
    closing: Body = {
        "done": True,
        "done_reason": _DONE_REASONS.get(reason, reason),
        "total_duration": nanoseconds(durations.total),
        "load_duration": nanoseconds(durations.load),
        "prompt_eval_duration": nanoseconds(durations.prefill),
        "eval_duration": nanoseconds(durations.decode),
    }
    if usage is not None:
        closing |= {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
    return closing


def nanoseconds(seconds: float) -> int:
    return max(int(seconds * 1e9), 1)


def _call(index: int, call: ToolCall, model: str) -> Body:
    arguments = read_arguments(call.arguments)
    if arguments is None:
        reason = f"its call of {clipped(call.name)!r} has arguments that are not a JSON object"
        raise GenerationFailed(model, reason)
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


def _logprob(token: TokenLogprob) -> Body:
    alone = {"token": token.token, "logprob": token.logprob, "bytes": list(token.token_bytes)}
    return alone | ({"top_logprobs": [_logprob(each) for each in token.top]} if token.top else {})
