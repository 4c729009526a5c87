"""How much of an answer is taken: bytes of a message, memory of an answer, tokens past the limit. Pure.

A remote model is somebody else's program. Whatever it sends, one answer may not take the machine's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from sys import getsizeof
from typing import NoReturn

from edge_router.chat.events import (
    Event,
    ForeignDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
)
from edge_router.engines.remote.outcomes import Garbled

LARGEST_MESSAGE = 2 * 2**20  # bytes of one event, or of an answer that is not streamed
LARGEST_ERROR = 64 * 2**10  # bytes of a refusal's body; what lies behind is not read
LARGEST_ANSWER = 32 * 2**20  # bytes of memory that the pieces of an answer take together
LARGEST_SILENCE = 4 * 2**20  # bytes in a row of which nothing was a token: comments, empty pieces

SEEN = 64 * 2**10  # a smaller message is parsed unseen: no JSON makes more than 3 MB of it
_LARGEST_PARSED = 24 * 2**20  # bytes that a larger one may become
_CONTAINER = 96  # bytes that a list or an object of JSON takes in Python, for a character or two
_ITEM = 32
_PLACE = 24  # what the list of an answer's pieces, and the allocator, take for each
_RICH = 4  # how much more memory tool calls, log probabilities and other objects take than their JSON

# No tokenizer makes more characters of a token than this on the average of a whole answer, and where pieces
# are counted, four characters are a token: an endpoint may send them letter by letter.
_LONGEST_TOKEN = 32
_USUAL_TOKEN = 4
_SLACK_TOKENS = 64
_SLACK_CHARACTERS = 4096
_SLACK_THOUGHTS = 2**18  # characters: not every endpoint counts them


class TooLong(Garbled):
    """More than any answer has."""


def refuse_longer(what: str, limit: int) -> NoReturn:
    raise TooLong(f"{what} of more than {_amount(limit)}")


def check_message(what: str, data: bytes | bytearray) -> None:
    """Raises `TooLong` for JSON that is too long, or would be too large once it is parsed."""
    parsed = len(data) + _CONTAINER * (data.count(b"[") + data.count(b"{")) + _ITEM * data.count(b",")
    if len(data) > LARGEST_MESSAGE or parsed > _LARGEST_PARSED:
        refuse_longer(what, LARGEST_MESSAGE if len(data) > LARGEST_MESSAGE else _LARGEST_PARSED)


class SizeMeter:
    """How much of one answer came so far. `max_tokens` is what the request allows, if it says."""

    def __init__(self, max_tokens: int | None) -> None:
        self.past_max_tokens = False  # more came than `max_tokens` can be, by any count
        self._silence = self._taken = self._pieces = self._characters = self._thoughts = 0
        self._most_tokens = self._most_characters = self._most_thoughts = inf
        if max_tokens is not None:
            self._most_tokens = 2 * max_tokens + _SLACK_TOKENS
            self._most_characters = _LONGEST_TOKEN * max_tokens + _SLACK_CHARACTERS
            self._most_thoughts = self._most_characters + _SLACK_THOUGHTS

    def read(self, size: int) -> None:
        """So many bytes came. Raises `TooLong` where that were too many since the last token."""
        self._silence += size
        if self._silence > LARGEST_SILENCE:
            raise TooLong(f"{_amount(LARGEST_SILENCE)} without a token")

    def take(self, events: Sequence[Event], size: int, *, token: bool = True, held: int = 0) -> None:
        """A piece of the answer, out of `size` bytes; `held`: characters that do not show yet.

        Raises `TooLong`.
        """
        if token:
            self._silence = 0
        self._pieces += 1
        self._characters += held
        for event in events:
            self._weigh(event)
        if not events or any(map(_is_rich, events)):  # where none shows yet, it is kept none the less
            self._taken += _RICH * size
        else:
            self._taken += sum(
                getsizeof(event.text) + _PLACE for event in events if isinstance(event, _TEXTS)
            )
        if self._taken > LARGEST_ANSWER:
            refuse_longer("an answer", LARGEST_ANSWER)
        if self._pieces > self._most_tokens:
            self.past_max_tokens = self._characters > _USUAL_TOKEN * self._most_tokens
        if self._characters > self._most_characters or self._thoughts > self._most_thoughts:
            self.past_max_tokens = True

    def _weigh(self, event: Event) -> None:
        if isinstance(event, ReasoningDelta):
            self._thoughts += len(event.text)
        elif isinstance(event, TextDelta | RefusalDelta | ToolCallArguments):
            self._characters += len(event.text)


_TEXTS = (TextDelta, ReasoningDelta, RefusalDelta)


def _is_rich(event: Event) -> bool:
    """Whether it is made of many small objects."""
    if isinstance(event, TextDelta):
        return bool(event.logprobs)
    if isinstance(event, ReasoningDelta):
        return bool(event.opaque)
    return isinstance(event, ToolCallStart | ToolCallArguments | ForeignDelta)


def _amount(limit: int) -> str:
    return f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
