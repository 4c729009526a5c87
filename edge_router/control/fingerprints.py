"""Conversations by fingerprints of their turns: keyed hashes, from which no word can be read or guessed.

The key is made anew with each process, so that nothing of them means anything elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise

from edge_router.chat.message import Audio, File, Foreign, Image, Message, Part, Refusal, Text, ToolCall
from edge_router.chat.message import ToolResult as Result
from edge_router.chat.request import ChatRequest
from edge_router.parsing import strict_json
from edge_router.records import dataclass

_SIZE = 16  # bytes
_SYSTEM, _WORDS = ("system", "developer"), (Text, Refusal)
_LARGE = 4096  # letters of a picture or a sound, of which the ends tell it from others


@dataclass(frozen=True, slots=True)
class FingerprintedConversation:
    """A request's messages without the system's before all others; what the assistant said in a row is one.

    `begins` has a fingerprint of each beginning: of nothing, of the first message, of the first two, ...
    `scope` is whose it is, `system` what stands before it: another one leaves it the same conversation, and
    nothing that a model has read of it.
    """

    scope: bytes
    named: bool  # by the caller, who tells it from all others
    system: bytes
    messages: tuple[Message, ...]
    begins: tuple[bytes, ...]
    goes_on: bool = False  # the last message is the assistant's, and the answer goes on with it

    @property
    def asked(self) -> bytes:
        """Of what the answer is an answer to."""
        return self.begins[-2] if self.goes_on else self.begins[-1]

    @property
    def answers(self) -> Iterator[tuple[bytes, bytes]]:
        """Of each answer in it, the last first: what it answered with itself behind it, and without it."""
        for at in reversed(range(len(self.messages))):
            if self.messages[at].role == "assistant":
                yield self.begins[at + 1], self.begins[at]

    @property
    def results(self) -> frozenset[str]:
        """The ids of the calls whose results stand behind the last answer."""
        found: list[str] = []
        for message in reversed(self.messages):
            if message.role == "assistant":
                break
            found += [result.call_id for result in message.results]
        return frozenset(found)

    @property
    def last_answer(self) -> tuple[Part, ...]:
        """What that answer is made of."""
        return next((each.parts for each in reversed(self.messages) if each.role == "assistant"), ())


class Fingerprints:
    """Of one process. Safe to use from any number of threads."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or os.urandom(32)

    def conversation(self, request: ChatRequest) -> FingerprintedConversation:
        messages = _merged(request.messages)
        first = next((at for at, each in enumerate(messages) if each.role not in _SYSTEM), 0)
        named = request.session is not None
        scope = b""
        if named or request.caller is not None:
            scope = self._of(b"scope", _bytes(request.caller or ""), _bytes(request.session or ""))
        system = b""
        if first or request.tools:  # which stand before all else, too
            told = [piece for each in messages[:first] for piece in _told(each.parts)]
            system = self._of(*told, b"", *(_bytes(tool.name) for tool in request.tools))
        said, begins = tuple(messages[first:]), [scope]
        for message in said:
            begins.append(self._next(begins[-1], message))
        return FingerprintedConversation(
            scope, named, system, said, tuple(begins), request.continue_final and bool(said)
        )

    def answered(self, conversation: FingerprintedConversation, parts: Sequence[Part]) -> bytes:
        """Of the conversation with that answer at its end."""
        begun = conversation.messages[-1].parts if conversation.goes_on else ()
        return self._next(conversation.asked, Message("assistant", (*begun, *parts)))

    def call(self, conversation: FingerprintedConversation, call: ToolCall) -> bytes:
        """Of a tool's call, whatever went before it. Not of its id alone: some models count from 0 in each
        answer."""
        return self._of(b"call", conversation.scope, _bytes(call.id), *_told((call,)))

    def _next(self, before: bytes, message: Message) -> bytes:
        return self._of(before, _bytes(message.role), *_told(message.parts))

    def _of(self, *pieces: bytes) -> bytes:
        whole = b"".join([part for piece in pieces for part in (len(piece).to_bytes(8, "big"), piece)])
        return blake2b(whole, key=self._key, digest_size=_SIZE).digest()


def _merged(messages: Sequence[Message]) -> Sequence[Message]:
    """What the assistant said in a row as one: clients send its words and its calls together or apart."""
    if not any(one.role == other.role == "assistant" for one, other in pairwise(messages)):
        return messages
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role == "assistant":
            merged[-1] = Message("assistant", (*merged[-1].parts, *message.parts))
        else:
            merged.append(message)
    return merged


def _told(parts: Sequence[Part]) -> list[bytes]:
    """What every client sends back as it came: no thoughts, ids and blanks at the ends, and text as one."""
    text = "".join([part.text for part in parts if isinstance(part, _WORDS)]).strip()
    found = [_bytes(text)] if text else []
    for part in parts:
        if isinstance(part, ToolCall):
            found += (_bytes(part.name), _bytes(part.arguments) if part.free else _canonical(part.arguments))
        elif isinstance(part, Result):
            found += (b"result", *_told(part.parts))
        elif isinstance(part, Image | File):
            found.append(_ends(part.url or ""))
        elif isinstance(part, Audio):
            found.append(_ends(part.data))
        elif isinstance(part, Foreign):
            found.append(_bytes(part.kind))
    return found


def _canonical(arguments: str) -> bytes:
    """The same for the same JSON, however it is written; clients send it back in their own way."""
    try:
        value = strict_json.parse(arguments) if arguments.strip() else {}
    except ValueError:
        return _bytes(arguments)
    return json.dumps(value, sort_keys=True).encode()


def _ends(data: str) -> bytes:
    if len(data) <= _LARGE:
        return _bytes(data)
    half = _LARGE // 2
    return _bytes(f"{len(data)} {data[:half]} {data[-half:]}")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
