"""The controller for asyncio: the same one, driven from threads, so that the event loop never waits.

Each answer has a thread of its own: models compute or wait there, and its deltas are handed to the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

from edge_router.answer import Answer
from edge_router.completions import ChatCompletion, ChatCompletionChunk, ChunkMaker, collect
from edge_router.controller import Controller
from edge_router.errors import Cancelled
from edge_router.requests import conversation, parse_chat
from edge_router.types import ChatRequest, Decision, Delta, Timings, TokenMask, Vocabulary

if TYPE_CHECKING:
    from typing import Self


class AsyncAnswer:
    """`Answer`, awaited; iterate over it once. Leaving it early (`aclose`, or a cancelled task) ends it."""

    def __init__(self, answer: Answer, deltas: asyncio.Queue[Delta | BaseException | None]) -> None:
        self._answer, self._queue = answer, deltas
        self._ended = False

    @property
    def decision(self) -> Decision:
        return self._answer.decision

    @property
    def model(self) -> str:
        return self._answer.model

    @property
    def last(self) -> Delta:
        return self._answer.last

    @property
    def fallback_cause(self) -> Exception | None:
        return self._answer.fallback_cause

    @property
    def truncated(self) -> int:
        return self._answer.truncated

    @property
    def record_id(self) -> int | None:
        return self._answer.record_id

    @property
    def timings(self) -> Timings:
        return self._answer.timings

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            while not self._ended:
                item = await self._queue.get()
                self._ended = item is None or isinstance(item, BaseException)
                if isinstance(item, BaseException):
                    raise item
                if item is not None:
                    yield item
        finally:
            self._answer.cancel()

    def cancel(self) -> None:
        """End it, from the loop's thread: the model stops within one token, whoever iterates gets
        `Cancelled` after the deltas that are here already, without waiting for the model."""
        self._answer.cancel()
        self._queue.put_nowait(Cancelled())

    async def aclose(self) -> None:
        self.cancel()


class AsyncController:
    """`Controller` for asyncio, with the same arguments, or over one that exists already."""

    def __init__(self, controller: Controller | None = None, **arguments: Any) -> None:
        self.controller = controller or Controller(**arguments)
        self.chat = AsyncChat(self)

    async def start(self, request: ChatRequest) -> AsyncAnswer:
        """Like `Controller.start`. A task cancelled while it waits here cancels the generation."""
        loop = asyncio.get_running_loop()
        cancel = threading.Event()
        started: asyncio.Future[Answer] = loop.create_future()
        queue: asyncio.Queue[Delta | BaseException | None] = asyncio.Queue()

        def tell(call: Any, *values: object) -> None:
            try:
                loop.call_soon_threadsafe(call, *values)
            except RuntimeError:  # the loop is closed: nobody listens any more
                cancel.set()

        def begin(outcome: Answer | BaseException) -> None:
            if started.done():
                return
            if isinstance(outcome, BaseException):
                started.set_exception(outcome)
            else:
                started.set_result(outcome)

        def work() -> None:
            try:
                answer = self.controller.start(request, cancel)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is awaited
                tell(begin, error)
                return
            tell(begin, answer)
            try:
                for delta in answer:
                    tell(queue.put_nowait, delta)
                tell(queue.put_nowait, None)
            except BaseException as error:  # noqa: BLE001 - as above
                tell(queue.put_nowait, error)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="edge_router answer", daemon=True).start()
        try:
            return AsyncAnswer(await started, queue)
        except asyncio.CancelledError:
            cancel.set()
            raise

    async def route(
        self, prompt: str | Sequence[object], *, model: str = "auto", private: bool = False
    ) -> Decision:
        return await asyncio.to_thread(self.controller.route, prompt, model=model, private=private)

    async def warm(self) -> None:
        await asyncio.to_thread(self.controller.warm)

    async def close(self) -> None:
        await asyncio.to_thread(self.controller.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


class AsyncChat:
    def __init__(self, controller: AsyncController) -> None:
        self.completions = AsyncCompletions(controller)


class AsyncCompletions:
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
        **fields: object,
    ) -> AsyncChatStream: ...

    async def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: bool = False,
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        **fields: object,
    ) -> ChatCompletion | AsyncChatStream:
        """As `Completions.create`."""
        call = parse_chat({**fields, "messages": conversation(messages), "model": model, "stream": stream})
        answer = await self._controller.start(replace(call.request, mask=mask))
        if call.stream:
            return AsyncChatStream(answer, include_usage=call.include_usage)
        return await whole(answer)


async def whole(answer: AsyncAnswer) -> ChatCompletion:
    """Read an answer to its end."""
    deltas = [delta async for delta in answer]
    completion = collect(deltas, answer.model, answer.decision)
    return replace(completion, timings=answer.timings, fallback_cause=answer.fallback_cause)


class AsyncChatStream:
    """Chunks of one answer."""

    def __init__(self, answer: AsyncAnswer, *, include_usage: bool = False) -> None:
        self._answer, self._include_usage = answer, include_usage

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

    async def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        maker = ChunkMaker(self._answer.model)
        async for delta in self._answer:
            for chunk in maker.chunks(delta):
                yield chunk
        if self._include_usage:
            yield maker.usage_chunk(self._answer.last.usage)

    async def aclose(self) -> None:
        await self._answer.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
