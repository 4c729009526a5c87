"""OpenAI's /v1/chat/completions, with its models and vectors, and /v1/completions: one prompt without a chat
template, and the text that goes on from it."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.reply import Reply
from edge_router.surfaces import wire
from edge_router.surfaces.base import Body, Call, Failure, Head, SurfaceQuery
from edge_router.surfaces.openai.encode import ChatEncoder, CompletionEncoder, error_body, whole_text
from edge_router.surfaces.openai.parse import INCLUDE_USAGE, parse_chat, parse_completion
from edge_router.surfaces.openai.queries import QUERIES
from edge_router.surfaces.openai.replies import completion


class OpenAIChat:
    """See `surfaces.base.Surface`."""

    name = "openai-chat"
    paths = ("/v1/chat/completions",)
    media_type = "text/event-stream"
    queries: tuple[SurfaceQuery, ...] = QUERIES

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


class OpenAICompletions:
    """See `surfaces.base.Surface`."""

    name = "openai-completions"
    paths = ("/v1/completions",)
    media_type = "text/event-stream"
    queries: tuple[SurfaceQuery, ...] = ()

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        return parse_completion(body)

    def encoder(self, call: Call, head: Head) -> CompletionEncoder:
        return CompletionEncoder(head, include_usage=bool(call.options.get(INCLUDE_USAGE)))

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        return whole_text(reply, head)

    def error(self, failure: Failure) -> Body:
        return error_body(failure)

    def comment(self, text: str) -> bytes:
        return wire.comment(text)
