"""`edge-router history`: what was asked, where it went and why, from the ledger."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output

if TYPE_CHECKING:
    from edge_router.ledger import Record

app = typer.Typer(add_completion=False, rich_markup_mode=None)

LISTED = 20
SHOWN = 60  # characters of a prompt in the list
DAY_S = 86_400.0
NUMBERS = ("id", "score", "tokens", "ms")


class To(StrEnum):
    WEAK = "weak"
    STRONG = "strong"


@app.command()
def history(
    ctx: typer.Context,
    number: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="All that is known of that one.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many, the last ones.")] = LISTED,
    to: Annotated[To | None, typer.Option(help="Only what went there.")] = None,
    caller: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what that caller has asked.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Only the last so many days.")] = None,
    conversations: Annotated[
        bool, typer.Option("--conversations", help="Instead: what `chat --keep` has kept.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only what ended in an error.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What was asked last, where it went and why; the newest first.

    It is read from the ledger on this machine, which holds no prompts unless ledger.store_prompts is on.
    `edge-router rate ID up` says that an answer was good, `edge-router ledger clear` forgets them.
    """
    session = Session(ctx, json=json)
    if conversations:
        _conversations(session)
        return
    from edge_router.ledger import Ledger

    since = 0.0 if days is None else time.time() - days * DAY_S
    records = [
        record
        for record in reversed(Ledger(session.paths.ledger).records(since=since))
        if number in (None, record.id)
        and to in (None, record.decision.model)
        and caller in (None, record.decision.caller)
        and (record.error is not None or not failed)
    ][:count]
    if number is not None and not records:
        raise typer.BadParameter(
            f"the ledger holds no answer {number}; see what is there: edge-router history"
        )
    if json:
        told = [facts(record) for record in records]
        output.write_json(told if number is None else told[0])
    elif number is not None:
        _tell(records[0])
    elif not records:
        output.say(f"The ledger holds no such answer; {session.to_fill_the_ledger()}")
    else:
        _list(records)


def _conversations(session: Session) -> None:
    from edge_router.cli.chat.kept_conversations import KeptConversations

    every = KeptConversations(session.paths.conversations).all()
    if session.json:
        output.write_json(
            [{"id": k.name, "time": k.changed, "system": k.system, "messages": k.messages} for k in every]
        )
    elif not every:
        output.say(f"No conversation is kept; keep one with: {session.command('chat', '--keep')}")
    else:
        rows = [(k.name, output.ago(k.changed), str(len(k.messages)), k.title[:SHOWN]) for k in every]
        output.table(("id", "when", "messages", "began"), rows, right=("messages",))
        output.say(f"Go on with one: {session.command('chat', '--resume', every[0].name)}", style="dim")


def _list(records: list[Record]) -> None:
    with_prompts = any(record.prompt for record in records)
    columns = ("id", "when", "model", "reason", "score", "tokens", "ms", *(["prompt"] * with_prompts))
    rows = [(*_row(record), *([_line(record.prompt)] * with_prompts)) for record in records]
    output.table(columns, rows, right=NUMBERS, spare=("tokens", "ms"))


def _row(record: Record) -> tuple[str, ...]:
    decision, usage, total = record.decision, record.usage, record.timings.total_ms
    return (
        str(record.id),
        output.ago(record.time),
        decision.model,
        str(decision.reason) if record.error is None else f"{decision.reason}, {record.error}",
        "-" if decision.score is None else f"{decision.score:.3f}",
        "-" if usage is None else f"{usage.completion_tokens:,}",
        "-" if total is None else f"{total:,.0f}",
    )


def _tell(record: Record) -> None:
    from edge_router.control.reasons import why

    decision, usage, timings = record.decision, record.usage, record.timings
    rows: list[tuple[str, object]] = [
        ("when", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time))),
        ("answered by", f"{record.model or 'nobody'} ({decision.model})"),
        ("endpoint", decision.endpoint),
        ("caller", decision.caller),
        ("reason", why(decision) or str(decision.reason)),
        ("router", decision.router),
        ("before it", _joined(record.cause, record.cause_message)),
        ("ended with", record.error),
        ("tokens", usage and f"{usage.prompt_tokens:,} in, {usage.completion_tokens:,} out"),
        ("first token after", _ms(timings.ttft_ms)),
        ("whole answer after", _ms(timings.total_ms)),
        ("rating", {1: "up", -1: "down", None: None}[record.rating]),
        ("prompt", record.prompt or "not kept"),
    ]
    for name, value in rows:
        if value is not None:
            output.write(f"{name.ljust(20)}{value}\n")


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f} ms"


def _joined(*words: str | None) -> str | None:
    return ": ".join(filter(None, words)) or None


def facts(record: Record) -> dict[str, object]:
    """The contract of `history --json`."""
    usage = record.usage
    return {
        "id": record.id,
        "time": record.time,
        "answered_by": record.model or None,
        **record.decision.to_dict(),
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "timings": record.timings.to_dict(),
        "error": record.error,
        "cause": record.cause,
        "rating": record.rating,
        "prompt": record.prompt,
    }


def _line(prompt: str | None) -> str:
    return " ".join((prompt or "-").split())[:SHOWN]
