"""How many tokens a question and an answer may have been, told from their bytes.

An endpoint's `usage` is believed within what its answer can have been: a token is at least a byte of what was
sent or read, but for thoughts that are not shown, and on the average no more than a few. Where no usage came,
since the reader left or the stream broke off, the tokens are estimated, high rather than low.
"""

from __future__ import annotations

import json

from edge_router.chat.events import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.request import ChatRequest, HostedTool, Tool

BYTES_PER_TOKEN = 3  # English has about four, other languages and code fewer
LONGEST_TOKEN = 32  # bytes, on the average of a whole text of any kind
CALL_BYTES = 64  # of a tool call, beside its name and its arguments
MEDIA_TOKENS = 2_000  # of a picture, a sound, a file
FORM_TOKENS = 256  # what an endpoint's own template may add to a question
MESSAGE_TOKENS = 16  # and to each message
END_TOKENS = 16  # of an answer that show nowhere
ANSWER_TOKENS = 4_096  # of an answer whose length nobody bounds
HIDDEN_TOKENS = 65_536  # thoughts that are counted and not shown


class TokenMeter:
    """One answer's bytes and pieces, added up while it is read."""

    def __init__(self, request: ChatRequest) -> None:
        self._sent, self._media = _sent(request)
        self._messages = len(request.messages)
        self._most = request.max_tokens
        self._bytes = self._pieces = 0

    def read(self, event: Event) -> None:
        size = event_bytes(event)
        self._bytes += size
        self._pieces += size > 0

    def most(self) -> Usage:
        """Before it has begun: what it may be, and beyond which it is unlikely to go."""
        return Usage(self._prompt_estimate, ANSWER_TOKENS if self._most is None else self._most)

    def unheard(self) -> Usage:
        """Of an endpoint that has read the question and was not heard any more."""
        return Usage(self._prompt_estimate, 0)

    def usage(self, stated: Usage | None) -> Usage:
        """What is to be paid: what the endpoint stated, as far as that can be, or else an estimate."""
        if stated is None:
            return self.estimate()
        hidden, estimate = min(max(stated.reasoning_tokens, 0), HIDDEN_TOKENS), self.estimate()
        answer = max(self._bytes, self._pieces) + hidden + END_TOKENS
        prompt = self._sent + self._media * MEDIA_TOKENS + self._messages * MESSAGE_TOKENS + FORM_TOKENS
        return Usage(
            _within(stated.prompt_tokens, self._sent, prompt, estimate.prompt_tokens),
            _within(stated.completion_tokens, self._bytes, answer, estimate.completion_tokens),
        )

    def estimate(self) -> Usage:
        """At least one token for each piece that came."""
        return Usage(self._prompt_estimate, max(self._pieces, -(-self._bytes // BYTES_PER_TOKEN)))

    @property
    def _prompt_estimate(self) -> int:
        return -(-self._sent // BYTES_PER_TOKEN) + self._media * MEDIA_TOKENS


def _within(stated: int, size: int, most: int, estimate: int) -> int:
    """`stated`, as far as `size` bytes can be that many tokens; none of something is no statement."""
    return min(max(stated, size // LONGEST_TOKEN), most) if stated > 0 else estimate


def _sent(request: ChatRequest) -> tuple[int, int]:
    """Bytes of text that go out, and how many pictures and the like."""
    text = sum(len(message.text.encode("utf-8", "replace")) for message in request.messages)
    described = sum(_described(tool) for tool in request.tools)
    return text + described, sum(message.has_media for message in request.messages)


def _described(tool: Tool | HostedTool) -> int:
    """Bytes of what an endpoint is told of `tool`."""
    if isinstance(tool, HostedTool):
        return len(json.dumps(dict(tool.body), default=str))
    grammar = tool.form.source if tool.form is not None else ""
    return len(json.dumps([tool.name, tool.description, tool.parameters, grammar], default=str))


def event_bytes(event: Event) -> int:
    """Of everything that was written: text, thoughts, refusals, tool calls."""
    if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta | ToolCallArguments):
        return len(event.text.encode("utf-8", "replace"))
    return CALL_BYTES + len(event.name) if isinstance(event, ToolCallStart) else 0
