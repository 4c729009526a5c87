"""`edge-router ps`: which models the server that runs on this machine holds in memory."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from edge_router.cli.session import Session, server_key
from edge_router.cli.terminal import output
from edge_router.cli.verbs.running_server import asked, running
from edge_router.parsing.sizes import binary

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def ps(ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """What the server that runs here holds in memory; exit code 1 where none runs."""
    session = Session(ctx, json=json)
    config = session.config()
    server = running(config)
    if server is None:
        if json:
            output.write_json({"server": None, "models": []})
        output.say(
            "No server runs here, and chat holds a model only while it answers. "
            f"Start one with: {session.command('serve')}"
        )
        raise typer.Exit(1)
    told = asked(server.at, "/api/ps", server_key(config))
    held = [dict(model) for model in cast("list[dict[str, object]]", (told or {}).get("models", []))]
    if json:
        output.write_json({"server": f"http://{server.at}", "models": held})
    elif held:
        rows = [
            (
                str(model.get("name", "?")),
                binary(cast(int, model.get("size", 0))),
                "GPU" if model.get("size_vram") else "processor",
                str(model.get("context_length") or "-"),
            )
            for model in held
        ]
        output.table(("model", "memory", "on", "context"), rows, right=("memory", "context"))
    if told is None:
        variable = config.server.api_key_env
        output.say(f"The server at {server.at} tells that only to who has a key; put one into {variable}.")
        raise typer.Exit(1)
    if not (json or session.options.quiet):
        told_of = f"The server at {server.at}"
        output.say(f"{told_of} holds {'that' if held else 'no model now'}.", style="dim")
