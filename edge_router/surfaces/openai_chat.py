"""OpenAI's /v1/chat/completions: bodies to requests, events to chunks. Its models and vectors go with it."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.events import Event, TextDelta
from edge_router.chat.reply import Reply
from edge_router.surfaces import openai_embeddings, openai_models, wire
from edge_router.surfaces.base import Body, Call, Failure, Head, Query
from edge_router.surfaces.openai_objects import ChatCompletionChunk
from edge_router.surfaces.openai_parsing import INCLUDE_USAGE, parse_chat
from edge_router.surfaces.openai_writing import ChunkMaker, completion

PATH = "/v1/chat/completions"
DONE = wire.event(b"[DONE]")
_NO_TEXT = wire.string("")  # where the text stands in a chunk that has none


class OpenAIChat:
    """See `surfaces.base.Surface`."""

    name = "openai-chat"
    paths = (PATH,)
    media_type = "text/event-stream"
    queries: tuple[Query, ...] = (*openai_models.QUERIES, *openai_embeddings.QUERIES)

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        return parse_chat(body)

    def encoder(self, call: Call, head: Head) -> ChatEncoder:
        return ChatEncoder(head, include_usage=bool(call.options.get(INCLUDE_USAGE)))

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        return completion(reply, head).to_dict()

    def error(self, failure: Failure) -> Body:
        return error_body(failure)

    def comment(self, text: str) -> bytes:
        return wire.comment(text)


class ChatEncoder:
    """A chunk of text, as most are, is written around its text: all else in it stands from the start."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._maker, self._include_usage = ChunkMaker(head), include_usage
        self._before, self._behind = self._written(self._maker.text_chunk("")).rsplit(_NO_TEXT, 1)

    def feed(self, event: Event) -> bytes:
        if type(event) is TextDelta and not event.logprobs and self._maker.started:
            return self._before + wire.string(event.text) + self._behind
        return b"".join(map(self._written, self._maker.chunks(event)))

    def end(self) -> bytes:
        return (self._written(self._maker.usage_chunk()) if self._include_usage else b"") + DONE

    def fail(self, failure: Failure) -> bytes:
        """No [DONE]: clients raise it."""
        return wire.event(wire.dumps(error_body(failure)))

    def _written(self, chunk: ChatCompletionChunk) -> bytes:
        return wire.event(wire.dumps(chunk.to_dict(include_usage=self._include_usage)))


def error_body(failure: Failure) -> Body:
    """OpenAI's form."""
    error = {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
    }
    return {"error": error}
