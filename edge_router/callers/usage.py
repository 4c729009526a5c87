"""What each caller has used, from the ledger's records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from edge_router.ledger import Record
from edge_router.records import dataclass
from edge_router.routing.thresholds.prices import Prices
from edge_router.types import Reason


@dataclass(slots=True)
class Used:
    """By one caller. `cost` is of the strong model's answers whose tokens are known; None without prices."""

    answers: int = 0
    strong: int = 0
    errors: int = 0
    tokens: int = 0
    cost: float | None = None

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "cost": None if self.cost is None else round(self.cost, 6)}


def used(
    records: Iterable[Record], prices: Prices | None, by_endpoint: Mapping[str, Prices] = {}
) -> dict[str | None, Used]:
    """By caller, in the order of their names; None is whoever is no caller, and comes last.

    `by_endpoint`: what those cost that are one of several; `prices` are for all others.
    """
    found: dict[str | None, Used] = {}
    for record in records:
        sums = found.setdefault(record.decision.caller, Used(cost=None if prices is None else 0.0))
        sums.answers += 1
        sums.errors += record.error is not None
        is_strong = record.decision.model == "strong"
        sums.strong += is_strong
        if record.usage is None or record.decision.reason is Reason.CACHED:  # nobody was asked for it
            continue
        sums.tokens += record.usage.total_tokens
        if is_strong and prices is not None and sums.cost is not None:
            sums.cost += by_endpoint.get(record.decision.endpoint or "", prices).cost(record.usage)
    return dict(sorted(found.items(), key=lambda item: (item[0] is None, item[0] or "")))
