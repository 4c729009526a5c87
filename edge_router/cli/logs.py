"""What modules log, as far as a person wants it: our warnings as lines on stderr, all of it with --debug."""

from __future__ import annotations

import logging
import traceback

from edge_router.cli import output

OURS = ("edge_router", "uvicorn")


class _Heard(logging.Handler):
    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        if not self._debug and record.name.partition(".")[0] not in OURS:
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


def silence() -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Heard)]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)
