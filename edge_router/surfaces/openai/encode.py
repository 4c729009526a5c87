"""Answers of /v1/chat/completions and /v1/completions as events, and OpenAI's errors. Pure."""

from __future__ import annotations

from functools import lru_cache

from edge_router.chat.events import Event, Finished, FinishReason, TextDelta, TokenLogprob, Usage
from edge_router.chat.message import text_of
from edge_router.chat.reply import Reply
from edge_router.surfaces import wire
from edge_router.surfaces.base import Body, Failure, Head
from edge_router.surfaces.openai.objects import ChatCompletionChunk, CompletionUsage
from edge_router.surfaces.openai.replies import ChunkMaker, chat_id, text_logprobs
from edge_router.types import Decision, Reason

DONE = wire.event(b"[DONE]")
_NO_TEXT = wire.string("")  # where the text stands in a chunk that has none
_NO_ID, _NO_TIME = wire.string("chatcmpl-"), b'"created":0'


class ChatEncoder:
    """A chunk of text, as most are, is written around its text: all else in it stands from the start."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._maker, self._include_usage = ChunkMaker(head), include_usage
        forms = _forms(head.model, include_usage)
        self._opening, text = [_filled(form, head) for form in forms]
        self._before, self._behind = text.rsplit(_NO_TEXT, 1)

    def feed(self, event: Event) -> bytes:
        opening = b""
        if not self._maker.started:
            opening, self._maker.started = self._opening, True
        if type(event) is TextDelta and not event.logprobs:
            return opening + self._before + wire.string(event.text) + self._behind
        return opening + b"".join(map(self._written, self._maker.chunks(event)))

    def end(self) -> bytes:
        return (self._written(self._maker.usage_chunk()) if self._include_usage else b"") + DONE

    def fail(self, failure: Failure) -> bytes:
        """No [DONE]: clients raise it."""
        return wire.event(wire.dumps(error_body(failure)))

    def _written(self, chunk: ChatCompletionChunk) -> bytes:
        return _event(chunk, self._include_usage)


def _event(chunk: ChatCompletionChunk, include_usage: bool) -> bytes:
    return wire.event(wire.dumps(chunk.to_dict(include_usage=include_usage)))


@lru_cache(maxsize=64)
def _forms(model: str, include_usage: bool) -> tuple[bytes, bytes]:
    """The first chunk of an answer of `model` and one of text, which are the same but for `_filled`."""
    maker = ChunkMaker(Head("", 0, model, Decision("weak", Reason.FORCED)))
    return _event(maker.opening(), include_usage), _event(maker.text_chunk(""), include_usage)


def _filled(form: bytes, head: Head) -> bytes:
    """With the answer's id and time, which stand before all that a model's name could look like."""
    form = form.replace(_NO_ID, wire.string(chat_id(head)), 1)
    return form.replace(_NO_TIME, b'"created":%d' % head.created, 1)


def error_body(failure: Failure) -> Body:
    """OpenAI's form."""
    error = {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
    }
    return {"error": error}


class CompletionEncoder:
    """Text and its end; what else there may be has no place here."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._opening = _body(head)
        self._always: Body = {"usage": None} if include_usage else {}
        self._include_usage = include_usage
        self._last: Usage | None = None

    def feed(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self._written([_choice(event.text, event.logprobs, None)], self._always)
        if isinstance(event, Finished):
            self._last = event.usage
            return self._written([_choice("", (), event.reason)], self._always)
        return b""

    def end(self) -> bytes:
        return (self._written([], {"usage": _usage(self._last)}) if self._include_usage else b"") + DONE

    def fail(self, failure: Failure) -> bytes:
        """No [DONE]: clients raise it."""
        return wire.event(wire.dumps(error_body(failure)))

    def _written(self, choices: list[Body], more: Body) -> bytes:
        return wire.event(wire.dumps({**self._opening, "choices": choices, **more}))


def whole_text(reply: Reply, head: Head) -> Body:
    """The body of an answer of /v1/completions that is not streamed."""
    choice = _choice(text_of(reply.parts), reply.logprobs, reply.finish_reason)
    return {**_body(head), "choices": [choice], "usage": _usage(reply.usage)}


def _body(head: Head) -> Body:
    return {
        "id": f"cmpl-{head.id}",
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
    }


def _choice(text: str, logprobs: tuple[TokenLogprob, ...], reason: FinishReason | None) -> Body:
    return {"index": 0, "text": text, "logprobs": text_logprobs(logprobs), "finish_reason": reason}


def _usage(usage: Usage | None) -> Body | None:
    return None if usage is None else CompletionUsage.of(usage).to_dict()
