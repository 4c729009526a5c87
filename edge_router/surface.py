"""`client.chat.completions.create(...)`, in the shape of OpenAI's client, over a controller."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol, overload

from edge_router.answer import Answer
from edge_router.completions import ChatCompletion, ChatCompletionChunk, ChunkMaker, collect
from edge_router.requests import conversation, parse_chat
from edge_router.types import Cancel, ChatRequest, Decision, Timings, TokenMask, Vocabulary

if TYPE_CHECKING:
    from typing import Self


class Starts(Protocol):
    """A controller, as far as this file is concerned."""

    def start(self, request: ChatRequest, cancel: Cancel | None = None) -> Answer: ...


class Chat:
    def __init__(self, controller: Starts) -> None:
        self.completions = Completions(controller)


class Completions:
    def __init__(self, controller: Starts) -> None:
        self._controller = controller

    @overload
    def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: Literal[False] = False,
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        **fields: object,
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: Literal[True],
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        **fields: object,
    ) -> ChatStream: ...

    def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: bool = False,
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        **fields: object,
    ) -> ChatCompletion | ChatStream:
        """An answer, whole or as a stream of chunks. `fields` are OpenAI's, plus `private=True`.

        `mask` says token by token what the weak model may write; it is made anew for each answer.
        Raises `InvalidRequest` and whatever kept both models from answering.
        """
        call = parse_chat({**fields, "messages": conversation(messages), "model": model, "stream": stream})
        answer = self._controller.start(replace(call.request, mask=mask))
        return ChatStream(answer, include_usage=call.include_usage) if call.stream else whole(answer)


def whole(answer: Answer) -> ChatCompletion:
    """Read an answer to its end."""
    completion = collect(answer, answer.model, answer.decision)
    return replace(completion, timings=answer.timings, fallback_cause=answer.fallback_cause)


class ChatStream:
    """Chunks of one answer. Leaving it early, by `close` or `with`, ends the generation."""

    def __init__(self, answer: Answer, *, include_usage: bool = False) -> None:
        self._answer = answer
        self._chunks = self._run(include_usage)

    @property
    def decision(self) -> Decision:
        return self._answer.decision

    @property
    def model(self) -> str:
        return self._answer.model

    @property
    def timings(self) -> Timings:
        return self._answer.timings

    @property
    def fallback_cause(self) -> Exception | None:
        """The error that made the other model answer, if one did."""
        return self._answer.fallback_cause

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self._chunks

    def __next__(self) -> ChatCompletionChunk:
        return next(self._chunks)

    def _run(self, include_usage: bool) -> Generator[ChatCompletionChunk]:
        maker = ChunkMaker(self._answer.model)
        for delta in self._answer:
            yield from maker.chunks(delta)
        if include_usage:
            yield maker.usage_chunk(self._answer.last.usage)

    def close(self) -> None:
        self._chunks.close()
        self._answer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
