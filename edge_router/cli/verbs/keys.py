"""`edge-router keys`: callers of the server, each with a key of its own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import asked, is_someone_there
from edge_router.cli.verbs.config_file import alone, edited, save
from edge_router.cli.verbs.configuration import toml_of
from edge_router.config.callers import CALLERS, CallerConfig
from edge_router.config.file import flat, read_text
from edge_router.config.settings import Config

DAY_S = 86_400.0

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Keys of callers: each has limits, models and money of its own, `[callers.NAME]` in the settings."""


@app.command()
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The caller's: letters, digits, - and _.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Also in the place of the key that it has.")
    ] = False,
) -> None:
    """Make a key, print it this once, and write its hash, which is of no use to others, into the file.

    A server that runs takes it after its next start.
    """
    session = Session(ctx)
    from edge_router.callers.keys import hash_of, new_key

    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
        raise typer.BadParameter("a caller's name is made of letters, digits, - and _, 40 at most")
    file, setting, key = session.config_file, f"{CALLERS}.{name}.key_hash", new_key()
    with alone(file, session.progress):
        text = read_text(file) if file.exists() else ""
        if setting in flat(text, str(file)) and not yes:
            question = f"{name} has a key, which will no longer be taken. Make another?"
            if not (is_someone_there() and asked(question, default=False)):
                raise typer.BadParameter(f"{name} has a key; for another in its place, say --yes")
        values = {setting: hash_of(key)}
        save(file, edited(text, values, toml_of, str(file)) if text else toml_of(Config().replace(**values)))
    output.say(f"The key of {name}, shown this once; {file} holds only its hash:", style="dim")
    output.write(f"{key}\n")


@app.command("list")
def list_(
    ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False
) -> None:
    """Every caller, where its key is, and what it may use; no key is shown."""
    session = Session(ctx, json=json)
    found = session.config().callers
    if json:
        output.write_json({each.name: {"key": key_of(each), **limits_of(each)} for each in found})
        return
    rows = [(each.name, key_of(each) or "none", in_words(limits_of(each)) or "-") for each in found]
    output.table(("caller", "key", "limits"), rows)


@app.command()
def usage(
    ctx: typer.Context,
    days: Annotated[float | None, typer.Option(min=0, help="Only the last so many days.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """What each caller has used, as the ledger has it: answers, tokens, and money where prices are set."""
    session = Session(ctx, json=json)
    config = session.config()
    from edge_router.ledger import Ledger
    from edge_router.routing.thresholds.prices import Prices
    from edge_router.routing.thresholds.usage import used

    since = 0.0 if days is None else time.time() - days * DAY_S
    records = Ledger(session.paths.ledger).records(since=since)
    found = used(records, Prices.highest(config), Prices.by_endpoint(config))
    if json:
        output.write_json({name or "": sums.to_dict() for name, sums in found.items()})
        return
    rows = [
        (
            *(name or "-", f"{sums.answers:,}", f"{sums.strong:,}", f"{sums.errors:,}", f"{sums.tokens:,}"),
            "-" if sums.cost is None else f"{sums.cost:.4f}",
        )
        for name, sums in found.items()
    ]
    numbers = ("answers", "strong", "errors", "tokens", "cost")
    output.table(("caller", *numbers), rows, right=numbers)


def key_of(caller: CallerConfig) -> str | None:
    """Where its key lies; None where it has none."""
    if caller.api_key_env is not None:
        there = "" if os.environ.get(caller.api_key_env, "").strip() else ", which is not set"
        return f"in {caller.api_key_env}{there}"
    return "hashed" if caller.key_hash is not None else None


def limits_of(caller: CallerConfig) -> dict[str, object]:
    """What is set for it, beside its key."""
    names = ("model", "threshold", "strong_share", "monthly_budget", "daily_budget")
    rates = ("requests_per_minute", "tokens_per_minute", "concurrency")
    found = {name: getattr(caller, name) for name in (*names, *rates)}
    told = {name: value for name, value in found.items() if value is not None}
    return {**({"models": list(caller.models)} if caller.models else {}), **told}


def in_words(limits: Mapping[str, object]) -> str:
    """On one line; nothing where there are none."""
    shown = {name: ",".join(value) if isinstance(value, list) else value for name, value in limits.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
