"""A process that is started again: when, after what pauses, and who is told what meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from edge_router.engines.mlc.restarts import LONGEST_PAUSE_S, Restarting
from edge_router.errors import Cancelled, EngineRestarting, EngineUnavailable, GenerationFailed
from edge_router.types import Cancel


class Child:
    """In the place of a process: runs until it is told to end."""

    def __init__(self) -> None:
        self.over, self.reason, self.heard = threading.Event(), "", 0
        self.closed = self.left = False

    @property
    def running(self) -> bool:
        return not self.over.is_set()

    def wait(self) -> str:
        self.over.wait()
        return self.reason

    def kill(self, reason: str) -> None:
        self.reason = reason
        self.over.set()

    def close(self) -> None:
        self.closed = True
        self.over.set()

    def call(self, request: Any, cancel: Any, look: Any) -> Iterator[dict[str, Any]]:
        self.heard += 1
        try:
            if request.get("wait"):
                yield {"text": "on"}
            yield {"end": True}
        except GeneratorExit:
            self.left = True
            raise


class Children:
    """Starts them as the test lets it: each is a child, or an error."""

    def __init__(self) -> None:
        self.made: list[Child] = []
        self.pauses: list[float] = []
        self.let: queue.Queue[Exception | None] = queue.Queue()
        self.reached: queue.Queue[str] = queue.Queue()
        self.paused = threading.Event()
        self.let.put(None)
        self.kept = Restarting("e", self.start, pause=self.pause, clock=lambda: 0.0)  # type: ignore[arg-type]
        assert self.reached.get(timeout=60) == "started"

    def start(self, cancel: Cancel) -> Child:
        error = self.let.get(timeout=60)
        if error is not None:
            raise error
        self.made.append(Child())
        self.reached.put("started")
        return self.made[-1]

    def pause(self, closed: threading.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self.reached.put("paused")
        assert self.paused.wait(60)

    def restarted(self) -> None:
        assert self.reached.get(timeout=60) == "started"
        while self.kept.restarts.state != "running":
            threading.Event().wait(0.01)

    def ask(self) -> None:
        assert list(self.kept.call({}, threading.Event())) == [{"end": True}]


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.paused.set()
    made.let.put(None)
    made.kept.close()
    assert all(child.closed for child in made.made)


def test_what_has_ended_is_started_again_at_once(
    children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    children.ask()
    children.let.put(None)
    children.kept.end("was ended: no token")
    children.restarted()
    children.ask()
    restarts = children.kept.restarts
    assert (restarts.count, restarts.reason, children.pauses) == (1, "was ended: no token", [])
    assert [record.getMessage() for record in caplog.records] == [
        "the engine e: was ended: no token; it is started again",
        "the engine e runs again",
    ]


def test_pauses_grow_until_an_answer_comes_to_its_end(children: Children) -> None:
    children.paused.set()
    for _ in range(9):
        children.let.put(EngineUnavailable("e", "no memory"))
    children.let.put(None)
    children.kept.end("has ended")
    while (reached := children.reached.get(timeout=60)) != "started":
        assert reached == "paused"
    assert children.pauses == [1, 2, 4, 8, 16, 32, *[LONGEST_PAUSE_S] * 3]
    while children.kept.restarts.state != "running":
        threading.Event().wait(0.01)
    assert "no memory" in str(children.kept.restarts.reason)
    children.ask()
    children.let.put(None)
    children.kept.end("has ended")
    children.restarted()
    assert len(children.pauses) == 9


def test_who_asks_waits_for_a_start_and_is_refused_in_a_pause(children: Children) -> None:
    children.kept.end("has ended")
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(Cancelled):
        list(children.kept.call({}, cancel))
    assert children.kept.restarts.state == "starting"
    children.let.put(EngineUnavailable("e", "no memory"))
    assert children.reached.get(timeout=60) == "paused"
    assert children.kept.restarts.state == "pausing"
    with pytest.raises(EngineRestarting, match=r"cannot start: no memory; it is started again in 1 s"):
        list(children.kept.call({}, threading.Event()))
    children.let.put(None)
    children.paused.set()
    children.restarted()
    children.ask()


def test_a_mistake_of_ours_in_starting_is_logged_and_leaves_nobody_waiting(
    children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    children.let.put(TypeError("a secret"))
    children.kept.end("has ended")
    assert children.reached.get(timeout=60) == "paused"
    with pytest.raises(EngineUnavailable, match="something broke in the start of the engine e: TypeError"):
        list(children.kept.call({}, threading.Event()))
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


def test_an_answer_that_is_left_is_left_in_the_child_too(children: Children) -> None:
    answer = children.kept.call({"wait": True}, threading.Event())
    next(answer)
    answer.close()
    assert children.made[0].left


def test_what_is_closed_stays_so(children: Children) -> None:
    children.kept.close()
    children.kept.close()
    with pytest.raises(GenerationFailed, match="its process has ended"):
        children.ask()
    assert len(children.made) == 1


def test_closing_ends_a_start_under_way() -> None:
    begun = threading.Event()
    made = [Child()]

    def start(cancel: Cancel) -> Child:
        if begun.is_set():
            raise AssertionError("started twice")
        if not made[0].over.is_set():
            return made[0]
        begun.set()
        while not cancel.is_set():
            threading.Event().wait(0.01)
        raise Cancelled

    kept = Restarting("e", start)  # type: ignore[arg-type]
    kept.end("has ended")
    assert begun.wait(60)
    kept.close()
    assert kept.restarts.count == 0
