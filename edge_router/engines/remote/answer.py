"""OpenAI's server-sent events as events of ours. Pure.

Reads dictionaries rather than the client's model classes, which are built without being checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    FinishReason,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    Usage,
)
from edge_router.engines.remote.event_stream import DONE, EventDecoder, ServerEvent
from edge_router.engines.remote.outcomes import EmptyAnswer, ErrorObject, Garbled, Unfinished
from edge_router.engines.remote.tool_calls import ToolCallReader
from edge_router.engines.stops import StopStrings
from edge_router.parsing.strict_json import NotJson, parse_object
from edge_router.records import dataclass

THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")  # fields of a message
# What an endpoint adds to thoughts, and wants back with them.
SIGNED = frozenset(
    {
        "reasoning_details",
        "reasoning_opaque",
        "reasoning_signature",
        "signature",
        "thinking_blocks",
        "thinking_signature",
        "thought_signature",
    }
)
UNSAID = ("name", "role", "content", "refusal", "tool_calls", "function_call")  # no fields of their own
TEXT_ONLY = frozenset({"role", "content"})
# Of an endpoint's own fields, those that say something.
ANSWERS = frozenset({*THOUGHTS, "reasoning_details", "thinking_blocks", "audio", "images"})
LONGEST_TOKEN = 1024  # bytes
QUOTED = 100  # characters of what came instead
DEEPEST = 32  # levels of an endpoint's own field

_FINISH: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_new_tokens": "length",
    "max_length": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "recitation": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "spii": "content_filter",
}
_STOP_NAMES = ("stop_reason", "matched_stop")  # what vLLM and SGLang call the stop string that was met
# Words that are written while the answer goes on.
_NOT_YET = ("", "null", "none", "unspecified", "finish_reason_unspecified")
_BROKEN = (
    "abort",
    "aborted",
    "engine_error",
    "error",
    "insufficient_system_resource",
    "internal_error",
    "malformed_function_call",
    "network_error",
    "server_error",
)
_PINGS = ("ping", "keepalive", "keep-alive", "keep_alive", "heartbeat")
_MESSAGES = ("message", "detail", "msg", "error_msg")
_CODES = ("code", "status", "status_code")


class AnswerReader:
    """Turns what one answer sends into events of ours. `end` makes the last ones.

    An answer ends with [DONE], or with its body: a reason to finish says why it will, and more may follow.
    `logprobs`: they were asked for; nobody else wants to see them. `stops` end the text: `cuts` says that
    the endpoint does not know of them. `chunk` makes OpenAI's form of what another protocol sends.
    """

    def __init__(
        self,
        *,
        logprobs: bool = True,
        stops: Sequence[str] = (),
        cuts: bool = True,
        chunk: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda piece: piece,
    ) -> None:
        self.done = False  # [DONE] came
        self.events = 0
        self.said = False  # the last event did say something; fields of the endpoint's own alone do not
        self.has_said = False  # any event did
        self._logprobs, self._chunk = logprobs, chunk
        self._asked_stops = frozenset(stops)
        self._stops = StopStrings(stops if cuts else ())
        self._stop: str | None = None  # which one ended it, where the endpoint says so
        self._chunks = 0  # events with a list of choices
        self._passed_over = ""  # the first event that was none
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._timings: EngineTimings | None = None
        self._calls = ToolCallReader()
        self._label = ""  # the field that the last thoughts stood in

    @property
    def held(self) -> int:
        """Characters that the last event brought and that do not show yet."""
        return self._calls.held

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, if the body now did."""
        return self.done or self._finish_reason is not None

    def read(self, data: str) -> list[Event]:
        """Nothing where `data` holds nothing to show. Raises `Garbled`, `ErrorObject`."""
        self.events += 1
        self.said = False
        name, text = data.name if isinstance(data, ServerEvent) else "", data.strip()
        if text.strip('"') == DONE:
            self.done = True
        elif text.startswith("{"):
            return self._read(_parsed(text), name)
        elif name == "error":
            raise ErrorObject(text or "it did not say why", None)
        else:  # whatever it is, it is no piece of an answer: some servers keep connections open so
            self._pass_over(text)
        return []

    def read_body(self, body: bytes) -> Iterator[Event]:
        """All that came in one piece: a complete answer, or events under a wrong name."""
        if not body.lstrip().startswith((b"data:", b"event:", b":")):
            yield from self.read_whole(body)
            return
        decoder = EventDecoder()
        for data in (*decoder.feed(body), *decoder.rest()):
            if not self.done:
                yield from self.read(data)

    def read_whole(self, data: bytes) -> list[Event]:
        """A complete answer, from an endpoint that does not stream."""
        told = self._read(_parsed(data), "", whole=True)
        if not self._chunks:
            raise Garbled("no list of choices")
        self.done = True
        return told

    def end(self, *, may_be_empty: bool = True) -> list[Event]:
        """The last events, once the body has ended. Raises `Garbled`, `Unfinished`, `EmptyAnswer`."""
        if self.events and not self._chunks:
            quoted = f": {self._passed_over}" if self._passed_over else ""
            raise Garbled(f"no list of choices{quoted}")
        if not self.complete:
            raise Unfinished
        if not (self.has_said or may_be_empty or self._reason in ("length", "content_filter")):
            raise EmptyAnswer
        return self.finish()

    def finish(self) -> list[Event]:
        calls = self._calls.finish(cut=self._reason != "tool_calls")
        return [*_text(self._stops.rest()), *calls, self._finished()]

    @property
    def _reason(self) -> FinishReason:
        reason = _FINISH.get(self._finish_reason or "", "stop")
        return "tool_calls" if self._calls and reason == "stop" else reason

    def _finished(self) -> Finished:
        stop = (self._stops.found or self._stop) if self._reason == "stop" else None
        return Finished(self._reason, self._usage, self._timings, stop_sequence=stop)

    def cut(self) -> list[Event]:
        """The last events of an answer that is ended here, for its length."""
        self._finish_reason = "length"
        return self.finish()

    def _pass_over(self, text: str) -> None:
        self._passed_over = self._passed_over or text[:QUOTED]

    def _read(self, piece: Mapping[str, Any], name: str, *, whole: bool = False) -> list[Event]:
        chunk = self._chunk(piece)
        _raise_error_object(chunk, name)
        self._usage = _usage(chunk.get("usage")) or self._usage
        self._timings = _timings(chunk.get("timings")) or self._timings
        choices = chunk.get("choices")
        if choices is None:
            self._pass_over(str(chunk))
            return []
        if not isinstance(choices, list) or not all(isinstance(choice, dict | None) for choice in choices):
            raise Garbled("no list of choices")
        self._chunks += 1
        choice = next((choice for choice in choices if choice and _is_first(choice.get("index"))), None)
        if choice is None:  # Azure's first chunk, OpenAI's last
            return []
        self._note_reason(choice)
        told = self._told(choice, whole=whole)
        self.said = self._calls.heard or any(map(_says_something, told))
        self.has_said = self.has_said or self.said
        return told

    def _note_reason(self, choice: Mapping[str, Any]) -> None:
        """Raises `ErrorObject` for a reason that is none to be content."""
        given = choice.get("finish_reason")
        reason = given.strip().lower().rpartition(".")[2].replace("-", "_") if isinstance(given, str) else ""
        if choice.get("error"):
            raise _error_object(choice["error"])
        if reason in _BROKEN:
            raise ErrorObject("the model failed" + ("" if reason == "error" else f" ({reason})"), None)
        if reason not in _NOT_YET:
            self._finish_reason = reason
            named = (choice.get(name) for name in _STOP_NAMES)
            self._stop = next((n for n in named if isinstance(n, str) and n in self._asked_stops), None)

    def _told(self, choice: Mapping[str, Any], *, whole: bool) -> list[Event]:
        """Of a chunk of either endpoint, or of a whole message."""
        self._calls.heard, self._calls.held = False, 0
        message = choice["delta"] if "delta" in choice else choice.get("message")
        if "text" in choice and not message:
            logprobs = _completion_logprobs(choice.get("logprobs")) if self._logprobs else ()
            return self._spoken(_content(choice["text"]).text, logprobs)
        message = message or {}
        if not isinstance(message, dict):
            raise Garbled("a delta that is no object")
        logprobs = _chat_logprobs(choice.get("logprobs")) if self._logprobs else ()
        if message.keys() <= TEXT_ONLY and isinstance(message.get("content"), str):  # most are no more
            return self._spoken(message["content"], logprobs)
        calls = message.get("tool_calls") or []
        if isinstance(message.get("function_call"), dict):  # what tool calls were called until 2023
            calls = [{"index": 0, "type": "function", "function": message["function_call"]}]
        if not isinstance(calls, list) or not all(isinstance(call, dict | None) for call in calls):
            raise Garbled("tool calls that are no list of objects")
        content = _content(message.get("content"))
        refusal = content.refusal + _content(message.get("refusal")).text
        return [
            *self._thought(message, content.thought),
            *([RefusalDelta(refusal)] if refusal else ()),
            *self._spoken(content.text, logprobs),
            *self._calls.read([call for call in calls if call], whole=whole),
            *_foreign(message),
        ]

    def _spoken(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> list[Event]:
        shown, stopped = self._stops.push(text)
        if stopped:  # nothing that follows is read
            self.done, self._finish_reason = True, "stop"
        return _text(shown, logprobs)

    def _thought(self, message: Mapping[str, Any], spoken: str) -> list[Event]:
        """`spoken`: thoughts among the content. Those that stand twice are shown once and come back twice."""
        thoughts = {name: message[name] for name in THOUGHTS if _is_text(message.get(name))}
        if spoken:
            thoughts[THOUGHTS[0]] = thoughts.get(THOUGHTS[0], "") + spoken
        self._label = next((name for name in THOUGHTS if name in thoughts), self._label)
        text = thoughts.pop(self._label, "")
        opaque = thoughts | _fields(message, message.keys() & SIGNED)
        return [ReasoningDelta(text, self._label, opaque)] if text or opaque else []


def _text(text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> list[Event]:
    return [TextDelta(text, logprobs)] if text or logprobs else []


def _foreign(message: Mapping[str, Any]) -> list[Event]:
    named = {name for name in THOUGHTS if _is_text(message.get(name))}.union(SIGNED, UNSAID)
    fields = _fields(message, message.keys() - named)
    return [ForeignDelta(fields)] if fields else []


def _fields(message: Mapping[str, Any], names: Iterable[str]) -> dict[str, object]:
    """Those that hold something that can be sent on, in their order."""
    wanted = frozenset(names)
    return {name: value for name, value in message.items() if name in wanted and value and _is_shallow(value)}


def _says_something(event: Event) -> bool:
    """Fields of the endpoint's own alone do not, but for those that are answers."""
    kind = type(event)
    if kind is TextDelta:
        return bool(event.text)  # type: ignore[union-attr]
    if isinstance(event, ReasoningDelta):
        return bool(event.text) or not ANSWERS.isdisjoint(event.opaque)
    return not isinstance(event, ForeignDelta) or not ANSWERS.isdisjoint(event.fields)


def _parsed(data: str | bytes) -> Mapping[str, Any]:
    """Numbers that JSON does not know, or that no computer does, are null: our own answers are strict."""
    try:
        return parse_object(data, null=True)
    except NotJson as error:
        raise Garbled("broken JSON") from error


def _raise_error_object(chunk: Mapping[str, Any], name: str) -> None:
    """An error has a key of that name, or is one by its type, or has words in place of choices."""
    kinds = (name, chunk.get("object"), chunk.get("type"))
    error = chunk.get("error")
    if not error and "error" in kinds:
        error = chunk
    if not error and chunk.get("choices") is None and not any(kind in _PINGS for kind in kinds):
        error = chunk if any(chunk.get(key) for key in _MESSAGES) else None
    if error:
        raise _error_object(error)


def _error_object(error: object) -> ErrorObject:
    if not isinstance(error, dict):
        return ErrorObject(str(error), None)
    words = next((error[key] for key in _MESSAGES if error.get(key)), error)
    kind = " ".join(each.lower() for each in (error.get("code"), error.get("type")) if isinstance(each, str))
    code = next((status for name in _CODES if (status := _status(error.get(name)))), None)
    return ErrorObject(str(words), code, kind)


def _status(code: object) -> int | None:
    """`code`, where it is an HTTP status that tells of a failure."""
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _is_first(index: object) -> bool:
    """Anything but a number is the only choice's."""
    index = int(index) if isinstance(index, str) and index.isdecimal() and len(index) < 9 else index
    return not isinstance(index, int | float) or index == 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_shallow(value: object, depth: int = 0) -> bool:
    """Whether it can be written as deep within our own JSON, and be sent back."""
    if depth > DEEPEST:
        return False
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_is_shallow(each, depth + 1) for each in inner)


@dataclass(frozen=True, slots=True)
class _Content:
    text: str = ""
    thought: str = ""
    refusal: str = ""

    def __add__(self, other: _Content) -> _Content:
        return _Content(self.text + other.text, self.thought + other.thought, self.refusal + other.refusal)


def _content(content: object) -> _Content:
    """A text, or parts of which some are text. Raises `Garbled`."""
    if content is None:
        return _Content()
    if isinstance(content, str):
        return _Content(content)
    if isinstance(content, list):
        return sum(map(_content, content), _Content())
    if not isinstance(content, dict):
        raise Garbled("content that is no text")
    kind = content.get("type")
    if kind in ("thinking", "reasoning"):
        thought = content.get(kind, content.get("text"))
        return _Content(thought=_content(thought).text)
    if kind == "refusal":
        return _Content(refusal=_content(content.get("refusal")).text)
    return _Content(content["text"] if isinstance(content.get("text"), str) else "")


def _usage(value: object) -> Usage | None:
    """Usage is an extra: one that makes no sense is left out rather than complained about."""
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt, completion, kept = map(
        _count, (value.get("prompt_tokens"), value.get("completion_tokens"), cached)
    )
    thoughts = value.get("completion_tokens_details")
    thought = _count(thoughts.get("reasoning_tokens")) if isinstance(thoughts, dict) else 0
    if prompt is None or completion is None:
        return None
    return Usage(prompt, completion, kept or 0, thought or 0)


def _timings(value: object) -> EngineTimings | None:
    """As llama.cpp's server tells them, and whoever says it in its words: tokens, and milliseconds."""
    if not isinstance(value, dict):
        return None
    read, written = _count(value.get("prompt_n")), _count(value.get("predicted_n"))
    return EngineTimings(
        _seconds(value.get("prompt_ms")), read or 0, _seconds(value.get("predicted_ms")), written or 0
    )


def _seconds(milliseconds: object) -> float | None:
    fits = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
    return milliseconds / 1e3 if fits and 0 <= milliseconds < 2**53 else None  # type: ignore[operator]


def _count(value: object) -> int | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
    return int(value) if fits and value == int(value) else None  # type: ignore[call-overload]


def _chat_logprobs(value: object) -> tuple[TokenLogprob, ...]:
    content = value.get("content") if isinstance(value, dict) else None
    try:
        return tuple(_token(entry) for entry in content or ())
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise Garbled("log probabilities in an unknown form") from error


def _token(entry: Mapping[str, Any], depth: int = 0) -> TokenLogprob:
    token = str(entry["token"])
    return TokenLogprob(
        token,
        _logprob(entry["logprob"]),
        _token_bytes(token, entry.get("bytes")),
        tuple(_token(top, 1) for top in entry.get("top_logprobs") or ()) if depth == 0 else (),
    )


def _logprob(value: object) -> float:
    """What is no number, or more than certain, is what JSON makes of infinities that servers write."""
    if value is None:
        return -math.inf
    logprob = float(value)  # type: ignore[arg-type]
    return -math.inf if math.isnan(logprob) else min(logprob, 0.0)


def _token_bytes(token: str, spelled: object) -> bytes:
    """Only a list of bytes is one: of a number, Python would make as many zeros."""
    short = isinstance(spelled, list) and len(spelled) <= LONGEST_TOKEN
    if (
        isinstance(spelled, list)
        and short
        and all(type(byte) is int and 0 <= byte <= 255 for byte in spelled)
    ):
        return bytes(spelled)
    return token.encode("utf-8", "surrogatepass")


def _completion_logprobs(value: object) -> tuple[TokenLogprob, ...]:
    if not isinstance(value, dict):
        return ()
    try:
        tokens, logprobs = value["tokens"], value["token_logprobs"]
        tops = value.get("top_logprobs") or [None] * len(tokens)
        return tuple(
            replace(_named(token, logprob), top=tuple(_named(*pair) for pair in (top or {}).items()))
            for token, logprob, top in zip(tokens, logprobs, tops, strict=True)
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise Garbled("log probabilities in an unknown form") from error


def _named(token: object, logprob: object) -> TokenLogprob:
    name = str(token)
    return TokenLogprob(name, _logprob(logprob), name.encode("utf-8", "surrogatepass"))
