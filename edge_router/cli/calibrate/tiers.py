"""`edge-router calibrate --tier-shares` and `--tier-price`: thresholds for more than two models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.config.settings import Config
from edge_router.config.tiers import WEAK
from edge_router.errors import InvalidInput

if TYPE_CHECKING:
    from edge_router.api.calibrations import CalibratedTiers
    from edge_router.routing.thresholds.tiers import TierCalibration

PER = 1000  # queries that a price is for


def calibrate_tiers(
    session: Session,
    config: Config,
    prompts: Path | None,
    last: int | None,
    shares: str | None,
    price: float | None,
) -> CalibratedTiers:
    """`price` is of `PER` queries. Raises `BadParameter`, `ConfigError`, `NothingRecorded`."""
    from edge_router.api import calibrations
    from edge_router.ledger import NothingRecorded

    try:
        return calibrations.calibrate_tiers(
            prompts,
            config,
            shares=None if shares is None else _shares(shares, config),
            price=None if price is None else price / PER,
            last=last,
            paths=session.paths,
            progress=session.progress,
        )
    except NothingRecorded:
        raise
    except InvalidInput as error:  # what cannot be is told as of what was typed
        where = "--tier-price" if shares is None else "--tier-shares"
        raise typer.BadParameter(str(error), param_hint=where) from error


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
