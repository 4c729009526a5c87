"""What was typed and what is piped in, as one prompt."""

from __future__ import annotations

import sys

from edge_router.cli.terminal import output

SLOW_INPUT_S = 2.0  # a pipe that stays open looks like a program that hangs


def readable(argument: str) -> str:
    """An argument that was not UTF-8 comes as lone surrogates, which no tokenizer takes."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def joined(prompt: str | None, piped: str | None) -> str | None:
    """The question first, then what it is about."""
    if prompt is None or not piped:
        return prompt if prompt is not None else piped
    return f"{prompt}\n\n{piped}"


def piped_input(*, given: bool) -> str | None:
    """All of stdin, unless it is a terminal. `given`: there is a prompt, so nothing piped is no mistake."""
    if sys.stdin is None or sys.stdin.closed:  # a program without one
        return None if given else ""
    if sys.stdin.isatty():
        return None
    import threading

    note = threading.Timer(
        SLOW_INPUT_S, output.say, ["reading standard input until it ends (Ctrl-D, or < /dev/null)"]
    )
    note.daemon = True
    note.start()
    try:
        text = sys.stdin.read()
    finally:
        note.cancel()
    return text.strip("\n") if text.strip() or not given else None
