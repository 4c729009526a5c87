"""When the wait for a remote answer ends, whatever the other side sends to keep it up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from edge_router.config.sections import StrongConfig

T = TypeVar("T")

RETRIES_S = 12.0  # for all further tries and the waits before them: the weak model answers sooner
_LOOKS_S = 0.05  # how often to look again while nobody waits


class Overdue(Exception):
    """Nothing came in time. `setting` is the one that says what that is."""

    def __init__(self, seconds: float, setting: str, *, whole: bool = False) -> None:
        self.seconds, self.setting, self.whole = seconds, setting, whole
        super().__init__(f"nothing within {seconds:g} s")


class Deadlines:
    """Of one question, all its tries together. Begins when it is made.

    Only tokens count: bytes that keep a connection alive move nothing. Time in which the answer's reader was
    busy is not held against the endpoint.
    """

    def __init__(self, settings: StrongConfig, clock: Callable[[], float]) -> None:
        self._clock, self._settings = clock, settings
        self._started = False
        first_s = settings.first_token_timeout_s
        self._next = clock() + (settings.timeout_s if first_s is None else first_s)
        self._end = clock() + settings.total_timeout_s
        self._last_try: float | None = None  # when the last one may begin; known once the first has failed

    @property
    def when(self) -> float:
        """By the clock: a token must have come until then."""
        return min(self._next, self._end)

    def again(self) -> None:
        """Another try begins. A deadline for the first token, where one is set, is for all of them."""
        if self._settings.first_token_timeout_s is None:
            self._next = self._clock() + self._settings.timeout_s

    def took(self, given: float, *, token: bool = True) -> None:
        """A piece was given on at `given`, by the clock, and its reader is back only now."""
        now = self._clock()
        self._end += now - given
        if token:
            self._started = True
            self._next = now + self._settings.timeout_s
        else:
            self._next += now - given

    def overdue(self) -> Overdue:
        """What to raise once `when` has passed."""
        settings = self._settings
        if self._end <= self._next:
            return Overdue(settings.total_timeout_s, "strong.total_timeout_s", whole=True)
        if self._started or settings.first_token_timeout_s is None:
            return Overdue(settings.timeout_s, "strong.timeout_s")
        return Overdue(settings.first_token_timeout_s, "strong.first_token_timeout_s")

    def leaves_room(self, wait_s: float) -> bool:
        """Whether another try may begin in `wait_s` seconds."""
        then = self._clock() + wait_s
        if self._last_try is None:
            self._last_try = self._clock() + RETRIES_S
        first = self._settings.first_token_timeout_s is None or then < self._next
        return first and then <= self._last_try and then < self._end


class Watchdog:
    """Ends the waits of its task with the error `late()` once the moment `until()`, which may move, is past.

    `asyncio.timeout` makes a timer for each wait; at one wait for each token that is a good part of what a
    token costs. Here one timer looks again when it was too early.
    """

    def __init__(self, until: Callable[[], float], late: Callable[[], Exception]) -> None:
        self._until, self._late = until, late
        self._waiting = self._barked = False

    def __enter__(self) -> Watchdog:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._timer = self._loop.call_at(self._until(), self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    async def wait(self, what: Awaitable[T]) -> T:
        """Raises what `late` says."""
        self._waiting = True
        try:
            return await what
        except asyncio.CancelledError:
            if self._barked and self._task is not None and self._task.uncancel() == 0:
                raise self._late() from None
            raise  # somebody else's, who wants more than an end to this wait
        finally:
            self._waiting = False

    def sooner(self) -> None:
        """The moment has moved towards now."""
        self._timer.cancel()
        self._timer = self._loop.call_at(self._until(), self._look)

    def _look(self) -> None:
        now, until = self._loop.time(), self._until()
        if now >= until and self._waiting and self._task is not None:
            self._barked = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_at(until if now < until else now + _LOOKS_S, self._look)
