"""A maker in a thread, a reader on the loop: bounded, fair, and ended from either side."""

from __future__ import annotations

import asyncio
import functools
import itertools
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import pytest

from edge_router.api.idle_threads import IdleThreads
from edge_router.api.thread_stream import ThreadStream
from edge_router.control.steps import Pause, before_next
from edge_router.engines.base import Arriving
from edge_router.errors import Cancelled, GenerationFailed


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


@pytest.mark.parametrize("taken", [True, False])
def test_a_maker_with_a_head_start_rests_behind_its_first_item_until_that_is_taken(taken: bool) -> None:
    async def test() -> None:
        numbers = Counting()
        stream = ThreadStream(numbers, cancel=threading.Event(), head_start_s=3600 if taken else 0.01)
        if taken:
            assert await stream.ready()
            await asyncio.sleep(0.02)
            assert numbers.made == 1
            assert await stream.take() == [0]
        await eventually(lambda: numbers.made > 1)
        stream.close()
        assert await asyncio.to_thread(numbers.closed.wait, 10)

    run(test)


def test_a_maker_that_rests_hears_that_nobody_wants_more() -> None:
    async def test() -> None:
        numbers = Counting()
        stream = ThreadStream(numbers, cancel=threading.Event(), head_start_s=3600)
        assert await stream.ready()
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


class Fed(Arriving[int]):
    """Comes as the test says."""

    def __init__(self) -> None:
        self.items, self.ended, self.tell = deque[int](), False, list[Callable[[], None]]()

    @property
    def here(self) -> bool:
        return bool(self.items)

    @property
    def over(self) -> bool:
        return self.ended and not self.items

    def when_here(self, tell: Callable[[], None]) -> None:
        self.tell.append(tell)
        if self.here or self.over:
            self.feed(end=self.ended)

    def feed(self, *items: int, end: bool = False) -> None:
        self.items.extend(items)
        self.ended = end
        while self.tell:
            self.tell.pop()()

    def send(self, value: None) -> int:
        if self.over:
            raise StopIteration
        return self.items.popleft()  # raises where it would wait

    def throw(self, *error: object) -> int:
        raise AssertionError

    def turned(self, turn: object) -> Fed:
        raise AssertionError


def paced(fed: Fed, made_in: list[str]) -> Iterator[int | Pause | None]:
    """Twice each odd one, nothing of an even one; says where each was made."""
    yield Pause(fed)
    for number in fed:
        made_in.append(threading.current_thread().name)
        yield None if number % 2 == 0 else 2 * number
        yield before_next(fed)
    made_in.append(threading.current_thread().name)


@pytest.mark.parametrize("unread", [True, False])
def test_what_arrives_ends_though_nobody_reads(unread: bool) -> None:
    """It may be written down then, and whoever closes everything may never read."""

    async def test() -> None:
        fed, made_in = Fed(), list[str]()
        fed.feed(1)
        stream = ThreadStream(lambda: paced(fed, made_in), cancel=threading.Event())
        await eventually(lambda: bool(fed.tell))
        if not unread:
            assert await stream.take() == [2]
        fed.feed(end=True)
        await eventually(lambda: len(made_in) == 2)
        assert [*(await stream.take() if unread else ()), *await stream.take()] == [2] * unread
        assert stream.ended_well

    run(test)


def test_what_arrives_is_made_by_its_reader_and_ends_in_a_thread() -> None:
    async def test() -> None:
        fed, made_in, threads = Fed(), list[str](), IdleThreads(5.0)
        stream = ThreadStream(lambda: paced(fed, made_in), cancel=threading.Event(), threads=threads, most=2)
        assert not await stream.ready(0.01)
        await eventually(lambda: threads.idle == 1)
        fed.feed(1)
        assert await stream.take() == [2]
        await eventually(lambda: threads.idle == 1)
        assert await stream.take(0.01) == []
        taking = asyncio.ensure_future(stream.take())
        await asyncio.sleep(0.01)
        fed.feed(2)
        await asyncio.sleep(0.01)
        assert not taking.done() and len(made_in) == 2
        fed.feed(3, 5, 7, 9)
        assert (await taking, await stream.take()) == ([6, 10], [14, 18])
        fed.feed(11)
        await asyncio.sleep(0.01)
        assert len(fed.items) == 1 and not stream.ended  # who does not read makes nothing
        fed.feed(end=True)
        assert (await stream.take(), await stream.take(), stream.ended_well) == ([22], [], True)
        here = threading.current_thread().name
        assert made_in == ["edge_router answer", *[here] * 6, "edge_router answer"]

    run(test)


@pytest.mark.parametrize("at", ["the beginning", "the midst", "the end"])
@pytest.mark.parametrize("how", ["close", "drop"])
def test_what_arrives_is_ended_in_a_thread(at: str, how: str) -> None:
    async def test() -> None:
        fed, cancel, ended_in = Fed(), threading.Event(), list[str]()

        def work() -> Iterator[int | Pause | None]:
            try:
                yield Pause(fed)
                if cancel.is_set():
                    raise Cancelled
                for item in paced(fed, []):
                    yield item
                    if cancel.is_set():
                        raise Cancelled
            finally:
                ended_in.append(threading.current_thread().name)

        stream = ThreadStream(work, cancel=cancel)
        if at != "the beginning":
            fed.feed(1)
            assert await stream.take() == [2]
        if at == "the end":
            fed.feed(3, end=True)
        await eventually(lambda: stream._parked is not None)
        stream.close() if how == "close" else stream.drop()
        await eventually(lambda: ended_in == ["edge_router answer"])
        with pytest.raises(Cancelled):
            await stream.take()

    run(test)


def test_a_mistake_in_what_the_reader_makes_comes_behind_what_was_made_before_it() -> None:
    async def test() -> None:
        fed = Fed()

        def work() -> Iterator[int | Pause | None]:
            for item in paced(fed, []):
                if item == 10:
                    raise GenerationFailed("small", "NaN")
                yield item

        stream = ThreadStream(work, cancel=threading.Event())
        fed.feed(1, 3, 5, 7)
        seen: list[int] = []
        with pytest.raises(GenerationFailed):
            while True:
                seen += await stream.take()
        assert (seen, stream.ended, stream.ended_well) == ([2, 6], True, False)

    run(test)


def test_no_more_threads_than_are_wanted_do_what_is_short_unless_it_is_not() -> None:
    threads, gate, done = (
        IdleThreads(5.0, most=2, patience_s=3600),
        threading.Event(),
        queue.SimpleQueue[int](),
    )
    names = set[int]()

    def short(number: int) -> None:
        gate.wait(20)
        names.add(threading.get_ident())
        done.put(number)

    for number in range(10):
        threads.run(functools.partial(short, number))
    gate.set()
    assert [done.get(timeout=20) for _ in range(10)] and len(names) == 2

    gate.clear()
    begun = queue.SimpleQueue[int]()

    def long(number: int) -> None:
        threads.linger()
        begun.put(number)
        gate.wait(20)

    for number in range(6):
        threads.run(functools.partial(long, number))
    assert sorted(begun.get(timeout=20) for _ in range(6)) == list(range(6))
    gate.set()


def test_what_waits_for_short_work_that_is_not_gets_a_thread_after_a_while() -> None:
    threads, gate, begun = (
        IdleThreads(5.0, most=1, patience_s=0.01),
        threading.Event(),
        queue.SimpleQueue[int](),
    )

    def work(number: int) -> None:
        begun.put(number)
        gate.wait(20)

    for number in range(4):
        threads.run(functools.partial(work, number))
    assert [begun.get(timeout=20) for _ in range(4)] == [0, 1, 2, 3]
    gate.set()


def test_who_settles_waits_a_while_for_what_takes_long_too() -> None:
    threads, told, ended = IdleThreads(), threading.Event(), threading.Event()

    def long() -> None:
        threads.linger()
        told.wait()
        ended.set()

    threads.run(long)
    assert threads.settle(5) and not ended.is_set()  # not waited for: it may go on for minutes
    told.set()
    assert threads.settle(5, 5) and ended.is_set()
