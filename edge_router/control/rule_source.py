"""The user's rules as they stand in their file now: read at the start, and again once the file has changed.

A new text counts when it has stayed the same between two looks, or was written a while before the first:
what is half written may lack the rule that keeps a question here. A file that cannot be followed, or is gone,
changes nothing: the rules before it hold, and that is told once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_router.config.settings import Config
from edge_router.control.policy import Names, check_rules
from edge_router.errors import InvalidRules
from edge_router.routing.rules.file import read_rules
from edge_router.routing.rules.rule import Rule
from edge_router.system.paths import Paths, expanded

_EVERY_S = 1.0  # between two looks at the file
_WHOLE_S = 3.0  # after which nobody is still writing it; some systems keep times to two seconds
_logger = logging.getLogger(__name__)
_Look = tuple[int, int, int] | None  # when it was written, its size, which file; None: there is none


def rules_file(config: Config, paths: Paths) -> Path:
    return paths.rules if config.rules.file is None else expanded(config.rules.file)


def load_rules(config: Config, paths: Paths) -> tuple[Rule, ...]:
    """Those of the file that is named, or of the user's own where there is one. Raises `InvalidRules`."""
    file = rules_file(config, paths)
    named = config.rules.file is not None
    return read_rules(file) if named or file.exists() else ()


class RuleSource:
    """Safe to ask from any number of threads. To make it raises `InvalidRules` where they cannot be read."""

    def __init__(
        self,
        config: Config,
        paths: Paths,
        names: Callable[[], Names],
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        """`names`: those of the models that rules may name. `calendar`: the clock of files' times."""
        self._file, self._names = rules_file(config, paths), names
        self._clock, self._calendar = clock, calendar
        self._lock = threading.Lock()
        self._read = self._seen = _look(self._file)
        self._next = clock() + _EVERY_S
        self._rules = load_rules(config, paths)

    def check(self) -> None:
        """Raises `InvalidRules` where they name a model that nobody knows."""
        check_rules(self._rules, self._names(), self._file)

    def current(self) -> Sequence[Rule]:
        if self._clock() >= self._next and self._lock.acquire(blocking=False):
            try:
                self._next = self._clock() + _EVERY_S
                self._renew()
            finally:
                self._lock.release()
        return self._rules

    def _renew(self) -> None:
        look, before = _look(self._file), self._seen
        self._seen = look
        if look == self._read or not (look == before or self._is_settled(look)):
            return
        self._read = look
        if look is None:
            _logger.warning("%s is gone: the rules that were in it hold until the next start", self._file)
            return
        try:
            rules = read_rules(self._file)
            check_rules(rules, self._names(), self._file)
        except InvalidRules as error:
            _logger.warning("%s; the rules before that still hold", error)
            return
        self._rules = rules
        _logger.info("%s was read again: %d rules", self._file, len(rules))

    def _is_settled(self, look: _Look) -> bool:
        """Whether it was written long enough ago: the first question behind a change may come much later."""
        return look is not None and self._calendar() - look[0] / 1e9 >= _WHOLE_S


def _look(file: Path) -> _Look:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
