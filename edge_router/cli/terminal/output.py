"""The two streams. `write` and `write_json` go to stdout, `say` to stderr; colours only where they show."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn, TextIO

INTERRUPTED = 130  # what shells expect of a program that Ctrl-C ended

# Escape sequences in an answer could retitle the window, move the cursor or write to the clipboard.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def prepare() -> None:
    """Once per process: text that a console can't show becomes "?", and libraries keep their warnings."""
    _open_streams()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            legacy = os.name == "nt" and "PYTHONIOENCODING" not in os.environ
            stream.reconfigure(encoding="utf-8" if legacy else None, errors="replace")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _open_streams() -> None:
    """A standard stream that was closed (`>&-`, a desktop program without a console) leads nowhere instead.

    The number of a closed one goes to the next file that is opened, and what a library prints would end up
    in that file. An answer that nobody could get is an error all the same.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it lives as long as the process
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as above


class _Closed(io.TextIOBase):
    """A standard output that is not there. Writing to it raises what the system raises."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def finish() -> None:
    """Flush both streams; where nobody reads any more, what is left is dropped without a word."""
    terminal = sys.__stderr__  # rich puts one of its own in its place
    with contextlib.suppress(OSError, ValueError):
        if terminal is not None and "rich.progress" in sys.modules and shows_colour(terminal):
            # A thread that was left behind with a bar has hidden the cursor
            terminal.write("\r\x1b[2K\x1b[?25h")
            terminal.flush()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            drop(stream)


def drop(stream: TextIO) -> None:
    """Send the rest of `stream` nowhere, so that Python's own flush at the end can't fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def write(text: str) -> None:
    """To stdout, at once. On a terminal without control characters: a model is not to steer it."""
    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_styled(line: str, style: str) -> None:
    """One line to stdout, in rich's `style` on a terminal."""
    if style and shows_colour(sys.stdout):
        _print(sys.stdout, line, style)
    else:
        write(f"{line}\n")


def write_json(value: object) -> None:
    """One line of JSON to stdout."""
    import json

    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def plain(text: str) -> str:
    return _CONTROL.sub("", text)


def say(text: str, *, style: str = "") -> None:
    """One line to stderr; `style` is rich's ("dim", "red") and shows on a terminal only."""
    _beside(text, style, "\n")


def murmur(text: str) -> None:
    """To stderr at once and without a line's end, dim on a terminal: what goes along with an answer."""
    _beside(text, "dim", "")


def _beside(text: str, style: str, end: str) -> None:
    """To stderr. Where that cannot be written (a full disk under a log) the work goes on without."""
    try:
        if style and shows_colour(sys.stderr):
            _print(sys.stderr, text, style, end)
        else:
            sys.stderr.write(plain(text) + end)
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)


def part() -> None:
    """Between what is written and what is said next, where a program in between (`| tee`) may be late.

    On a terminal its last line can come behind what we say, which then begins a line to be safe.
    """
    if sys.stderr.isatty() and _is_pipe(sys.stdout):
        sys.stderr.write("\n")
        sys.stderr.flush()


def _is_pipe(stream: TextIO) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # one that is no file, or closed
        return False


def _print(stream: TextIO, text: str, style: str, end: str = "\n") -> None:
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    console.print(plain(text), style=style, markup=False, emoji=False, soft_wrap=True, end=end)


def shows_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """To stdout: fitted to a terminal, whole and aligned in a pipe. Numbers stand at the `right`.

    `spare`: columns that a narrow terminal does without, the first of them first; then names stay whole.
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False, emoji=False)
        left_out = _beyond(console.width, columns, rows, spare)
        shown = [index for index, column in enumerate(columns) if column not in left_out]
        grid = Table(box=None, pad_edge=False, header_style="bold")
        for index in shown:
            side: Literal["left", "right"] = "right" if columns[index] in right else "left"
            grid.add_column(columns[index], justify=side, overflow="fold", no_wrap=bool(spare) and not index)
        for row in rows:
            grid.add_row(*(_escaped(row[index]) for index in shown))
        console.print(grid)
        if left_out:
            say(f"In a wider window: {', '.join(left_out)}.", style="dim")
        return
    lines = [tuple(columns), *(tuple(plain(cell) for cell in row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.flush()


def _beyond(
    width: int, columns: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]
) -> Sequence[str]:
    """As many of the `spare` columns as must go for the others to fit."""
    wide = {
        column: max(map(len, cells)) + 2
        for column, *cells in zip(columns, columns, *map(tuple, rows), strict=True)
    }
    for count in range(len(spare)):
        if sum(wide.values()) - sum(wide[column] for column in spare[:count]) - 2 <= width:
            return spare[:count]
    return spare


def _escaped(cell: str) -> str:
    from rich.markup import escape

    return escape(plain(cell))


def size(count: int) -> str:
    """Bytes as people read them, in the same units everywhere: 93 MiB, 1.8 GiB."""
    from edge_router.parsing.sizes import binary  # which a chat's first word would wait for

    return binary(count)


def ago(when: float) -> str:
    """A time in seconds since 1970, as people say it."""
    from edge_router.parsing.sizes import span  # which a chat's first word would wait for

    seconds = time.time() - when
    return "now" if seconds < 60 else f"{span(seconds)} ago"


def leave(code: int) -> NoReturn:
    """End the process now, though a thread is still deep in native code and could crash an orderly end."""
    finish()
    os._exit(code)
