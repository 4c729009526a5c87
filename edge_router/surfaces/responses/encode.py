"""A streamed answer of /v1/responses.

How one breaks off is told twice, as `response.failed` and as an `error`: of the two, some clients read the
one and some the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TypeVar, cast

from edge_router.chat.events import (
    Event,
    Finished,
    ForeignDelta,
    HiddenState,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
)
from edge_router.chat.in_turn import InTurn
from edge_router.chat.joining import join_pieces, update_fields
from edge_router.chat.message import Reasoning, Refusal, Text, ToolCall
from edge_router.records import dataclass
from edge_router.surfaces import wire
from edge_router.surfaces.base import Body, Failure
from edge_router.surfaces.openai.encode import error_body
from edge_router.surfaces.responses.answer import (
    INCOMPLETE,
    ResponsesAnswer,
    call_prefix,
    content_part,
    is_silent,
    written_logprob,
)
from edge_router.surfaces.responses.store import Item, ResponseStore


@dataclass(slots=True)
class _Open:
    """An item of the answer under way."""

    index: int
    id: str

    def done(self, writer: ResponsesEncoder, status: str) -> Iterator[bytes]:
        """The events that end it."""
        raise NotImplementedError

    def item(self, answer: ResponsesAnswer, status: str) -> Body:
        """It as far as it has come."""
        raise NotImplementedError


T = TypeVar("T", bound=_Open)


@dataclass(slots=True)
class _OpenMessage(_Open):
    before_call: bool = False
    closed: list[Body] = field(default_factory=list)  # content parts
    kind: type[Text | Refusal] | None = None  # of the content part under way
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def switch(self, kind: type[Text | Refusal], writer: ResponsesEncoder) -> Iterator[bytes]:
        """Go on with a content part of that kind."""
        if self.kind is kind:
            return
        yield from self._end_part(writer)
        self.kind = kind
        yield self._event(writer, "response.content_part.added", part=content_part(kind("")))

    def add(self, writer: ResponsesEncoder, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        self.pieces.append(text)
        if self.kind is Refusal:
            return self._event(writer, "response.refusal.delta", delta=text)
        self.logprobs += logprobs
        shown = [written_logprob(one) for one in logprobs]
        return self._event(writer, "response.output_text.delta", delta=text, logprobs=shown)

    def _event(self, writer: ResponsesEncoder, kind: str, **fields: object) -> bytes:
        where = {"item_id": self.id, "output_index": self.index, "content_index": len(self.closed)}
        return writer.event(kind, **where, **fields)

    def _part(self) -> Body:
        assert self.kind is not None
        return content_part(self.kind("".join(self.pieces)), self.logprobs)

    def _end_part(self, writer: ResponsesEncoder) -> Iterator[bytes]:
        if self.kind is None:
            return
        part = self._part()
        if self.kind is Refusal:
            yield self._event(writer, "response.refusal.done", refusal=part["refusal"])
        else:
            said = {"text": part["text"], "logprobs": part["logprobs"]}
            yield self._event(writer, "response.output_text.done", **said)
        yield self._event(writer, "response.content_part.done", part=part)
        self.closed.append(part)
        self.kind, self.pieces, self.logprobs = None, [], []

    def done(self, writer: ResponsesEncoder, status: str) -> Iterator[bytes]:
        yield from self._end_part(writer)

    def item(self, answer: ResponsesAnswer, status: str) -> Body:
        parts = [*self.closed, *([self._part()] if self.kind is not None else [])]
        return answer.message(self.id, parts, status, before_call=self.before_call)


@dataclass(slots=True)
class _OpenThoughts(_Open):
    label: str = ""
    summary: bool = False
    pieces: list[str] = field(default_factory=list)
    opaque: dict[str, object] = field(default_factory=dict)

    def add(self, writer: ResponsesEncoder, text: str) -> Iterator[bytes]:
        if not text:
            return
        if not self.pieces:
            yield self._event(writer, "part.added", part=self._part(""))
        self.pieces.append(text)
        yield self._event(writer, "text.delta", delta=text)

    def _event(self, writer: ResponsesEncoder, what: str, **fields: object) -> bytes:
        """`what` happens to the text, or to the part that holds it: they have names of their own each."""
        if self.summary:
            kind = f"response.reasoning_summary_{what}"
        else:
            kind = f"response.content_{what}" if what.startswith("part") else f"response.reasoning_{what}"
        index = "summary_index" if self.summary else "content_index"
        return writer.event(kind, item_id=self.id, output_index=self.index, **{index: 0}, **fields)

    def _part(self, text: str) -> Body:
        return {"type": "summary_text" if self.summary else "reasoning_text", "text": text}

    def done(self, writer: ResponsesEncoder, status: str) -> Iterator[bytes]:
        if self.pieces:
            text = "".join(self.pieces)
            yield self._event(writer, "text.done", text=text)
            yield self._event(writer, "part.done", part=self._part(text))

    def item(self, answer: ResponsesAnswer, status: str) -> Body:
        return answer.thoughts(self.id, Reasoning("".join(self.pieces), self.label, self.opaque), status)


@dataclass(slots=True)
class _OpenCall(_Open):
    start: ToolCallStart = field(default_factory=lambda: ToolCallStart(0, "", ""))
    pieces: list[str] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)

    def add(self, writer: ResponsesEncoder, more: ToolCallArguments) -> bytes:
        update_fields(self.extra, more.extra)
        if not more.text:
            return b""
        self.pieces.append(more.text)
        return self._event(writer, "delta", delta=more.text)

    def _event(self, writer: ResponsesEncoder, what: str, **fields: object) -> bytes:
        kind = "custom_tool_call_input" if self.start.free else "function_call_arguments"
        return writer.event(f"response.{kind}.{what}", item_id=self.id, output_index=self.index, **fields)

    def done(self, writer: ResponsesEncoder, status: str) -> Iterator[bytes]:
        text = {"input" if self.start.free else "arguments": "".join(self.pieces)}
        yield self._event(writer, "done", **text)

    def item(self, answer: ResponsesAnswer, status: str) -> Body:
        start = self.start
        call = ToolCall(start.id, start.name, "".join(self.pieces), start.free, self.extra)
        return answer.call_item(self.id, call, status)


class ResponsesEncoder:
    """One streamed answer. An item is open until another begins; calls, of which one may be told more of once
    it is whole, until the end."""

    def __init__(self, answer: ResponsesAnswer, store: ResponseStore) -> None:
        self._answer, self._store = answer, store
        self._repeated = b""
        self._number = 0
        self._in_turn = InTurn()
        self._items: list[Item | _Open] = []
        self._calls: dict[int, _OpenCall] = {}
        self._signatures: dict[str, dict[str, object]] = {}  # that came after their thoughts, by label
        self._end: Finished | None = None

    def feed(self, event: Event) -> bytes:
        if isinstance(event, HiddenState | ForeignDelta):
            return b""
        fed = (data for one in self._in_turn.feed(event) for data in self._fed(one))
        return b"".join((*self._begin(), *fed))

    def end(self) -> bytes:
        assert self._end is not None
        body = self._answer.body(cast(list[Item], self._items), self._end)  # `_finish` has closed them all
        status = str(body["status"])
        last = self._lifecycle(status, body)
        self._answer.keep({**body, **self._answer.options.echo}, self._store)
        return last

    def fail(self, failure: Failure) -> bytes:
        """Without what was sent already, which may be all that one answer may hold, twice in memory."""
        begun = b"".join(self._begin())
        failed = self._lifecycle("failed", self._answer.body([], None, failure))
        told = error_body(failure)["error"]
        # `error` within it makes openai-python raise; the fields beside it are the documented ones.
        error = {"code": failure.code, "message": failure.message, "param": failure.param, "error": told}
        return begun + failed + self.event("error", **error)

    def event(self, kind: str, **fields: object) -> bytes:
        return wire.event(wire.dumps({"type": kind, **fields, "sequence_number": self._next()}), kind)

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _lifecycle(self, what: str, body: Body) -> bytes:
        """What the answer repeats of the request, tools above all, is turned into JSON once."""
        kind = f"response.{what}"
        self._repeated = self._repeated or wire.dumps(self._answer.options.echo)[1:]
        head = wire.dumps({"type": kind, "sequence_number": self._next()})[:-1]
        response = wire.dumps(body)[:-1] + b"," + self._repeated
        return wire.event(head + b',"response":' + response + b"}", kind)

    def _begin(self) -> Iterator[bytes]:
        if not self._number:
            body = self._answer.body([])
            yield self._lifecycle("created", body)
            yield self._lifecycle("in_progress", body)

    def _fed(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, TextDelta):
            logprobs = event.logprobs if self._answer.call.request.logprobs else ()
            if event.text or logprobs:
                yield from self._say(Text, event.text, logprobs)
        elif isinstance(event, ReasoningDelta):
            yield from self._think(event)
        elif isinstance(event, RefusalDelta):
            if event.text:
                yield from self._say(Refusal, event.text, ())
        elif isinstance(event, ToolCallStart):
            yield from self._call(event)
        elif isinstance(event, ToolCallArguments):
            yield self._calls[event.index].add(self, event)
        elif isinstance(event, Finished):
            yield from self._finish(event)

    def _say(
        self, kind: type[Text | Refusal], text: str, logprobs: Sequence[TokenLogprob]
    ) -> Iterator[bytes]:
        message = self._current(_OpenMessage)
        if message is None:
            yield from self._close_current()
            message = _OpenMessage(len(self._items), self._answer.id("msg", len(self._items)))
            yield self._opened(message)
        yield from message.switch(kind, self)
        yield message.add(self, text, logprobs)

    def _think(self, event: ReasoningDelta) -> Iterator[bytes]:
        thoughts = self._current(_OpenThoughts)
        if thoughts is None or thoughts.label != event.label:
            if not event.text and event.label in self._signatures:
                join_pieces(self._signatures[event.label], event.opaque)
                return
            yield from self._close_current()
            thoughts = self._thoughts(event.label)
            yield self._opened(thoughts)
        join_pieces(thoughts.opaque, event.opaque)
        yield from thoughts.add(self, event.text)

    def _thoughts(self, label: str) -> _OpenThoughts:
        self._signatures.setdefault(label, {})
        index = len(self._items)
        return _OpenThoughts(index, self._answer.id("rs", index), label, self._answer.options.summary)

    def _sign(self) -> Iterator[bytes]:
        """What came too late for the thoughts that it signs is an item of its own, which `parse` joins."""
        for label, opaque in self._signatures.items():
            if opaque:
                thoughts = self._thoughts(label)
                thoughts.opaque = opaque
                yield self._opened(thoughts)
                yield from self._close(thoughts, "completed")

    def _call(self, start: ToolCallStart) -> Iterator[bytes]:
        message = self._current(_OpenMessage)
        if message is not None:
            message.before_call = True
        yield from self._close_current()
        id = self._answer.id(call_prefix(start.free), len(self._items))
        call = _OpenCall(len(self._items), id, start, extra=dict(start.extra))
        self._calls[start.index] = call
        yield self._opened(call)

    def _current(self, kind: type[T]) -> T | None:
        last = self._items[-1] if self._items else None
        return last if isinstance(last, kind) else None

    def _opened(self, item: _Open) -> bytes:
        self._items.append(item)
        body = item.item(self._answer, "in_progress")
        return self.event("response.output_item.added", output_index=item.index, item=body)

    def _close_current(self) -> Iterator[bytes]:
        last = self._items[-1] if self._items else None
        if isinstance(last, _OpenMessage | _OpenThoughts):
            yield from self._close(last, "completed")

    def _close(self, item: _Open, status: str) -> Iterator[bytes]:
        yield from item.done(self, status)
        body = item.item(self._answer, status)
        self._items[item.index] = body
        yield self.event("response.output_item.done", output_index=item.index, item=body)

    def _finish(self, end: Finished) -> Iterator[bytes]:
        self._end = end
        thoughts = (_is_thought(item) for item in self._items)
        if is_silent(end.reason, thoughts):
            yield from self._say(Text, "", ())
        for item in self._items:
            if isinstance(item, _Open):
                cut = end.reason in INCOMPLETE and item.index == len(self._items) - 1
                yield from self._close(item, "incomplete" if cut else "completed")
        yield from self._sign()


def _is_thought(item: Item | _Open) -> bool:
    return isinstance(item, _OpenThoughts) or (isinstance(item, Mapping) and item["type"] == "reasoning")
