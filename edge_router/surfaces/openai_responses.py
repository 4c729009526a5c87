"""OpenAI's Responses, which Codex CLI and openai-agents speak. Answers are kept in memory unless told not to.

How an answer breaks off is told twice, as `response.failed` and as an `error`: of the two, some clients
read the one and some the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    Usage,
)
from edge_router.chat.in_turn import InTurn
from edge_router.chat.joining import join_pieces, update_fields
from edge_router.chat.message import Part, Reasoning, Refusal, Text, ToolCall
from edge_router.chat.reply import Reply
from edge_router.errors import InvalidRequest, UnknownResponse
from edge_router.fields import Fields
from edge_router.surfaces import wire
from edge_router.surfaces.base import Body, Call, Failure, Head, Host, Query
from edge_router.surfaces.responses_request import Options, parse, sealed
from edge_router.surfaces.responses_store import Item, Kept, ResponseStore

PATH = "/v1/responses"
_ONE = PATH + "/{response_id}"
MOST_LISTED = 100  # items in one page, as there
# Codes that clients act on; they take all others for a reason to try again, or not to.
_CODES = ("context_length_exceeded", "insufficient_quota", "rate_limit_exceeded")
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class OpenAIResponses:
    """See `surfaces.base.Surface`. Answers are kept in `store`."""

    name = "openai-responses"
    paths = (PATH,)
    media_type = "text/event-stream"

    def __init__(self, store: ResponseStore | None = None) -> None:
        self.store = store or ResponseStore()
        self.queries = (
            Query("POST", PATH + "/input_tokens", self._input_tokens),
            Query("GET", _ONE, self._retrieve),
            Query("DELETE", _ONE, self._delete),
            Query("GET", _ONE + "/input_items", self._input_items),
        )

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        request, stream, options = parse(body, self.store)
        return Call(request, stream, {_OPTIONS: options})

    def encoder(self, call: Call, head: Head) -> ResponsesEncoder:
        return ResponsesEncoder(_Answer(call, head), self.store)

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        answer = _Answer(call, head)
        end = Finished(reply.finish_reason, reply.usage)
        body = {**answer.body(_output(answer, reply), end), **answer.options.echo}
        answer.keep(body, self.store)
        return body

    def error(self, failure: Failure) -> Body:
        return {"error": _error(failure)}

    def comment(self, text: str) -> bytes:
        return wire.comment(text)

    def _kept(self, body: Mapping[str, object]) -> tuple[str, Kept]:
        id = str(body.get("response_id"))
        kept = self.store.get(id)
        if kept is None:
            raise UnknownResponse("response_id", id)
        return id, kept

    def _retrieve(self, body: Mapping[str, object], host: Host) -> Body:
        return dict(self._kept(body)[1].body)

    def _delete(self, body: Mapping[str, object], host: Host) -> Body:
        id, _ = self._kept(body)
        self.store.remove(id)
        return {"id": id, "object": "response", "deleted": True}

    def _input_items(self, body: Mapping[str, object], host: Host) -> Body:
        """The newest first, as there; a page at a time."""
        id, kept = self._kept(body)
        items = [_listed(item, f"in_{id.removeprefix('resp_')}_{n}") for n, item in enumerate(kept.given)]
        if Fields(body).choice("order", "asc", "desc") != "asc":
            items.reverse()
        limit, after = str(body.get("limit", MOST_LISTED)), body.get("after")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_LISTED):
            raise InvalidRequest("limit", f"must be a number from 1 to {MOST_LISTED}")
        begin = max((n for n, item in enumerate(items, 1) if item["id"] == after), default=0)
        page = items[begin : begin + int(limit)]
        ends = (page[0]["id"], page[-1]["id"]) if page else ("", "")
        more = begin + len(page) < len(items)
        return {"object": "list", "data": page, "first_id": ends[0], "last_id": ends[1], "has_more": more}

    def _input_tokens(self, body: Mapping[str, object], host: Host) -> Body:
        request, _, _ = parse(body, self.store)
        return {"object": "response.input_tokens", "input_tokens": host.count_tokens(request)}


_OPTIONS = "responses"


def _listed(item: Item, id: str) -> Body:
    """An item as lists hold it: with an id, and its content in parts."""
    listed: Body = {"id": id, "type": "message", "status": "completed", **item}
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    if isinstance(content, list) and listed["type"] == "message":
        listed["content"] = [
            {"annotations": [], **part} if part["type"] == "output_text" else part for part in content
        ]
    return listed


# ---- what both forms of an answer are made of --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    call: Call
    head: Head

    @property
    def options(self) -> Options:
        return cast(Options, self.call.options[_OPTIONS])

    def id(self, kind: str, index: int) -> str:
        return f"{kind}_{self.head.id}_{index}"

    def body(
        self, output: Sequence[Item], end: Finished | None = None, failure: Failure | None = None
    ) -> Body:
        """The answer without what it repeats of the request."""
        reason = _INCOMPLETE.get(end.reason) if end is not None else None
        status = "in_progress" if end is None else "incomplete" if reason else "completed"
        error = None
        if failure is not None:
            status, error = "failed", {"code": _code(failure), "message": failure.message}
        return {
            "id": f"resp_{self.head.id}",
            "object": "response",
            "created_at": self.head.created,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self.head.model,
            "output": output,
            "usage": _usage(end.usage) if end is not None and end.usage is not None else None,
        }

    def keep(self, body: Item, store: ResponseStore) -> None:
        """Unless it is not wanted, or private."""
        if self.options.store and not self.call.request.private:
            store.add(str(body["id"]), body, self.options.given, self.options.before)

    def message(self, id: str, content: Sequence[Item], status: str, *, before_call: bool) -> Body:
        """`phase` tells agents that these words are not the answer yet."""
        item: Body = {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}
        return {**item, "phase": "commentary"} if before_call else item

    def thoughts(self, id: str, thoughts: Reasoning, status: str) -> Body:
        """With `encrypted_content` where they would come back as less than they are."""
        text, summary = thoughts.text, self.options.summary
        item: Body = {"id": id, "type": "reasoning", "status": status, "summary": []}
        if summary:
            item["summary"] = [{"type": "summary_text", "text": text}] if text else []
        else:
            item["content"] = [{"type": "reasoning_text", "text": text}] if text else []
        whole = status != "in_progress"
        if whole and (self.options.encrypted or thoughts.label or thoughts.opaque):
            item["encrypted_content"] = sealed(thoughts)
        return item

    def call_item(self, id: str, call: ToolCall, status: str) -> Body:
        namespace, name = self.options.namespaces.get(call.name, (None, call.name))
        item: Body = {"id": id, "type": "custom_tool_call" if call.free else "function_call"}
        item |= {"status": status, "call_id": call.id, "name": name}
        if namespace is not None:
            item["namespace"] = namespace
        item["input" if call.free else "arguments"] = call.arguments
        return {**call.extra, **item}


def _output(answer: _Answer, reply: Reply) -> list[Body]:
    """The items of a whole answer; words and refusals side by side are one message."""
    groups: list[list[Part]] = []
    for part in reply.parts:
        said = isinstance(part, Text | Refusal)
        if said and groups and isinstance(groups[-1][0], Text | Refusal):
            groups[-1].append(part)
        else:
            groups.append([part])
    if _is_silent(reply.finish_reason, (isinstance(group[0], Reasoning) for group in groups)):
        groups.append([Text("")])
    last = _INCOMPLETE.get(reply.finish_reason) and len(groups) - 1
    logprobs = reply.logprobs if answer.call.request.logprobs else ()
    items: list[Body] = []
    for index, (first, *_) in enumerate(groups):
        status = "incomplete" if index == last else "completed"
        if isinstance(first, Reasoning):
            items.append(answer.thoughts(answer.id("rs", index), first, status))
        elif isinstance(first, ToolCall):
            items.append(answer.call_item(answer.id(_prefix(first.free), index), first, status))
        else:
            content = []
            for part in groups[index]:
                content.append(_content(part, logprobs))
                logprobs = () if isinstance(part, Text) else logprobs
            calls = index + 1 < len(groups) and isinstance(groups[index + 1][0], ToolCall)
            items.append(answer.message(answer.id("msg", index), content, status, before_call=calls))
    return items


def _is_silent(reason: str, thoughts: Iterator[bool]) -> bool:
    """Whether an answer ended by itself and has nothing but thoughts: agents would go on asking."""
    return reason == "stop" and all(thoughts)


def _prefix(free: bool) -> str:
    return "ctc" if free else "fc"


def _content(part: Part, logprobs: Sequence[TokenLogprob] = ()) -> Body:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    assert isinstance(part, Text)
    return {
        "type": "output_text",
        "annotations": [],
        "logprobs": [_logprob(one) for one in logprobs],
        "text": part.text,
    }


def _logprob(token: TokenLogprob) -> Body:
    return {**_token(token), "top_logprobs": [_token(other) for other in token.top]}


def _token(token: TokenLogprob) -> Body:
    # Minus infinity is no JSON; this is what OpenAI writes for it.
    return {"token": token.token, "bytes": list(token.token_bytes), "logprob": max(token.logprob, -9999.0)}


def _usage(usage: Usage) -> Body:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _error(failure: Failure) -> Body:
    return {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
    }


def _code(failure: Failure) -> str:
    if failure.code in _CODES:
        return failure.code
    return "server_error" if failure.status >= 500 else "invalid_prompt"


# ---- streams -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """An item of the answer under way."""

    index: int
    id: str

    def done(self, writer: ResponsesEncoder, status: str) -> Iterator[bytes]:
        """The events that end it."""
        raise NotImplementedError

    def item(self, answer: _Answer, status: str) -> Body:
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
        yield self._event(writer, "response.content_part.added", part=_content(kind("")))

    def add(self, writer: ResponsesEncoder, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        self.pieces.append(text)
        if self.kind is Refusal:
            return self._event(writer, "response.refusal.delta", delta=text)
        self.logprobs += logprobs
        shown = [_logprob(one) for one in logprobs]
        return self._event(writer, "response.output_text.delta", delta=text, logprobs=shown)

    def _event(self, writer: ResponsesEncoder, kind: str, **fields: object) -> bytes:
        where = {"item_id": self.id, "output_index": self.index, "content_index": len(self.closed)}
        return writer.event(kind, **where, **fields)

    def _part(self) -> Body:
        assert self.kind is not None
        return _content(self.kind("".join(self.pieces)), self.logprobs)

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

    def item(self, answer: _Answer, status: str) -> Body:
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

    def item(self, answer: _Answer, status: str) -> Body:
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

    def item(self, answer: _Answer, status: str) -> Body:
        start = self.start
        call = ToolCall(start.id, start.name, "".join(self.pieces), start.free, self.extra)
        return answer.call_item(self.id, call, status)


class ResponsesEncoder:
    """One streamed answer. An item is open until another begins; calls, of which one may be told more of once
    it is whole, until the end."""

    def __init__(self, answer: _Answer, store: ResponseStore) -> None:
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
        told = _error(failure)
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
        id = self._answer.id(_prefix(start.free), len(self._items))
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
        if _is_silent(end.reason, thoughts):
            yield from self._say(Text, "", ())
        for item in self._items:
            if isinstance(item, _Open):
                cut = end.reason in _INCOMPLETE and item.index == len(self._items) - 1
                yield from self._close(item, "incomplete" if cut else "completed")
        yield from self._sign()


def _is_thought(item: Item | _Open) -> bool:
    return isinstance(item, _OpenThoughts) or (isinstance(item, Mapping) and item["type"] == "reasoning")
