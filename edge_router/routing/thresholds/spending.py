"""A month's money for the strong model, or a day's: paid answer by answer, and spread over the rest of it.

Before a question leaves, what its answer may cost at most is put down; when the answer has ended, by itself,
by its reader's leaving or by a failure, what it did cost. So the sum is never passed by more than one answer.
A sum that cannot be read or written counts as used up: where a budget is set, not knowing is no permission.

The threshold is raised to the quantile of the last scores at which the strong model's part of the calls,
at the rate and the mean cost seen so far, would use up what is left by the month's end.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, fields
from pathlib import Path

from edge_router.chat.events import Answering, Event, Usage
from edge_router.chat.request import ChatRequest
from edge_router.config.questions import NAME as QUESTIONS
from edge_router.config.settings import Config
from edge_router.errors import (
    BudgetSpent,
    InvalidData,
    LockTimeout,
    StorageError,
    StrongFailed,
    StrongNotConfigured,
    StrongPaused,
    StrongQuotaExceeded,
    StrongRateLimited,
    StrongRefused,
    StrongUnauthorized,
    StrongUnreachable,
    Withheld,
)
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.routing.thresholds.metering import TokenMeter
from edge_router.routing.thresholds.payments import MONTH, Payments, Period, month_end, month_of
from edge_router.routing.thresholds.prices import Prices
from edge_router.system.paths import Paths

__all__ = ["DAY_S", "ENOUGH", "Payment", "Spending", "month_end", "month_of"]

_logger = logging.getLogger(__name__)

WINDOW = 500  # scores that are remembered
ENOUGH = 30  # of them, before the threshold moves
DAY_S = 86_400.0
MEMORY_S = 3 * DAY_S  # how far back the rate of calls looks
_SMOOTH = 0.05  # of a new answer in the mean cost
_FREE = (  # what an endpoint does not charge for: nothing was sent, or it was refused
    *(StrongNotConfigured, StrongUnreachable, StrongUnauthorized, StrongRateLimited, StrongRefused),
    *(StrongPaused, StrongQuotaExceeded, StrongFailed, Withheld),
)


@dataclass
class _Pace:
    """How fast the money goes. `calls` fades with MEMORY_S; times are seconds since 1970."""

    mean_cost: float = 0.0
    calls: float = 0.0
    first: float = 0.0
    last: float = 0.0


class Payment:
    """For one answer, from before its question leaves until it has ended."""

    def __init__(self, put_down: Sequence[tuple[Spending, int]], request: ChatRequest) -> None:
        """`put_down`: whose money it takes, and the row of each."""
        self._put_down, self._meter = tuple(put_down), TokenMeter(request)
        self._lock, self._settled, self._hedged = threading.Lock(), False, tuple[str, ...]()

    def metered(
        self, events: Iterator[Event], spared: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Iterator[Event]:
        """`events`, counted as they pass. Where none comes, what that cost is settled here.

        `spared` makes what a mistake in counting is kept from the answer by.
        """
        begun = False
        try:
            for event in events:
                begun = True
                with spared():
                    self._meter.read(event)
                    if isinstance(event, Answering):
                        self._hedged = event.hedged
                yield event
        except BaseException as error:
            if not begun:
                self.fail(error)
            raise
        finally:
            if isinstance(events, Generator):
                events.close()

    def fail(self, error: BaseException) -> None:
        """None of the answer came."""
        self._settle(Usage(0, 0) if isinstance(error, _FREE) else self._meter.estimate())

    def settle(self, usage: Usage | None, endpoint: str | None = None) -> None:
        """The answer has ended. `usage`: what the endpoint stated; None where it did not come to that.

        `endpoint`: which of several gave it.
        """
        self._settle(self._meter.usage(usage), endpoint)

    def _settle(self, usage: Usage, endpoint: str | None = None) -> None:
        with self._lock:
            settled, self._settled = self._settled, True
        for spending, number in () if settled else self._put_down:
            spending.settle(number, usage, endpoint, {name: self._meter.unheard() for name in self._hedged})


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
        by_endpoint: Mapping[str, Prices] = {},
        hedges: bool = False,
        period: Period = MONTH,
    ) -> None:
        """`prices` are the highest, for what is not answered yet; `by_endpoint` those of one of several."""
        self._by_endpoint, self._hedges = dict(by_endpoint), hedges
        self.budget, self._prices, self._router, self.file = budget, prices, router, file
        self.period, self._clock, self._payments = period, clock, Payments(file, clock, period)
        self._lock = threading.Lock()  # of what follows; never held while a file is waited for
        self._own: dict[str, float] = {}  # paid by this process, by month: a lost file takes none of it back
        self._unwritten: list[tuple[int | None, float]] = []  # a row and its cost; None: a row of its own
        self._known: tuple[str, float] = ("", 0.0)  # a month, and the sum that was last read of it
        self._problem: StorageError | InvalidData | None = None
        self._pace, self._scores, self._changed = _Pace(), deque[float](maxlen=WINDOW), False
        self._recall()

    @classmethod
    def of(cls, config: Config, paths: Paths) -> Spending | None:
        """Of all callers together. None where no budget is configured."""
        return cls.within(config.strong.monthly_budget, config, paths.spending)

    @classmethod
    def within(
        cls, budget: float | None, config: Config, file: Path, period: Period = MONTH
    ) -> Spending | None:
        """Of `budget`, kept in `file`. None without one."""
        by_endpoint = {} if budget is None else Prices.by_endpoint(config)
        prices = None if budget is None else Prices.highest(config) or by_endpoint.get(QUESTIONS)
        if budget is None or prices is None:
            return None
        return cls(
            budget,
            prices,
            router=config.router.name,
            file=file,
            by_endpoint=by_endpoint,
            hedges=config.strong.hedge,
            period=period,
        )

    @property
    def spent(self) -> float:
        """In this period, by every process, with what is under way; infinite where nobody can tell."""
        spent = self._sum()
        return math.inf if self._problem is not None else spent

    @property
    def exhausted(self) -> bool:
        return self.spent >= self.budget

    @property
    def problem(self) -> StorageError | InvalidData | None:
        """Why the sum could not be told when it was last asked for, if so."""
        return self._problem

    def begin(self, request: ChatRequest) -> Payment:
        """Before a question leaves. Raises `BudgetSpent` where no money is left, or nobody can tell."""
        return Payment([(self, self.put_down(request))], request)

    def put_down(self, request: ChatRequest, endpoint: str | None = None) -> int:
        """The row of what its answer may cost at most. Raises as `begin`."""
        self._write_rest()
        meter, spent = TokenMeter(request), self.spent
        most = self._prices_of(endpoint).cost(meter.most())
        most += self._prices.cost(meter.unheard()) if self._hedges else 0.0
        number: int | None = None
        if spent < self.budget:
            try:
                number = self._payments.begin(most, self.budget, at_least=self._lost())
            except (StorageError, InvalidData) as error:
                self._fail(error)
        if number is None:
            problem = "" if self._problem is None else str(self._problem)
            raise BudgetSpent(self.budget, problem, period=self.period.word)
        return number

    def settle(
        self,
        number: int | None,
        usage: Usage,
        endpoint: str | None = None,
        hedged: Mapping[str, Usage] = {},
    ) -> None:
        """The answer of that row has ended; None: it has none yet. `hedged`: what others have read.

        Raises nothing: what cannot be written counts here, and is written later.
        """
        cost = self._prices_of(endpoint).cost(usage)
        cost += sum(self._prices_of(name).cost(read) for name, read in hedged.items())
        with self._lock:
            before, month = self._pace.mean_cost, self._payments.month()
            if cost:
                self._pace.mean_cost = before + _SMOOTH * (cost - before) if before else cost
            self._own[month] = self._own.get(month, 0.0) + cost
            self._unwritten.append((number, cost))
            self._changed = True
        self._write_rest()

    def _prices_of(self, endpoint: str | None) -> Prices:
        return self._prices if endpoint is None else self._by_endpoint.get(endpoint, self._prices)

    def pay(self, usage: Usage) -> None:
        """An answer that was not begun here, as programs of their own add it. Raises nothing, as `settle`."""
        self.settle(None, usage)

    def observe(self, score: float) -> None:
        """A query of this score is going to be answered."""
        with self._lock:
            pace, now = self._pace, self._clock()
            pace.calls = pace.calls * math.exp(-max(0.0, now - pace.last) / MEMORY_S) + 1
            pace.first, pace.last = pace.first or now, now
            self._scores.append(score)
            self._changed = True

    def threshold(self, base: float) -> float:
        """`base`, or more where it would spend the money before the period is over."""
        spent = self._sum()
        with self._lock:
            share = self._affordable(spent)
            if share >= 1 or len(self._scores) < ENOUGH:
                return base
            ordered = sorted(self._scores)
            place = (1 - max(0.0, share)) * (len(ordered) - 1)
            below = min(int(place), len(ordered) - 2)
            return max(base, ordered[below] + (place - below) * (ordered[below + 1] - ordered[below]))

    def save(self) -> None:
        """Writes what is still to be written. Raises nothing."""
        self._write_rest()
        with suppress(StorageError, InvalidData):
            if self.file.exists() and not self._payments.begun():
                self._payments.add(0.0)  # where this month begins, whatever clocks have said before
        with self._lock:
            changed, self._changed = self._changed, False
            state = {**asdict(self._pace), "scores": list(self._scores)}
        if changed:
            try:
                self._payments.keep_pace(self._router, json.dumps(state))
            except (StorageError, InvalidData) as error:
                _logger.warning(
                    "%s cannot be written (%s): the pace of spending is forgotten", self.file, error
                )

    def close(self) -> None:
        self.save()
        self._payments.close()

    def _affordable(self, spent: float) -> float:
        """The share of the calls that the rest of the money is enough for; may be above 1."""
        pace, now = self._pace, self._clock()
        if not pace.mean_cost or not pace.calls:
            return math.inf
        fade = math.exp(-max(0.0, now - pace.last) / MEMORY_S)
        # Calls of less than a day are taken for a day's: most people sleep.
        age = max(now - pace.first, DAY_S)
        rate = pace.calls * fade / (MEMORY_S * (1 - math.exp(-age / MEMORY_S)))
        coming = rate * (self.period.end(now) - now)
        return (self.budget - spent) / (coming * pace.mean_cost) if coming > 0 else math.inf

    def _sum(self) -> float:
        """This month's, as far as it is known; `problem` says where it is not."""
        month = self._payments.month()
        try:
            found = self._payments.sum()
            with self._lock:
                self._known, self._problem = (month, found), None
        except LockTimeout:  # somebody writes: what was known a moment ago will do
            pass
        except (StorageError, InvalidData) as error:
            self._fail(error)
        with self._lock:
            known = self._known[1] if self._known[0] == month else 0.0
            return max(known + self._rest(), self._own.get(month, 0.0))

    def _rest(self) -> float:
        """Paid, and in no row yet; under the lock."""
        return math.fsum(cost for number, cost in self._unwritten if number is None)

    def _lost(self) -> float:
        """What has been spent at least, should the file know less."""
        with self._lock:
            return max(self._rest(), self._own.get(self._payments.month(), 0.0))

    def _write_rest(self) -> None:
        with self._lock:
            rest, self._unwritten = self._unwritten, []
        try:
            while rest:
                number, cost = rest[0]
                if number is None:
                    self._payments.add(cost)
                else:
                    self._payments.end(number, cost)
                rest.pop(0)
        except (StorageError, InvalidData) as error:
            self._fail(error)
        with self._lock:
            self._unwritten = rest + self._unwritten

    def _fail(self, error: StorageError | InvalidData) -> None:
        with self._lock:
            known, self._problem = str(self._problem), error
        if known != str(error):
            _logger.warning("%s: the strong model rests, for what it costs cannot be kept", error)

    def _recall(self) -> None:
        """What earlier runs knew of the pace; nothing where that cannot be read."""
        try:
            state = strict_json.parse_object(self._payments.pace(self._router) or "{}")
            numbers = {item.name: _number(state.get(item.name)) for item in fields(_Pace)}
            scores = [
                score for score in state.get("scores", ()) if isinstance(score, float) and 0 <= score <= 1
            ]
        except (StorageError, InvalidData, strict_json.NotJson, TypeError, ValueError):
            return
        self._pace = _Pace(**numbers)
        self._scores.extend(scores)


def _number(value: object) -> float:
    """0 for whatever is no sum of money, time or calls."""
    usable = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if usable else 0.0  # type: ignore[arg-type]
