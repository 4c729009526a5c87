"""`edge-router rate`: thumbs up or down for answers in the ledger, and labels made of them."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.sentences import quoted

if TYPE_CHECKING:
    from edge_router.ledger import Ledger, Record

app = typer.Typer(add_completion=False, rich_markup_mode=None)

LISTED = 20
SHOWN = 60  # characters of a prompt in the list
KEEP_PROMPTS = ("config", "set", "ledger.store_prompts=true")
THUMBS: dict[str, Literal[1, -1]] = {"up": 1, "down": -1}


@app.command()
def rate(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID] up|down", help="Without an ID, the last answer.", show_default=False),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="Write the rated prompts as labels for adapting a router."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Rate an answer, or list the last ones with their ids.

    Labels need the prompts, which the ledger keeps with ledger.store_prompts only. A label is made of what
    the weak model's answer was worth to you, with the strong one's taken for good; thumbs for the strong
    model's answers say nothing of the weak one, and make no label.
    """
    session = Session(ctx, json=json)
    from edge_router.ledger import Ledger

    ledger = Ledger(session.paths.ledger)
    if words and export is not None:
        raise typer.BadParameter("either rate an answer, or --export what was rated")
    try:
        if export is not None:
            _export(ledger, export, session)
        elif words:
            _rate(ledger, words, session)
        else:
            _list(ledger, session)
    finally:
        ledger.close()


def _rate(ledger: Ledger, words: list[str], session: Session) -> None:
    *ids, thumb = words
    if thumb not in THUMBS or len(ids) > 1 or not all(word.isdecimal() for word in ids):
        raise typer.BadParameter("write up or down, after the answer's id if it is not the last one: 17 down")
    last = ledger.recent(1)
    if not last:
        raise typer.BadParameter(f"the ledger holds no answer yet; {session.to_fill_the_ledger()}")
    number = int(ids[0]) if ids else last[0].id or 0
    record = ledger.rate(number, THUMBS[thumb])
    if record is None:
        raise typer.BadParameter(f"the ledger holds no answer {number}; see what is there: edge-router rate")
    if session.json:
        output.write_json(_facts(record))
        return
    output.say(f"{number}: {thumb}, an answer of {record.model}")
    if record.prompt is None:
        keep = session.command(*KEEP_PROMPTS)
        output.say(
            f"Its prompt was not kept, so no router can learn from it; keep them with: {keep}", style="dim"
        )


def _list(ledger: Ledger, session: Session) -> None:
    records = ledger.recent(LISTED)
    if session.json:
        output.write_json([_facts(record) for record in records])
        return
    if not records:
        output.say(f"The ledger holds no answer yet; {session.to_fill_the_ledger()}")
        return
    names = {1: "up", -1: "down", None: "-"}
    rows = [
        (str(record.id), record.decision.model, names[record.rating], _line(record.prompt))
        for record in records
    ]
    output.table(("id", "model", "rating", "prompt"), rows, right=("id",))


def _export(ledger: Ledger, file: Path, session: Session) -> None:
    from edge_router.system.disk import storage_errors, write_text

    if file.suffix.lower() != ".jsonl":
        raise typer.BadParameter(f"{file} must end in .jsonl")
    rated = ledger.rated()
    usable = [r for r in rated if r.decision.model == "weak" and r.prompt and r.error is None]
    rows = [
        {"prompt": r.prompt, "weak_score": int(r.rating == 1), "strong_score": 1, "weak_model": r.model}
        for r in usable
    ]
    with storage_errors(file.parent):
        write_text(file, "".join(jsonlib.dumps(row) + "\n" for row in rows))
    if session.json:
        output.write_json({"labels": len(rows), "rated": len(rated), "output": str(file)})
        return
    output.say(f"{len(rows)} of {len(rated)} rated answers are labels now, in {file}.")
    if not rated:
        output.say(f"Rate answers first: {session.command('rate', 'up')}", style="dim")
    elif rows:
        output.say(
            f"Adapt a router to them: edge-router train --adapt {quoted(file)} --name mine", style="dim"
        )
    else:
        keep = session.command(*KEEP_PROMPTS)
        output.say(
            f"A label takes the weak model's answer and its prompt; keep prompts with: {keep}", style="dim"
        )


def _facts(record: Record) -> dict[str, object]:
    decision = record.decision
    return {
        "id": record.id,
        "time": record.time,
        "answered_by": record.model,
        **decision.to_dict(),
        "rating": record.rating,
        "prompt": record.prompt,
    }


def _line(prompt: str | None) -> str:
    return " ".join((prompt or "-").split())[:SHOWN]
