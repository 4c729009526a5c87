"""The process in which a model is built; see `compile.apart` for what is said."""

from __future__ import annotations

import _thread
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import BinaryIO

from edge_router.compile.build_process import Advanced, Began, Done, Ended, Failed, Job, Noted, Said
from edge_router.compile.pipeline import make
from edge_router.errors import EdgeRouterError, InternalError, OutOfMemory
from edge_router.types import Step

_EVERY_S = 0.1  # between two reports of the same step


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints must not come between
    speaker = ProgressWriter(out)
    job: Job = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    ended = threading.Event()
    threading.Thread(target=_watch_parent, args=(ended,), daemon=True).start()
    try:
        make(job.card, job.settings, job.paths, speaker, build=True, offline=job.offline)
        last: Done | Failed = Done()
    except KeyboardInterrupt:  # broken off; the store has cleaned up
        return
    except Exception as error:  # noqa: BLE001 - whatever a library raises; the parent tells it
        last = failed(error)
    ended.set()  # the parent, once it has heard the last word, closes our input
    speaker.say(last)


def failed(error: Exception) -> Failed:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        error = OutOfMemory("tvm", "no room for building the model")
    ours = error if isinstance(error, EdgeRouterError) else InternalError.of("build", error)
    return Failed(type(ours), str(ours), dict(ours.__dict__), trace)


class ProgressWriter:
    """The child's `Progress`. Safe to use from several threads."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._lock, self._numbers = out, threading.Lock(), count()

    def say(self, said: Said) -> None:
        with self._lock:
            pickle.dump(said, self._out)
            self._out.flush()

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        step = _Step(self, next(self._numbers))
        self.say(Began(step.number, name, total, unit))
        broken_off = True
        try:
            yield step
            broken_off = False
        finally:
            step.tell()
            self.say(Ended(step.number, broken_off))

    def note(self, text: str) -> None:
        self.say(Noted(text))


class _Step:
    """A download advances thousands of times a second, which nobody needs to hear."""

    def __init__(self, speaker: ProgressWriter, number: int) -> None:
        self._speaker, self.number = speaker, number
        self._untold, self._told_at = 0, 0.0

    def advance(self, amount: int = 1) -> None:
        self._untold += amount
        if time.monotonic() - self._told_at >= _EVERY_S:
            self.tell()

    def tell(self) -> None:
        if self._untold:
            amount, self._untold = self._untold, 0
            self._told_at = time.monotonic()
            self._speaker.say(Advanced(self.number, amount))


def _watch_parent(ended: threading.Event) -> None:
    """The end of standard input is the parent's end, or its wish that this should end."""
    os.read(0, 1)  # not through sys.stdin, whose lock would be held when Python ends
    if not ended.is_set():
        _thread.interrupt_main()


if __name__ == "__main__":
    main()
