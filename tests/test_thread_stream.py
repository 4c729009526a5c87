"""A maker in a thread, a reader on the loop: bounded, fair, and ended from either side."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest

from edge_router.errors import Cancelled, GenerationFailed
from edge_router.thread_stream import IdleThreads, ThreadStream


class Counting:
    """Numbers for ever; `made` says how many, `closed` that nobody wants more."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Event()

    def __call__(self) -> Iterator[int]:
        try:
            for number in itertools.count():
                self.made += 1
                yield number
        finally:
            self.closed.set()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(main())


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


@pytest.mark.parametrize(("most", "weight", "waiting"), [(8, 1, 8), (1, 1, 1), (100, 30, 4), (5, 100, 1)])
def test_a_reader_who_does_not_read_pauses_the_maker(most: int, weight: int, waiting: int) -> None:
    async def test() -> None:
        numbers = Counting()
        stream = ThreadStream(numbers, cancel=threading.Event(), most=most, weigh=lambda item: weight)
        for begin in range(0, 5 * waiting, waiting):
            while numbers.made <= begin + waiting:  # one more is in its hand
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.01)
            assert numbers.made == begin + waiting + 1
            assert await stream.take() == list(range(begin, begin + waiting))
        stream.close()
        assert await asyncio.to_thread(numbers.closed.wait, 10)

    run(test)


def test_a_reader_who_always_finds_something_lets_others_run() -> None:
    async def test() -> None:
        stream = ThreadStream(Counting(), cancel=threading.Event())
        turns, ended = 0, False

        async def other() -> None:
            nonlocal turns
            while not ended:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        taken = 0
        for number in range(50):
            taken += len(await stream.take())
            assert turns >= number
        ended = True
        await task
        stream.close()
        assert taken >= 50

    run(test)


@pytest.mark.parametrize("how", ["close", "event"])
def test_what_waits_is_dropped_with_a_cancel(how: str) -> None:
    async def test() -> None:
        numbers, cancel = Counting(), threading.Event()
        stream = ThreadStream(numbers, cancel=cancel, most=4)
        await eventually(lambda: numbers.made > 4)
        if how == "close":
            stream.close()
        else:
            cancel.set()
            assert await asyncio.to_thread(numbers.closed.wait, 10)
        for _ in range(2):
            with pytest.raises(Cancelled):
                await stream.take()
        assert stream.ended
        assert await asyncio.to_thread(numbers.closed.wait, 10)

    run(test)


def test_a_whole_stream_that_was_cut_does_not_look_complete() -> None:
    async def test() -> None:
        stream = ThreadStream(lambda: iter("ab"), cancel=threading.Event())
        await eventually(lambda: stream._over)
        stream.close()
        with pytest.raises(Cancelled):
            await stream.take()
        read = ThreadStream(lambda: iter("ab"), cancel=threading.Event())
        seen: list[str] = []
        while taken := await read.take():
            seen += taken
        read.close()
        assert (seen, await read.take(), read.ended) == (["a", "b"], [], True)

    run(test)


def test_a_reader_who_waits_is_woken_from_another_thread() -> None:
    async def test() -> None:
        never = threading.Event()

        def silent() -> Iterator[int]:
            never.wait(20)
            yield 1

        stream = ThreadStream(silent, cancel=threading.Event())
        waiting = asyncio.ensure_future(stream.take())
        assert await stream.take(0.01) == [] and not stream.ended
        await asyncio.to_thread(stream.close)
        with pytest.raises(Cancelled):
            await stream.take()
        waiting.cancel()
        never.set()

    run(test)


def test_an_error_comes_behind_what_was_made_before_it() -> None:
    def half() -> Iterator[str]:
        yield "half"
        raise GenerationFailed("small", "NaN")

    async def test() -> None:
        stream = ThreadStream(half, cancel=threading.Event())
        await eventually(lambda: stream._over)
        assert await stream.take() == ["half"]
        with pytest.raises(GenerationFailed):
            await stream.take()

    run(test)


def test_a_maker_whose_loop_is_gone_ends() -> None:
    numbers = Counting()

    async def main() -> None:
        ThreadStream(numbers, cancel=threading.Event(), most=3)

    asyncio.run(main())
    assert numbers.closed.wait(10)


def test_a_thread_that_is_idle_takes_the_next_work_and_keeps_nothing_of_the_last() -> None:
    threads, seen = IdleThreads(5.0), queue.SimpleQueue[int]()

    class Work:
        def __call__(self) -> None:
            seen.put(threading.get_ident())

    def done() -> int:
        work = Work()
        gone = weakref.ref(work)
        threads.run(work)
        del work
        number = seen.get(timeout=20)
        end = time.monotonic() + 20
        while gone() is not None or not threads.idle:
            assert time.monotonic() < end
            time.sleep(0.002)
        return number

    assert done() == done()


def test_an_idle_thread_ends_after_a_while() -> None:
    threads, over = IdleThreads(0.01), threading.Event()
    thread: list[threading.Thread] = []

    def work() -> None:
        thread.append(threading.current_thread())
        over.set()

    threads.run(work)
    assert over.wait(20)
    end = time.monotonic() + 20
    while threads.idle or thread[0].is_alive():
        assert time.monotonic() < end
        time.sleep(0.002)
