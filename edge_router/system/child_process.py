"""This Python once more, as a process of its own: whether that can be had, how it is started and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from edge_router.system.telemetry import switched_off

_PYTHONS = ("python", "pypy")


def can_start() -> bool:
    """False in a frozen program and in one that embeds Python, where `sys.executable` is that program."""
    if not sys.executable or getattr(sys, "frozen", False):
        return False
    return Path(sys.executable).name.lower().startswith(_PYTHONS)


def start(code: Sequence[str], *, stderr: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Python with the arguments `code`; it finds the modules that this process finds. See `spawn`."""
    return spawn([sys.executable, *code], _environment(), stderr=stderr)


def spawn(
    command: Sequence[str], environment: Mapping[str, str], *, stderr: int | IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """A process with pipes to its standard input and from its output.

    It is no part of this process's group: Ctrl-C is told to this one alone, which ends the other one by
    closing its input. Raises `OSError`.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        start_new_session=True,  # means nothing on Windows, where the next one has that effect
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def end(process: subprocess.Popen[Any], grace_s: float) -> None:
    """Closes its input, by which it knows, and kills it where it has not ended in `grace_s` seconds.

    Who is interrupted meanwhile waits no longer: it is killed, too.
    """
    if process.stdin is not None:
        with suppress(OSError):  # what was written last may have nobody to go to
            process.stdin.close()
    try:
        process.wait(grace_s)
    except BaseException as error:
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


def _environment() -> Mapping[str, str]:
    """`sys.path` as it is here, which a program may have changed; "" is where it was when it was asked."""
    found = [entry or str(Path.cwd()) for entry in sys.path]
    return {**switched_off(os.environ), "PYTHONPATH": os.pathsep.join(found), "PYTHONSAFEPATH": "1"}
