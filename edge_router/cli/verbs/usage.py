"""`edge-router usage`: how much stayed on this machine, and what that has saved, from the ledger."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output

if TYPE_CHECKING:
    from edge_router.config.settings import Config
    from edge_router.routing.thresholds.prices import Prices
    from edge_router.routing.thresholds.usage import Used

app = typer.Typer(add_completion=False, rich_markup_mode=None)

DAY_S = 86_400.0
SHOWN = 31  # days that are told one by one; of more, months
NUMBERS = ("answers", "here", "share", "tokens", "cost", "saved")


class UsagePeriod(StrEnum):
    DAY = "day"
    MONTH = "month"


@app.command()
def usage(
    ctx: typer.Context,
    by: Annotated[
        UsagePeriod | None, typer.Option(help="A line a day or a month. Default: what fits.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Only the last so many days.")] = None,
    caller: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what that caller has asked.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """How many answers stayed on this machine, and what they would have cost elsewhere.

    Counted from the ledger. Money takes the strong model's prices: strong.price_in and strong.price_out, of a
    million tokens, or a list of them (pip install 'edge-router[prices]'). What an answer that stayed would
    have cost is an estimate from its own token counts.
    """
    session = Session(ctx, json=json)
    config = session.config()
    from edge_router.ledger import Ledger
    from edge_router.routing.thresholds.prices import Prices
    from edge_router.routing.thresholds.usage import used_in_all, used_over_time

    since = 0.0 if days is None else time.time() - days * DAY_S
    every = Ledger(session.paths.ledger).records(since=since)
    records = [record for record in every if caller in (None, record.decision.caller)]
    prices = Prices.highest(config)
    each = Prices.by_endpoint(config)
    total = used_in_all(records, prices, each)
    if by is None:
        many = bool(records) and records[-1].time - records[0].time > SHOWN * DAY_S
        by = UsagePeriod.MONTH if many else UsagePeriod.DAY
    spans = used_over_time(records, prices, each, by=by.value)
    if json:
        told = [{by.value: name, **sums.to_dict()} for name, sums in spans.items()]
        output.write_json({**total.to_dict(), "prices": _source(config, prices), f"by_{by.value}": told})
        return
    if not records:
        when = "" if days is None else f" from the last {days:g} days"
        output.say(f"The ledger holds no answer{when}; {session.to_fill_the_ledger(config)}")
        return
    output.write(f"{sentence_of(total)}\n")
    if len(spans) > 1:
        output.write("\n")
        output.table((by.value, *NUMBERS), [_row(*item) for item in spans.items()], right=NUMBERS)
    _say_how_it_was_counted(config, prices, total)


def sentence_of(total: Used) -> str:
    """412 of 500 answers stayed here (82 %), saved 1.20."""
    words = f"{total.here:,} of {total.answers:,} answers stayed here ({total.here / total.answers:.0%})"
    if total.again:
        words += f", {total.again:,} of them given again"
    if total.saved is not None:
        words += f", saved {money(total.saved)}; the others cost {money(total.cost)}"
    return f"{words}."


def money(amount: float | None) -> str:
    """As many places as it takes to see something."""
    if amount is None:
        return "-"
    return f"{amount:,.2f}" if amount >= 0.1 or amount == 0 else f"{amount:.4f}"


def _row(name: str, sums: Used) -> tuple[str, ...]:
    share = f"{sums.here / sums.answers:.0%}"
    counts = (f"{sums.answers:,}", f"{sums.here:,}", share, f"{sums.tokens:,}")
    return (name, *counts, money(sums.cost), money(sums.saved))


def _say_how_it_was_counted(config: Config, prices: Prices | None, total: Used) -> None:
    if prices is None:
        output.say(
            "Money takes prices, of a million tokens: edge-router config set strong.price_in=2 "
            "strong.price_out=8",
            style="dim",
        )
    elif total.saved:
        source = _source(config, prices)
        output.say(
            f"Saved is an estimate, from these answers' tokens at the prices of {source}.", style="dim"
        )
    if total.errors:
        output.say(
            f"{total.errors:,} of them ended in an error; see: edge-router history --failed", style="dim"
        )


def _source(config: Config, prices: Prices | None) -> str | None:
    """Where they are from."""
    if prices is None:
        return None
    return prices.source or "your settings"
