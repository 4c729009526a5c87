"""How much one endpoint may be asked: what its owner allows, and what the endpoint itself says."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

MINUTE_S = 60.0
FIRST_COOLING_S, LONGEST_COOLING_S = 1.0, 3600.0  # after a 429 that names no time: doubled each time
EARLY_PART = 0.25  # of that, after which one question may be tried where nobody else is left
RETRY_SHARE, RETRY_RESERVE = 0.2, 10.0  # further rounds for each question, and how many may be saved up


class CountedQuestion:
    """What one question was counted as. Its tokens are an estimate until it has ended.

    `probes`: it left while the endpoint cooled.
    """

    __slots__ = ("amount", "probes", "when")

    def __init__(self, when: float, amount: float) -> None:
        self.when, self.amount, self.probes = when, amount, False


class Window:
    """At most `limit` within any minute; None: without end."""

    def __init__(self, limit: int | None, clock: Callable[[], float]) -> None:
        self.limit, self._clock = limit, clock
        self._used: deque[CountedQuestion] = deque()

    def ready_in(self, amount: float) -> float:
        """Seconds until there is room. What is more than the limit has room once nothing else is counted."""
        if self.limit is None:
            return 0.0
        now = self._clock()
        room = self.limit - self._sum(now)
        if not self._used or room >= amount:
            return 0.0
        for each in self._used:
            room += each.amount
            if room >= amount:
                return each.when + MINUTE_S - now
        return self._used[-1].when + MINUTE_S - now

    def take(self, amount: float) -> CountedQuestion:
        used = CountedQuestion(self._clock(), amount)
        if self.limit is not None:
            self._used.append(used)
        return used

    @property
    def left(self) -> int:
        """How much of the limit is; 0 where there is none."""
        return max(0, int((self.limit or 0) - self._sum(self._clock())))

    @property
    def full_in(self) -> float:
        """Seconds until all of it is left."""
        now = self._clock()
        return self._used[-1].when + MINUTE_S - now if self._sum(now) else 0.0

    def _sum(self, now: float) -> float:
        """What was used in the last minute."""
        while self._used and self._used[0].when + MINUTE_S <= now:
            self._used.popleft()
        return sum(each.amount for each in self._used)


class EndpointLimits:
    """Requests and tokens a minute, questions at once, and the time that a 429 asks for. For one thread."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrency: int | None = None,
    ) -> None:
        self._clock, self._concurrency = clock, concurrency
        self.requests = Window(requests_per_minute, clock)
        self.tokens = Window(tokens_per_minute, clock)
        self._cool_until, self._coolings = -math.inf, 0
        self._early = math.inf  # when it may be asked although it cools: of a time that it did not state
        self._probing = False
        self.in_flight = 0

    @property
    def cooling_s(self) -> float:
        """Seconds that it asked to be left alone for."""
        return max(0.0, self._cool_until - self._clock())

    @property
    def busy(self) -> bool:
        """Whether one of its questions has to end before another may leave."""
        return self._concurrency is not None and self.in_flight >= self._concurrency

    def ready_in(self, tokens: int, *, early: bool = False) -> float:
        """Seconds until a question of so many tokens may leave; infinite where another has to end first.

        `early`: nobody else is left, so that what it did not ask for itself is cut short, for one question.
        """
        if self.busy:
            return math.inf
        cooling_s = self.cooling_s
        if early and cooling_s:
            cooling_s = min(cooling_s, math.inf if self._probing else max(0.0, self._early - self._clock()))
        return max(cooling_s, self.requests.ready_in(1), self.tokens.ready_in(tokens))

    def begin(self, tokens: int) -> CountedQuestion:
        """A question leaves."""
        self.in_flight += 1
        self.requests.take(1)
        usage = self.tokens.take(tokens)
        if self.cooling_s:
            self._probing = usage.probes = True
        return usage

    def answers(self, usage: CountedQuestion) -> None:
        """The answer has begun: an endpoint that was probed cools no more."""
        if usage.probes and self._early < math.inf:
            self._cool_until = -math.inf

    def end(self, usage: CountedQuestion, tokens: int | None) -> None:
        """It has ended, with so many tokens; None: nobody knows."""
        self.in_flight -= 1
        self._probing = self._probing and not usage.probes
        if tokens is not None:
            usage.amount = tokens

    def answered(self) -> None:
        """An answer came whole."""
        self._coolings = 0

    def cool(self, seconds: float | None) -> None:
        """It answered 429, and asked to wait; None: it did not say how long."""
        if seconds is None:
            if self.cooling_s and not self._probing:  # said to others that left together with this one
                return
            seconds = FIRST_COOLING_S * 2.0 ** min(self._coolings, 6)
            self._coolings += 1
            self._early = self._clock() + seconds * EARLY_PART
        else:
            self._early = math.inf
        self._cool_until = max(self._cool_until, self._clock() + min(seconds, LONGEST_COOLING_S))


class RetryBudget:
    """Further rounds over the endpoints: a share of all questions, so that trouble is not doubled by us."""

    def __init__(self) -> None:
        self._left = RETRY_RESERVE

    def asked(self) -> None:
        self._left = min(RETRY_RESERVE, self._left + RETRY_SHARE)

    def take(self) -> bool:
        """Whether one is left, which is gone then."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
