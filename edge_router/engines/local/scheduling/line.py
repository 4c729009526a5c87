"""Who waits for a model's answers, in the order of their arrival."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edge_router.engines.local.scheduling.jobs import Task
from edge_router.types import Cancel


class Line:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: list[tuple[Cancel, Task]] = []

    @contextmanager
    def standing(self, cancel: Cancel, job: Task) -> Iterator[None]:
        """While `job` is waited for and made; `cancel` is what its caller knows it by."""
        entry = cancel, job
        with self._lock:
            self._jobs.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._jobs.remove(entry)

    def ahead(self, cancel: Cancel) -> int | None:
        """How many came before that one and are not finished; None where it has its turn, or is not here."""
        with self._lock:
            for number, (known, job) in enumerate(self._jobs):
                if known is cancel:
                    return number if job.cached_tokens is None else None
        return None
