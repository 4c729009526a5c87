"""The same controller on an event loop, which never waits for a model: one that computes, one that arrives."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable

import pytest
from arriving import ArrivingEngine

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import Event, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Prompt
from edge_router.engines.scripted import Reply
from edge_router.errors import (
    Cancelled,
    GenerationFailed,
    InternalError,
    InvalidRequest,
    StrongInterrupted,
    StrongUnreachable,
)

HI = [{"role": "user", "content": "hi"}]
REQUEST = ChatRequest((Message("user", "hi"),), target="weak")
HARD = ChatRequest((Message("user", "hi"),))


def run(test: Callable[[AsyncController], Awaitable[None]], *replies: Reply) -> None:
    for kind in (ScriptedEngine, ArrivingEngine):
        weak = kind(*replies, model_id="small", serves=())

        async def main(weak: ScriptedEngine = weak) -> None:
            async with AsyncController(Controller(Config(), weak=weak)) as client:
                await asyncio.wait_for(test(client), 20)
                if isinstance(weak, ArrivingEngine):
                    await eventually(lambda: not weak.under_way)

        asyncio.run(main())
        assert weak.closed


def answering() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edge_router answer"]


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def test_a_whole_reply_and_a_route() -> None:
    async def test(client: AsyncController) -> None:
        reply = await client.chat.completions.create(messages="hi", model="weak")
        assert reply.text == "Paris is it."
        assert reply.timings.total_ms is not None
        assert (await client.route("hi", model="router-length-1.0")).model == "weak"

    run(test, "Paris is it.")


def test_it_can_build_its_own_controller() -> None:
    async def main() -> None:
        async with AsyncController(weak=ScriptedEngine("yes")) as client:
            assert (await client.chat.completions.create(messages="hi", model="weak")).text == "yes"

    asyncio.run(main())


def test_warming() -> None:
    async def main() -> None:
        config = Config().replace(**{"router.name": "length"})
        async with AsyncController(Controller(config, weak=ScriptedEngine())) as client:
            await client.warm()

    asyncio.run(main())


def test_a_stream() -> None:
    async def test(client: AsyncController) -> None:
        stream = await client.chat.completions.create(
            messages=HI, model="weak", stream=True, stream_options={"include_usage": True}
        )
        assert (stream.model, stream.decision.model) == ("small", "weak")
        chunks = [chunk async for chunk in stream]
        assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "Paris is it."
        assert chunks[-1].usage is not None
        assert stream.timings.total_ms is not None

    run(test, "Paris is it.")


def test_an_answer_is_read_once_and_never_hangs() -> None:
    async def test(client: AsyncController) -> None:
        answer = await client.start(REQUEST)
        assert answer.fallback_cause is None
        assert collect([event async for event in answer]).text == "You said: hi"
        assert [delta async for delta in answer] == []
        assert answer.finished is not None and answer.finished.reason == "stop"

    run(test)


def test_the_loop_runs_on_while_a_model_computes() -> None:
    gate = threading.Event()

    async def test(client: AsyncController) -> None:
        gate.clear()
        task = asyncio.create_task(client.chat.completions.create(messages="hi", model="weak"))
        await asyncio.sleep(0.02)  # a blocked loop would never come back to open the gate
        assert not task.done()
        gate.set()
        assert (await task).text == "done"

    run(test, [gate, "done"])


@pytest.mark.parametrize("end", ["cancel in a thread", "cancel", "aclose"])
def test_a_stop_button(end: str) -> None:
    watched = Watched()

    async def test(client: AsyncController) -> None:
        stream = await client.chat.completions.create(messages=HI, model="weak", stream=True)
        with pytest.raises(Cancelled):
            async for number, _ in aenumerate(stream):
                if number == 3 and end == "aclose":
                    await stream.aclose()
                elif number == 3:
                    stop = threading.Thread(target=stream.cancel)
                    stop.run() if end == "cancel" else stop.start()
        await silence()

    run(test, watched)


def test_a_stream_that_is_dropped_ends_the_generation() -> None:
    watched = Watched()

    async def test(client: AsyncController) -> None:
        await client.chat.completions.create(messages=HI, model="weak", stream=True)
        await silence()

    run(test, watched)


async def aenumerate(stream: AsyncIterable[object]) -> AsyncIterator[tuple[int, object]]:
    number = 0
    async for item in stream:
        yield number, item
        number += 1


def test_many_at_once() -> None:
    gates = [threading.Event() for _ in range(8)]

    async def test(client: AsyncController) -> None:
        tasks = [
            asyncio.create_task(client.chat.completions.create(messages="hi", model="weak")) for _ in gates
        ]
        for gate in reversed(gates):
            gate.set()
        assert sorted(reply.text for reply in await asyncio.gather(*tasks)) == list("01234567")

    run(test, *[[gate, str(number)] for number, gate in enumerate(gates)])


def test_errors_before_and_after_the_first_delta() -> None:
    async def test(client: AsyncController) -> None:
        with pytest.raises(InvalidRequest):
            await client.chat.completions.create(messages=[])
        with pytest.raises(GenerationFailed):
            await client.start(REQUEST)
        stream = await client.chat.completions.create(messages=HI, model="weak", stream=True)
        seen = []
        with pytest.raises(GenerationFailed):
            async for chunk in stream:
                seen.append(chunk)
        assert seen[1].choices[0].delta.content == "half"

    run(test, GenerationFailed("small", "no"), ["half", GenerationFailed("small", "broke")])


class Watched:
    """A reply of endless words that knows when it ended, and how."""

    def __init__(self) -> None:
        self.said = 0

    def __call__(self, request: ChatRequest) -> Reply:
        return self.words()  # type: ignore[return-value]  # a generator serves as well as a list

    def words(self) -> object:
        while True:
            self.said += 1
            yield "word "
            yield 0.002


async def silence() -> None:
    """Returns once nothing generates any more; `run` ends the test if that never happens."""
    await eventually(lambda: not answering())


def test_closing_a_stream_ends_the_generation() -> None:
    watched = Watched()

    async def test(client: AsyncController) -> None:
        async with await client.chat.completions.create(messages=HI, model="weak", stream=True) as stream:
            chunks = aiter(stream)
            await anext(chunks)
        await silence()
        with pytest.raises(Cancelled):
            [chunk async for chunk in chunks]

    run(test, watched)


def test_breaking_out_of_a_stream_ends_the_generation() -> None:
    watched = Watched()

    async def test(client: AsyncController) -> None:
        async for _ in await client.chat.completions.create(messages=HI, model="weak", stream=True):
            break
        await silence()

    run(test, watched)


def test_a_cancelled_task_ends_the_generation() -> None:
    watched = Watched()

    async def test(client: AsyncController) -> None:
        task = asyncio.create_task(client.chat.completions.create(messages="hi", model="weak"))
        await eventually(lambda: watched.said > 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await silence()

    run(test, watched)


def test_a_task_cancelled_before_the_first_word_ends_the_generation() -> None:
    async def test(client: AsyncController) -> None:
        task = asyncio.create_task(client.start(REQUEST))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await silence()  # though what the model waits for never comes

    run(test, [threading.Event(), "a"])


def test_cancel_does_not_wait_for_the_model() -> None:
    never = threading.Event()

    async def test(client: AsyncController) -> None:
        answer = await client.start(REQUEST)
        deltas = aiter(answer)
        assert await anext(deltas) == TextDelta("a")
        waiting = asyncio.ensure_future(anext(deltas))
        await asyncio.sleep(0.01)
        answer.cancel()
        with pytest.raises(Cancelled):
            await waiting

    run(test, ["a", never])


@pytest.mark.parametrize("kind", [ScriptedEngine, ArrivingEngine])
def test_a_loop_that_ended_leaves_nothing_running(kind: type[ScriptedEngine]) -> None:
    weak = kind(Watched(), serves=())
    controller = Controller(Config(), weak=weak)

    async def main() -> None:
        await AsyncController(controller).start(REQUEST)

    asyncio.run(main())
    end = time.monotonic() + 10
    while answering() or getattr(weak, "under_way", 0):
        assert time.monotonic() < end
        time.sleep(0.002)
    controller.close()


class Silent(ArrivingEngine):
    """Says one word, or none, and then nothing; it keeps no thread while it does."""

    async def _source(self, prompt: Prompt) -> AsyncGenerator[Event]:
        self.under_way += 1
        try:
            if prompt.request.messages[-1].text == "word":
                yield TextDelta("word")
            await asyncio.sleep(3600)
        finally:
            self.under_way -= 1


def test_streams_that_arrive_keep_no_threads() -> None:
    silent = Silent(model_id="big")

    async def main() -> None:
        async with AsyncController(Controller(Config(), weak=silent)) as client:
            before = threading.active_count()
            said = [ChatRequest((Message("user", text),), target="weak") for text in ("word", "")]
            answers = [client.answer(request, iter) for request in said for _ in range(50)]
            await eventually(lambda: silent.under_way == 100)
            assert all(await asyncio.gather(*[answer.begun() for answer in answers[:50]]))
            assert [await answer.take() for answer in answers[:50]] == [[TextDelta("word")]] * 50
            assert not any(await asyncio.gather(*[answer.begun(0) for answer in answers[50:]]))
            assert threading.active_count() - before <= 16
            await eventually(lambda: not answering())
            for answer in answers:
                answer.cancel()
            await eventually(lambda: not silent.under_way)
            for answer in answers:
                with pytest.raises(Cancelled):
                    await answer.take()

    asyncio.run(main())


def test_a_strong_model_that_arrives_is_recorded_replaced_and_followed_by_what_is_to_be_done() -> None:
    """Whatever of it fails, before its first event or in its midst."""
    told: list[str] = []
    replies: list[Reply] = [
        "It is Paris.",
        StrongUnreachable("http://x", "no route"),
        ["It", StrongInterrupted("http://x", "cut")],
        ValueError("a mistake"),
    ]
    big = ArrivingEngine(*replies, model_id="big")
    controller = Controller(
        Config(), weak=ScriptedEngine(default="weak"), strong=big, router=ScriptedRouter(1.0)
    )

    async def ask(client: AsyncController) -> str:
        answer = client.answer(HARD, iter, afterwards=lambda: told.append(threading.current_thread().name))
        try:
            said = "".join([event.text async for event in answer if isinstance(event, TextDelta)])
        except (StrongInterrupted, InternalError) as error:
            return type(error).__name__
        return f"{answer.model}: {said}"

    async def main() -> None:
        async with AsyncController(controller) as client:
            seen = [await ask(client) for _ in replies]
            assert seen == ["big: It is Paris.", "scripted: weak", "StrongInterrupted", "InternalError"]
            await eventually(lambda: len(told) == 4)
            assert set(told) == {"edge_router answer"}
            ledger = controller.recorder.ledger
            rows = ledger.recent() if ledger is not None else ()
            assert [(row.decision.model, row.error, row.cause) for row in reversed(rows)] == [
                ("strong", None, None),
                ("weak", None, "StrongUnreachable"),
                ("strong", "StrongInterrupted", None),
                ("strong", "InternalError", None),
            ]

    asyncio.run(main())
