"""`edge-router dashboard`: the link that opens the page of the server that runs."""

from __future__ import annotations

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def dashboard(ctx: typer.Context) -> None:
    """A link to the page of the server that runs: what goes where and why, live; what it costs and saves.

    It works once, for one browser, and then `edge-router dashboard` has another. Only the user who runs the
    server can have it.
    """
    session = Session(ctx)
    from edge_router.cli.runtime_file import running

    found = running()
    if found is None:
        output.say(f"No server of yours runs; start one with: {session.command('serve')}", style="red")
        raise typer.Exit(1)
    if found.dashboard is None:
        told = "has no dashboard: start it again without --no-dashboard, and with server.dashboard=true"
        output.say(f"The server at {found.url} {told}", style="red")
        raise typer.Exit(1)
    output.write(f"{found.dashboard}\n")
