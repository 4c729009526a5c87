"""One thread owns the model; any thread may ask for an answer."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress

from edge_router.engines.local.runner import ModelRunner, is_exhausted, unmeant
from edge_router.engines.local.scheduling.jobs import Load, Order, Task, Unload, UnloadPolicy
from edge_router.engines.local.scheduling.worker import Worker
from edge_router.errors import Cancelled, EngineError, EngineUnavailable, OutOfMemory
from edge_router.records import dataclass

_LOOK_S = 0.2  # how often who waits for the model looks whether it was closed meanwhile
_STOP_WAIT_S = 30.0  # at interpreter exit; a chunk on a slow machine takes seconds


@dataclass(slots=True)
class _Facts:
    """Of the loaded model, or of the one that was loaded last. Written by the thread, read by all."""

    vocab_size: int = 0
    context_window_size: int = 0
    loaded: bool = False

    def take(self, runner: ModelRunner) -> None:
        self.vocab_size, self.context_window_size = runner.vocab_size, runner.context_window_size
        self.loaded = True


class Scheduler:
    """Starts the thread and loads the model in it. Raises what `load` raises.

    `submit` from any thread. Where `rest` lets the model's memory be given back, `load` is called again when
    the next job comes, and may then give a shorter context. Dropping the last reference, or the
    interpreter's exit, closes it too.
    """

    def __init__(
        self, engine: str, load: Callable[[], ModelRunner], rest: UnloadPolicy | None = None
    ) -> None:
        self._engine = engine
        self._inbox: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._facts = _Facts()
        started: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        # A daemon, for a forgotten close() must not keep the interpreter from ending. The thread does not
        # know this object, so that it can be collected.
        self._thread = threading.Thread(
            target=_serve,
            args=(_Loader(engine, load, self._inbox, self._facts), rest or UnloadPolicy(), started),
            name=f"edge_router {engine}",
            daemon=True,
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no memory for its stack
            raise OutOfMemory(engine, str(error)) from error
        failure = started.get()
        if failure is not None:
            self._thread.join()
            raise failure
        self._closer = weakref.finalize(self, _stop, self._inbox, self._thread)

    @property
    def vocab_size(self) -> int:
        return self._facts.vocab_size

    @property
    def context_window_size(self) -> int:
        return self._facts.context_window_size

    @property
    def loaded(self) -> bool:
        """False while the memory has been given back."""
        return self._facts.loaded

    @property
    def running(self) -> bool:
        return self._closer.alive and self._thread.is_alive()

    def submit(self, job: Task) -> None:
        """Raises `EngineUnavailable` after `close`."""
        if not self.running:
            raise self.closed_error()
        self._inbox.put(job)

    def unload(self) -> None:
        """Give the memory back once nobody waits for an answer. Returns at once."""
        if self.running:
            self._inbox.put(Unload())

    def load(self) -> None:
        """Have the memory again, and return once it is there. Raises what keeps it from that."""
        order = Load()
        self._inbox.put(order)
        while self.running:
            with suppress(queue.Empty):
                error = order.told.get(timeout=_LOOK_S)
                if error is not None:
                    raise error
                return
        raise self.closed_error()

    def closed_error(self) -> EngineUnavailable:
        return EngineUnavailable(self._engine, "it has been closed")

    def close(self) -> None:
        """End what is running and wait for the thread."""
        self._closer()


def _stop(inbox: queue.SimpleQueue[Order], thread: threading.Thread) -> None:
    inbox.put(None)
    thread.join(_STOP_WAIT_S)


class _Loader:
    """Loads the model, and loads it again once there is work for it."""

    def __init__(
        self,
        engine: str,
        load: Callable[[], ModelRunner],
        inbox: queue.SimpleQueue[Order],
        facts: _Facts,
    ) -> None:
        self.engine, self.inbox = engine, inbox
        self._load, self._facts = load, facts

    def load(self) -> ModelRunner:
        try:
            runner = self._load()
        except EngineError:
            raise
        except Exception as error:
            if is_exhausted(error):
                raise self.failure(error) from error
            raise
        self._facts.take(runner)
        return runner

    def give_back(self, runner: ModelRunner) -> None:
        self._facts.loaded = False
        runner.close()

    def again(self, waiting: Sequence[Task]) -> tuple[ModelRunner, Sequence[Task]] | None:
        """The model and who waits for it; None when it is time to stop. Waits until somebody does.

        Whoever waits for a model that can't be had is told why.
        """
        asked: Load | None = None
        while True:
            if not waiting:
                job = self.inbox.get()
                if job is None:
                    return None
                if isinstance(job, Unload):
                    continue
                asked, waiting = (job, ()) if isinstance(job, Load) else (None, (job,))
            try:
                runner = self.load()
            except Exception as error:  # noqa: BLE001  those who wait get it
                come = self._come()
                self.fail([*waiting, *([asked] if asked else ()), *come], error)
                if None in come:
                    return None
                waiting = ()
                continue
            if asked is not None:
                asked.told.put(None)
            return runner, [job for job in waiting if self._fits(job, runner.context_window_size)]

    def _come(self) -> list[Order]:
        """What has been asked meanwhile."""
        come: list[Order] = []
        while not self.inbox.empty():
            come.append(self.inbox.get())
        return come

    def fail(self, orders: Sequence[Order], error: Exception) -> None:
        for order in orders:
            if isinstance(order, Task):
                order.sink.fail(self.failure(error))
            elif isinstance(order, Load):
                order.told.put(self.failure(error))

    def failure(self, error: Exception) -> EngineError:
        if isinstance(error, EngineError):
            return error
        return unmeant(self.engine, error, "no room for the model")

    def _fits(self, job: Task, context: int) -> bool:
        """The context may have got shorter since the job was made."""
        room = context - len(job.tokens)
        if room < 1:
            job.sink.fail(OutOfMemory(self.engine, f"there is room for a context of {context} tokens only"))
            return False
        job.sink.limit(room)
        return True


def _serve(loader: _Loader, rest: UnloadPolicy, started: queue.SimpleQueue[BaseException | None]) -> None:
    try:
        runner = loader.load()
    except BaseException as error:  # noqa: BLE001  it is raised again where the scheduler is made
        started.put(error)
        return
    started.put(None)
    found: tuple[ModelRunner, Sequence[Task]] | None = (runner, ())
    while found is not None:
        runner, waiting = found
        left = _work(loader, runner, rest, waiting)
        loader.give_back(runner)
        found = None if left is None else loader.again(left)


def _work(
    loader: _Loader, runner: ModelRunner, rest: UnloadPolicy, waiting: Sequence[Task]
) -> Sequence[Task] | None:
    """Until it is time to stop (None), or to load the model again: then who waits for it.

    An error that no answer is to blame for ends those under way; the next one finds the model loaded anew.
    """
    try:
        worker = Worker(loader.engine, runner, loader.inbox, rest, waiting)
    except Exception as error:  # noqa: BLE001  whoever waits gets it
        loader.fail(waiting, error)
        return ()
    try:
        left = worker.run()
    except Exception as error:  # noqa: BLE001  whoever waits gets it
        return None if worker.end(loader.failure(error)) else ()
    if left is None:
        worker.end(Cancelled())
    return left
