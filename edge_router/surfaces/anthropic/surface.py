"""Anthropic's Messages: /v1/messages, its count of tokens, and models in Anthropic's form.

What the server does for it: it takes the key as `x-api-key` too, whatever `anthropic-version` and
`anthropic-beta` say, and query strings (`?beta=true`). GET /v1/models is OpenAI's but for requests with the
header `anthropic-version` (`SurfaceQuery.header`). Where it knows a request's id, it says so in the header
`request-id`, and bodies of errors repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.reply import Reply
from edge_router.surfaces.anthropic import encode
from edge_router.surfaces.anthropic.parse import NAME, parse
from edge_router.surfaces.anthropic.queries import QUERIES
from edge_router.surfaces.base import Body, Call, Failure, Head, SurfaceQuery


class AnthropicMessages:
    """See `surfaces.base.Surface`."""

    name = NAME
    paths = ("/v1/messages",)
    media_type = "text/event-stream"
    queries: tuple[SurfaceQuery, ...] = QUERIES

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        return parse(body)

    def encoder(self, call: Call, head: Head) -> encode.MessagesEncoder:
        return encode.MessagesEncoder(call, head)

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        return encode.whole(call, head, reply)

    def error(self, failure: Failure) -> Body:
        return encode.error_body(failure)

    def comment(self, text: str) -> bytes:
        return encode.comment(text)
