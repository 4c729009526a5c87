"""A program of ours in a process of its own: it can be ended whatever it does, and may crash alone.

Both sides write JSON, one object a line. The parent's first line says how to start; `{"ready": ...}` or
`{"failed": ...}` answers it. Then any number of calls run at once: `{"id", "call"}` is answered by lines with
that id, the last of which has "end" or "error"; `{"cancel": id}` ends one early. The end of the child's
standard input ends the child, so it does not outlive its parent. A thread that dies there, whoever made it,
ends the child as well, and a line that has "last" tells all who wait why: nothing else would.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing
from typing import IO, TYPE_CHECKING, Any

from edge_router.errors import (
    Cancelled,
    EdgeRouterError,
    EngineUnavailable,
    GenerationFailed,
    InternalError,
    is_mistake,
)
from edge_router.parsing import strict_json
from edge_router.system.child_process import can_start, end, spawn, start
from edge_router.types import Cancel

if TYPE_CHECKING:
    from edge_router.mlc_python import MlcPython

Line = dict[str, Any]

_WAKE_S = 0.05  # how often a waiting reader looks at its cancel
_CLOSE_S = 15.0  # to end by itself
_LAST_LINES = 5  # of what the child wrote to stderr, for errors
_GONE: Line = {}


class Child:
    """The parent's side. `name` is the engine's, for errors. Safe to use from several threads.

    `module` is run by this Python, or by the one that `python` is.
    """

    def __init__(
        self,
        name: str,
        module: str,
        begin: Mapping[str, object],
        *,
        timeout_s: float,
        python: MlcPython | None = None,
        refusal: Callable[[Line], EdgeRouterError] | None = None,
        clock: Callable[[], float] = time.monotonic,
        cancel: Cancel | None = None,
    ) -> None:
        """Raises `EngineUnavailable` when it fails to start, or takes longer than `timeout_s` by `clock`.

        `refusal` is what to raise for the line of a child that has "failed", in the place of that.
        """
        if (python is None or python.executable is None) and not can_start():
            raise EngineUnavailable(name, "this program has no Python that could run it")
        self._name, self._refusal, self._clock = name, refusal, clock
        self._killed: str | None = None  # why we did it
        self._over = False  # it has ended, or said that it will now
        self.heard = 0  # lines of the calls so far, whomever they are for
        self._ids = itertools.count()
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Line]] = {}
        self._first: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            if python is None or python.executable is None:
                self._process = start(["-m", module], stderr=subprocess.PIPE)
            else:
                self._process = spawn(python.program(module), python.environment(), stderr=subprocess.PIPE)
        except OSError as error:
            reason = f"its process cannot be started: {error.strerror or error}"
            raise EngineUnavailable(name, reason) from error
        self._threads = [
            threading.Thread(target=target, name=f"{name}-{target.__name__}", daemon=True)
            for target in (self._read, self._listen)
        ]
        for thread in self._threads:
            thread.start()
        try:
            self._send(begin)
            self._await_ready(timeout_s, cancel)
        except BaseException:  # Ctrl-C, too, must not leave it behind
            self._end(0)
            raise

    def call(
        self, request: Mapping[str, object], cancel: Cancel, look: Callable[[int], None] = lambda heard: None
    ) -> Generator[Line, None, None]:
        """The lines that answer it. Raises `Cancelled`; `GenerationFailed` when the process is gone.

        `look` is called with `heard` again and again while nothing comes, and may raise.
        """
        number, lines = next(self._ids), queue.SimpleQueue[Line]()
        with self._lock:
            self._waiting[number] = lines
        ended = False
        try:
            self._send({"id": number, "call": request})
            while not ended:
                line = self._next(lines, cancel, look)
                ended = "end" in line or "error" in line
                yield line
        finally:
            with self._lock:
                self._waiting.pop(number, None)
            if not ended:
                with contextlib.suppress(GenerationFailed):
                    self._send({"cancel": number})

    @property
    def running(self) -> bool:
        return not (self._over or self._killed) and self._process.poll() is None

    def wait(self) -> str:
        """How it has ended, once it has; nothing that it said, which may be a user's."""
        status = self._process.wait()
        how = f"was ended: {self._killed}" if self._killed else _ended_with(status)
        return f"its process {how}"

    def kill(self, reason: str) -> None:
        """At once; whoever waits for it is told the reason."""
        self._killed = reason
        self._process.kill()

    def close(self) -> None:
        """May be called twice."""
        self._end(_CLOSE_S)

    def _await_ready(self, timeout_s: float, cancel: Cancel | None) -> None:
        line, until = None, self._clock() + timeout_s
        while line is None:
            try:
                line = self._first.get(timeout=_WAKE_S)
            except queue.Empty:
                if cancel is not None and cancel.is_set():
                    raise Cancelled from None
                if self._clock() >= until:
                    reason = f"loading did not end within {timeout_s:g} s{self._last_words()}"
                    raise EngineUnavailable(self._name, reason) from None
        if "mistake" in line:
            raise mistake_of(self._name, line)
        if "failed" in line and self._refusal is not None:
            raise self._refusal(line)
        if "ready" not in line:
            reason = line.get("failed") or f"its process ended while loading{self._last_words(wait=True)}"
            raise EngineUnavailable(self._name, str(reason))

    def _next(self, lines: queue.SimpleQueue[Line], cancel: Cancel, look: Callable[[int], None]) -> Line:
        while not cancel.is_set():
            try:
                line = lines.get(timeout=_WAKE_S)
            except queue.Empty:
                if self._process.poll() is None:
                    look(self.heard)
                    continue
                line = _GONE
            if line is _GONE:
                raise self._gone()
            return line
        raise Cancelled

    def _send(self, line: Mapping[str, object]) -> None:
        data = json.dumps(line).encode() + b"\n"
        stream = _pipe(self._process.stdin)
        try:
            with self._writing:
                stream.write(data)
                stream.flush()
        except (OSError, ValueError) as error:  # ended, or closed by us
            raise self._gone() from error

    def _gone(self) -> GenerationFailed:
        how = f"was ended: {self._killed}" if self._killed else f"has ended{self._last_words()}"
        return GenerationFailed(self._name, f"its process {how}")

    def _read(self) -> None:
        for data in _pipe(self._process.stdout):
            try:
                line = strict_json.parse_object(data)
            except strict_json.NotJson:  # of what starts a Python, before its output is `serve`'s alone
                self._hear(data)
                continue
            if "id" not in line:
                self._first.put(line)
                continue
            self.heard += 1
            self._over = self._over or "last" in line
            with self._lock:
                lines = self._waiting.get(line["id"])
            if lines is not None:
                lines.put(line)
        self._over = True
        self._first.put(_GONE)
        with self._lock:
            for lines in self._waiting.values():
                lines.put(_GONE)

    def _listen(self) -> None:
        for data in _pipe(self._process.stderr):
            self._hear(data)

    def _hear(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace").strip()
        if text:
            self._said.append(text)

    def _last_words(self, *, wait: bool = False) -> str:
        if wait:
            self._threads[1].join(1.0)
        said = " ".join(list(self._said))
        return f"; its last words: {said}" if said else ""

    def _end(self, grace_s: float) -> None:
        end(self._process, grace_s)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(1.0)  # children of its own might hold the pipes
        for stream in (self._process.stdout, self._process.stderr):
            _pipe(stream).close()


def _ended_with(status: int) -> str:
    """A system that runs out of memory sends SIGKILL; a library that breaks ends by SIGSEGV or SIGABRT."""
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:  # of its own accord, or on Windows
        return f"has ended with status {status}"


def mistake_of(name: str, line: Line) -> InternalError:
    """What a line tells that has a "mistake": a defect of the child's side."""
    kind, place = line["mistake"]
    return InternalError(f"process of the engine {name}", str(kind), str(place))


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # each of them was asked for
    return stream


# ---- the child's side --------------------------------------------------------------------------------------

Answer = Callable[[Any, str, Line], AsyncGenerator[Line, None]]
"""From what `load` made, a request's name that no other has, and the call."""


def serve(load: Callable[[Line], Any], answer: Answer, close: Callable[[Any], None]) -> None:
    """Runs until standard input ends. Whatever else prints goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    writing = threading.Lock()

    def send(line: Mapping[str, object]) -> None:
        with writing:
            out.write(json.dumps(line) + "\n")
            out.flush()

    begin = strict_json.parse_object(sys.stdin.readline())
    calls = _Calls(answer, send)
    threading.excepthook = calls.thread_died
    threading.Thread(target=calls.listen, daemon=True).start()
    try:
        held = load(begin)
    except Exception as error:  # noqa: BLE001 - another package's; the parent tells it
        if _is_ours(error):
            traceback.print_exception(error)  # the parent's log
        calls.failed(error)
        return
    try:
        asyncio.run(calls.run(held))
    finally:
        close(held)


class _Calls:
    """The calls under way, each a task of one event loop."""

    def __init__(self, answer: Answer, send: Callable[[Mapping[str, object]], None]) -> None:
        self._answer, self._send = answer, send
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None  # None while loading
        self._over: asyncio.Event
        self._held: Any

    def listen(self) -> None:
        for text in sys.stdin:
            if self._loop is not None:  # nothing is asked before the answer "ready"
                self._loop.call_soon_threadsafe(self._take, strict_json.parse_object(text))
        if self._loop is None:
            os._exit(1)  # loading may hang, and nobody waits for it any more
        self._loop.call_soon_threadsafe(self._over.set)

    def failed(self, error: BaseException) -> None:
        """Loading has."""
        told = _told(error)
        self._send({**told, "failed": f"{told['kind']}: {told['error']}"})

    def thread_died(self, died: threading.ExceptHookArgs) -> None:
        """All who wait would wait for ever."""
        if died.exc_value is None or isinstance(died.exc_value, SystemExit):
            return
        traceback.print_exception(died.exc_value)  # the parent's log
        if self._loop is None:
            self.failed(died.exc_value)
        else:
            for number in list(self._tasks):
                self._send({"id": number, "last": True, **_told(died.exc_value)})
        os._exit(1)

    async def run(self, held: Any) -> None:
        self._held, self._over = held, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._send({"ready": True})
        await self._over.wait()
        running = list(self._tasks.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _take(self, line: Line) -> None:
        if "cancel" in line:
            task = self._tasks.get(line["cancel"])
            if task is not None:
                task.cancel()
            return
        number = line["id"]
        task = asyncio.get_running_loop().create_task(self._serve(number, line["call"]))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    async def _serve(self, number: int, call: Line) -> None:
        try:
            async with aclosing(self._answer(self._held, f"edge-router-{number}", call)) as lines:
                async for line in lines:
                    self._send({**line, "id": number})  # a chunk has an id of its own
            self._send({"id": number, "end": True})
        except Exception as error:  # noqa: BLE001 - another package's; the parent tells it
            if _is_ours(error):
                traceback.print_exception(error)  # the parent's log
            self._send({"id": number, **_told(error)})


def _is_ours(error: BaseException) -> bool:
    """Whether it is a mistake of this package: what another one raises says what that one lacks."""
    if not is_mistake(error):
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__"))
    return module == "__main__" or module.partition(".")[0] == __package__.partition(".")[0]


def _told(error: BaseException) -> Line:
    line: Line = {"error": str(error), "kind": type(error).__name__}
    if _is_ours(error):
        found = InternalError.of("", error)
        line["mistake"] = [found.kind, found.place]
    return line
