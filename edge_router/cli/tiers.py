"""`edge-router calibrate --tier-shares` and `--tier-price`: thresholds for more than two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from edge_router.cli import output
from edge_router.cli.session import Session
from edge_router.config.settings import Config
from edge_router.config.tiers import WEAK
from edge_router.errors import InvalidInput

if TYPE_CHECKING:
    from edge_router.engines.fleet.endpoints import StrongEndpoint
    from edge_router.routing.thresholds.tiers import TierCalibration

QUESTION_TOKENS, ANSWER_TOKENS = 200, 500  # of an ordinary query, while the ledger knows none
PER = 1000  # queries that a price is for


def calibrate_tiers(
    session: Session, config: Config, scores: Sequence[float], shares: str | None, price: float | None
) -> TierCalibration:
    """Raises `BadParameter`, `ConfigError`."""
    from edge_router.routing.thresholds.tiers import choose_for_shares, shares_for_price, shares_of

    if shares is not None:
        wanted = _shares(shares, config)
        costs = _costs(session, config, list(wanted))
        with _told():
            return choose_for_shares(scores, wanted, costs)
    names = [tier.model for tier in config.tiers]
    if not names:
        raise typer.BadParameter("--tier-price keeps the proportions of tiers, which are not set yet")
    costs = _costs(session, config, names)
    if price is None or costs is None:
        unpriced = ", ".join(each.name for each in _endpoints_of(config, names) if each.prices is None)
        raise typer.BadParameter(
            f"--tier-price needs the prices of {unpriced}; `edge-router doctor` tells how each is set"
        )
    split = {name: share for name, share in shares_of(config.tiers, scores).items() if name != WEAK}
    with _told():
        return choose_for_shares(scores, shares_for_price(price / PER, costs, split), costs)


@contextmanager
def _told() -> Iterator[None]:
    """What cannot be is told as of what was typed."""
    try:
        yield
    except InvalidInput as error:
        raise typer.BadParameter(str(error)) from None


def tell(found: TierCalibration, name: str) -> None:
    """On stdout the line for the configuration, on stderr what it means."""
    output.write(f"{found.line}\n")
    parts = "; ".join(
        f"{each.share:.1%} to {each.model} ({each.low:.1%} to {each.high:.1%} of others like them)"
        for each in found.shares
    )
    cost = "" if found.cost is None else f"; {found.cost * PER:.4g} for {PER:,} queries"
    set_ = f"0:{WEAK}," + ",".join(f"{tier.bound}:{tier.model}" for tier in found.tiers[1:])
    output.say(
        f"{name} sends of {found.n} prompts {parts}{cost}; put that line at the top of the file, or: "
        f"edge-router config set tiers={set_}",
        style="dim",
    )


def _shares(text: str, config: Config) -> dict[str, float]:
    """0.6,0.3,0.1 in the order of the tiers that are set, or weak=0.6,NAME=0.3,NAME=0.1."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    named = [part.rpartition("=") for part in parts]
    try:
        if all(equals for _, equals, _ in named):
            found = {name.strip(): float(share) for name, _, share in named}
        elif len(parts) == len(config.tiers):
            found = {tier.model: float(part) for tier, part in zip(config.tiers, parts, strict=True)}
        else:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(
            "write --tier-shares weak=0.6,NAME=0.3,NAME=0.1, or a share for each of the tiers that are set"
        ) from None
    unknown = [name for name in found if name not in (WEAK, *config.strong_names)]
    if unknown:
        known = ", ".join(config.strong_names) or "none yet: set strong.model, or endpoints"
        raise typer.BadParameter(f"there is no model {', '.join(unknown)}; there is {known}")
    return found


def _costs(session: Session, config: Config, names: Sequence[str]) -> dict[str, float] | None:
    """What a query costs of each model on the average; None where a price is not known."""
    from edge_router.chat.events import Usage
    from edge_router.ledger import Ledger

    used = [each.usage for each in Ledger(session.paths.ledger).records() if each.usage is not None]
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
    from edge_router.engines.fleet.endpoints import strong_endpoints

    return [
        each for each in strong_endpoints(config) if any(each.model_for(name) is not None for name in names)
    ]
