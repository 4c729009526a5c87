"""One thread owns the model; any thread may ask for an answer."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable

from edge_router.engines.local.runner import ModelRunner
from edge_router.engines.local.worker import Job, Worker
from edge_router.errors import Cancelled, EngineError, EngineUnavailable

_STOP_WAIT_S = 30.0  # at interpreter exit; a chunk on a slow machine takes seconds


class Scheduler:
    """Starts the thread and loads the model in it. Raises what `load` raises.

    `submit` from any thread. Dropping the last reference, or the interpreter's exit, closes it too.
    """

    def __init__(self, engine: str, load: Callable[[], ModelRunner]) -> None:
        self._engine = engine
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        loaded: queue.SimpleQueue[ModelRunner | BaseException] = queue.SimpleQueue()
        # A daemon, for a forgotten close() must not keep the interpreter from ending. The thread does not
        # know this object, so that it can be collected.
        self._thread = threading.Thread(
            target=_serve, args=(engine, load, self._inbox, loaded), name=f"edge_router {engine}", daemon=True
        )
        self._thread.start()
        runner = loaded.get()
        if isinstance(runner, BaseException):
            self._thread.join()
            raise runner
        self.vocab_size = runner.vocab_size
        self.context_window_size = runner.context_window_size
        self._closer = weakref.finalize(self, _stop, self._inbox, self._thread)

    @property
    def running(self) -> bool:
        return self._closer.alive and self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Raises `EngineUnavailable` after `close`."""
        if not self.running:
            raise self.closed_error()
        self._inbox.put(job)

    def closed_error(self) -> EngineUnavailable:
        return EngineUnavailable(self._engine, "it has been closed")

    def close(self) -> None:
        """End what is running and wait for the thread."""
        self._closer()


def _stop(inbox: queue.SimpleQueue[Job | None], thread: threading.Thread) -> None:
    inbox.put(None)
    thread.join(_STOP_WAIT_S)


def _serve(
    engine: str,
    load: Callable[[], ModelRunner],
    inbox: queue.SimpleQueue[Job | None],
    loaded: queue.SimpleQueue[ModelRunner | BaseException],
) -> None:
    try:
        runner = load()
    except BaseException as error:  # noqa: BLE001  it is raised again where the scheduler is made
        loaded.put(error)
        return
    loaded.put(runner)
    worker = Worker(engine, runner, inbox)
    end: EngineError = Cancelled()
    try:
        worker.run()
    except Exception as error:  # noqa: BLE001  whoever waits gets it
        end = EngineUnavailable(engine, f"its thread failed: {error!r}")
        end.__cause__ = error
    finally:
        worker.end(end)
        runner.close()
