"""Holding a strong share while the traffic changes.

The threshold is a quantile of the last scores, at a level that moves a little after every decision: up when
the query went to the strong model, down when not (adaptive conformal inference, arXiv 2106.00170). Whatever
the traffic does, after n decisions the share lies within (1 + RATE) / (RATE * n) of the wanted one.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from edge_router.parsing import strict_json
from edge_router.system.disk import write_text

_logger = logging.getLogger(__name__)

RATE = 0.05
WINDOW = 500  # scores that are remembered
ENOUGH = 30  # of them, before the threshold is taken from them
_SAVE_EVERY = 50
_ABOVE_ALL = math.nextafter(1.0, 2.0)  # no score reaches it


class ShareTracker:
    """The threshold that holds `share`. Safe to use from several threads.

    Until it has seen enough scores, the threshold is `start`. What it has learnt is kept in `file`; what
    another router has learnt, or what cannot be read, is forgotten.
    """

    def __init__(self, share: float, start: float, *, router: str, file: Path | None = None) -> None:
        self.share, self._start, self._router, self._file = share, start, router, file
        self._level = 1 - share  # the part of the scores below the threshold
        self._scores: deque[float] = deque(maxlen=WINDOW)
        self._unsaved = 0
        self._lock = threading.Lock()
        self._read()

    @property
    def threshold(self) -> float:
        with self._lock:
            return self._threshold()

    def observe(self, score: float, *, sent: bool) -> None:
        """A query of this score was decided; `sent`: its score reached the threshold, or its conversation
        stays with the strong model."""
        with self._lock:
            self._level += RATE * (sent - self.share)
            self._scores.append(score)
            self._unsaved += 1
            if self._unsaved >= _SAVE_EVERY:
                self._write()

    def save(self) -> None:
        with self._lock:
            if self._unsaved:
                self._write()

    def _threshold(self) -> float:
        if self._level <= 0:
            return 0.0
        if self._level >= 1:
            return _ABOVE_ALL
        if len(self._scores) < ENOUGH:
            return self._start
        ordered = sorted(self._scores)
        place = self._level * (len(ordered) - 1)
        below = int(place)
        return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])

    def _write(self) -> None:
        self._unsaved = 0
        if self._file is None:
            return
        state = {"router": self._router, "level": self._level, "scores": list(self._scores)}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps(state))
        except OSError as error:  # an answer must not fail for it; the share is held until the process ends
            _logger.warning("%s cannot be written (%s): the held share will be forgotten", self._file, error)
            self._file = None

    def _read(self) -> None:
        try:
            state = strict_json.read_object(self._file) if self._file else {}
            if state.get("router") == self._router:
                self._recall(float(state["level"]), state["scores"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return

    def _recall(self, level: float, scores: Iterable[object]) -> None:
        found = [float(str(score)) for score in scores]
        if -RATE <= level <= 1 + RATE and all(0 <= score <= 1 for score in found):
            self._level = level
            self._scores.extend(found)
