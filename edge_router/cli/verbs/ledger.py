"""`edge-router ledger`: forgetting what is remembered of answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.chat.kept_conversations import KeptConversations
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import confirmed
from edge_router.errors import InvalidData
from edge_router.system.disk import storage_errors

if TYPE_CHECKING:
    from edge_router.ledger import Ledger

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

DAY_S = 86_400.0


@app.callback()
def ledger() -> None:
    """The record of answers on this machine, which `history` lists and `usage` sums up."""


@app.command()
def clear(
    ctx: typer.Context,
    older: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Keep those of the last so many days."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Forget answers, their prompts and ratings (the bytes are overwritten), and kept conversations.

    Says what, and asks first.

    What was paid stays known, so that a budget still holds, and so do calibrated thresholds and routers.
    """
    session = Session(ctx, json=json)
    from edge_router.ledger import Ledger

    book, file = Ledger(session.paths.ledger), session.paths.ledger
    before = None if older is None else time.time() - older * DAY_S
    store = KeptConversations(session.paths.conversations)
    talks = [each for each in store.all() if before is None or each.changed < before]
    remains = store.remains() if before is None else []
    kept = f"{len(talks)} kept conversation{'' if len(talks) == 1 else 's'}" if talks else None
    removed = 0
    try:
        try:
            answers = _what(book, before)
        except InvalidData as error:
            if before is not None:
                raise
            output.say(f"{file} {error.reason}", style="yellow")
            answers = "the damaged file"
        spoilt = f"{len(remains)} damaged file{'' if len(remains) == 1 else 's'} of them" if remains else None
        what = " and ".join(filter(None, (answers, kept, spoilt)))
        if what and not confirmed(f"Remove {what} from {file.parent}?", yes=yes):
            return
        if answers is not None:
            removed = book.clear(before=before)
        for each in talks:
            store.remove(each)
        with storage_errors(store.folder):
            for file in remains:
                file.unlink(missing_ok=True)
    finally:
        book.close()
    if json:
        output.write_json({"removed": removed, "conversations": len(talks), "file": str(file)})
    else:
        output.say(f"Removed {what}." if what else "The ledger holds no such answer.")


def _what(book: Ledger, before: float | None) -> str | None:
    """What would go, in words; None where there is nothing."""
    gone = [record for record in book.records() if before is None or record.time < before]
    if not gone:
        return None
    prompts, rated = sum(bool(r.prompt) for r in gone), sum(r.rating is not None for r in gone)
    parts = [f"{prompts:,} with their prompts"] * bool(prompts) + [f"{rated:,} rated"] * bool(rated)
    more = f" ({', '.join(parts)})" if parts else ""
    return f"{len(gone):,} answer{'' if len(gone) == 1 else 's'}{more}"
