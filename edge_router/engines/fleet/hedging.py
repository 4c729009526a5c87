"""A second endpoint asked where the first is silent for too long: when, and how both are listened to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Generic, TypeVar

T = TypeVar("T")

REMEMBERED, ENOUGH = 100, 20  # first words whose times are known of an endpoint, and how many tell something
USUAL = 0.95  # of them: who is silent for longer than that share is
_AHEAD = 32  # items that may wait for a slow reader


class FirstWords:
    """How long an endpoint was silent before its last answers."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def heard(self, seconds: float) -> None:
        self._seconds.append(seconds)

    @property
    def usual_s(self) -> float | None:
        """What nearly all of them stayed below; None while too few are known."""
        if len(self._seconds) < ENOUGH:
            return None
        return sorted(self._seconds)[int(USUAL * (len(self._seconds) - 1))]


class _End:
    """After the last item."""


class HedgedRun(Generic[T]):
    """A source that runs in a task of its own, which all that it awaits has to stay in.

    `begun` is done with its first item, or with its end where none came: `failure` says why.
    """

    def __init__(self, source: AsyncGenerator[T]) -> None:
        self._items: asyncio.Queue[T | _End] = asyncio.Queue(_AHEAD)
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failure: Exception | None = None
        self.speaks = False  # whether an item came
        self._task = asyncio.create_task(self._run(source))

    async def _run(self, source: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(source) as items:
                async for item in items:
                    await self._items.put(item)
                    self.speaks = True
                    self._begin()
        except Exception as error:  # noqa: BLE001 - raised where it is read
            self.failure = error
        self._begin()
        await self._items.put(_End())

    def _begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    async def items(self) -> AsyncGenerator[T]:
        """Raises `failure` behind the last one."""
        while not isinstance(item := await self._items.get(), _End):
            yield item
        if self.failure is not None:
            raise self.failure

    def cancel(self) -> None:
        self._task.cancel()


async def stopped(runs: Iterable[HedgedRun[T]]) -> None:
    """End them, and wait until they have."""
    tasks = [run._task for run in runs]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
