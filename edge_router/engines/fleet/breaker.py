"""A circuit breaker: an endpoint that keeps failing is left alone, then tried with one question."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from edge_router.errors import (
    EdgeRouterError,
    EngineUnavailable,
    StrongFailed,
    StrongGarbled,
    StrongInterrupted,
    StrongQuotaExceeded,
    StrongRedirected,
    StrongTimeout,
    StrongUnauthorized,
    StrongUnreachable,
)
from edge_router.records import dataclass

IN_A_ROW = 3  # failures that open it
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0  # doubled each time that the trial fails, too
SETTLED_PAUSE_S = 60.0  # of what no waiting mends: a refused key, spent quota
EARLY_S = 1.0  # after a trial that failed, before another where nobody else is left

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What a failure says of its endpoint. `settled`: the next question would fail in the same way; `slow`:
    it would wait long for that."""

    settled: bool = False
    slow: bool = False


def fault_of(error: EdgeRouterError) -> Fault | None:
    """None where it says nothing: the request is to blame, or it asks to wait (`limits.py`)."""
    if isinstance(error, StrongUnauthorized | StrongQuotaExceeded | StrongRedirected | EngineUnavailable):
        return Fault(settled=True)
    if isinstance(error, StrongFailed):
        return Fault() if error.status >= 500 or error.status == 408 else None
    if isinstance(error, StrongTimeout):
        return Fault(slow=True)
    if isinstance(error, StrongUnreachable | StrongInterrupted | StrongGarbled):
        return Fault()
    return None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A question under way. What comes of it counts only while the breaker is as it was when it left."""

    epoch: int


class Breaker:
    """Closed, it lets all pass; open, nothing; half open, one question, whose end says which it becomes.

    For one thread; `state` and `ready_in` may be read from others.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = self._pauses = self._epoch = 0
        self._until: float | None = None  # None: closed
        self._failed_at = self._trial_at = -math.inf
        self._trying, self._last = False, Fault()

    @property
    def state(self) -> State:
        if self._until is None:
            return "closed"
        return "half_open" if self._trying or self._clock() >= self._until else "open"

    @property
    def passes(self) -> bool:
        """Whether a question may leave now."""
        return self._until is None or (not self._trying and self._clock() >= self._until)

    @property
    def trying(self) -> bool:
        """Whether the one question is under way."""
        return self._trying

    @property
    def trying_s(self) -> float:
        """For how long; infinite where it is not."""
        return self._clock() - self._trial_at if self._trying else math.inf

    @property
    def tries_early(self) -> bool:
        """Whether it may be tried before its time where nobody else is left: not at once after a trial."""
        rested = self._pauses == 1 or self._clock() - self._failed_at >= EARLY_S
        return self._until is not None and not self._trying and rested and not self._last.settled

    @property
    def slow(self) -> bool:
        """Whether what opened it took its time."""
        return self._until is not None and self._last.slow

    @property
    def ready_in(self) -> float:
        """Seconds until it passes, where no trial is under way."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def begin(self) -> Attempt:
        """A question leaves, which `passes`, or is tried early."""
        if self._until is not None:
            self._trying, self._trial_at = True, self._clock()
            self._epoch += 1
        return Attempt(self._epoch)

    def answers(self, attempt: Attempt) -> None:
        """The answer has begun: enough to let others pass, though one failure more opens it again."""
        if attempt.epoch == self._epoch and self._trying:
            self._until, self._trying, self._failures = None, False, IN_A_ROW - 1

    def succeeded(self, attempt: Attempt) -> None:
        """The answer came to its end."""
        if attempt.epoch == self._epoch:
            self._until, self._trying, self._failures, self._pauses = None, False, 0, 0

    def failed(self, attempt: Attempt, fault: Fault) -> None:
        if attempt.epoch != self._epoch:
            return
        self._failures += 1
        self._last, self._failed_at = fault, self._clock()
        if self._trying or fault.settled or self._failures >= IN_A_ROW:
            first = SETTLED_PAUSE_S if fault.settled else FIRST_PAUSE_S
            pause_s = min(first * 2.0**self._pauses, LONGEST_PAUSE_S)
            self._until, self._trying = self._clock() + pause_s, False
            self._pauses += 1
            self._epoch += 1

    def dropped(self, attempt: Attempt) -> None:
        """It ended with nothing learnt: nobody wanted it any more, or the request was to blame."""
        if attempt.epoch == self._epoch:
            self._trying = False
