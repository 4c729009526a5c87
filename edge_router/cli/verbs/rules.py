"""`edge-router rules`: what a file of the user's own rules says of prompts, and why."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.piped import readable

if TYPE_CHECKING:
    from edge_router.chat.request import ChatRequest
    from edge_router.control.egress import Egress
    from edge_router.routing.rules.query import Query
    from edge_router.routing.rules.rule import Rule

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

SHOWN = 60  # characters of a prompt


@app.callback()
def rules() -> None:
    """Your own rules, which are asked before any score."""


@app.command()
def check(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of rules.", show_default=False)],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="Prompts.", show_default=False)
    ] = None,
    program: Annotated[
        str | None, typer.Option(metavar="NAME", help="As if this program had asked: its User-Agent.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="As if the request said so of itself.")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(formats=["%H:%M", "%Y-%m-%dT%H:%M"], help="As if it were then."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False,
) -> None:
    """Whether FILE can be read, which of its rules hold for each prompt, and what comes of it.

    No model is asked. A rule whose conditions do not all hold is named with the first one that does not.

    A rule is a table [[rule]] with then: a model's name, local_only, redact or block. It holds where all of
    its conditions do: words, pattern (RE2), content (tools, images, audio, files, json, code), longer_than,
    shorter_than, language (en, de, ...), metadata, program, hours ("22:00-06:00"), days. It may have a name,
    a message for those it blocks, and reads = "all" or "last".
    """
    session = Session(ctx, json=json)
    config = session.config(rules__file=str(file))
    from edge_router.control.rule_source import load_rules

    read = load_rules(config, session.paths)
    requests = [_request(readable(prompt) or "", program, metadata or ()) for prompt in prompts or ()]
    now = _at(at)
    with closing(session.pool(config)) as models:
        found = [_explained(request, read, models.egress, now) for request in requests]
    if json:
        output.write_json(found)
    elif not requests:
        rows = [
            (rule.name, rule.then, ", ".join(each.key for each in rule.conditions) or "always")
            for rule in read
        ]
        output.table(("rule", "then", "looks at"), rows)
    else:
        for each in found:
            _show(each)


def _request(text: str, program: str | None, metadata: list[str] | tuple[str, ...]) -> ChatRequest:
    from edge_router.chat.message import Message
    from edge_router.chat.request import ChatRequest, Extra

    said = {}
    for entry in metadata:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"--metadata {entry}: write KEY=VALUE")
        said[name] = value
    extra = Extra(fields={"metadata": said} if said else {})
    return ChatRequest((Message("user", text),), program=program, extra=extra)


def _at(at: datetime | None) -> datetime:
    now = datetime.now()
    if at is None:
        return now
    return datetime.combine(now.date(), at.time()) if at.year == 1900 else at


def _explained(
    request: ChatRequest, read: tuple[Rule, ...], egress: Egress, now: datetime
) -> dict[str, object]:
    from edge_router.routing.rules.query import Query
    from edge_router.routing.rules.rule import judged

    query = Query(request, now)
    verdict = judged(read, query)
    inspection = egress.inspect(request, verdict)
    outcome = "the score decides"
    if verdict.block is not None:
        outcome = f"blocked by {verdict.block.name}"
    elif verdict.local_only is not None:
        outcome = f"stays here by {verdict.local_only.name}"
    elif inspection.stays:
        outcome = f"stays here by the guard: {', '.join(inspection.stays)}"
    elif verdict.model is not None:
        outcome = f"{verdict.model.then} by {verdict.model.name}"
    if inspection.found and not inspection.stays and verdict.block is verdict.local_only is None:
        outcome += f"; hidden from the strong model: {', '.join(inspection.found)}"
    return {
        "prompt": request.messages[0].text,
        "outcome": outcome,
        "rules": [{"rule": rule.name, "then": rule.then, "fails": _fails(rule, query)} for rule in read],
        "found": list(inspection.found),
    }


def _fails(rule: Rule, query: Query) -> str | None:
    """Its first condition that does not hold, as the file calls it."""
    return next((each.key for each in rule.conditions if not each.holds(query)), None)


def _show(found: dict[str, object]) -> None:
    line = " ".join(str(found["prompt"]).split())
    output.write(f"{line if len(line) <= SHOWN else line[: SHOWN - 1] + '…'}\n  {found['outcome']}\n")
    listed = found["rules"]
    assert isinstance(listed, list)
    for rule in listed:
        state = "holds" if rule["fails"] is None else f"does not hold: {rule['fails']}"
        output.write(f"  {rule['rule']} ({rule['then']}): {state}\n")
