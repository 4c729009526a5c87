"""`edge-router bench server`: what serving adds to a model's own time."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output


def server(
    ctx: typer.Context,
    clients: Annotated[int, typer.Option(min=1, max=256, help="How many ask at once.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="How many requests.")] = 200,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """What serving costs: a model that answers at once, over HTTP and in this process.

    Every request is rated by the router that ships by default; each token is a chunk of its own.
    """
    session = Session(ctx, json=json)
    from edge_router.bench.server import bench_server
    from edge_router.bench.server_side import TOKENS

    found = bench_server(clients=clients, rounds=rounds, progress=session.progress)
    if json:
        output.write_json(found.to_dict())
        return
    output.write(f"Answers of {TOKENS} tokens, {found.whole.n} one after the other\n")
    parts = (
        ("in this process", found.inside),
        ("over HTTP, the first chunk", found.first),
        ("over HTTP, the whole answer", found.whole),
    )
    rows = [(name, *(f"{value:.2f}" for value in (part.p50, part.p95, part.p99))) for name, part in parts]
    columns = ("", "p50 ms", "p95 ms", "p99 ms")
    output.table(columns, rows, right=columns[1:])
    output.write(f"{found.requests_per_s:.0f} answers/s for {found.clients} clients at once\n")
