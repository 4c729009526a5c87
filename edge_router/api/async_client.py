"""The controller for asyncio: the same one, done in steps, so that the event loop never waits.

An answer whose model computes here has a thread to itself. One that arrives, as a remote model's does, has a
thread for the moments at its beginning and its end; in between its reader takes it event by event
(`thread_stream.py`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, Unpack, overload

from edge_router.api.client import Controller, ControllerArguments, own_words, wholly
from edge_router.api.idle_threads import IdleThreads
from edge_router.api.inquiring import Inquiring
from edge_router.api.thread_stream import StreamOptions, ThreadStream
from edge_router.chat.events import Event, Finished
from edge_router.chat.request import ChatRequest, TokenMask, Vocabulary
from edge_router.control.answer import Answer
from edge_router.control.steps import Pause, before_next
from edge_router.engines.base import Arriving
from edge_router.questions.asking import inquiry_request
from edge_router.questions.inquiry import Truncation
from edge_router.questions.question import Question
from edge_router.questions.result import Answers
from edge_router.surfaces.base import Head
from edge_router.surfaces.openai.objects import ChatCompletion, ChatCompletionChunk
from edge_router.surfaces.openai.parse import INCLUDE_USAGE, conversation, parse_chat
from edge_router.surfaces.openai.replies import ChunkMaker
from edge_router.types import Cancel, Decision, Timings

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
_KEEP_S = 5.0  # how long a thread waits for the next answer
_SETTLE_S = 3.0  # hundreds of rows of the ledger, on a busy machine
_CANCELLED_S = 1.0  # until answers have ended that were told to; a model may be in the midst of a long prompt


class AsyncAnswer(Generic[T]):
    """`Answer`, awaited; iterate over it once. Leaving it early (`aclose`, or a cancelled task) ends it.

    Its items are what `through` makes of the answer, one of each event, or None; of `AsyncController.start`
    they are its events. A reader who does not read pauses the model. Before `begun` nothing is known of it.
    `afterwards` is done in a thread once it has ended, however it ended, also where it never began.
    """

    def __init__(
        self,
        start: Callable[[Cancel], Generator[Pause, None, Answer]],
        through: Callable[[Answer], Iterable[T | None]],
        *,
        threads: IdleThreads | None = None,
        afterwards: Callable[[], None] | None = None,
        **reading: Unpack[StreamOptions[T]],
    ) -> None:
        found = self._found = list[Answer]()  # work must not hold this object, which ends it when left
        cancel = self.cancel_event = threading.Event()

        def work() -> Iterator[T | Pause | None]:
            try:
                answer = yield from start(cancel)
                found.append(answer)
                try:
                    yield from _paced(through(answer), answer.arriving)
                finally:
                    answer.close()
            finally:
                if afterwards is not None:
                    afterwards()

        self._stream = ThreadStream(work, cancel=cancel, threads=threads, **reading)

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.drop()

    async def begun(self, wait_s: float | None = None) -> bool:
        """Whether its first item is there, after waiting for it up to `wait_s`.

        Raises what kept it from beginning.
        """
        ready = await self._stream.ready(wait_s)
        self._stream.check()
        return ready

    async def take(self, wait_s: float | None = None) -> list[T]:
        """Items that are here, and [] where none has come within `wait_s` or none will; see `ended`."""
        return await self._stream.take(wait_s)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._stream.ended

    @property
    def ended_well(self) -> bool:
        """Whether it came to its end without an error."""
        return self._stream.ended_well

    @property
    def decision(self) -> Decision:
        """Where it was sent, and why."""
        return self._answer.decision

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._answer.model

    @property
    def finished(self) -> Finished | None:
        """Its last event, once it was made."""
        return self._answer.finished

    @property
    def fallback_cause(self) -> Exception | None:
        """The error that made the other model answer, if one did."""
        return self._answer.fallback_cause

    @property
    def truncated(self) -> int:
        """How many messages were left out, for the prompt did not fit."""
        return self._answer.truncated

    @property
    def record_id(self) -> int | None:
        """Its record's number in the ledger, once it is kept."""
        return self._answer.record_id

    @property
    def timings(self) -> Timings:
        """How long its parts took, as far as it has come."""
        return self._answer.timings

    @property
    def _answer(self) -> Answer:
        return self._found[0]

    async def __aiter__(self) -> AsyncIterator[T]:
        try:
            while items := await self.take():
                for item in items:
                    yield item
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End it, from any thread: the model stops within one token, whoever iterates gets `Cancelled` at
        once, without waiting for the model, and without what was not yet read."""
        self._stream.close()

    async def aclose(self) -> None:
        """Ends it, read to its end or not."""
        self.cancel()


def _events(answer: Answer) -> Iterator[Event]:
    return iter(answer)


def _paced(items: Iterable[T | None], arriving: Arriving[Event] | None) -> Iterator[T | Pause | None]:
    """`items`, with what the next one takes between those that are made of what arrives."""
    if arriving is None:
        yield from items
        return
    made = iter(items)
    try:
        for item in made:
            yield item
            yield before_next(arriving)
    finally:
        if isinstance(made, Generator):
            made.close()


class AsyncController:
    """`Controller` for asyncio, with the same arguments, or over one that exists already."""

    def __init__(
        self, controller: Controller | None = None, **arguments: Unpack[ControllerArguments]
    ) -> None:
        self.controller = controller or Controller(**arguments)
        self.chat = AsyncChat(self)
        self._threads = IdleThreads(_KEEP_S)

    async def start(self, request: ChatRequest) -> AsyncAnswer[Event]:
        """Like `Controller.start`. A task cancelled while it waits here cancels the generation."""
        answer: AsyncAnswer[Event] = self.answer(request, _events)
        try:
            await answer.begun()
        except BaseException:
            answer.cancel()
            raise
        return answer

    def answer(
        self,
        request: ChatRequest,
        through: Callable[[Answer], Iterable[T | None]],
        *,
        afterwards: Callable[[], None] | None = None,
        **reading: Unpack[StreamOptions[T]],
    ) -> AsyncAnswer[T]:
        """An answer that has not begun yet, its events turned by `through`."""
        start = partial(self.controller.starting, request)
        return AsyncAnswer(start, through, threads=self._threads, afterwards=afterwards, **reading)

    async def route(
        self,
        prompt: str | Sequence[object],
        *,
        model: str = "auto",
        private: bool = False,
        caller: str | None = None,
    ) -> Decision:
        """As `Controller.route`."""
        route = partial(self.controller.route, model=model, private=private, caller=caller)
        return await asyncio.to_thread(route, prompt)

    def inquiry(self, request: ChatRequest) -> Inquiring:
        """The answers to its typed questions, which are being found."""
        return Inquiring(self.controller.answering, request, self._threads)

    async def decide(
        self,
        state: object,
        questions: Sequence[Question] | Mapping[str, Question],
        *,
        model: str = "auto",
        private: bool = False,
        caller: str | None = None,
        truncation: Truncation = "refuse",
    ) -> Answers:
        """As `Controller.decide`. A task that is cancelled meanwhile ends it."""
        request = inquiry_request(state, questions, model=model, private=private, truncation=truncation)
        inquiring = self.inquiry(replace(request, caller=caller))
        try:
            return await inquiring.answers()
        finally:
            inquiring.cancel()

    async def warm(self) -> None:
        """Loads the models, as `Controller.warm` does."""
        await asyncio.to_thread(self.controller.warm)

    async def close(self) -> None:
        """Closes the controller, and ends the threads."""
        await asyncio.to_thread(self.controller.close)
        await asyncio.to_thread(self.settle)

    def settle(self) -> None:
        """Wait, not for long, until what has ended is written down."""
        self._threads.settle(_SETTLE_S, _CANCELLED_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


class AsyncChat:
    """`client.chat`, as OpenAI's asynchronous client has it."""

    def __init__(self, controller: AsyncController) -> None:
        self.completions = AsyncCompletions(controller)


class AsyncCompletions:
    """`client.chat.completions`, as OpenAI's asynchronous client has it."""

    def __init__(self, controller: AsyncController) -> None:
        self._controller = controller

    @overload
    async def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: Literal[False] = False,
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        response_cache: str | None = None,
        caller: str | None = None,
        session: str | None = None,
        **fields: object,
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: Literal[True],
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        response_cache: str | None = None,
        caller: str | None = None,
        session: str | None = None,
        **fields: object,
    ) -> AsyncChatStream: ...

    async def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: bool = False,
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        response_cache: str | None = None,
        caller: str | None = None,
        session: str | None = None,
        **fields: object,
    ) -> ChatCompletion | AsyncChatStream:
        """As `Completions.create`."""
        call = parse_chat({**fields, "messages": conversation(messages), "model": model, "stream": stream})
        request = own_words(call.request, mask, response_cache, caller, session)
        if call.stream:
            return AsyncChatStream(
                await self._controller.start(request), include_usage=bool(call.options[INCLUDE_USAGE])
            )
        async for completion in self._controller.answer(request, wholly):
            return completion
        raise AssertionError("a whole answer is one item")


class AsyncChatStream:
    """Chunks of one answer."""

    def __init__(self, answer: AsyncAnswer[Event], *, include_usage: bool = False) -> None:
        self._answer, self._include_usage = answer, include_usage

    @property
    def decision(self) -> Decision:
        """Where it was sent, and why."""
        return self._answer.decision

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._answer.model

    @property
    def timings(self) -> Timings:
        """How long its parts took, as far as it has come."""
        return self._answer.timings

    @property
    def fallback_cause(self) -> Exception | None:
        """The error that made the other model answer, if one did."""
        return self._answer.fallback_cause

    async def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        maker = ChunkMaker(Head.begun(self._answer.model, self._answer.decision))
        async for event in self._answer:
            for chunk in maker.chunks(event):
                yield chunk
        if self._include_usage:
            yield maker.usage_chunk()

    def cancel(self) -> None:
        """End it within one token, from any thread: whoever reads it gets `Cancelled`."""
        self._answer.cancel()

    async def aclose(self) -> None:
        """Ends it, read to its end or not."""
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
