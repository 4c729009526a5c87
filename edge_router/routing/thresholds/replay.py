"""What another threshold would have done with the traffic in the ledger: shares, money, what moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from edge_router.chat.events import Usage
from edge_router.config.tiers import WEAK, TierConfig, chosen
from edge_router.ledger import Record
from edge_router.records import dataclass
from edge_router.routing.thresholds.prices import Prices
from edge_router.types import Reason


@dataclass(frozen=True, slots=True)
class AnswerSums:
    """Of `n` answers. `cost` is None without prices; of answers without token counts it knows nothing."""

    strong: int
    cost: float | None

    def to_dict(self, n: int) -> dict[str, object]:
        share = round(self.strong / n, 4) if n else None
        return {"strong": self.strong, "strong_share": share, "cost": _rounded(self.cost)}


@dataclass(frozen=True, slots=True)
class Spared:
    """What it has spared that conversations stay with their model: `switches` that the score alone would have
    made, `tokens` that the other model would have read again, and what those that the strong one did not read
    would have cost; None without prices."""

    switches: int
    tokens: int
    cost: float | None

    def to_dict(self) -> dict[str, object]:
        return {"switches": self.switches, "tokens": self.tokens, "cost": _rounded(self.cost)}


@dataclass(frozen=True, slots=True)
class GivenAgain:
    """What the response cache has spared: `answers` given again, how many of them `strong` ones, and what
    those would have cost."""

    answers: int
    strong: int
    cost: float | None

    @classmethod
    def of(cls, records: Iterable[Record], prices: Prices | None = None) -> GivenAgain:
        again = [record for record in records if record.decision.reason is Reason.CACHED]
        strong = [record for record in again if record.decision.model == "strong"]
        return cls(len(again), len(strong), _cost(strong, prices))

    def to_dict(self) -> dict[str, object]:
        return {"answers": self.answers, "strong": self.strong, "cost": _rounded(self.cost)}


@dataclass(frozen=True, slots=True)
class Replay:
    """`kept`: answers that no threshold moves, for something else than the score decided.

    `to_strong` and `to_weak` are the records that would have gone there instead. What a weak answer would
    have cost is estimated from its own token counts. `unpriced`: answers whose tokens were not counted.
    """

    threshold: float
    n: int
    before: AnswerSums
    after: AnswerSums
    kept: int
    to_strong: tuple[Record, ...]
    to_weak: tuple[Record, ...]
    unpriced: int
    sessions: Spared

    def to_dict(self) -> dict[str, object]:
        return {
            "threshold": self.threshold,
            "n": self.n,
            "before": self.before.to_dict(self.n),
            "after": self.after.to_dict(self.n),
            "kept": self.kept,
            "to_strong": len(self.to_strong),
            "to_weak": len(self.to_weak),
            "unpriced": self.unpriced,
            "sessions": self.sessions.to_dict(),
        }


def replay(records: Iterable[Record], threshold: float, prices: Prices | None = None) -> Replay:
    """Only what the score decided moves; what was forced, private or could not be had stays where it was."""
    found = tuple(records)
    free = {id(record) for record in found if record.decision.reason is Reason.SCORE}
    before = [record for record in found if record.decision.model == "strong"]
    after = [record for record in found if _is_strong(record, threshold)]
    then = {id(record) for record in after}
    priced = [*before, *(record for record in after if record.decision.model != "strong")]
    return Replay(
        threshold=threshold,
        n=len(found),
        before=AnswerSums(len(before), _cost(before, prices)),
        after=AnswerSums(len(after), _cost(after, prices)),
        kept=len(found) - len(free),
        to_strong=tuple(record for record in after if record.decision.model == "weak"),
        to_weak=tuple(record for record in before if id(record) not in then),
        unpriced=sum(record.usage is None for record in priced),
        sessions=spared(found, prices),
    )


def tier_counts(
    records: Iterable[Record], tiers: Sequence[TierConfig], threshold: float
) -> dict[str, tuple[int, int]]:
    """For each of more than two models: how many answers it was to give, and would be by `tiers`, where the
    weak one is asked below `threshold`. Empty without tiers."""
    was, then = Counter[str](), Counter[str]()
    for record in records if tiers else ():
        decision = record.decision
        given = decision.tier_model or decision.model
        was[given] += 1
        if decision.reason is Reason.SCORE and decision.score is not None:
            given = chosen(tiers, decision.score) if decision.score >= threshold else WEAK
        then[given] += 1
    names = dict.fromkeys((*(tier.model for tier in tiers), *was, *then))
    return {name: (was[name], then[name]) for name in names}


def spared(records: Iterable[Record], prices: Prices | None = None) -> Spared:
    switched = [record for record in records if _was_switch(record)]
    tokens = {record.decision.model: 0 for record in switched}
    for record in switched:
        tokens[record.decision.model] += record.decision.held_tokens or 0
    unread = Usage(tokens.get("weak", 0), 0)  # by the strong model, since the weak one went on
    return Spared(len(switched), sum(tokens.values()), None if prices is None else prices.cost(unread))


def _was_switch(record: Record) -> bool:
    """Whether the score alone would have asked the other model."""
    decision = record.decision
    if decision.held is None or decision.score is None or decision.threshold is None:
        return False
    return (decision.score >= decision.threshold) != (decision.model == "strong")


def _is_strong(record: Record, threshold: float) -> bool:
    decision = record.decision
    if decision.reason is not Reason.SCORE or decision.score is None:
        return decision.model == "strong"
    return decision.score >= threshold


def _cost(records: Iterable[Record], prices: Prices | None) -> float | None:
    if prices is None:
        return None
    return sum(prices.cost(record.usage) for record in records if record.usage is not None)


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 6)
