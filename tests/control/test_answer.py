"""An answer under way: read, left early, cancelled, or broken."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from edge_router.chat.events import EngineTimings, Event, Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.control.answer import Answer, Clock, LinkedCancel, primed
from edge_router.errors import Cancelled, EdgeRouterError, GenerationFailed, InternalError, StrongInterrupted
from edge_router.types import Decision, Reason

REQUEST = ChatRequest((Message("user", "hi"),))
DECISION = Decision("weak", Reason.FORCED)


class Source:
    """Deltas, and what became of who gave them."""

    def __init__(self, *steps: Event | Exception) -> None:
        self.steps, self.closed, self.cancel = steps, False, threading.Event()
        self.ends: list[EdgeRouterError | None] = []

    def deltas(self) -> Iterator[Event]:
        try:
            for step in self.steps:
                if self.cancel.is_set():
                    raise Cancelled
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed = True

    def answer(self) -> Answer:
        clock = Clock()
        return Answer(
            primed(self.deltas(), clock, "small"),
            request=REQUEST,
            decision=DECISION,
            model="small",
            cancel=self.cancel,
            clock=clock,
            finished=lambda answer, error: self.ends.append(error),
        )


LAST = Finished("stop", timings=EngineTimings(2.0, 10, 4.0, 20))


def test_read_to_the_end() -> None:
    source = Source(TextDelta("a"), TextDelta("b"), LAST)
    answer = source.answer()
    assert list(answer) == [TextDelta("a"), TextDelta("b"), LAST]
    assert answer.finished is LAST
    assert source.ends == [None] and source.closed
    timings = answer.timings
    assert (timings.prefill_tokens_per_s, timings.decode_tokens_per_s) == (5.0, 5.0)
    assert timings.score_ms is None
    assert (
        timings.ttft_ms is not None and timings.total_ms is not None and timings.ttft_ms <= timings.total_ms
    )
    answer.close()
    answer.close()
    assert source.ends == [None]


def test_timings_while_it_runs() -> None:
    clock = Clock()
    with clock.scoring():
        pass
    timings = clock.timings()
    assert timings.score_ms is not None and timings.score_ms >= 0
    assert (timings.ttft_ms, timings.total_ms, timings.decode_tokens_per_s) == (None, None, None)


def test_nothing_at_all_is_a_failure() -> None:
    with pytest.raises(GenerationFailed, match="small"):
        Source().answer()


def test_an_error_before_the_first_delta_is_raised_at_once() -> None:
    source = Source(StrongInterrupted("http://x", "cut"))
    with pytest.raises(StrongInterrupted):
        source.answer()
    assert source.closed


def test_an_engines_own_mistake_becomes_ours_with_its_cause() -> None:
    with pytest.raises(InternalError, match=r"KeyError at .*test_answer.py:") as caught:
        Source(KeyError("x")).answer()
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [StrongInterrupted("http://x", "cut"), ValueError("x")])
def test_an_error_in_the_middle(error: Exception) -> None:
    source = Source(TextDelta("a"), error)
    answer = source.answer()
    seen: list[str] = []
    with pytest.raises((StrongInterrupted, InternalError)) as caught:
        seen.extend(delta.text for delta in answer)
    assert source.ends == [caught.value]


@pytest.mark.parametrize("read", [0, 1, 2])
def test_left_early(read: int) -> None:
    source = Source(TextDelta("a"), TextDelta("b"), TextDelta("c"), LAST)
    answer = source.answer()
    deltas = iter(answer)
    for _ in range(read):
        next(deltas)
    answer.close()
    assert source.closed and source.cancel.is_set()
    assert [type(end) for end in source.ends] == [Cancelled]
    assert list(answer) == []


def test_cancelled_from_elsewhere() -> None:
    source = Source(TextDelta("a"), TextDelta("b"), LAST)
    answer = source.answer()
    assert next(iter(answer)).text == "a"
    threading.Thread(target=answer.cancel).start()
    source.cancel.wait()
    with pytest.raises(Cancelled):
        list(answer)
    assert [type(end) for end in source.ends] == [Cancelled]


WAIT_S = 20.0  # far more than anything here takes


class Blocking(Source):
    """Two deltas, then nothing until it is cancelled."""

    def __init__(self) -> None:
        super().__init__(TextDelta("a"), TextDelta("b"))
        self.blocked = threading.Event()

    def deltas(self) -> Iterator[Event]:
        try:
            yield from self.steps  # type: ignore[misc]
            self.blocked.set()
            if not self.cancel.wait(WAIT_S):
                yield LAST
            raise Cancelled
        finally:
            self.closed = True


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("end", ["cancel", "close"])
def test_ended_by_other_threads_while_it_is_read(end: str, times: int) -> None:
    source = Blocking()
    answer = source.answer()
    read: list[object] = []

    def reads() -> None:
        try:
            read.extend(delta.text for delta in answer)
        except Cancelled as error:
            read.append(error)

    def ends() -> None:
        assert source.blocked.wait(WAIT_S)
        stops = [threading.Thread(target=getattr(answer, end)) for _ in range(times)]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join(WAIT_S)

    ender = threading.Thread(target=ends)
    ender.start()
    in_a_thread(reads)
    ender.join(WAIT_S)
    assert read[:2] == ["a", "b"] and [type(item) for item in read[2:]] == (
        [Cancelled] if end == "cancel" else []
    )
    assert source.closed and answer.cancelled
    assert [type(error) for error in source.ends] == [Cancelled]


def test_closed_by_another_thread_while_nobody_reads() -> None:
    source = Blocking()
    answer = source.answer()
    assert next(answer).text == "a"
    in_a_thread(answer.close)
    assert source.closed and [type(error) for error in source.ends] == [Cancelled]
    assert list(answer) == []


def first_of(answer: Answer) -> None:
    for _ in answer:
        break


def fails_at_the_first(answer: Answer) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in answer:
            raise ZeroDivisionError


def drops_a_generator_over_it(answer: Answer) -> None:
    next(delta for delta in answer)


LEAVING: dict[str, Callable[[Answer], object]] = {
    "break": first_of,
    "an error": fails_at_the_first,
    "a generator": drops_a_generator_over_it,
    "enumerate": lambda answer: next(enumerate(answer)),
    "islice": lambda answer: list(itertools.islice(answer, 2)),
    "zip": lambda answer: list(zip(range(2), answer, strict=False)),
    "map": lambda answer: next(map(str, answer)),
}


@pytest.mark.parametrize("how", LEAVING)
def test_leaving_a_loop_ends_it(how: str) -> None:
    """With the answer still at hand: nothing but the loop is gone."""
    source = Source(TextDelta("a"), TextDelta("b"), TextDelta("c"), LAST)
    answer = source.answer()
    LEAVING[how](answer)
    assert source.closed and source.cancel.is_set() and answer.cancelled
    assert [type(end) for end in source.ends] == [Cancelled]
    with pytest.raises(Cancelled):  # what is missing is not passed over in silence
        list(answer)
    answer.close()
    assert list(answer) == []


def test_taking_one_ends_nothing() -> None:
    source = Source(TextDelta("a"), TextDelta("b"), TextDelta("c"), LAST)
    answer = source.answer()
    iter(answer)  # not begun, so not left
    assert next(answer).text == "a"
    assert list(answer) == [TextDelta("b"), TextDelta("c"), LAST]
    assert source.ends == [None] and not answer.cancelled


def eventually(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return bool(condition())


class Window:
    """Holds an answer, and itself."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.me = answer, self


@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_dropping_it_ends_it(read: int, in_a_cycle: bool) -> None:
    source = Source(TextDelta("a"), TextDelta("b"), LAST)
    answer = source.answer()
    for _ in range(read):
        next(answer)
    gone = weakref.ref(answer)
    holder = Window(answer) if in_a_cycle else None
    gc.disable()
    try:
        del answer, holder
        if in_a_cycle:
            gc.collect()
        assert eventually(lambda: source.cancel.is_set() and source.closed)
    finally:
        gc.enable()
    assert eventually(lambda: source.ends) and [type(end) for end in source.ends] == [Cancelled]
    assert eventually(lambda: gone() is None)


def test_dropping_it_waits_for_nothing() -> None:
    """Where it is dropped somebody may hold what `finished` takes."""
    lock, ends = threading.Lock(), list[EdgeRouterError | None]()

    def finished(answer: Answer, error: EdgeRouterError | None) -> None:
        with lock:
            ends.append(error)

    cancel = threading.Event()
    answer = Answer(
        iter([TextDelta("a")]), request=REQUEST, decision=DECISION, model="m", cancel=cancel, clock=Clock(),
        finished=finished,
    )  # fmt: skip
    with lock:
        del answer
        assert cancel.is_set() and ends == []
    assert eventually(lambda: ends)


def test_one_that_was_read_is_dropped_in_silence() -> None:
    source = Source(TextDelta("a"), LAST)
    list(source.answer())
    assert source.ends == [None] and not source.cancel.is_set()


def test_an_engine_that_does_not_look_is_cut_off_all_the_same() -> None:
    cancel = threading.Event()
    answer = Answer(
        iter([TextDelta("a")] * 100),
        request=REQUEST,
        decision=DECISION,
        model="m",
        cancel=cancel,
        clock=Clock(),
    )
    assert next(answer).text == "a"
    answer.cancel()
    with pytest.raises(Cancelled):
        next(answer)


def test_a_cancel_that_comes_too_late_takes_nothing_back() -> None:
    source = Source(TextDelta("a"), LAST)
    answer = source.answer()
    assert [next(answer), next(answer)] == [TextDelta("a"), LAST]
    answer.cancel()
    assert list(answer) == [] and source.ends == [None] and not answer.cancelled


def test_linked_events() -> None:
    theirs = threading.Event()
    one, other = LinkedCancel(theirs), LinkedCancel(theirs)
    one.set()
    assert one.is_set() and one.wait() and not other.is_set() and not theirs.is_set()
    assert not other.wait(0.02)
    threading.Timer(0.01, theirs.set).start()
    assert other.wait(WAIT_S) and other.is_set()
