"""The traffic in the ledger as a chart has it: shares, money, and what any threshold would change of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, field

from edge_router.config.settings import Config
from edge_router.config.tiers import bound_of
from edge_router.ledger import Ledger
from edge_router.ledger.record_groups import STEPS, NamedCount, RecordGroup
from edge_router.records import dataclass
from edge_router.routing.thresholds.prices import PER, Prices
from edge_router.types import Reason, Tier


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Answers whose score, of the router that is set, decided: those from `start` on, below the next bin's.
    `worth` is what all of them cost, or would cost, of the strong model; None without prices."""

    start: float
    answers: int
    worth: float | None


@dataclass(frozen=True, slots=True)
class TrafficSummary:
    """`away`: answers for which the strong model was asked, `here` all others, `again` those of either that
    were given again. `saved` is what those would have cost that nobody was paid for, by their own tokens.
    `unpriced`: answers whose tokens are not known. `fixed`: how many no threshold moves, how many of these
    went away, and what they cost.
    """

    answers: int
    here: int
    away: int
    again: int
    errors: int
    cost: float | None
    saved: float | None
    unpriced: int
    threshold: float | None
    bins: tuple[ScoreBin, ...]
    fixed: tuple[int, int, float | None]
    reasons: Mapping[tuple[str, Tier], int]
    models: tuple[NamedCount, ...] = field(default=())
    rules: tuple[NamedCount, ...] = field(default=())

    def to_dict(self) -> dict[str, object]:
        names = ("answers", "here", "away", "again", "errors", "cost", "saved", "unpriced", "threshold")
        answers, away, cost = self.fixed
        return {name: getattr(self, name) for name in names} | {
            "bins": [asdict(each) for each in self.bins],
            "fixed": {"answers": answers, "away": away, "cost": cost},
            "reasons": [
                {"reason": reason, "tier": tier, "answers": count}
                for (reason, tier), count in sorted(self.reasons.items(), key=lambda item: -item[1])
            ],
            "models": [asdict(each) for each in self.models],
            "rules": [asdict(each) for each in self.rules],
        }


def summarized(config: Config, ledger: Ledger, *, since: float = 0.0) -> TrafficSummary:
    """What the ledger holds from `since` (seconds since 1970) on. Raises `StorageError`, `InvalidData`."""
    router, prices, own = config.router.name, Prices.highest(config), Prices.by_endpoint(config)
    starts = sorted({step.start for each in (prices, *own.values()) if each for step in each.steps})
    threshold = bound_of(config)
    if threshold is None:
        threshold = ledger.groups.last_threshold(router)
    groups = ledger.groups.all(router=router, threshold=threshold, starts=starts, since=since)

    def worth(group: RecordGroup) -> float:
        price = own.get(group.endpoint or "", prices)
        if price is None or group.usage is None:
            return 0.0
        price_in, price_out = price.at(starts[group.long - 1] + 1 if group.long else 0)
        return (group.usage.prompt_tokens * price_in + group.usage.completion_tokens * price_out) / PER

    def money(of: Iterable[RecordGroup]) -> float | None:
        return None if prices is None else sum(map(worth, of))

    def count(of: Iterable[RecordGroup]) -> int:
        return sum(each.answers for each in of)

    again = [each for each in groups if each.reason == Reason.CACHED]
    away = [each for each in groups if each.tier == "strong" and each.reason != Reason.CACHED]
    once_paid = [each for each in again if each.tier == "strong"]  # nobody would ask it for the weak one's
    spared = [each for each in groups if each.tier == "weak" and each.reason != Reason.CACHED]
    fixed = [each for each in groups if each.step is None]
    fixed_away = [each for each in away if each.step is None]
    reasons = Counter[tuple[str, Tier]]()
    for each in groups:
        reasons[each.reason, each.tier] += each.answers
    return TrafficSummary(
        answers=count(groups),
        here=count(groups) - count(away),
        away=count(away),
        again=count(again),
        errors=count(each for each in groups if each.failed),
        cost=money(away),
        saved=money(each for each in (*spared, *once_paid) if not each.failed),
        unpriced=count(each for each in groups if each.usage is None),
        threshold=threshold,
        bins=tuple(_bins(groups, threshold, money)),
        fixed=(count(fixed), count(fixed_away), money(fixed_away)),
        reasons=reasons,
        models=ledger.groups.most("model", since=since),
        rules=ledger.groups.most("rule", since=since),
    )


def _bins(
    groups: Iterable[RecordGroup],
    threshold: float | None,
    money: Callable[[Iterable[RecordGroup]], float | None],
) -> Iterator[ScoreBin]:
    """In order; one that the threshold cuts is two, so that what it does is told to the last answer."""
    found: dict[float, list[RecordGroup]] = {}
    for each in groups:
        if each.step is None:
            continue
        start = each.step / STEPS
        if threshold is not None and each.reached and threshold > start:
            start = threshold
        found.setdefault(start, []).append(each)
    for start in sorted(found):
        yield ScoreBin(start, sum(each.answers for each in found[start]), money(found[start]))
