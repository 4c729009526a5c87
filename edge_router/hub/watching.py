"""Progress of a download that another library makes: how its files grow, looked at a few times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_router.types import Progress

INTERVAL_S = 0.2


@contextmanager
def watch(
    measure: Callable[[], int], total: int, *, progress: Progress, name: str, interval_s: float = INTERVAL_S
) -> Iterator[None]:
    """Shows `measure()` bytes of `total` (0: unknown) for as long as the block runs."""
    done = threading.Event()

    with progress.step(name, total=total or None, unit="bytes") as step:
        shown = 0

        def look() -> None:
            nonlocal shown
            now = measure()
            now = min(now, total) if total else now
            if now > shown:  # files may be renamed or unpacked meanwhile; a bar never runs backwards
                step.advance(now - shown)
                shown = now

        def keep_looking() -> None:
            while not done.wait(interval_s):
                look()

        thread = threading.Thread(target=keep_looking, name="edge-router-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        look()
        if total > shown:
            step.advance(total - shown)
