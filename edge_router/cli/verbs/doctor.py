"""`edge-router doctor`: what is here, what runs where, what is wrong and the command that mends it."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_STYLES = {"ok": "", "note": "yellow", "bad": "bold red"}
_NAME_WIDTH = 23  # of the longest, a package
_SIGNS = {"ok": " ", "note": "*", "bad": "!"}
_MEANING = {"note": "works, and is worth knowing", "bad": "is wrong, and mended by what stands there"}


@app.command()
def doctor(
    ctx: typer.Context,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the strong model's address.")
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory", help="Only the weak model's memory: planned, and really taken by a process."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """What is here, what is wrong (!) and what mends it; exit code 1 where something needed is broken."""
    session = Session(ctx, json=json)
    if memory:
        from edge_router.cli.verbs.memory_report import report

        report(session, offline=offline)
        return
    from edge_router.cli.diagnosis import Diagnosis
    from edge_router.cli.findings import Finding
    from edge_router.cli.verbs.checks import examine

    found: list[Finding] = []
    section = ""
    for finding in examine(session, offline=offline):
        found.append(finding)
        if json:
            continue
        if finding.section != section:
            section = finding.section
            output.write(f"{section}\n")
        output.write_styled(
            f"{_SIGNS[finding.state]} {finding.name.ljust(_NAME_WIDTH)}{finding.text}", _STYLES[finding.state]
        )
    if not (json or session.options.quiet):
        there = {finding.state for finding in found}
        legend = [f"{_SIGNS[state]} {words}" for state, words in _MEANING.items() if state in there]
        if legend:
            output.say("; ".join(legend), style="dim")
    diagnosis = Diagnosis(tuple(found))
    if json:
        output.write_json(diagnosis.to_dict())
    if not diagnosis.ok:
        raise typer.Exit(1)
