"""An answer under way: read, left early, cancelled, or broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edge_router.answer import Answer, Clock, primed
from edge_router.errors import Cancelled, EdgeRouterError, GenerationFailed, StrongInterrupted
from edge_router.types import ChatRequest, Decision, Delta, EngineTimings, Message, Reason

REQUEST = ChatRequest((Message("user", "hi"),))
DECISION = Decision("weak", Reason.FORCED)


class Source:
    """Deltas, and what became of who gave them."""

    def __init__(self, *steps: Delta | Exception) -> None:
        self.steps, self.closed, self.cancel = steps, False, threading.Event()
        self.ends: list[EdgeRouterError | None] = []

    def deltas(self) -> Iterator[Delta]:
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


LAST = Delta(finish_reason="stop", timings=EngineTimings(2.0, 10, 4.0, 20))


def test_read_to_the_end() -> None:
    source = Source(Delta("a"), Delta("b"), LAST)
    answer = source.answer()
    assert [delta.text for delta in answer] == ["a", "b", ""]
    assert answer.last is LAST
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
    with pytest.raises(GenerationFailed, match="KeyError") as caught:
        Source(KeyError("x")).answer()
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [StrongInterrupted("http://x", "cut"), ValueError("x")])
def test_an_error_in_the_middle(error: Exception) -> None:
    source = Source(Delta("a"), error)
    answer = source.answer()
    seen: list[str] = []
    with pytest.raises((StrongInterrupted, GenerationFailed)) as caught:
        seen.extend(delta.text for delta in answer)
    assert source.ends == [caught.value]


@pytest.mark.parametrize("read", [0, 1, 2])
def test_left_early(read: int) -> None:
    source = Source(Delta("a"), Delta("b"), Delta("c"), LAST)
    answer = source.answer()
    deltas = iter(answer)
    for _ in range(read):
        next(deltas)
    answer.close()
    assert source.closed and source.cancel.is_set()
    assert [type(end) for end in source.ends] == [Cancelled]
    assert list(answer) == []


def test_cancelled_from_elsewhere() -> None:
    source = Source(Delta("a"), Delta("b"), LAST)
    answer = source.answer()
    assert next(iter(answer)).text == "a"
    threading.Thread(target=answer.cancel).start()
    source.cancel.wait()
    with pytest.raises(Cancelled):
        list(answer)
    assert [type(end) for end in source.ends] == [Cancelled]
