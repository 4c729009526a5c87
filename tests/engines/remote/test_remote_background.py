import asyncio
import threading
import time

import pytest

from edge_router.engines.remote import background
from edge_router.engines.remote.background import BackgroundLoop
from edge_router.errors import Cancelled


@pytest.fixture
def loop():
    loop = BackgroundLoop("test")
    yield loop
    loop.close()


class Source:
    """Counts to `count`, then waits for ever, and remembers how it ended."""

    def __init__(self, count=3, error=None, wait=True):
        self.count, self.error, self.wait = count, error, wait
        self.made, self.ended = 0, threading.Event()

    async def __call__(self):
        try:
            for number in range(self.count):
                self.made += 1
                yield number
            if self.error:
                raise self.error
            if self.wait:
                await asyncio.sleep(3600)
        finally:
            self.ended.set()


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_items_in_order_then_the_end(loop):
    assert list(loop.iterate(Source(5, wait=False), threading.Event())) == [0, 1, 2, 3, 4]


def test_an_error_is_raised_after_what_came_before_it(loop):
    items = loop.iterate(Source(1, ValueError("x")), threading.Event())
    assert next(items) == 0
    with pytest.raises(ValueError, match="x"):
        next(items)


def test_nothing_runs_before_the_first_item_is_asked_for(loop):
    source = Source()
    loop.iterate(source, threading.Event())
    assert source.made == 0 and loop._loop is None


def test_cancel_ends_the_wait_and_the_source(loop):
    source, cancel = Source(1), threading.Event()
    items = loop.iterate(source, cancel)
    next(items)
    threading.Timer(0.05, cancel.set).start()
    with pytest.raises(Cancelled):
        next(items)
    assert source.ended.wait(10)


def test_cancel_hides_what_is_there_already(loop):
    source, cancel = Source(3), threading.Event()
    items = loop.iterate(source, cancel)
    next(items)
    until(lambda: source.made == 3)
    cancel.set()
    with pytest.raises(Cancelled):
        next(items)


def test_closing_the_iterator_ends_the_source(loop):
    source = Source()
    items = loop.iterate(source, threading.Event())
    next(items)
    items.close()
    assert source.ended.wait(10)


def test_close_ends_what_runs_and_then_calls_last(loop):
    source, order = Source(1), []
    items = loop.iterate(source, threading.Event())
    next(items)

    async def last():
        order.append(source.ended.is_set())

    loop.close(last)
    loop.close(last)
    assert order == [True]
    assert loop.closed and not loop._thread.is_alive()
    with pytest.raises(Cancelled):
        next(items)
    with pytest.raises(Cancelled):
        next(loop.iterate(source, threading.Event()))


def test_close_before_anything_ran():
    loop = BackgroundLoop("test")
    loop.close()
    with pytest.raises(Cancelled):
        next(loop.iterate(Source(), threading.Event()))


def test_reading_pauses_for_a_slow_consumer(loop, monkeypatch):
    monkeypatch.setattr(background, "_AHEAD", 3)
    source = Source(10, wait=False)
    items = loop.iterate(source, threading.Event())
    next(items)
    until(lambda: source.made >= 4)
    time.sleep(0.1)
    assert source.made <= 5
    assert list(items) == list(range(1, 10))


def test_many_streams_share_one_thread(loop):
    before, results = threading.active_count(), []
    streams = [loop.iterate(Source(50, wait=False), threading.Event()) for _ in range(10)]
    for items in streams:
        results.append(next(items))
    assert threading.active_count() == before + 1
    assert [list(items) for items in streams] == [list(range(1, 50))] * 10
    assert results == [0] * 10


def test_whoever_would_not_wait_is_told_when_something_is_here(loop):
    source, told = Source(2, ValueError("x")), threading.Event()
    items = loop.iterate(source, threading.Event())
    assert not items.here and not items.over and source.made == 0
    seen = []
    while not items.over:
        told.clear()
        items.when_here(told.set)
        assert told.wait(10)
        while items.here:
            seen.append(next(items))
    assert seen == [0, 1]
    told.clear()
    items.when_here(told.set)
    assert told.is_set()
    with pytest.raises(ValueError, match="x"):
        next(items)
    assert list(items) == []


def test_who_asks_a_closed_loop_to_be_told_is_told():
    loop, told = BackgroundLoop("test"), threading.Event()
    loop.close()
    items = loop.iterate(Source(), threading.Event())
    items.when_here(told.set)
    assert told.is_set() and items.over
    with pytest.raises(Cancelled):
        next(items)


@pytest.mark.parametrize("begun", ["next", "told"])
def test_a_stream_that_is_dropped_ends_its_source(loop, begun):
    source, told = Source(1), threading.Event()
    items = loop.iterate(source, threading.Event())
    if begun == "next":
        next(items)
    else:
        items.when_here(told.set)
        assert told.wait(10)
    del items
    assert source.ended.wait(10)
