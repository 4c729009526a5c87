"""`edge-router upgrade`: the strong model asked later for what the weak one answered for want of it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import is_someone_there
from edge_router.errors import InvalidRequest

if TYPE_CHECKING:
    from edge_router.api.client import Controller
    from edge_router.control.upgrading import Upgrade

app = typer.Typer(add_completion=False, rich_markup_mode=None)

TAKEN = "; another program asks about {} now, or ended in the midst of that less than half an hour ago"
SHOWN = 50  # characters of a prompt in the list
KEEP_PROMPTS = ("config", "set", "ledger.store_prompts=true")
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([mhdw])")
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_ANSWERS = ("y", "n", "s", "a", "q")


def moment(text: str, now: float) -> float:
    """When "3d" ago or "2026-11-30T09:00" was, in seconds since 1970. Raises `BadParameter`."""
    if (span := _SPAN.fullmatch(text.strip().lower())) is not None:
        return now - float(span[1]) * _UNITS[span[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"--since {text!r} is neither like 3d or 12h nor like 2026-11-30") from None


@app.command()
def upgrade(
    ctx: typer.Context,
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]...", help="Of answers in the list.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Ask about all that are listed.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only from then on: 3d, 12h, 2026-11-30.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="MONEY", min=0, help="Stop before the sum could be more; needs prices."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked and may cost; ask nothing.")
    ] = False,
    done: Annotated[
        bool, typer.Option("--done", help="Show both answers of those that were bettered.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON: a list, or a line for each answer.")] = False,
) -> None:
    """Have the strong model better what the weak one answered only because it could not be asked.

    Offline, out of money or out of reach the weak model answers hard questions, too. Where prompts are kept
    (ledger.store_prompts) those are listed here; on a terminal you are asked about each. Rules, guard and
    budget hold as for any question, and nothing private was kept. Every answer is kept beside the old one as
    soon as it is there: after Ctrl-C or an error the same command goes on. With ledger.upgrade=auto it is
    done by itself once the strong model answers again.
    """
    session = Session(ctx, json=json)
    config = session.config()
    numbers = tuple(ids or ())
    if numbers and every:
        raise typer.BadParameter("either name answers by their ids, or say --all")
    start = 0.0 if since is None else moment(since, time.time())
    with session.controller(config) as controller:
        try:
            found = controller.upgrades(*numbers, since=start, every=done)
        except InvalidRequest as error:
            raise typer.BadParameter(
                f"{error.reason}; see them with: edge-router upgrade --dry-run"
            ) from None
        if done:
            _show_done([each for each in found if each.better is not None], session)
            return
        for each in found if numbers and not json and not dry_run else ():
            if each.better is not None:
                _show(each, session)
        found = tuple(each for each in found if each.better is None)
        if not found and not numbers:
            _nothing(session)
        elif dry_run or not (numbers or every or (is_someone_there() and not json)):
            _list(found, session)
        elif config.offline:
            on = session.command("config", "set", "offline=false")
            raise typer.BadParameter(f"the network is switched off; where there is one: {on}")
        elif numbers or every:
            _ask(controller, [each.id for each in found], max_cost, session)
        else:
            _converse(controller, found, max_cost, session)


def _nothing(session: Session) -> None:
    if session.json:
        output.write_json([])
        return
    output.say("No answer here waits for the strong model.")
    settings = session.config().ledger
    if not settings.enabled or not settings.store_prompts:
        keep = session.command(*KEEP_PROMPTS, *(() if settings.enabled else ("ledger.enabled=true",)))
        output.say(f"Questions are not kept; keep them from now on with: {keep}")
    elif settings.upgrade == "off":
        output.say(
            f"They are not kept; keep them with: {session.command('config', 'set', 'ledger.upgrade=ask')}"
        )


def _list(found: Sequence[Upgrade], session: Session) -> None:
    if session.json:
        output.write_json([each.to_dict() for each in found])
        return
    rows = [
        (
            str(each.id),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.time)),
            str(each.reason),
            _money(each.cost_at_most),
            _line(each.prompt),
        )
        for each in found
    ]
    output.table(("id", "when", "why", "at most", "prompt"), rows, right=("id", "at most"))
    costs = [each.cost_at_most for each in found if each.cost_at_most is not None]
    total = f", for {sum(costs):.4f} at most" if costs else ""
    output.say(f"{_answers(len(found))} to better{total}: {session.command('upgrade', '--all')}", style="dim")


def _ask(controller: Controller, ids: Sequence[int], max_cost: float | None, session: Session) -> int:
    """How many were bettered or refused for good."""
    asked, spent, told = 0, 0.0, False
    try:
        for each in controller.upgrade(*ids, max_cost=max_cost):
            asked, spent = asked + 1, spent + (each.cost or 0.0)
            _show(each, session)
        told = True
    finally:
        left = len(ids) - asked
        if left and not session.json:
            why = (
                TAKEN.format("it" if left == 1 else "them")
                if told
                else "; the same command goes on from there"
            )
            why = f"; more could cost above {max_cost:g}" if told and max_cost is not None else why
            output.say(f"{_answers(left)} left{why}.", style="dim")
    if asked and spent:
        output.say(f"{_money(spent)} spent", style="dim")
    return asked


def _converse(
    controller: Controller, found: Sequence[Upgrade], max_cost: float | None, session: Session
) -> None:
    rest, spent = list(found), 0.0
    while rest:
        each = rest[0]
        cost = "" if each.cost_at_most is None else f", {each.cost_at_most:.4f} at most"
        output.write(f"\n{each.id}: {each.prompt.strip()}\n")
        output.write(f"-- {each.model} ({each.reason}):\n{each.answer}\n")
        left = None if max_cost is None else max_cost - spent
        wish = _wish(f"{len(rest)} left. Ask the strong model{cost}?")
        if wish == "q":
            break
        if wish == "a":
            _ask(controller, [one.id for one in rest], left, session)
            return
        rest.pop(0)
        if wish == "n":
            controller.keep_weak_answer(each.id)
        elif wish == "y":
            better = list(controller.upgrade(each.id, max_cost=left))
            if not better:
                output.say("Another program has it, or it could cost more than is left.", style="yellow")
            for one in better:
                spent += one.cost or 0.0
                _show(one, session, old=False)


def _wish(question: str) -> str:
    """Yes; no, and never again; skip for now; all; quit."""
    while True:
        try:
            said: str = typer.prompt(
                f"{question} [y]es, [n]ever, [s]kip, [a]ll, [q]uit", default="s", err=True
            )
        except typer.Abort:
            output.say("")
            return "q"
        if said[:1].lower() in _ANSWERS:
            return said[:1].lower()


def _show(each: Upgrade, session: Session, *, old: bool = True) -> None:
    """Both answers."""
    if session.json:
        output.write_json(each.to_dict())
        return
    if old:
        output.write(f"\n{each.id}: {each.prompt.strip()}\n-- {each.model}:\n{each.answer}\n")
    if each.better is not None:
        output.write(f"-- {each.better_model}:\n{each.better}\n")
    else:
        output.say(
            f"{each.id}: the strong model is not asked, or does not answer it: {each.refused}", style="yellow"
        )


def _show_done(found: Sequence[Upgrade], session: Session) -> None:
    if session.json:
        output.write_json([each.to_dict() for each in found])
        return
    for each in found:
        _show(each, session)
    if not found:
        output.say(f"No answer was bettered yet; see what could be: {session.command('upgrade')}")


def _answers(count: int) -> str:
    return f"{count} answer{'' if count == 1 else 's'}"


def _line(prompt: str) -> str:
    return " ".join(prompt.split())[:SHOWN]


def _money(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.4f}" if cost >= 0.001 else f"{cost:.6f}"
