"""The thresholds that send given shares of the traffic to stronger models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from edge_router.api.samples import Prompts, scores_of
from edge_router.chat.events import Usage
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.config.tiers import WEAK
from edge_router.control.sessions import ANSWER_TOKENS, QUESTION_TOKENS
from edge_router.engines.fleet.endpoints import StrongEndpoint, strong_endpoints
from edge_router.errors import InvalidInput, StorageError
from edge_router.ledger import Ledger
from edge_router.records import dataclass
from edge_router.routing.thresholds import drift
from edge_router.routing.thresholds.calibration import Calibration, choose_threshold
from edge_router.routing.thresholds.tiers import (
    TierCalibration,
    choose_for_shares,
    shares_for_price,
    shares_of,
)
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress


@dataclass(frozen=True, slots=True)
class CalibratedThreshold:
    """`found` for `router`. `problem`: why the sample is not remembered, so that no drift is seen from it."""

    router: str
    found: Calibration
    problem: StorageError | None = None

    def to_dict(self) -> dict[str, object]:
        """What `calibrate --json` prints."""
        return {"router": self.router, **self.found.to_dict()}


@dataclass(frozen=True, slots=True)
class CalibratedTiers:
    """As `CalibratedThreshold`, of several models."""

    router: str
    found: TierCalibration
    problem: StorageError | None = None

    def to_dict(self) -> dict[str, object]:
        """What `calibrate --tier-shares --json` prints."""
        return {"router": self.router, **self.found.to_dict()}


def calibrate(
    strong_share: float,
    prompts: Prompts | None = None,
    config: Config | None = None,
    *,
    last: int | None = None,
    paths: Paths | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SettingArguments],
) -> CalibratedThreshold:
    """The threshold that sends `strong_share` (0 to 1) of a sample to the strong model, with its interval.

    The sample: `prompts`, a file or a list, or else the `last` scores in the ledger, or all of them. What its
    scores look like is kept beside the ledger, to tell drift by. Nothing is set: `found.threshold` would be
    `router.threshold`. Raises `NothingRecorded` for an empty ledger, `InvalidInput`,
    `InvalidData`, `ConfigError`.
    """
    config, paths = configured(config, settings), paths or Paths.default()
    scores = scores_of(prompts, config, paths, last=last, progress=progress or SilentProgress())
    found = choose_threshold(scores, strong_share)
    name = config.router.name
    return CalibratedThreshold(name, found, _remembered(paths, name, found.threshold, scores))


def calibrate_tiers(
    prompts: Prompts | None = None,
    config: Config | None = None,
    *,
    shares: Mapping[str, float] | None = None,
    price: float | None = None,
    last: int | None = None,
    paths: Paths | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SettingArguments],
) -> CalibratedTiers:
    """The thresholds of more than two models, for `shares` (by model, "weak" first, 1 together), or for a
    `price` of a query on the average, which keeps the proportions of the tiers that are set.

    The sample and what is kept are as in `calibrate`. Raises what that does, and `InvalidInput` for shares
    that are none, for a price without tiers, and where a model's price is not known.
    """
    config, paths = configured(config, settings), paths or Paths.default()
    if (shares is None) == (price is None):
        raise InvalidInput("say how much each model gets: shares, or a price of a query")
    scores = scores_of(prompts, config, paths, last=last, progress=progress or SilentProgress())
    costs: Mapping[str, float] | None
    if shares is None:
        shares, costs = _for_price(config, paths, price or 0.0, scores)
    else:
        costs = costs_of(config, paths, list(shares))
    found = choose_for_shares(scores, shares, costs)
    name = config.router.name
    return CalibratedTiers(name, found, _remembered(paths, name, found.tiers[1].at, scores))


def _for_price(
    config: Config, paths: Paths, price: float, scores: Sequence[float]
) -> tuple[dict[str, float], dict[str, float]]:
    """The shares that cost `price` a query, and what a query costs of each model."""
    names = [tier.model for tier in config.tiers]
    if not names:
        raise InvalidInput("a price keeps the proportions of tiers, which are not set yet")
    costs = costs_of(config, paths, names)
    if costs is None:
        unpriced = ", ".join(each.name for each in _endpoints_of(config, names) if each.prices is None)
        raise InvalidInput(f"the prices of {unpriced} are not known")
    split = {name: share for name, share in shares_of(config.tiers, scores).items() if name != WEAK}
    return shares_for_price(price, costs, split), costs


def costs_of(config: Config, paths: Paths, names: Sequence[str]) -> dict[str, float] | None:
    """What a query costs of each model on the average; None where a price is not known."""
    used = [each.usage for each in Ledger(paths.ledger).records() if each.usage is not None]
    mean = Usage(QUESTION_TOKENS, ANSWER_TOKENS)
    if used:
        asked = sum(each.prompt_tokens for each in used) // len(used)
        mean = Usage(asked, sum(each.completion_tokens for each in used) // len(used))
    found = {WEAK: 0.0}
    for name in names:
        prices = [each.prices for each in _endpoints_of(config, (name,))]
        known = [each.cost(mean) for each in prices if each is not None]
        if name != WEAK:
            if len(known) < len(prices) or not known:
                return None
            found[name] = max(known)
    return found


def _endpoints_of(config: Config, names: Sequence[str]) -> list[StrongEndpoint]:
    """Those that have one of those models."""
    return [
        each for each in strong_endpoints(config) if any(each.model_for(name) is not None for name in names)
    ]


def _remembered(paths: Paths, router: str, threshold: float, scores: Sequence[float]) -> StorageError | None:
    """Keeps what the sample's scores look like, to be held against the traffic's; else why it is not kept."""
    try:
        drift.save(paths.calibration, drift.baseline(router, threshold, scores))
    except StorageError as error:
        return error
    return None
