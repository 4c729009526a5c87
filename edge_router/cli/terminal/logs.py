"""What modules log, as far as a person wants it: our warnings as lines on stderr, all of it with --debug."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from edge_router.cli.terminal import output

OURS = ("edge_router", "uvicorn")


class _Heard(logging.Handler):
    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._debug = debug
        self._kept: list[logging.LogRecord] | None = None  # until a line is free

    def keep(self) -> None:
        """With --debug nothing waits: there, when it came is half of what it says."""
        with self.lock or nullcontext():
            self._kept = None if self._debug else []

    def tell(self) -> None:
        with self.lock or nullcontext():
            kept, self._kept = self._kept or (), None
            for record in kept:
                self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._debug and record.name.partition(".")[0] not in OURS:
            return
        if self._kept is not None:
            self._kept.append(record)
            return
        output.say(f"{record.levelname.lower()}: {record.getMessage()}", style="yellow")
        if record.exc_info and record.exc_info[1] is not None:
            for line in "".join(traceback.format_exception(record.exc_info[1])).splitlines():
                output.say(line)


def hear(*, debug: bool) -> None:
    """From now on; a handler that is there keeps Python from printing other modules' records by itself."""
    silence()
    root = logging.getLogger()
    root.addHandler(_Heard(debug=debug))
    if debug:
        root.setLevel(logging.INFO)


@contextmanager
def held() -> Iterator[None]:
    """While an answer is written: what is logged meanwhile is said on lines of its own, behind it."""
    handlers = _handlers()
    for handler in handlers:
        handler.keep()
    try:
        yield
    finally:
        for handler in handlers:
            handler.tell()


def silence() -> None:
    root = logging.getLogger()
    for handler in _handlers():
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)


def _handlers() -> list[_Heard]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, _Heard)]
