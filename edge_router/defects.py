"""Mistakes of ours, and of plug-ins: they never count as an answer's end, and never hide.

`guard` turns what nobody raised on purpose into an `InternalError`, `spare` keeps it from an answer that
does not need what broke. Each is logged once per cause with its traceback, counted, and kept in a small file
that `doctor` shows; nothing that a user wrote gets there.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from edge_router.errors import EdgeRouterError, InternalError
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.disk import write_text

KEPT = 20  # causes in the file; the longest unseen go first

_logger = logging.getLogger(__name__)
_Cause = tuple[str, str, str]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Defect:
    """One cause, and how often it was met. Times are seconds since 1970."""

    component: str
    kind: str
    place: str
    version: str
    count: int
    first: float
    last: float

    @property
    def cause(self) -> _Cause:
        return self.component, self.kind, self.place


class Defects:
    """What broke in one process. Safe to use from several threads. Raises nothing of its own."""

    def __init__(
        self,
        file: Path | None = None,
        count: Callable[[str, str], None] | None = None,
        mask: Callable[[str], str] = str,
    ) -> None:
        """`count` is told the component and the exception's class each time. `mask` takes secrets out of what
        is logged: an exception may say what a user wrote."""
        self._file, self._count, self._mask = file, count, mask
        self._lock = threading.Lock()
        self._met: dict[_Cause, int] = {}  # since the file was written

    def guard(self, component: str) -> _Guard:
        """Raises `InternalError` for what is not an `EdgeRouterError`."""
        return _Guard(self, component)

    def spare(self, component: str) -> _Spare:
        """Nothing is raised: an answer must not be lost for what only watches it."""
        return _Spare(self, component)

    def guarded(self, component: str, work: Callable[P, T]) -> Callable[P, T]:
        """`work`, done under `guard`."""

        def safely(*arguments: P.args, **named: P.kwargs) -> T:
            with self.guard(component):
                return work(*arguments, **named)

        return safely

    def note(self, error: InternalError) -> None:
        """Log it if it is the first of its cause, count it. Once per error, however often it is met."""
        with self._lock:
            if error.noted:
                return
            error.noted = True
            cause = (error.component, error.kind, error.place)
            first = cause not in self._met
            self._met[cause] = self._met.get(cause, 0) + 1
        if self._count is not None:
            self._count(error.component, error.kind)
        if first:
            _logger.error("%s\n%s", error, self._trace(error))
            self.save()

    def _trace(self, error: InternalError) -> str:
        try:
            return self._mask("".join(traceback.format_exception(error)).rstrip())
        except Exception:  # noqa: BLE001 - what cannot be masked is not shown
            return (
                f"its traceback is not shown, for it could not be looked through for secrets: {error.place}"
            )

    def save(self) -> None:
        """Write down what was met since the last time."""
        with self._lock:
            met = {cause: count for cause, count in self._met.items() if count}
            self._met = dict.fromkeys(self._met, 0)
        if self._file is None or not met:
            return
        from edge_router import __version__

        now = time.time()
        known = {(defect.cause, defect.version): defect for defect in recorded(self._file)}
        for cause, count in met.items():
            new = Defect(*cause, __version__, 0, now, now)
            found = known.get((cause, __version__), new)
            known[cause, __version__] = replace(found, count=found.count + count, last=now)
        kept = sorted(known.values(), key=lambda defect: defect.last)[-KEPT:]
        with suppress(OSError):  # the log has them
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps([asdict(defect) for defect in kept], indent=1))


class _Guard:
    """A class, since `contextmanager` costs four times as much, and each answer passes eight of these."""

    __slots__ = ("_component", "_defects")

    def __init__(self, defects: Defects, component: str) -> None:
        self._defects, self._component = defects, component

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, InternalError):
            self._defects.note(error)
        elif isinstance(error, Exception) and not isinstance(error, EdgeRouterError):
            found = InternalError.of(self._component, error)
            self._defects.note(found)
            raise found from error


class _Spare:
    __slots__ = ("_component", "_defects")

    def __init__(self, defects: Defects, component: str) -> None:
        self._defects, self._component = defects, component

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            return False
        if isinstance(error, InternalError):
            self._defects.note(error)
        elif isinstance(error, EdgeRouterError):
            _logger.warning("%s: %s", self._component, error)
        elif isinstance(error, Exception):
            self._defects.note(InternalError.of(self._component, error))
        return isinstance(error, Exception)


def recorded(file: Path) -> tuple[Defect, ...]:
    """What was written down, the last seen last; what cannot be read is left out."""
    try:
        found = strict_json.read(file)
    except (OSError, strict_json.NotJson):
        return ()
    return tuple(filter(None, map(_defect, found))) if isinstance(found, list) else ()


def _defect(value: object) -> Defect | None:
    try:
        found = Defect(**value) if isinstance(value, dict) else None
    except TypeError:
        return None
    if found is None or not all(isinstance(text, str) for text in (*found.cause, found.version)):
        return None
    numbers = (found.count, found.first, found.last)
    plain = all(isinstance(number, int | float) and 0 <= number < 1e11 for number in numbers)
    return found if plain else None
