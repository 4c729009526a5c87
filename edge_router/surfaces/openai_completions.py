"""OpenAI's /v1/completions: one prompt without a chat template, and the text that goes on from it."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.events import Event, Finished, FinishReason, TextDelta, TokenLogprob, Usage
from edge_router.chat.message import text_of
from edge_router.chat.reply import Reply
from edge_router.surfaces import wire
from edge_router.surfaces.base import Body, Call, Failure, Head, Query
from edge_router.surfaces.openai_chat import DONE, error_body
from edge_router.surfaces.openai_objects import CompletionUsage
from edge_router.surfaces.openai_parsing import INCLUDE_USAGE, parse_completion
from edge_router.surfaces.openai_writing import text_logprobs

PATH = "/v1/completions"


class OpenAICompletions:
    """See `surfaces.base.Surface`."""

    name = "openai-completions"
    paths = (PATH,)
    media_type = "text/event-stream"
    queries: tuple[Query, ...] = ()

    def parse(self, path: str, body: Mapping[str, object]) -> Call:
        return parse_completion(body)

    def encoder(self, call: Call, head: Head) -> CompletionEncoder:
        return CompletionEncoder(head, include_usage=bool(call.options.get(INCLUDE_USAGE)))

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        choice = _choice(text_of(reply.parts), reply.logprobs, reply.finish_reason)
        return {**_body(head), "choices": [choice], "usage": _usage(reply.usage)}

    def error(self, failure: Failure) -> Body:
        return error_body(failure)

    def comment(self, text: str) -> bytes:
        return wire.comment(text)


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
