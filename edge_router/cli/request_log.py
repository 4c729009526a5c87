"""A line for each answer of `serve`: when, who, why, how many tokens, how long; never its text."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from edge_router.cli.terminal import output
from edge_router.ledger import Record

HEADER = ("time", "model", "", "reason", "score", "tokens", "ms")
_WIDTHS = (8, 6, 20, 18, 5, 9, 6)
_RIGHT = ("score", "tokens", "ms")
_WAITING = 1000  # lines that nobody has read yet; a log that is not read loses lines, and holds up no answer
_END_S = 0.2


class RequestLog:
    """Takes records in any thread and says each in one of its own, so that a slow terminal delays nobody."""

    def __init__(self, say: Callable[[str], None] = output.say, *, dated: bool) -> None:
        """`dated`: for a file that is read another day."""
        self._say, self._dated = say, dated
        self._waiting = queue.Queue[Record | None](_WAITING)
        self._thread = threading.Thread(target=self._work, name="edge_router request log", daemon=True)
        self._thread.start()

    def tell(self, record: Record) -> None:
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(record)

    def close(self) -> None:
        """Says what is left, if somebody reads it soon."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_END_S)

    def _work(self) -> None:
        first = True
        while (record := self._waiting.get()) is not None:
            if first:
                self._say(_line(HEADER, self._dated))
            first = False
            self._say(line_of(record, dated=self._dated))


def line_of(record: Record, *, dated: bool = False) -> str:
    """One answer in columns; whatever ended badly stands behind them."""
    decision, usage, total = record.decision, record.usage, record.timings.total_ms
    form = "%Y-%m-%d %H:%M:%S" if dated else "%H:%M:%S"
    tokens = "-" if usage is None else f"{usage.prompt_tokens}+{usage.completion_tokens}"
    cells = (
        time.strftime(form, time.localtime(record.time)),
        decision.model,
        _clipped(record.model or "-"),
        str(decision.reason),
        "-" if decision.score is None else f"{decision.score:.3f}",
        tokens,
        "-" if total is None else f"{total:.0f}",
    )
    more = [decision.caller, record.error, record.cause and f"after {record.cause}"]
    return " ".join([_line(cells, dated), *filter(None, more)])


def _line(cells: tuple[str, ...], dated: bool) -> str:
    widths = (_WIDTHS[0] + 11 * dated, *_WIDTHS[1:])
    padded = [
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for cell, width, name in zip(cells, widths, HEADER, strict=True)
    ]
    return " ".join(padded).rstrip()


def _clipped(name: str) -> str:
    """On one line, and in its column."""
    text, width = " ".join(name.split()), _WIDTHS[2]
    return text if len(text) <= width else f"{text[: width - 2]}.."
