"""OpenAI's Responses, which Codex CLI and openai-agents speak. Answers are kept unless told not to."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.events import Finished
from edge_router.chat.reply import Reply
from edge_router.surfaces import wire
from edge_router.surfaces.base import Body, Call, Failure, Head
from edge_router.surfaces.openai.encode import error_body
from edge_router.surfaces.responses.answer import OPTIONS, ResponsesAnswer, output_items
from edge_router.surfaces.responses.encode import ResponsesEncoder
from edge_router.surfaces.responses.parse import parse
from edge_router.surfaces.responses.queries import PATH, Queries
from edge_router.surfaces.responses.store import ResponseStore


class OpenAIResponses:
    """See `surfaces.base.Surface`. Answers are kept in `store`."""

    name = "openai-responses"
    paths = (PATH,)
    media_type = "text/event-stream"

    def __init__(self, store: ResponseStore | None = None) -> None:
        self.store = store or ResponseStore()
        self.queries = Queries(self.store).all()

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        request, stream, options = parse(body, self.store)
        return Call(request, stream, {OPTIONS: options})

    def encoder(self, call: Call, head: Head) -> ResponsesEncoder:
        return ResponsesEncoder(ResponsesAnswer(call, head), self.store)

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        answer = ResponsesAnswer(call, head)
        end = Finished(reply.finish_reason, reply.usage)
        body = {**answer.body(output_items(answer, reply), end), **answer.options.echo}
        answer.keep(body, self.store)
        return body

    def error(self, failure: Failure) -> Body:
        return error_body(failure)

    def comment(self, text: str) -> bytes:
        return wire.comment(text)
