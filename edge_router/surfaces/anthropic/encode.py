"""Answers and errors of /v1/messages, whole and as events. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from edge_router.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.in_turn import Nesting
from edge_router.chat.message import Refusal
from edge_router.chat.reply import Reply
from edge_router.records import dataclass
from edge_router.surfaces.anthropic.blocks import (
    hung_block,
    redacted_block,
    text_block,
    thinking_block,
    tool_block,
    written_blocks,
)
from edge_router.surfaces.anthropic.signatures import REDACTED, signed
from edge_router.surfaces.base import Body, Call, Failure, Head
from edge_router.surfaces.wire import dumps, event

_STOP_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
ID_HEADER = "request-id"
_ERRORS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def whole(call: Call, head: Head, reply: Reply) -> Body:
    """The body of an answer that is not streamed."""
    refused = any(isinstance(part, Refusal) for part in reply.parts)
    end = _ending(reply.finish_reason, reply.stop_sequence, called=bool(reply.calls), refused=refused)
    content = written_blocks(reply.parts, thoughts=call.request.reasoning.shown)
    return {**_message(call, head, content), **end, "usage": _usage(reply.usage)}


def error_body(failure: Failure) -> Body:
    kind = _ERRORS.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
    known = {name.lower(): value for name, value in failure.headers.items()}
    error = {"type": kind, "message": failure.message}
    return {"type": "error", "error": error, "request_id": known.get(ID_HEADER)}


def comment(text: str) -> bytes:
    """A ping, which clients wait for, with `text` as what they do not read."""
    return b": " + text.encode("ascii") + b"\n" + _event("ping", {})


def _event(kind: str, body: Body) -> bytes:
    return event(dumps({"type": kind, **body}), kind)


def _message(call: Call, head: Head, content: list[Body]) -> Body:
    """`model` is what was asked for: Claude Code (2.1) drops the thoughts of an answer that names another,
    and with them what endpoints want back. What answered is in the headers."""
    return {
        "id": f"msg_{head.id}",
        "type": "message",
        "role": "assistant",
        "model": call.request.target,
        "content": content,
    }


def _ending(reason: FinishReason, stop: str | None, *, called: bool, refused: bool) -> Body:
    """Some endpoints say "stop" behind calls; clients wait for "tool_use" to make them."""
    word = _STOP_REASONS[reason]
    if reason == "stop":
        word = "refusal" if refused else "tool_use" if called else "stop_sequence" if stop else word
    return {"stop_reason": word, "stop_sequence": stop if word == "stop_sequence" else None}


def _usage(usage: Usage | None) -> Body:
    """Anthropic counts what was read from the cache beside the rest of the prompt, not in it."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    counted: Body = {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens:
        counted["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counted


Kind = type[TextDelta | ReasoningDelta | ToolCallStart]


@dataclass(slots=True)
class _Block:
    """A block of the answer. `waiting`: pieces of it that were not written yet; `unread`: pieces of a call's
    arguments in which nobody has looked for their end."""

    kind: Kind
    label: str = ""
    start: ToolCallStart | None = None
    begun: bool = False
    waiting: list[str] = field(default_factory=list)
    opaque: Body = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    nesting: Nesting = field(default_factory=Nesting)

    @property
    def is_whole(self) -> bool:
        """Whether nothing more comes, once another block has begun: a call may go on beside others."""
        if self.start is None:
            return True
        for text in self.unread:
            self.nesting.read(text)
        self.unread.clear()
        return self.nesting.closed


class MessagesEncoder:
    """Writes one streamed answer. Blocks are written one after the other, as clients expect: what comes for
    a later one while an earlier one is under way waits."""

    def __init__(self, call: Call, head: Head) -> None:
        self._call, self._head, self._thoughts = call, head, call.request.reasoning.shown
        self._begun = False
        self._index = 0  # of the first of `_blocks`, which is the one being written
        self._blocks: deque[_Block] = deque()
        self._calls: dict[int, _Block] = {}
        self._late: dict[str, Body] = {}  # what came for calls that were written already, by their ids
        self._refused = False
        self._last = Finished("stop")

    def feed(self, event: Event) -> bytes:
        if isinstance(event, TextDelta | RefusalDelta):
            self._refused = self._refused or isinstance(event, RefusalDelta)
            if event.text:
                self._open(TextDelta).waiting.append(event.text)
        elif isinstance(event, ReasoningDelta):
            block = self._open(ReasoningDelta, event.label)
            block.opaque |= event.opaque
            if event.text and self._thoughts and event.label != REDACTED:
                block.waiting.append(event.text)
        elif isinstance(event, ToolCallStart):
            self._calls[event.index] = _Block(ToolCallStart, start=event, opaque=dict(event.extra))
            self._blocks.append(self._calls[event.index])
        elif isinstance(event, ToolCallArguments):
            self._go_on(self._calls[event.index], event)
        elif isinstance(event, Finished):
            self._last = event
        else:
            return b""
        return b"".join((*self._start(), *self._drained(all_of_them=isinstance(event, Finished))))

    def end(self) -> bytes:
        last = self._last
        ending = _ending(last.reason, last.stop_sequence, called=bool(self._calls), refused=self._refused)
        pieces = [*self._start(), *self._drained(all_of_them=True)]
        for call_id, extra in self._late.items():
            pieces += self._whole_block(hung_block(call_id, extra))
        pieces.append(_event("message_delta", {"delta": ending, "usage": _usage(last.usage)}))
        return b"".join((*pieces, _event("message_stop", {})))

    def fail(self, failure: Failure) -> bytes:
        """An event that clients raise; without it they take what they have for a whole answer."""
        return _event("error", error_body(failure))

    def _open(self, kind: Kind, label: str = "") -> _Block:
        """The block that a delta of this kind goes on with; a new one where another has begun since."""
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.kind is not kind or last.label != label:
            last = _Block(kind, label)
            self._blocks.append(last)
        return last

    def _go_on(self, block: _Block, event: ToolCallArguments) -> None:
        assert block.start is not None
        block.unread.append(event.text)
        block.waiting.append(event.text)
        if event.extra:
            held = self._late.setdefault(block.start.id, {}) if block.begun else block.opaque
            held |= event.extra

    def _start(self) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            usage = {"input_tokens": 0, "output_tokens": 0}
            unknown = {"stop_reason": None, "stop_sequence": None, "usage": usage}
            yield _event("message_start", {"message": {**_message(self._call, self._head, []), **unknown}})

    def _drained(self, *, all_of_them: bool) -> Iterator[bytes]:
        while self._blocks:
            block = self._blocks[0]
            yield from self._written(block)
            if not all_of_them and (len(self._blocks) == 1 or not block.is_whole):
                return
            yield from self._closed(block)
            self._blocks.popleft()

    def _written(self, block: _Block) -> Iterator[bytes]:
        """What of `block` can be written already. Thoughts that are not shown have only a signature, and
        blanks wait for the words behind them."""
        if not block.waiting and block.start is None:
            return
        if block.kind is TextDelta and not block.begun and block.waiting[-1].isspace():
            return
        if not block.begun:
            if block.start is not None and block.opaque:
                yield from self._whole_block(hung_block(block.start.id, block.opaque))
            block.begun = True
            yield self._begin(_empty(block))
        for text in block.waiting:
            if text:
                yield self._delta(_DELTAS[block.kind](text))
        block.waiting.clear()

    def _closed(self, block: _Block) -> Iterator[bytes]:
        if block.label == REDACTED:
            yield from self._whole_block(redacted_block(block.opaque))
            return
        signature = signed(block.label, block.opaque) if block.start is None else ""
        if signature and not block.begun:
            block.begun = True
            yield self._begin(_empty(block))
        if signature:
            yield self._delta({"type": "signature_delta", "signature": signature})
        if block.begun:
            yield self._stop()

    def _whole_block(self, body: Body) -> Iterator[bytes]:
        yield self._begin(body)
        yield self._stop()

    def _begin(self, body: Body) -> bytes:
        return _event("content_block_start", {"index": self._index, "content_block": body})

    def _delta(self, body: Body) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": body})

    def _stop(self) -> bytes:
        self._index += 1
        return _event("content_block_stop", {"index": self._index - 1})


def _empty(block: _Block) -> Body:
    if block.start is not None:
        return tool_block(block.start.id, block.start.name, {})
    return text_block("") if block.kind is TextDelta else thinking_block("", "")


_DELTAS: Mapping[Kind, Callable[[str], Body]] = {
    TextDelta: lambda text: {"type": "text_delta", "text": text},
    ReasoningDelta: lambda text: {"type": "thinking_delta", "thinking": text},
    ToolCallStart: lambda text: {"type": "input_json_delta", "partial_json": text},
}
