"""How much one caller may ask: requests and tokens in any minute, and answers at once.

Counted by this process and in its memory. Tokens are an estimate until an answer has ended; one that is under
way is never cut short.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from edge_router.config.callers import CallerConfig
from edge_router.engines.fleet.limits import CountedQuestion, EndpointLimits
from edge_router.errors import CallerLimited
from edge_router.records import dataclass

AGAIN_S = 1.0  # to wait for an answer to end, which may take any time


@dataclass(frozen=True, slots=True)
class Left:
    """Of a limit for a minute: how much of it is left, and in how many seconds all of it is."""

    limit: int
    left: int
    full_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """None where there is no such limit."""

    requests: Left | None = None
    tokens: Left | None = None


class Allowance:
    """Of one caller. Safe to use from several threads; never waits."""

    def __init__(self, caller: CallerConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller, self._lock = caller, threading.Lock()
        self._limits = EndpointLimits(
            clock,
            requests_per_minute=caller.requests_per_minute,
            tokens_per_minute=caller.tokens_per_minute,
            concurrency=caller.concurrency,
        )

    def check(self, tokens: int) -> None:
        """Whether a request of so many tokens may begin now. Raises `CallerLimited`."""
        with self._lock:
            self._check(tokens)

    def begin(self, tokens: int) -> CountedQuestion:
        """One begins, and is counted. Raises as `check`."""
        with self._lock:
            self._check(tokens)
            return self._limits.begin(tokens)

    def end(self, usage: CountedQuestion, tokens: int | None) -> None:
        """It has ended, with so many tokens; None: nobody knows."""
        with self._lock:
            self._limits.end(usage, tokens)

    @property
    def counts_tokens(self) -> bool:
        return self._caller.tokens_per_minute is not None

    @property
    def standing(self) -> Standing:
        with self._lock:
            return Standing(
                *(
                    None if window.limit is None else Left(window.limit, window.left, window.full_in)
                    for window in (self._limits.requests, self._limits.tokens)
                )
            )

    def _check(self, tokens: int) -> None:
        caller, limits = self._caller, self._limits
        if caller.concurrency is not None and limits.in_flight >= caller.concurrency:
            raise CallerLimited("answers at once", caller.concurrency, AGAIN_S)
        for what, limit, wait_s in (
            ("requests a minute", caller.requests_per_minute, limits.requests.ready_in(1)),
            ("tokens a minute", caller.tokens_per_minute, limits.tokens.ready_in(tokens)),
        ):
            if limit is not None and wait_s > 0:
                raise CallerLimited(what, limit, math.ceil(wait_s * 10) / 10)
