"""How long steps show on stderr: bars on a terminal, plain lines elsewhere.

Both keep to `types.Progress`. A step that took less than three seconds leaves no trace, so that a start
from what is already built says nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edge_router.cli.terminal import output
from edge_router.errors import REASON, clipped
from edge_router.types import Progress, SilentProgress, Step

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

WORTH_A_LINE_S = 3.0
EVERY_S = 10.0  # between two plain lines about the same step


def progress_for(*, quiet: bool, json: bool = False) -> Progress:
    """The one that fits stderr; nothing is shown with `quiet`, or with `json` where nobody looks on."""
    if quiet or (json and not sys.stderr.isatty()):
        return SilentProgress()
    return BarProgress() if output.shows_colour(sys.stderr) else LineProgress()


class BarProgress:
    """Bars that vanish when their step is done, and a line for each step that took a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: Bars | None = None
        self._open = 0

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        started = time.monotonic()
        bars = self._enter()
        task = bars.add_task(name, total=total, amount=_Amount(total, unit))
        step = _BarStep(bars, task)
        try:
            yield step
        finally:
            bars.remove_task(task)
            self._leave()
        took = time.monotonic() - started
        if took >= WORTH_A_LINE_S:
            output.say(_done(name, step.count, unit, took), style="dim")

    def note(self, text: str) -> None:
        line = _line(text)
        with self._lock:
            bars = self._bars
        if bars is None:
            output.say(line, style="yellow")
        else:
            bars.console.print(line, style="yellow", markup=False, emoji=False, highlight=False)

    def _enter(self) -> Bars:
        """The live display, begun by the first step and shared by steps within steps."""
        with self._lock:
            if self._bars is None:
                self._bars = _bars()
                self._bars.start()
            self._open += 1
            return self._bars

    def _leave(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0 and self._bars is not None:
                self._bars.stop()
                self._bars = None


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Amount:
    """ "45 of 272 tensors", formatted only when the bar is drawn."""

    def __init__(self, total: int | None, unit: str) -> None:
        self._total, self._unit, self.count = total, unit, 0

    def __str__(self) -> str:
        return _amount(self.count, self._total, self._unit)


class _BarStep:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task
        self._amount: Any = bars.tasks[-1].fields["amount"]

    @property
    def count(self) -> int:
        return int(self._amount.count)

    def advance(self, amount: int = 1) -> None:
        self._amount.count += amount
        self._bars.advance(self._task, amount)


class LineProgress:
    """For logs, pipes and dumb terminals: a line now and then."""

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        started = time.monotonic()
        step = _LineStep(name, total, unit, started)
        yield step
        took = time.monotonic() - started
        if took >= WORTH_A_LINE_S:
            output.say(_done(name, step.count, unit, took))

    def note(self, text: str) -> None:
        output.say(_line(text))


def _line(text: str) -> str:
    """As one line: what a file says of itself is not to begin lines of ours."""
    return clipped(output.plain(" ".join(text.split())), REASON)


class _LineStep:
    def __init__(self, name: str, total: int | None, unit: str, started: float) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._next_line = started + WORTH_A_LINE_S
        self.count = 0

    def advance(self, amount: int = 1) -> None:
        self.count += amount
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + EVERY_S
            output.say(f"{self._name}: {_amount(self.count, self._total, self._unit)}")


def _amount(count: int, total: int | None, unit: str) -> str:
    if unit == "bytes":
        return f"{output.size(count)} of {output.size(total)}" if total else output.size(count)
    if total is None:
        return f"{count} {unit}".rstrip() if count else ""
    return f"{count} of {total} {unit}".rstrip()


def _done(name: str, count: int, unit: str, seconds: float) -> str:
    amount = f" {_amount(count, None, unit)}" if count and unit else ""
    return f"{name}:{amount} in {seconds:.0f} s" if seconds >= 10 else f"{name}:{amount} in {seconds:.1f} s"
