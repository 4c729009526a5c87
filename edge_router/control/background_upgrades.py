"""Answers bettered without anybody asking: in a thread, once the strong one has been heard to answer."""

from __future__ import annotations

import logging
import threading

from edge_router.config.sections import LedgerConfig
from edge_router.control.upgrading import Upgrader
from edge_router.defects import Defects
from edge_router.errors import EdgeRouterError

GRACE_S = 5.0  # a program that ends with its answer would only break off what it has begun
FIRST_PAUSE_S, LONGEST_PAUSE_S = 300.0, 6 * 3600.0  # after a failure, doubled each time
_LEAVE_S = 5.0

_logger = logging.getLogger(__name__)


class BackgroundUpgrades:
    """Does nothing unless `settings` say so. Safe to use from several threads. Raises nothing."""

    def __init__(
        self, settings: LedgerConfig, upgrader: Upgrader, defects: Defects, *, grace_s: float = GRACE_S
    ) -> None:
        self._on = settings.upgrade == "auto" and settings.store_prompts and settings.enabled
        self._upgrader, self._defects, self._grace_s = upgrader, defects, grace_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._woken, self._cancel = threading.Event(), threading.Event()

    def wake(self) -> None:
        """The strong model may be back: it has answered, or the program begins."""
        if self._on:
            with self._lock:
                self._woken.set()
                if self._thread is None and not self._cancel.is_set():
                    self._thread = threading.Thread(
                        target=self._run, name="edge_router upgrades", daemon=True
                    )
                    self._thread.start()

    def close(self) -> None:
        """Ends what is under way, which stays open for the next time."""
        self._cancel.set()
        self._woken.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(_LEAVE_S)

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        self._cancel.wait(self._grace_s)
        while True:
            self._woken.clear()
            bettered = failed = False
            with self._defects.spare("upgrades"):
                try:
                    for _ in () if self._cancel.is_set() else self._upgrader.ask(cancel=self._cancel):
                        bettered = True
                except EdgeRouterError as error:
                    failed = True
                    _logger.info("no more answers are bettered for now: %s", type(error).__name__)
            pause_s = FIRST_PAUSE_S if bettered else pause_s
            if failed and not self._cancel.is_set():
                self._woken.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with self._lock:
                if self._cancel.is_set() or not (failed or self._woken.is_set()):
                    self._thread = None
                    return
