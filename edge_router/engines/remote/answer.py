"""OpenAI's server-sent events as deltas. Pure.

Reads dictionaries rather than the client's model classes, which are built without being checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edge_router.types import Delta, FinishReason, TokenLogprob, Usage

LARGEST_LINE = 16 * 2**20  # bytes; a longer one is no answer
DONE = "[DONE]"

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
}


class Garbled(ValueError):
    """Not OpenAI's format."""


class Unfinished(Exception):
    """The body ended before the answer did."""


class ErrorObject(Exception):
    """An error that came in place of a piece of the answer. `code` is an HTTP status, if it is one."""

    def __init__(self, message: str, code: int | None) -> None:
        self.message, self.code = message, code
        super().__init__(message)


class EventDecoder:
    """The `data` of server-sent events, out of bytes as they come.

    Splits at line feeds only: a text may hold U+2028, at which `str.splitlines`, and so httpx, would cut.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[str]:
        """Raises `Garbled`."""
        self._rest += piece
        if b"\n" not in piece:
            if len(self._rest) > LARGEST_LINE:
                raise Garbled(f"a line of more than {LARGEST_LINE} bytes")
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                try:
                    yield data.decode()
                except UnicodeDecodeError as error:
                    raise Garbled("text that is not UTF-8") from error


class AnswerReader:
    """Turns the events of one answer into deltas. `finish` makes the last one."""

    def __init__(self) -> None:
        self.done = False  # [DONE] came
        self.events = 0
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._called = False

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, rather than that the connection did."""
        return self.done or self._finish_reason is not None

    def read(self, data: str) -> Delta | None:
        """None where the event holds nothing to show. Raises `Garbled`, `ErrorObject`."""
        self.events += 1
        if data.strip() == DONE:
            self.done = True
            return None
        return self._read(_parsed(data))

    def read_whole(self, data: bytes) -> Delta | None:
        """A complete answer, from an endpoint that does not stream."""
        delta = self._read(_parsed(data))
        self.done = True
        return delta

    def finish(self) -> Delta:
        reason = self._finish_reason or ("tool_calls" if self._called else "stop")
        return Delta(finish_reason=_FINISH.get(reason, "stop"), usage=self._usage)

    def _read(self, chunk: Mapping[str, Any]) -> Delta | None:
        _raise_error_object(chunk)
        usage = _usage(chunk.get("usage"))
        self._usage = usage or self._usage
        choices = chunk.get("choices")
        if choices is None and usage is not None:
            return None
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise Garbled("no list of choices")
        choice = next((choice for choice in choices if choice.get("index", 0) == 0), None)
        if choice is None:  # Azure's first chunk, OpenAI's last
            return None
        reason = choice.get("finish_reason")
        if reason == "error":
            raise ErrorObject("the model failed", None)
        if isinstance(reason, str):
            self._finish_reason = reason
        delta = _delta(choice)
        self._called = self._called or bool(delta.tool_calls)
        return delta if delta.text or delta.tool_calls or delta.logprobs else None


def _parsed(data: str | bytes) -> Mapping[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Garbled("broken JSON") from error
    if not isinstance(chunk, dict):
        raise Garbled("JSON that is no object")
    return chunk


def _raise_error_object(chunk: Mapping[str, Any]) -> None:
    error = chunk if chunk.get("object") == "error" else chunk.get("error")
    if not error:
        return
    if not isinstance(error, dict):
        raise ErrorObject(str(error), None)
    code = error.get("code")
    code = code if isinstance(code, int) and 400 <= code <= 599 else None
    raise ErrorObject(str(error.get("message") or error), code)


def _delta(choice: Mapping[str, Any]) -> Delta:
    """Of a chunk of either endpoint, or of a whole message."""
    if "text" in choice:
        return Delta(_text(choice["text"]), logprobs=_completion_logprobs(choice.get("logprobs")))
    message = choice.get("delta", choice.get("message")) or {}
    if not isinstance(message, dict):
        raise Garbled("a delta that is no object")
    calls = message.get("tool_calls") or []
    if isinstance(message.get("function_call"), dict):  # what tool calls were called until 2023
        calls = [{"index": 0, "type": "function", "function": message["function_call"]}]
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise Garbled("tool calls that are no list of objects")
    return Delta(
        _text(message.get("content")) + _text(message.get("refusal")),
        logprobs=_chat_logprobs(choice.get("logprobs")),
        tool_calls=tuple({"index": index, **call} for index, call in enumerate(calls)),
    )


def _text(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    raise Garbled("content that is no text")


def _usage(value: object) -> Usage | None:
    """Usage is an extra: one that makes no sense is left out rather than complained about."""
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    counts = (value.get("prompt_tokens"), value.get("completion_tokens"), cached or 0)
    prompt, completion, kept = (n if isinstance(n, int) and 0 <= n < 2**53 else None for n in counts)
    return None if prompt is None or completion is None else Usage(prompt, completion, kept or 0)


def _chat_logprobs(value: object) -> tuple[TokenLogprob, ...]:
    content = value.get("content") if isinstance(value, dict) else None
    try:
        return tuple(_token(entry) for entry in content or ())
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise Garbled("log probabilities in an unknown form") from error


def _token(entry: Mapping[str, Any]) -> TokenLogprob:
    token, spelled = str(entry["token"]), entry.get("bytes")
    return TokenLogprob(
        token,
        float(entry["logprob"]),
        token.encode() if spelled is None else bytes(spelled),
        tuple(_token(top) for top in entry.get("top_logprobs") or ()),
    )


def _completion_logprobs(value: object) -> tuple[TokenLogprob, ...]:
    if not isinstance(value, dict):
        return ()
    try:
        tokens, logprobs = value["tokens"], value["token_logprobs"]
        tops = value.get("top_logprobs") or [None] * len(tokens)
        return tuple(
            TokenLogprob(
                str(token),
                float(logprob),
                str(token).encode(),
                tuple(TokenLogprob(name, float(p), name.encode()) for name, p in (top or {}).items()),
            )
            for token, logprob, top in zip(tokens, logprobs, tops, strict=True)
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise Garbled("log probabilities in an unknown form") from error
