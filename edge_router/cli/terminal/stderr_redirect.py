"""Native libraries print their warnings straight to the process's standard error; here they find nobody."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def hushed() -> Iterator[None]:
    """Inside, only Python's own `sys.stderr` reaches the terminal. With --debug everything does."""
    real = sys.stderr
    try:
        descriptor = real.fileno()
    except (AttributeError, OSError, ValueError):  # a stderr that is no file, or none at all
        yield
        return
    if descriptor != 2 or logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    real.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    ours = io.TextIOWrapper(
        os.fdopen(os.dup(kept), "wb", 0), encoding=real.encoding, errors=real.errors, write_through=True
    )
    try:
        os.dup2(nowhere, 2)
        sys.stderr = ours
        yield
    finally:
        sys.stderr = real
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        with suppress(OSError):
            ours.close()
