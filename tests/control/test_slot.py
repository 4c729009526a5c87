"""What takes long to make: made once, left by whoever will not wait, closed for good."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from edge_router.control.slot import Slot
from edge_router.errors import (
    BuildFailed,
    Cancelled,
    Closed,
    EdgeRouterError,
    InternalError,
    OutOfMemory,
    WeightsUnavailable,
)

PATIENCE_S = 30  # for what takes milliseconds on an idle machine


class Workshop:
    """Makes numbered things, when `open_` is set; raises what is queued first."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures, self.made, self.disposed = list(failures), 0, list[str]()
        self.begun, self.open_ = threading.Event(), threading.Event()
        self.open_.set()
        self.now = 0.0

    def make(self) -> str:
        self.made += 1
        self.begun.set()
        assert self.open_.wait(PATIENCE_S)
        if self.failures:
            raise self.failures.pop(0)
        return f"thing {self.made}"

    def slot(self, remember_s: float = 30) -> Slot[str]:
        return Slot(
            "weak model",
            self.make,
            remember_s=lambda error: remember_s,
            dispose=self.disposed.append,
            clock=lambda: self.now,
        )


def together(work: Callable[[], object], count: int = 8) -> list[object]:
    """What `count` threads get, results and errors alike."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except EdgeRouterError as error:
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    return found


def eventually(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(PATIENCE_S * 500):
        if condition():
            return
        tick.wait(0.002)
    raise AssertionError("it never came to that")


def test_one_is_made_however_many_ask() -> None:
    shop = Workshop()
    slot = shop.slot()
    assert slot.value is None
    assert together(slot.get) == ["thing 1"] * 8
    assert (slot.get(), slot.value, shop.made) == ("thing 1", "thing 1", 1)


@pytest.mark.parametrize(
    "failure",
    [
        OutOfMemory("tvm", "full", 9, 5),
        WeightsUnavailable("a wheel", "no network"),
        BuildFailed("m", "link", "no"),
    ],
)
def test_a_failure_is_told_to_all_and_remembered_for_a_while(failure: EdgeRouterError) -> None:
    failure.__cause__ = ValueError("underneath")
    shop = Workshop(failure)
    slot = shop.slot(remember_s=30)
    found = together(slot.get)
    assert shop.made == 1
    assert {(type(error), str(error)) for error in found} == {(type(failure), str(failure))}
    assert len({id(error) for error in found}) == 8, "each thread raises one of its own"
    assert all(isinstance(error, EdgeRouterError) and error.__cause__ for error in found)
    shop.now = 29.9
    with pytest.raises(type(failure)):
        slot.get()
    assert shop.made == 1
    shop.now = 30.0
    assert slot.get() == "thing 2"


def test_it_can_be_tried_again_at_once() -> None:
    shop = Workshop(OutOfMemory("tvm", "full"))
    slot = shop.slot()
    with pytest.raises(OutOfMemory):
        slot.get()
    slot.retry()
    assert slot.get() == "thing 2"
    slot.retry()
    assert slot.get() == "thing 2", "what is there stays"


@pytest.mark.parametrize("mistake", [TypeError("x"), KeyError("y"), RuntimeError("z"), SystemExit(3)])
def test_what_nobody_raised_on_purpose_is_a_mistake_of_ours(mistake: BaseException) -> None:
    slot = Workshop(mistake).slot()
    with pytest.raises(InternalError) as caught:
        slot.get()
    assert (caught.value.component, caught.value.kind) == ("weak model", type(mistake).__name__)
    assert caught.value.__cause__ is mistake


def test_who_leaves_is_let_go_and_the_others_are_served() -> None:
    shop = Workshop()
    shop.open_.clear()
    slot, cancel = shop.slot(), threading.Event()
    leaving, staying = list[object](), list[object]()
    threads = [
        threading.Thread(target=lambda: leaving.extend(together(lambda: slot.get(cancel), 3))),
        threading.Thread(target=lambda: staying.extend(together(slot.get, 3))),
    ]
    for thread in threads:
        thread.start()
    assert shop.begun.wait(PATIENCE_S)
    cancel.set()
    threads[0].join(PATIENCE_S)
    assert [type(error) for error in leaving] == [Cancelled] * 3 and staying == []
    shop.open_.set()
    threads[1].join(PATIENCE_S)
    assert staying == ["thing 1"] * 3 and shop.made == 1


def test_closed_while_it_is_made() -> None:
    shop = Workshop()
    shop.open_.clear()
    slot, waiting = shop.slot(), list[object]()
    thread = threading.Thread(target=lambda: waiting.extend(together(slot.get, 3)))
    thread.start()
    assert shop.begun.wait(PATIENCE_S)
    slot.close()
    thread.join(PATIENCE_S)
    assert [type(error) for error in waiting] == [Closed] * 3, "nobody waits for what will not be given"
    assert shop.disposed == []
    shop.open_.set()
    eventually(lambda: shop.disposed == ["thing 1"])
    with pytest.raises(Closed):
        slot.get()
    assert shop.made == 1


def test_closed_for_good() -> None:
    shop = Workshop()
    slot = shop.slot()
    slot.get()
    slot.close()
    slot.close()
    assert (shop.disposed, slot.value) == (["thing 1"], None)
    slot.retry()
    for _ in range(2):
        with pytest.raises(Closed) as caught:
            slot.get()
        assert isinstance(caught.value, RuntimeError), "as other libraries say it"
    assert shop.made == 1
    never = Workshop()
    empty = never.slot()
    empty.close()
    with pytest.raises(Closed):
        empty.get()
    assert never.made == 0


def test_what_a_failed_load_had_made_is_let_go() -> None:
    import weakref

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    def make() -> str:
        big = Big()
        alive.append(weakref.ref(big))
        raise OutOfMemory("tvm", "full")

    slot = Slot("weak model", make, remember_s=lambda error: 30)
    with pytest.raises(OutOfMemory):
        slot.get()
    import gc

    gc.collect()
    assert alive[0]() is None
