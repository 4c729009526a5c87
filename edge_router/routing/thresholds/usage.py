"""What was used, from the ledger's records: by caller, by day or by month. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Literal, TypeVar

from edge_router.ledger import Record
from edge_router.records import dataclass
from edge_router.routing.thresholds.prices import Prices
from edge_router.types import Reason

Span = Literal["day", "month"]
_Name = TypeVar("_Name")
_FORMS: Mapping[Span, str] = {"day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(slots=True)
class Used:
    """By one caller, or in one span of time. `strong`: the strong model's answers, `away` those for which it
    was asked, `again` those of either model that were given again. `cost` is of those it was asked for whose
    tokens are known, `saved` what the others would have cost there by their own; None without prices.
    """

    answers: int = 0
    strong: int = 0
    errors: int = 0
    tokens: int = 0
    again: int = 0
    away: int = 0
    cost: float | None = None
    saved: float | None = None

    @property
    def here(self) -> int:
        """Answers for which nothing left this machine."""
        return self.answers - self.away

    def to_dict(self) -> dict[str, object]:
        money = {"cost": _rounded(self.cost), "saved": _rounded(self.saved)}
        return {**asdict(self), "here": self.here, **money}

    def add(self, record: Record, prices: Prices | None, by_endpoint: Mapping[str, Prices]) -> None:
        decision, usage = record.decision, record.usage
        is_again = decision.reason is Reason.CACHED
        is_away = decision.model == "strong" and not is_again
        self.answers += 1
        self.again += is_again
        self.strong += decision.model == "strong"
        self.away += is_away
        self.errors += record.error is not None
        if usage is None:
            return
        if not is_again:  # nobody was asked for those
            self.tokens += usage.total_tokens
        if prices is None or self.cost is None or self.saved is None:
            return
        worth = by_endpoint.get(decision.endpoint or "", prices).cost(usage)
        if is_away:
            self.cost += worth
        elif record.error is None and (not is_again or decision.model == "strong"):
            self.saved += worth


def used(
    records: Iterable[Record], prices: Prices | None, by_endpoint: Mapping[str, Prices] = {}
) -> dict[str | None, Used]:
    """By caller, in the order of their names; None is whoever is no caller, and comes last.

    `by_endpoint`: what those cost that are one of several; `prices` are for all others.
    """
    found = _summed(((record.decision.caller, record) for record in records), prices, by_endpoint)
    return dict(sorted(found.items(), key=lambda item: (item[0] is None, item[0] or "")))


def used_over_time(
    records: Iterable[Record], prices: Prices | None, by_endpoint: Mapping[str, Prices] = {}, *, by: Span
) -> dict[str, Used]:
    """By day ("2026-11-30") or month ("2026-11") where this machine is, oldest first."""
    named = ((time.strftime(_FORMS[by], time.localtime(record.time)), record) for record in records)
    found = _summed(named, prices, by_endpoint)
    return {name: found[name] for name in sorted(found, key=str)}


def used_in_all(
    records: Iterable[Record], prices: Prices | None, by_endpoint: Mapping[str, Prices] = {}
) -> Used:
    total = _empty(prices)
    for record in records:
        total.add(record, prices, by_endpoint)
    return total


def _summed(
    named: Iterable[tuple[_Name, Record]], prices: Prices | None, by_endpoint: Mapping[str, Prices]
) -> dict[_Name, Used]:
    found: dict[_Name, Used] = {}
    for name, record in named:
        found.setdefault(name, _empty(prices)).add(record, prices, by_endpoint)
    return found


def _empty(prices: Prices | None) -> Used:
    none = None if prices is None else 0.0
    return Used(cost=none, saved=none)


def _rounded(money: float | None) -> float | None:
    return None if money is None else round(money, 6)
