"""What another threshold would have done with what the ledger holds; no model answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Unpack

from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.config.tiers import bound_of
from edge_router.errors import InvalidInput
from edge_router.ledger import Ledger, NothingRecorded, Record
from edge_router.records import dataclass
from edge_router.routing.thresholds import replay as replaying
from edge_router.routing.thresholds.prices import Prices
from edge_router.system.paths import Paths

DAY_S = 86_400.0


class NoThreshold(InvalidInput):
    """None is set, and the traffic was decided by none."""

    def __init__(self) -> None:
        super().__init__("say from which score on the strong model is asked")


@dataclass(frozen=True, slots=True)
class TrafficReplay:
    """What would have moved (`found`), what the response cache gave again, and with more than two models how
    many answers each was to give and would have, by name. `priced`: whether the strong model's prices are
    known."""

    found: replaying.Replay
    given_again: replaying.GivenAgain
    tiers: Mapping[str, tuple[int, int]]
    priced: bool

    def to_dict(self) -> dict[str, object]:
        """What `replay --json` prints."""
        by_tier = {"tiers": self.tiers} if self.tiers else {}
        return {**self.found.to_dict(), "given_again": self.given_again.to_dict(), **by_tier}


def replay(
    threshold: float | None = None,
    config: Config | None = None,
    *,
    caller: str | None = None,
    days: float | None = None,
    paths: Paths | None = None,
    **settings: Unpack[SettingArguments],
) -> TrafficReplay:
    """What the configured router's answers would have been, and cost, with scores from `threshold` (0 to 1)
    on sent to the strong model; without one, as it is set now.

    `caller`: only what that one asked; `days`: only the last so many. Raises `NothingRecorded`,
    `NoThreshold`, `InvalidInput`, `StorageError`, `ConfigError`.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InvalidInput(f"the threshold is {threshold}, not in 0..1")
    config, paths = configured(config, settings), paths or Paths.default()
    since = 0.0 if days is None else time.time() - days * DAY_S
    every = Ledger(paths.ledger).records(since=since)
    every = tuple(each for each in every if caller in (None, each.decision.caller))
    records = tuple(each for each in every if each.decision.router == config.router.name)
    if not records:
        whose = "" if caller is None else f" for {caller}"
        when = "" if days is None else f" from the last {days:g} days"
        raise NothingRecorded(f"decision of {config.router.name}{whose}{when}")
    if threshold is None:
        threshold = bound_of(config) if bound_of(config) is not None else _last_threshold(records)
    if threshold is None:
        raise NoThreshold
    prices = Prices.highest(config)
    return TrafficReplay(
        replaying.replay(records, threshold, prices),
        replaying.GivenAgain.of(every, prices),
        replaying.tier_counts(records, config.tiers, threshold),
        prices is not None,
    )


def _last_threshold(records: Sequence[Record]) -> float | None:
    """What the latest of them was decided by."""
    return max(
        ((each.time, each.decision.threshold) for each in records if each.decision.threshold is not None),
        default=(0.0, None),
    )[1]
