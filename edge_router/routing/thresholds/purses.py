"""Whose money an answer of the strong model takes: that of all together, and the caller's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_router.chat.events import Usage
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.errors import BudgetSpent
from edge_router.routing.thresholds.payments import DAY
from edge_router.routing.thresholds.spending import Payment, Spending
from edge_router.system.paths import Paths


class Purses:
    """What one answer is paid from, all of them at once. None at all: no budget is set."""

    def __init__(self, common: Spending | None = None, own: Sequence[Spending] = ()) -> None:
        """`own`: the caller's, beside what all have in `common`."""
        self.common, self.own = common, tuple(own)
        self._all = (*(() if common is None else (common,)), *self.own)

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def exhausted(self) -> bool:
        return bool(self._all) and any(each.exhausted for each in self._all)

    def threshold(self, base: float) -> float:
        """`base`, or more where it would spend some of the money too soon."""
        return max((each.threshold(base) for each in self._all), default=base)

    def observe(self, score: float) -> None:
        """A query of this score is going to be answered."""
        for each in self._all:
            each.observe(score)

    def begin(self, request: ChatRequest, endpoint: str | None = None) -> Payment | None:
        """Before a question leaves, to one of several `endpoint`s if that is known. None: no budget is set.

        Raises `BudgetSpent`, which tells a caller nothing of what all have in common.
        """
        put_down: list[tuple[Spending, int]] = []
        try:
            for each in self._all:
                row = each.put_down(request, endpoint)
                put_down.append((each, row))
        except BaseException as error:
            for each, number in put_down:
                each.settle(number, Usage(0, 0))
            if request.caller is not None and isinstance(error, BudgetSpent):
                budget = None if len(put_down) < len(self._all) - len(self.own) else error.budget
                raise BudgetSpent(budget, period=error.period) from None
            raise
        return Payment(put_down, request) if put_down else None


class Budgets:
    """The money of all together and of each caller. Safe to use from several threads."""

    def __init__(self, common: Spending | None, own: Mapping[str, Sequence[Spending]]) -> None:
        self.common = common
        self._own = {name: Purses(common, each) for name, each in own.items()}
        self._rest = Purses(common)

    @classmethod
    def of(cls, config: Config, paths: Paths) -> Budgets:
        own: dict[str, list[Spending]] = {}
        for each in config.callers:
            folder = paths.callers / each.name
            month = Spending.within(each.monthly_budget, config, folder / "spending.sqlite3")
            day = Spending.within(each.daily_budget, config, folder / "day.sqlite3", DAY)
            own[each.name] = [found for found in (month, day) if found is not None]
        return cls(Spending.of(config, paths), own)

    def purses(self, caller: str | None) -> Purses:
        return self._rest if caller is None else self._own.get(caller, self._rest)

    def close(self) -> None:
        """May be called twice; a later payment opens its file again."""
        for purses in (self._rest, *self._own.values()):
            for each in purses.own:
                each.close()
        if self.common is not None:
            self.common.close()
