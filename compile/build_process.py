"""A build in a process of its own: TVM's compiler takes half a gigabyte, and gives nothing of it back.

The parent starts `compile.worker`, hands it the job and reads what it says: `Said` objects, pickled, of which
the last is `Done` or `Failed`. Closing the child's input breaks the build off.
"""

from __future__ import annotations

import logging
import pickle
import queue
import subprocess
import tempfile
import threading
from contextlib import AbstractContextManager, suppress
from typing import IO

from edge_router.catalog import ModelCard
from edge_router.compile.recipe import BuildSettings
from edge_router.errors import BuildFailed, EdgeRouterError
from edge_router.records import dataclass
from edge_router.system.child_process import can_start, end, start
from edge_router.system.paths import Paths
from edge_router.types import Progress, Step

_WAKE_S = 0.2  # how often Ctrl-C is looked for; Windows tells it to nobody who waits for a pipe
_GRACE_S = 15.0  # for the child to clean up: the compiler is only interrupted between its steps
_LAST_WORDS = 300  # characters of what a process that died has written


@dataclass(frozen=True, slots=True)
class Job:
    """What `pipeline.ensure` was asked for."""

    card: ModelCard
    settings: BuildSettings
    paths: Paths
    offline: bool


@dataclass(frozen=True, slots=True)
class Began:
    """A step of the `Progress`, from now on known by its `number`."""

    number: int
    name: str
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Advanced:
    number: int
    amount: int


@dataclass(frozen=True, slots=True)
class Ended:
    """`broken_off`: by an error, so that nothing was done in the time it took."""

    number: int
    broken_off: bool


@dataclass(frozen=True, slots=True)
class Noted:
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Everything is in the store."""


@dataclass(frozen=True, slots=True)
class Failed:
    """`facts` are the error's attributes."""

    kind: type[EdgeRouterError]
    text: str
    facts: dict[str, object]
    trace: str

    def error(self) -> EdgeRouterError:
        error = self.kind.__new__(self.kind, self.text)  # its own __init__ takes facts, not the text
        error.__dict__.update(self.facts)
        return error


Said = Began | Advanced | Ended | Noted | Done | Failed


class _ElsewhereError(Exception):
    """Where in the other process an error came from, as the cause of the one that is raised here."""


class _BrokenOffError(Exception):
    """What ends a step here whose error, told at the end, was raised in the other process."""


def build(job: Job, progress: Progress) -> bool:
    """False where no process can be started for it. Otherwise raises what building raises.

    A process that dies is a `BuildFailed`: the system ends the one that takes most when memory runs out.
    """
    if not can_start():
        return False
    with tempfile.TemporaryFile() as errors:
        try:
            # The compiler warns of things that nobody who runs it can change.
            shown = logging.getLogger().isEnabledFor(logging.INFO)
            child = start(["-m", "edge_router.compile.worker"], stderr=None if shown else errors)
        except OSError:
            return False
        try:
            last = _Reader(child, progress).read(job)
        finally:
            _end(child)
        if last is None:
            raise BuildFailed(job.card.name, "build", _last_words(child.returncode, errors))
    if isinstance(last, Failed):
        raise last.error() from _ElsewhereError(last.trace)
    return True


class _Reader:
    """Repeats to `progress` what the child says to its own."""

    def __init__(self, child: subprocess.Popen[bytes], progress: Progress) -> None:
        self._child, self._progress = child, progress
        self._said: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        self._steps: dict[int, tuple[AbstractContextManager[Step], Step]] = {}

    def read(self, job: Job) -> Done | Failed | None:
        """The last word; None where the child is gone without one."""
        threading.Thread(target=self._listen, name="edge_router build", daemon=True).start()
        with suppress(OSError):  # gone already: then it has said nothing
            pickle.dump(job, _pipe(self._child.stdin))
            _pipe(self._child.stdin).flush()
        try:
            while True:
                with suppress(queue.Empty):
                    said = self._said.get(timeout=_WAKE_S)
                    if said is None or isinstance(said, Done | Failed):
                        return said
                    self._repeat(said)
        finally:
            for number in reversed(list(self._steps)):
                self._leave(number, broken_off=True)

    def _listen(self) -> None:
        try:
            while True:
                self._said.put(pickle.load(_pipe(self._child.stdout)))  # noqa: S301 - a process of ours
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):  # it has ended, or been ended
            pass
        finally:
            self._said.put(None)

    def _repeat(self, said: Began | Advanced | Ended | Noted) -> None:
        match said:
            case Began(number, name, total, unit):
                context = self._progress.step(name, total, unit)
                self._steps[number] = context, context.__enter__()
            case Advanced(number, amount):
                self._steps[number][1].advance(amount)
            case Ended(number, broken_off):
                self._leave(number, broken_off=broken_off)
            case Noted(text):
                self._progress.note(text)

    def _leave(self, number: int, *, broken_off: bool) -> None:
        error = _BrokenOffError() if broken_off else None
        self._steps.pop(number)[0].__exit__(type(error) if error else None, error, None)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Also in the midst of things; a second Ctrl-C waits no longer."""
    try:
        end(child, _GRACE_S)
    finally:
        _pipe(child.stdout).close()


def _last_words(status: int, errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"its process {ended}" + (f"; its last words: {lines[-1][-_LAST_WORDS:]}" if lines else "")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # each of them was asked for
    return stream
