"""A month's money for the strong model: counted, kept between runs, and spread over the rest of the month.

The threshold is raised to the quantile of the last scores at which the strong model's part of the calls,
at the rate and the mean cost seen so far, would use up what is left by the month's end. What is never
passed by more than the answers under way is the sum itself: once it is spent, the strong model rests.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_router.config import Config
from edge_router.disk import hold, write_text
from edge_router.errors import StorageError
from edge_router.paths import Paths
from edge_router.thresholds.prices import Prices
from edge_router.types import SilentProgress, Usage

_logger = logging.getLogger(__name__)

WINDOW = 500  # scores that are remembered
ENOUGH = 30  # of them, before the threshold moves
DAY_S = 86_400.0
MEMORY_S = 3 * DAY_S  # how far back the rate of calls looks
_SMOOTH = 0.05  # of a new answer in the mean cost
_LOCK_S = 5.0


@dataclass
class _State:
    """What is kept. `calls` fades with MEMORY_S; times are seconds since 1970."""

    month: str = ""
    spent: float = 0.0
    mean_cost: float | None = None
    calls: float = 0.0
    first: float = 0.0
    last: float = 0.0


class Spending:
    """Safe to use from several threads; several processes add up what they spend in one `file`."""

    def __init__(
        self,
        budget: float,
        prices: Prices,
        *,
        router: str,
        file: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.budget, self._prices, self._router, self._file = budget, prices, router, file
        self._clock, self._lock = clock, threading.Lock()
        self._state, self._scores = _State(), deque[float](maxlen=WINDOW)
        self._seen: int | None = None  # the file's time when it was last read
        self._changed = False
        self._recall(self._read())

    @classmethod
    def of(cls, config: Config, paths: Paths) -> Spending | None:
        """None where no budget is configured."""
        budget, prices = config.strong.monthly_budget, Prices.of(config.strong)
        if budget is None or prices is None:
            return None
        return cls(budget, prices, router=config.router.name, file=paths.spending)

    @property
    def spent(self) -> float:
        """This month, by every process."""
        with self._lock:
            self._refresh()
            return self._state.spent

    @property
    def exhausted(self) -> bool:
        return self.spent >= self.budget

    def observe(self, score: float) -> None:
        """A query of this score is going to be answered."""
        with self._lock:
            state, now = self._state, self._clock()
            state.calls = state.calls * math.exp(-max(0.0, now - state.last) / MEMORY_S) + 1
            state.first, state.last = state.first or now, now
            self._scores.append(score)
            self._changed = True

    def pay(self, usage: Usage) -> None:
        """The strong model has answered."""
        cost = self._prices.cost(usage)
        with self._lock:
            before = self._state.mean_cost
            self._state.mean_cost = cost if before is None else before + _SMOOTH * (cost - before)
            self._write(cost)

    def threshold(self, base: float) -> float:
        """`base`, or more where it would spend the money before the month is over."""
        with self._lock:
            self._refresh()
            share = self._affordable()
            if share >= 1 or len(self._scores) < ENOUGH:
                return base
            ordered = sorted(self._scores)
            place = (1 - max(0.0, share)) * (len(ordered) - 1)
            below = min(int(place), len(ordered) - 2)
            return max(base, ordered[below] + (place - below) * (ordered[below + 1] - ordered[below]))

    def save(self) -> None:
        with self._lock:
            if self._changed:
                self._write(0.0)

    def _affordable(self) -> float:
        """The share of the calls that the rest of the money is enough for; may be above 1."""
        state, now = self._state, self._clock()
        if not state.mean_cost or not state.calls:
            return math.inf
        fade = math.exp(-max(0.0, now - state.last) / MEMORY_S)
        # Calls of less than a day are taken for a day's: most people sleep.
        age = max(now - state.first, DAY_S)
        rate = state.calls * fade / (MEMORY_S * (1 - math.exp(-age / MEMORY_S)))
        coming = rate * (month_end(now) - now)
        return (self.budget - state.spent) / (coming * state.mean_cost) if coming > 0 else math.inf

    def _refresh(self) -> None:
        """What other processes have spent; a new month begins with nothing."""
        self._turn()
        try:
            seen = self._file.stat().st_mtime_ns
        except OSError:
            seen = None
        if seen is not None and seen != self._seen:
            found = self._read()
            if found.get("month") == self._state.month:
                self._state.spent = max(self._state.spent, _number(found.get("spent")))

    def _turn(self) -> None:
        month = month_of(self._clock())
        if self._state.month != month:
            self._state.month, self._state.spent = month, 0.0

    def _write(self, cost: float) -> None:
        """Adds `cost` to the sum in the file, whoever wrote that last."""
        self._turn()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            lock = self._file.with_name(f"{self._file.name}.lock")
            with hold(lock, timeout_s=_LOCK_S, progress=SilentProgress(), doing="counts money"):
                found = self._read()
                if found.get("month") == self._state.month:
                    self._state.spent = max(self._state.spent, _number(found.get("spent")))
                self._state.spent += cost
                cost = 0.0
                write_text(self._file, json.dumps(self._kept()))
                self._seen = self._file.stat().st_mtime_ns
            self._changed = False
        except (OSError, StorageError) as error:  # an answer must not fail for it
            self._state.spent += cost
            _logger.warning("%s cannot be written (%s): what was spent may be forgotten", self._file, error)

    def _kept(self) -> dict[str, object]:
        state = self._state
        return {
            "month": state.month,
            "spent": state.spent,
            "mean_cost": state.mean_cost,
            "calls": state.calls,
            "first": state.first,
            "last": state.last,
            "router": self._router,
            "scores": list(self._scores),
        }

    def _read(self) -> Mapping[str, object]:
        try:
            text = self._file.read_text(encoding="utf-8")
            self._seen = self._file.stat().st_mtime_ns
            found = json.loads(text)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _logger.warning("%s cannot be read (%s): it counts as nothing spent", self._file, error)
            return {}
        return found if isinstance(found, dict) else {}

    def _recall(self, found: Mapping[str, object]) -> None:
        numbers = {
            name: _number(found.get(name)) for name in ("spent", "mean_cost", "calls", "first", "last")
        }
        self._state = _State(str(found.get("month", "")), **numbers)
        self._state.mean_cost = numbers["mean_cost"] or None
        scores = found.get("scores")
        if found.get("router") == self._router and isinstance(scores, Iterable):
            self._scores.extend(score for score in scores if isinstance(score, float) and 0 <= score <= 1)
        self._turn()


def month_of(now: float) -> str:
    """As the user's calendar has it: 2026-11."""
    return time.strftime("%Y-%m", time.localtime(now))


def month_end(now: float) -> float:
    here = time.localtime(now)
    year, month = (here.tm_year + 1, 1) if here.tm_mon == 12 else (here.tm_year, here.tm_mon + 1)
    return time.mktime((year, month, 1, 0, 0, 0, 0, 0, -1))


def _number(value: object) -> float:
    """0 for whatever is no sum of money, time or calls."""
    usable = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if usable else 0.0  # type: ignore[arg-type]
