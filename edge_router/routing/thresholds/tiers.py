"""The thresholds of more than two models, chosen together: for shares of the traffic, or for a price."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edge_router.config.tiers import WEAK, TierConfig, plain, written
from edge_router.errors import InvalidInput
from edge_router.records import dataclass
from edge_router.routing.thresholds.calibration import choose_threshold, wilson

_OFF = 0.011  # that shares typed with two digits may be beside a whole


@dataclass(frozen=True, slots=True)
class TierShare:
    """What one model gets of the sample, and within which bounds of traffic like it (95 %)."""

    model: str
    wanted: float
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TierCalibration:
    """`cost` is of a query on the average, where the prices are known."""

    tiers: tuple[TierConfig, ...]
    shares: tuple[TierShare, ...]
    n: int
    cost: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """As the configuration file has it."""
        return f"tiers = {written(self.tiers)}"

    def to_dict(self) -> dict[str, object]:
        shares = [
            {
                "model": each.model,
                "wanted": round(each.wanted, 4),
                "share": round(each.share, 4),
                "low": round(each.low, 4),
                "high": round(each.high, 4),
            }
            for each in self.shares
        ]
        cost = None if self.cost is None else round(self.cost, 8)
        told: dict[str, object] = {"tiers": plain(self.tiers), "shares": shares, "n": self.n}
        return told | {"cost_per_query": cost, "warnings": list(self.warnings)}


def shares_of(tiers: Sequence[TierConfig], scores: Sequence[float]) -> dict[str, float]:
    """What each model gets of those scores."""
    ends = [tier.at for tier in tiers[1:]] + [math.inf]
    return {
        tier.model: sum(tier.at <= score < end for score in scores) / len(scores)
        for tier, end in zip(tiers, ends, strict=True)
    }


def choose_for_shares(
    scores: Sequence[float], shares: Mapping[str, float], costs: Mapping[str, float] | None = None
) -> TierCalibration:
    """The tiers that give each model, the weakest first, its share of `scores`, as nearly as ties allow.

    A model for whose share no score is left goes without a tier. `costs`: of a query, by model. Raises
    `InvalidInput`.
    """
    names = list(shares)
    if len(names) < 2 or names[0] != WEAK:
        raise InvalidInput(f"tiers begin with {WEAK}, and have another model")
    if any(not 0 <= share <= 1 for share in shares.values()) or abs(sum(shares.values()) - 1) > _OFF:
        raise InvalidInput(f"shares lie between 0 and 1 and make 1 together, not {sum(shares.values()):g}")
    tiers, warnings = [TierConfig(0.0, WEAK)], list[str]()
    for place, name in enumerate(names[1:], start=1):
        above = min(sum(shares[each] for each in names[place:]), 1.0)
        found = choose_threshold(scores, above)
        warnings += [f"{name} and above: {warning}" for warning in found.warnings]
        at = _rounded(found.threshold, scores)
        if (at <= tiers[-1].at and len(tiers) > 1) or not shares[name]:
            warnings.append(f"no score is left for {name}, which goes without a tier")
            continue
        tiers.append(TierConfig(max(at, math.ulp(0.0)), name))
    if len(tiers) < 2:
        raise InvalidInput("nothing is left but the weak model")
    got = shares_of(tiers, scores)
    told = tuple(
        TierShare(name, shares[name], got.get(name, 0.0), *wilson(got.get(name, 0.0), len(scores)))
        for name in names
    )
    cost = None if costs is None else sum(costs[name] * share for name, share in got.items())
    return TierCalibration(tuple(tiers), told, len(scores), cost, tuple(warnings))


def shares_for_price(
    price: float, costs: Mapping[str, float], split: Mapping[str, float]
) -> dict[str, float]:
    """The shares that cost `price` a query on the average.

    The models above the weak one share what it pays for as `split` says, which need not make 1; the weak one
    gets the rest. Raises `InvalidInput`.
    """
    whole = sum(split.values())
    if whole <= 0:
        raise InvalidInput("no model but the weak one has a share of the sample")
    mean = sum(costs[name] * part for name, part in split.items()) / whole
    paid = 1.0 if mean <= 0 else min(1.0, price / mean)
    return {WEAK: 1 - paid} | {name: paid * part / whole for name, part in split.items()}


def _rounded(threshold: float, scores: Sequence[float]) -> float:
    """To six digits, where no score lies between: what is read off a line is typed into another."""
    short = float(f"{threshold:.6g}")
    low, high = sorted((short, threshold))
    return threshold if any(low <= score < high for score in scores) else short
